//! Taking the steps of the farm one after the other, each told to whoever watches. A daemon that goes away while a step
//! is taken – it is upgraded, it was killed – is waited for, and the step begins again by looking; a daemon that does
//! not come back is said once, and what is left is skipped.

use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::report::{Step, StepState};

use super::{Change, Done, Standing, Trouble, Watch, SETTLING};
use crate::daemon::Daemon;

/// How long a daemon that went away is waited for. A snap's refresh takes a minute or two on a Pi.
const AWAY: Duration = Duration::from_secs(120);

/// The pause while it answers but does nothing: it is about to end, or has just begun.
const BUSY: Duration = Duration::from_secs(1);

/// How often one step begins again after the daemon went away.
const AGAIN: u32 = 3;

/// The steps of one run.
pub(super) struct Steps<'a> {
    daemon: &'a Daemon,
    watch: &'a mut dyn Watch,
    there: There,
}

/// Whether there is a daemon.
#[derive(PartialEq, Eq)]
enum There {
    Yes,
    No,
}

/// A step was not taken, or failed.
pub(super) struct NotDone;

impl<'a> Steps<'a> {
    /// The steps on `daemon`.
    pub(super) fn new(daemon: &'a Daemon, watch: &'a mut dyn Watch) -> Self {
        Self {
            daemon,
            watch,
            there: There::Yes,
        }
    }

    /// Take `step`, which looks before it acts, so that it may be taken again.
    pub(super) fn take(&mut self, name: &str, mut step: impl FnMut() -> Done) -> Result<(), NotDone> {
        if self.there == There::No {
            return self.skip(name, "the container daemon does not answer");
        }
        self.watch.begin(name);
        let begun = Instant::now();
        let mut again = 0_u32;
        let done = loop {
            let done = step();
            let Err(trouble) = &done else { break done };
            if trouble.daemon == Standing::Doubtful {
                sleep(BUSY);
            }
            let stayed = trouble.daemon != Standing::Away && self.daemon.stayed();
            if stayed && trouble.daemon == Standing::Busy && begun.elapsed() < AWAY {
                sleep(BUSY);
                continue;
            }
            if stayed || again == AGAIN {
                break done;
            }
            again = again.saturating_add(1);
            if !self.daemon.returns(AWAY) {
                self.there = There::No;
                break done.map_err(lost);
            }
            // What it had begun before is either forgotten or goes on; a failure shows in the step itself.
            drop(self.daemon.settle_down(SETTLING));
        };
        let result = if done.is_ok() { Ok(()) } else { Err(NotDone) };
        let (state, message, output) = match done {
            // A step that was disturbed may have changed things the first time, and then it has done so.
            Ok(Change::Unchanged) if again == 0 => (StepState::Unchanged, String::new(), Vec::new()),
            Ok(_) => (StepState::Changed, String::new(), Vec::new()),
            Err(trouble) => (StepState::Failed, trouble.message, trouble.output),
        };
        self.end(name, state, message, output);
        result
    }

    /// Say that a step is not taken, and why.
    pub(super) fn skip(&mut self, name: &str, why: &str) -> Result<(), NotDone> {
        self.end(name, StepState::Skipped, why.into(), Vec::new());
        Err(NotDone)
    }

    fn end(&mut self, name: &str, state: StepState, message: String, output: Vec<String>) {
        self.watch.end(Step {
            name: name.into(),
            state,
            message,
            output,
        });
    }
}

fn lost(trouble: Trouble) -> Trouble {
    let message = format!(
        "{}; it has not come back for {} s: see why (systemctl status lxd, or snap services lxd), start it, then run \
         palmfarm-agent run",
        trouble.message,
        AWAY.as_secs()
    );
    Trouble { message, ..trouble }
}
