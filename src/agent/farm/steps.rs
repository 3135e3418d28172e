//! Taking the steps of the farm one after the other while the daemon may go away: it is upgraded, or killed. A step that
//! the daemon left is taken again once the daemon is back, and begins by looking. If the daemon does not come back, that
//! is said once and the remaining steps are skipped.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Farm, SETTLING};
use crate::cluster::{give_way, no_quorum};
use crate::snap;
use crate::step::{Change, DaemonState, StepError, StepListener, StepResult};

/// How long to wait for a daemon that went away, if its snap is not being refreshed.
const AWAY: Duration = Duration::from_secs(120);

/// How often snapd is asked whether it is.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(10);

/// The pause while the daemon answers but does nothing: it is shutting down, or has just started.
const BUSY: Duration = Duration::from_secs(1);

/// The pause before another look at what other cards of the cluster do.
const FOR_OTHERS: Duration = Duration::from_secs(5);

/// How many times a step is taken again after the daemon went away.
const MOST_RESTARTS: u32 = 3;

/// The steps of one run.
pub(super) struct Steps<'a> {
    farm: &'a Farm<'a>,
    listener: &'a mut dyn StepListener,
    daemon_is_lost: bool,
}

impl<'a> Steps<'a> {
    pub(super) fn new(farm: &'a Farm<'a>, listener: &'a mut dyn StepListener) -> Self {
        Self {
            farm,
            listener,
            daemon_is_lost: false,
        }
    }

    /// Take `step`, which looks before it acts and so may be taken again. Returns whether it succeeded.
    pub(super) fn take(&mut self, name: &str, mut step: impl FnMut() -> StepResult) -> bool {
        if self.daemon_is_lost {
            return self.skip(name, "the container daemon does not answer");
        }
        let (farm, lost) = (self.farm, &mut self.daemon_is_lost);
        let mut step = || {
            farm.notes.take();
            step()
        };
        self.listener.begin(name);
        let done = loop {
            let done = persist(farm, &mut step, lost);
            let why = match (&done, &farm.lxd.cluster) {
                (Err(error), Some(cluster)) if !farm.daemon.looks_only() => match error.daemon {
                    DaemonState::NoQuorum => no_quorum(cluster),
                    DaemonState::Waiting => error.message.clone(),
                    _ => break done,
                },
                _ => break done,
            };
            // The other cards take as long as they take, and no person can do anything about it here.
            self.listener.begin(&format!("{name}: {why}"));
            if let Err(error) = give_way(farm.root) {
                break Err(error);
            }
            sleep(FOR_OTHERS);
        };
        let done = farm.would(done);
        let notes = farm.notes.take().join("; ");
        self.listener.conclude(name, notes, done)
    }

    /// Report a step that is not taken, and why. Returns false, since it did not succeed.
    pub(super) fn skip(&mut self, name: &str, why: &str) -> bool {
        self.listener.skip(name, why);
        false
    }
}

/// Take `step` until it succeeds or fails although the daemon is there. `lost` becomes true if the daemon does not come
/// back.
fn persist(farm: &Farm<'_>, step: &mut dyn FnMut() -> StepResult, lost: &mut bool) -> StepResult {
    let daemon = farm.daemon;
    let mut begun = Instant::now();
    let mut restarts = 0_u32;
    loop {
        let error = match step() {
            // A step that was interrupted may have changed things before.
            Ok(Change::Unchanged) if restarts > 0 => return Ok(Change::Changed),
            Ok(change) => return Ok(change),
            Err(error) => error,
        };
        if error.daemon == DaemonState::Doubtful {
            sleep(BUSY);
        }
        if error.daemon != DaemonState::Away && daemon.stayed() {
            if error.daemon == DaemonState::Busy && begun.elapsed() < AWAY {
                sleep(BUSY);
                continue;
            }
            return Err(error);
        }
        if restarts == MOST_RESTARTS {
            return Err(error);
        }
        restarts = restarts.saturating_add(1);
        if !returns(farm) {
            *lost = true;
            return Err(with_cure(error));
        }
        begun = Instant::now();
        // The daemon has forgotten what the step began, or resumes it; if waiting for that fails, so will the step.
        drop(daemon.settle_down(farm.card, SETTLING));
    }
}

/// Wait until the daemon answers again: as long as the refresh of its snap takes, and [`AWAY`] without one. Returns
/// whether it does.
fn returns(farm: &Farm<'_>) -> bool {
    let begun = Instant::now();
    let mut unexplained = begun;
    while unexplained.elapsed() < AWAY {
        if farm.daemon.returns(BETWEEN_QUESTIONS) {
            return true;
        }
        if farm.daemon.is_snap() && snap::is_changing(farm.root, begun) {
            unexplained = Instant::now();
        }
    }
    false
}

fn with_cure(mut error: StepError) -> StepError {
    if error.daemon != DaemonState::Away {
        // It was ending when the step failed.
        error
            .message
            .push_str("; since then the container daemon does not answer");
    }
    error.message.push_str(&format!(
        "; it has not come back within {} s: see why (systemctl status lxd, or snap services lxd), start it, then run \
         palmfarm-agent run",
        AWAY.as_secs()
    ));
    error
}
