//! Asking the person at the terminal. A question can be interrupted like any other work.

use std::io;
use std::time::Duration;

use super::session::Session;
use super::{Failure, Outcome, OutcomeExt};
use crate::host::terminal;

/// How often a question checks whether it was interrupted.
const INTERVAL: Duration = Duration::from_millis(100);

/// What the person answers to `question`, without the white space around it; empty if they close the input.
pub(super) fn ask(question: &str, session: &Session) -> Result<String, Failure> {
    ask_line(question, session).map(Option::unwrap_or_default)
}

/// The same; `None` if they close the input.
pub(super) fn ask_line(question: &str, session: &Session) -> Result<Option<String>, Failure> {
    session.ui.prompt(question);
    loop {
        if session.is_cancelled() {
            session.ui.prompt("\n");
            return Err(Failure::printed(Outcome::Interrupted));
        }
        if terminal::has_input(INTERVAL).or_fail(Outcome::Failed)? {
            break;
        }
    }
    let mut answer = String::new();
    // A terminal hands over whole lines, so this does not block.
    let read = io::stdin().read_line(&mut answer).or_fail(Outcome::Failed)?;
    if !answer.ends_with('\n') {
        session.ui.prompt("\n");
    }
    Ok((read > 0).then(|| answer.trim().to_owned()))
}
