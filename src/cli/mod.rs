//! The command line: arguments, commands, and what people and scripts see of them. Decisions are made in the
//! library; here they are asked for and printed.

pub mod args;
pub mod devices;
mod outcome;

pub use outcome::{Ended, Failure, OrFail, Outcome, Voice};
