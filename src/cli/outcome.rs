//! How a command ended: the exit code, and the error with which it ended, printed. It must not decide what went wrong.

use std::process::ExitCode;

use super::ui::{Label, Ui};
use crate::pipeline::BuildError;

/// What the exit code says. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Nothing was touched.
    Refused,
    /// The command line is wrong.
    Usage,
    /// The card or the name of the output is untouched.
    Failed,
    /// The card is spoiled and must be written again.
    Spoiled,
    /// What was waited for did not come in time.
    TimedOut,
    /// As shells report SIGINT.
    Interrupted,
}

impl Outcome {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Failed => 3,
            Self::Spoiled => 4,
            Self::TimedOut => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// `None` if it has been printed already, as the problems of a farm are.
    pub(super) error: Option<anyhow::Error>,
    /// What the person can do.
    pub(super) hint: Option<String>,
}

pub(super) type CliResult = Result<(), Failure>;

impl Failure {
    /// A failure whose message has been printed already.
    pub(super) fn printed(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
            hint: None,
        }
    }

    pub(super) fn new(outcome: Outcome, error: impl Into<anyhow::Error>) -> Self {
        Self {
            outcome,
            error: Some(error.into()),
            hint: None,
        }
    }

    /// Nothing was touched because of `error`; `hint` says what the person can do.
    pub(super) fn refused(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self::new(Outcome::Refused, error).hint(hint)
    }

    /// The command line asks for what cannot be.
    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Outcome::Usage, anyhow::anyhow!("{message}"))
    }

    /// A failure with the hint that the error itself gives.
    pub(super) fn with_hint<E, H>(outcome: Outcome, error: E, hint: impl FnOnce(&E) -> Option<H>) -> Self
    where
        E: Into<anyhow::Error>,
        H: Into<String>,
    {
        let hint = hint(&error).map(Into::into);
        Self {
            hint,
            ..Self::new(outcome, error)
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Print it and return its exit code.
    pub(super) fn report(&self, ui: Ui) -> ExitCode {
        if let Some(error) = &self.error {
            let message = format!("{error:#}");
            if ui.json {
                let code = self.outcome.code();
                ui.event(&serde_json::json!({"event": "error", "exit": code, "message": message, "hint": self.hint}));
            } else {
                ui.labelled_line(0, Label::Palmfarm, message);
                if let Some(hint) = &self.hint {
                    ui.labelled_line(0, Label::Hint, hint);
                }
            }
        }
        self.outcome.into()
    }
}

/// Nothing is written before all cards of a farm are prepared.
impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::with_hint(Outcome::Refused, error, BuildError::hint)
    }
}

/// Turns any error into a [`Failure`] with a given exit code.
pub(super) trait OutcomeExt<T> {
    fn or_fail(self, outcome: Outcome) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OutcomeExt<T> for Result<T, E> {
    fn or_fail(self, outcome: Outcome) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(outcome, error))
    }
}
