//! A step: it looks, acts, looks again, and says what it changed or why it failed. Whoever takes steps is told when
//! each begins and how it ends, so that the report is true at any moment.

use std::fmt;
use std::io;

use palmfarm_protocol::report::{Step, StepState};

use crate::daemon::{DaemonError, DaemonErrorKind, PushError};

/// Whether a step had to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Unchanged,
    Changed,
}

impl Change {
    /// Changed if either is.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::Changed {
            self
        } else {
            other
        }
    }
}

/// Why something is not as declared.
#[derive(Debug)]
pub(crate) struct StepError {
    /// What failed and why, and what a person can do about it.
    pub(crate) message: String,
    /// The last lines of output of a program that failed.
    pub(crate) output: Vec<String>,
    pub(crate) daemon: DaemonState,
}

/// The state of the container daemon when something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DaemonState {
    /// It works; the failure has another reason.
    Working,
    /// It answers, but the failure may be due to its shutting down.
    Doubtful,
    /// It answers that it is starting or shutting down, or that somebody else was faster: look again.
    Busy,
    /// It does not answer.
    Away,
    /// It answers, but its cluster does not: most of the other members are off.
    NoQuorum,
    /// It works, and another card of the cluster has not done its part yet, as the message says.
    Waiting,
    /// It was not told to make the change that the message names, since the agent only looks.
    OnlyLooking,
}

pub(crate) type StepResult = Result<Change, StepError>;

impl StepError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            output: Vec::new(),
            daemon: DaemonState::Working,
        }
    }

    /// Why something cannot be done before another card of the cluster has done its part.
    pub(crate) fn waiting(message: String) -> Self {
        Self {
            daemon: DaemonState::Waiting,
            ..Self::new(message)
        }
    }

    /// The error of a request, with what a person can do if the daemon refused it although it works.
    pub(crate) fn with_cure(error: DaemonError, cure: &str) -> Self {
        let refused = matches!(
            error.kind(),
            DaemonErrorKind::Refused { .. } | DaemonErrorKind::Failed(_)
        );
        let mut error = Self::from(error);
        if refused && !matches!(error.daemon, DaemonState::Busy | DaemonState::NoQuorum) {
            error.message.push_str(cure);
        }
        error
    }

    /// Makes the error of an I/O error that happened while `doing` something to `path`.
    pub(crate) fn io<'a>(doing: &'a str, path: &'a str) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self::new(format!("{doing} {path}: {error}"))
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<DaemonError> for StepError {
    fn from(error: DaemonError) -> Self {
        let daemon = match error.kind() {
            _ if error.is_without_quorum() => DaemonState::NoQuorum,
            DaemonErrorKind::Unreachable(_) => DaemonState::Away,
            DaemonErrorKind::Refused { code: 412 | 503, .. } => DaemonState::Busy,
            // LXD 5.0 also says this with status 500, and of operations that it cancels. The second is what it says while
            // it starts or stops a container by itself, after it was restarted; the third, while another card joins, the
            // fourth and fifth, while no card that has an image is heard. The last is its dnsmasq's, whose successor may
            // start before it has let its address go.
            DaemonErrorKind::Refused { message, .. } | DaemonErrorKind::Failed(message)
                if [
                    "shutting down",
                    "Instance is busy running",
                    "Cluster member not found",
                    "not available on any online",
                    "Missing event connection",
                    "failed to create listening socket",
                ]
                .iter()
                .any(|words| message.contains(words)) =>
            {
                DaemonState::Busy
            }
            DaemonErrorKind::OnlyLooking => DaemonState::OnlyLooking,
            DaemonErrorKind::Failed(_) => DaemonState::Doubtful,
            _ => DaemonState::Working,
        };
        Self {
            daemon,
            ..Self::new(error.to_string())
        }
    }
}

impl From<PushError> for StepError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Daemon(error) => error.into(),
            PushError::Path(_) => Self::new(error.to_string()),
        }
    }
}

/// Is told of each step, and runs it.
pub(crate) trait StepListener {
    fn begin(&mut self, name: &str);
    fn end(&mut self, step: Step);

    /// Run `step` between [`StepListener::begin`] and [`StepListener::end`]. Returns whether it succeeded.
    fn take(&mut self, name: &str, step: &mut dyn FnMut() -> StepResult) -> bool {
        self.take_noting(name, &mut |_| step())
    }

    /// The same for a step that may have something to say although it succeeds.
    fn take_noting(&mut self, name: &str, step: &mut dyn FnMut(&mut String) -> StepResult) -> bool {
        self.begin(name);
        let mut note = String::new();
        let done = step(&mut note);
        self.conclude(name, note, done)
    }

    /// The end of a step that began with [`StepListener::begin`]. Returns whether it succeeded.
    fn conclude(&mut self, name: &str, note: String, done: StepResult) -> bool {
        let (state, message, output) = match done {
            Ok(Change::Unchanged) => (StepState::Unchanged, note, Vec::new()),
            Ok(Change::Changed) => (StepState::Changed, note, Vec::new()),
            Err(error) => (StepState::Failed, error.message, error.output),
        };
        self.end(Step {
            name: name.to_owned(),
            state,
            message,
            output,
        });
        state != StepState::Failed
    }

    /// Report a step that is not taken, and why.
    fn skip(&mut self, name: &str, why: &str) {
        self.end(Step {
            name: name.to_owned(),
            state: StepState::Skipped,
            message: why.to_owned(),
            output: Vec::new(),
        });
    }
}
