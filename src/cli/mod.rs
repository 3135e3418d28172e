//! The command line: arguments, commands, and what people and scripts see of them. Decisions are made in the
//! library; here they are asked for and printed.

pub mod args;
pub mod check;
pub mod devices;
pub mod init;
pub mod list;
mod outcome;

pub use outcome::{Ended, Failure, OrFail, Outcome, Voice};
