//! Asking the person at the terminal. A question can be interrupted like any other work; nothing is read where
//! nobody sits.

use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};

use super::say::prompt;
use super::{Failure, OrFail, Outcome, Voice};
use crate::progress::Cancel;

/// How often a question looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(100);

/// Whether somebody is there to be asked: both what they read and what they type on must be a terminal.
pub(super) fn is_anybody_there(voice: Voice) -> bool {
    voice == Voice::People && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What the person answers to `question`, without the white space around it; empty where they close the input.
///
/// # Errors
/// Interrupted; failed, where the terminal is gone.
pub(super) fn ask(question: &str, cancel: &Cancel) -> Result<String, Failure> {
    prompt(question);
    wait(cancel)?;
    let mut answer = String::new();
    // A terminal gives whole lines, so that this does not wait any more.
    io::stdin().read_line(&mut answer).or_fail(Outcome::Failed)?;
    if !answer.ends_with('\n') {
        prompt("\n");
    }
    Ok(answer.trim().to_owned())
}

/// Return when there is something to read.
fn wait(cancel: &Cancel) -> Result<(), Failure> {
    let stdin = io::stdin();
    let timeout = Timespec::try_from(LOOK).or_fail(Outcome::Failed)?;
    loop {
        if cancel.is_cancelled() {
            prompt("\n");
            return Err(Failure::printed(Outcome::Interrupted));
        }
        let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(io::Error::from(error)).or_fail(Outcome::Failed),
        }
    }
}
