//! The first-boot agent: small steps, each of which looks, acts, looks again and is recorded.
//!
//! It reads in one document what the card declares and makes that true; what is already true it leaves alone, and the
//! power may be cut at any instant. It listens to nobody: it opens no socket, starts no thread, and runs no program
//! through a shell.
// The library is for this program and its tests alone: docs that repeat a name and `must_use` would have no reader.
#![allow(missing_docs, clippy::must_use_candidate)]

/// Print a line on standard error: the journal of the unit, or the terminal of a person. If nobody reads it any more,
/// the line is lost and the work continues; `eprintln!` would panic.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _lost = writeln!(std::io::stderr(), $($line)*);
    }};
}

pub mod apply;
pub mod arguments;
mod bridge;
mod clock;
pub mod cluster;
mod confirm;
pub mod daemon;
mod digest;
pub mod doctor;
mod farm;
mod ifupdown;
mod ip;
pub mod journal;
mod lock;
mod lxd;
mod network;
mod nic;
mod packages;
mod preview;
mod program;
mod progress;
pub mod rebuild;
mod record;
mod report;
mod rollback;
pub mod root;
pub mod run;
mod seed;
mod snap;
pub mod status;
mod step;
