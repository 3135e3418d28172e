//! The command line: arguments, commands, and what people and scripts see of them. Decisions are made in the
//! library; here they are asked for and printed.

pub mod args;
mod ask;
pub mod build;
pub mod check;
pub mod devices;
pub mod flash;
pub mod init;
pub mod inspect;
pub mod list;
mod outcome;
pub mod plan;
pub mod progress;
pub mod surroundings;

pub use outcome::{Ended, Failure, OrFail, Outcome, Voice};
