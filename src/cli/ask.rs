//! Asking the person at the terminal. A question can be interrupted like any other work.

use std::io;
use std::time::Duration;

use super::session::Session;
use super::{Failure, Outcome, OutcomeExt};
use crate::host::terminal;

/// How often a question checks whether it was interrupted, or has become a question of the past.
const INTERVAL: Duration = Duration::from_millis(100);

/// How a question ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A line, without the white space around it.
    Line(String),
    /// The person closed the input, as Ctrl-D does.
    Closed,
    /// What the question is about has changed.
    Changed,
}

/// What the person answers to `question`, without the white space around it; empty if they close the input.
pub(super) fn ask(question: &str, session: &Session) -> Result<String, Failure> {
    ask_line(question, session).map(Option::unwrap_or_default)
}

/// The same; `None` if they close the input.
pub(super) fn ask_line(question: &str, session: &Session) -> Result<Option<String>, Failure> {
    Ok(match ask_until(question, session, &mut || false)? {
        Answer::Line(line) => Some(line),
        Answer::Closed | Answer::Changed => None,
    })
}

/// Ask `question` until it is answered, or until `has_changed`, which is called several times a second. What the person
/// has typed by then stays in the terminal, and belongs to the answer of the next question.
///
/// # Errors
/// The person pressed Ctrl-C; that nothing was touched has been printed.
pub(super) fn ask_until(
    question: &str,
    session: &Session,
    has_changed: &mut dyn FnMut() -> bool,
) -> Result<Answer, Failure> {
    session.ui.prompt(question);
    loop {
        if session.is_cancelled() {
            session.ui.prompt("\n");
            return Err(session.interrupted("interrupted; nothing was touched"));
        }
        if terminal::has_input(INTERVAL).or_fail(Outcome::Failed)? {
            break;
        }
        if has_changed() {
            session.ui.prompt("\n");
            return Ok(Answer::Changed);
        }
    }
    let mut answer = String::new();
    // A terminal hands over whole lines, so this does not block.
    let read = io::stdin().read_line(&mut answer).or_fail(Outcome::Failed)?;
    if !answer.ends_with('\n') {
        session.ui.prompt("\n");
    }
    Ok(if read == 0 {
        Answer::Closed
    } else {
        Answer::Line(answer.trim().to_owned())
    })
}
