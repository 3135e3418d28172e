//! How a command ended: the exit code, and the one place that prints an error.

use std::process::ExitCode;

use super::say::{complaint_line, event};

/// What the exit code says. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 0: done.
    Done,
    /// 1: refused; nothing was touched.
    Refused,
    /// 2: the command line is wrong.
    Usage,
    /// 3: failed; the card or the name of the output is untouched.
    Failed,
    /// 4: the card is spoiled and must be written again.
    Spoiled,
    /// 130: interrupted, as shells say for SIGINT.
    Interrupted,
}

impl Outcome {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Failed => 3,
            Self::Spoiled => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Why a command did not end well.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub outcome: Outcome,
    /// What happened; `None` where it has been printed in a form of its own, as the problems of a farm are.
    pub error: Option<anyhow::Error>,
    /// What the person can do.
    pub hint: Option<String>,
}

/// What every command returns.
pub type Ended = Result<(), Failure>;

impl Failure {
    /// A failure whose message has been printed.
    #[must_use]
    pub fn printed(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
            hint: None,
        }
    }

    /// A failure with a message.
    pub fn new(outcome: Outcome, error: impl Into<anyhow::Error>) -> Self {
        Self {
            outcome,
            error: Some(error.into()),
            hint: None,
        }
    }

    /// The same failure, with what the person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure, with what the person can do where anything can be done.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    /// Print it, to people or as a line of JSON, and give its exit code.
    #[must_use]
    pub fn report(&self, voice: Voice) -> ExitCode {
        if let Some(error) = &self.error {
            let message = format!("{error:#}");
            match voice {
                Voice::People => {
                    complaint_line!("palmfarm: {}", message);
                    if let Some(hint) = &self.hint {
                        complaint_line!("hint: {}", hint);
                    }
                }
                Voice::Json => {
                    let code = self.outcome.code();
                    let line = serde_json::json!({"event": "error", "exit": code, "message": message, "hint": self.hint});
                    event(&line);
                }
            }
        }
        self.outcome.into()
    }
}

/// Whom a command speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Text; progress on a terminal.
    People,
    /// JSON lines on standard output.
    Json,
}

/// Turn any error into a [`Failure`] with a given exit code.
pub trait OrFail<T> {
    /// The value, or a failure with `outcome`.
    ///
    /// # Errors
    /// The error there was.
    fn or_fail(self, outcome: Outcome) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, outcome: Outcome) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(outcome, error))
    }
}
