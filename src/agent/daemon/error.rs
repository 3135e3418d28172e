//! Why the daemon did not do what was asked, and how that reads. It asks nothing.

use std::fmt;
use std::time::Duration;

/// Why the daemon did not do what was asked.
#[derive(Debug)]
pub struct DaemonError {
    doing: String,
    kind: DaemonErrorKind,
}

/// What went wrong with a request.
#[derive(Debug)]
pub enum DaemonErrorKind {
    /// It could not be reached, or closed the connection.
    Unreachable(String),
    /// It answered with an HTTP status and a message.
    Refused { code: u16, message: String },
    /// It accepted the work and failed at it.
    Failed(String),
    /// It was still working when the time was over.
    Late(Duration),
    /// Its answer is not one that this agent knows.
    Unknown(String),
    /// It was not asked, since this would be a change, and the agent only looks.
    OnlyLooking,
}

impl DaemonError {
    pub(super) fn new(doing: &str, kind: DaemonErrorKind) -> Self {
        let doing = doing.into();
        Self { doing, kind }
    }

    pub fn kind(&self) -> &DaemonErrorKind {
        &self.kind
    }

    /// Whether a later try may help: the daemon restarts when it is upgraded.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.kind,
            DaemonErrorKind::Unreachable(_)
                | DaemonErrorKind::Late(_)
                | DaemonErrorKind::Refused { code: 503, .. }
        )
    }

    /// Whether the daemon did its part of a start, and liblxc could not finish in time.
    pub fn is_of_liblxc(&self) -> bool {
        matches!(&self.kind, DaemonErrorKind::Failed(why) if why.contains(" forkstart "))
    }

    /// Whether the daemon still does something else with an instance (LXD's `operationlock`).
    pub fn is_busy(&self) -> bool {
        matches!(&self.kind, DaemonErrorKind::Failed(why) if why.contains(" is busy running a "))
    }

    /// Whether most members of its cluster are off, so that its database answers nobody.
    pub fn is_without_quorum(&self) -> bool {
        const WORDS: [&str; 5] = [
            "dqlite",
            "query-sql",
            "RAFT cluster is unavailable",
            "begin transaction",
            "no known leader",
        ];
        match &self.kind {
            DaemonErrorKind::Refused { message, .. } | DaemonErrorKind::Failed(message) => {
                // The last is all that LXD 5.0 says when it lists the members; a download that fails says more.
                WORDS.iter().any(|words| message.contains(words)) || message == "context deadline exceeded"
            }
            _ => false,
        }
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        if matches!(self.kind, DaemonErrorKind::OnlyLooking) {
            return Ok(());
        }
        f.write_str(": ")?;
        match &self.kind {
            DaemonErrorKind::OnlyLooking => Ok(()),
            DaemonErrorKind::Unreachable(why) => write!(f, "the container daemon does not answer: {why}"),
            DaemonErrorKind::Refused { code, message } => {
                write!(f, "the container daemon refused ({code}): {message}")
            }
            DaemonErrorKind::Failed(message) => write!(f, "the container daemon failed: {message}"),
            DaemonErrorKind::Late(waited) => write!(
                f,
                "the container daemon was not done after {} s",
                waited.as_secs()
            ),
            DaemonErrorKind::Unknown(what) => {
                write!(f, "the container daemon gave an unknown answer: {what}")
            }
        }
    }
}

impl std::error::Error for DaemonError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_why_a_start_fails() {
        let check = |why: &str, expect: (bool, bool)| {
            let error = DaemonError::new("starting web", DaemonErrorKind::Failed(why.into()));
            assert_eq!((error.is_of_liblxc(), error.is_busy()), expect, "{why}");
        };
        check(
            "Failed to run: /usr/sbin/lxd forkstart web /x: exit status 1",
            (true, false),
        );
        check("Instance is busy running a \"stop\" operation", (false, true));
        check("Failed start validation for device \"eth0\"", (false, false));
    }
}
