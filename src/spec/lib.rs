//! What the workstation and the Pi agree on: the farm as its owner declares it, the document that the card
//! carries for its first boot, and the report that the agent leaves behind.
//!
//! Types, their checks and nothing else: no I/O, no clock, no randomness. Every type that is stored has a
//! version, and this is the only crate that derives `Serialize`.

pub mod check;
pub mod credentials;
pub mod decode;
pub mod farm;
pub mod firstboot;
pub mod lxd_keys;
pub mod mac;
pub mod manifest;
pub mod names;
pub mod node;
pub mod places;
pub mod problem;
pub mod report;
mod resolve;
pub mod sound;
pub mod stack;
pub mod suggest;
pub mod timezones;
