//! palmfarm: Ubuntu's Raspberry Pi image and one `farm.yaml` in, a card that boots into an LXD farm out.
//!
//! `ARCHITECTURE.md` draws the whole; each module says at its top what it owns and what it must never do.

// `println!` and its kin panic where the reader has gone away; `cli::ui` does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]
// What could open a device; clippy.toml says who may.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod agents;
pub mod base;
pub mod card;
pub mod cli;
pub mod edit;
pub mod farm;
pub mod host;
pub mod lan;
mod numbers;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod render;
mod sha256;
mod tarball;
pub mod text;
pub mod text_file;
pub mod write;
