//! What the workstation and the Pi agree on: the document that a card carries for its first boot, the report that the
//! agent leaves behind, the paths that both use, and the rules that both apply.
//!
//! Types, their checks and nothing else: no I/O, no clock, no randomness. Every type that is stored has a version, and
//! no other crate stores a type.

pub mod card_manifest;
pub mod cluster;
pub mod firstboot;
pub mod mac;
pub mod names;
pub mod network;
pub mod nic;
pub mod paths;
pub mod report;
pub mod validate;
