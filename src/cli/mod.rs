//! The command line: arguments, commands, and what people and scripts see of them. Decisions are made in the
//! library; here they are asked for and printed.

pub mod args;
mod ask;
pub mod base;
pub mod build;
pub mod check;
pub mod completions;
pub mod devices;
pub mod flash;
mod from_farm;
pub mod init;
pub mod inspect;
pub mod list;
pub mod man;
mod outcome;
pub mod plan;
pub mod progress;
pub mod say;
pub mod schema;
pub mod surroundings;

use std::io::Write;

pub use outcome::{Ended, Failure, OrFail, Outcome, Voice};

/// Print `text`, which is all that a command has to say.
///
/// # Errors
/// Failed, where standard output cannot be written; a reader that has read enough, as head(1) does, is no failure.
fn written(text: &[u8]) -> Ended {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
            Outcome::Failed,
            anyhow::Error::new(error).context("printing it"),
        )),
        _ => Ok(()),
    }
}
