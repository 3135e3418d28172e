//! How long a wait may take. Emulation on a busy machine is slow, so the limits are generous; nothing is measured by them.

use std::thread;
use std::time::{Duration, Instant};

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// This many seconds from now.
    pub(crate) fn seconds(seconds: u64) -> Self {
        let now = Instant::now();
        Self(now.checked_add(Duration::from_secs(seconds)).unwrap_or(now))
    }

    /// This many seconds from now, but not after `self`.
    pub(crate) fn at_most(self, seconds: u64) -> Self {
        Self(self.0.min(Self::seconds(seconds).0))
    }

    /// Whether it has passed.
    pub(crate) fn is_over(self) -> bool {
        self.0 <= Instant::now()
    }

    /// Try until `attempt` succeeds; its last failure when there is no more time.
    pub(crate) fn retry<T>(self, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) if self.is_over() => return Err(error),
                Err(_) => thread::sleep(Duration::from_secs(1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_is_what_is_told() {
        let mut tries = 0;
        let result: anyhow::Result<()> = Deadline::seconds(0).retry(|| {
            tries += 1;
            anyhow::bail!("try {tries}")
        });
        assert_eq!(result.unwrap_err().to_string(), "try 1");
    }

    #[test]
    fn a_part_never_outlasts_the_whole() {
        assert!(Deadline::seconds(0).at_most(1000).is_over());
        assert!(!Deadline::seconds(1000).at_most(1000).is_over());
    }
}
