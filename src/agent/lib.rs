//! The first-boot agent: small steps, each of which looks, acts, looks again and is recorded.
//!
//! It finds what the card declares in one document and makes it true; what is true already it leaves alone, and power
//! may go at any instant. It listens to nobody: no socket of its own, no thread, no program through a shell.

/// A line on standard error: the journal of its unit, or the terminal of who runs it by hand. Where neither reads any
/// more, the line is lost and the work goes on; `eprintln!` would end it.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _lost = writeln!(std::io::stderr(), $($line)*);
    }};
}

pub mod apply;
pub mod bridge;
mod clock;
pub mod confirm;
pub mod daemon;
pub mod farm;
mod ifupdown;
pub mod ip;
pub mod journal;
mod lock;
mod lxd;
pub mod network;
pub mod nic;
mod packages;
mod program;
mod progress;
pub mod report;
mod rollback;
pub mod root;
pub mod run;
pub mod seed;
pub mod status;
