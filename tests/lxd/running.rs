//! An agent that is at work on a card, and what it made of its report.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use palmfarm_protocol::report::{Report, StepState};

/// An agent that is at work.
pub(crate) struct Running {
    agent: Child,
    log: PathBuf,
    begun: Instant,
}

impl Running {
    /// The `agent`, which prints into the file `log`.
    pub(crate) fn new(agent: Child, log: PathBuf) -> Self {
        Self {
            agent,
            log,
            begun: Instant::now(),
        }
    }

    /// Wait for its end. Returns whether it was a good one.
    pub(crate) fn ended(&mut self, patience: Duration) -> bool {
        loop {
            if let Some(status) = self.agent.try_wait().unwrap() {
                return status.success();
            }
            if self.begun.elapsed() > patience {
                let _ = self.agent.kill();
                panic!("the agent was stuck:\n{}", self.printed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Wait for its end, which came with its Pi's power cut.
    pub(crate) fn end(&mut self) {
        let _ = self.agent.wait();
    }

    pub(crate) fn is_at_work(&mut self) -> bool {
        self.agent.try_wait().unwrap().is_none()
    }

    /// What it has printed.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How long ago it began.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Steps of a report that did not end well.
pub(crate) fn bad(report: &Report) -> Vec<String> {
    let bad = report
        .steps
        .iter()
        .filter(|step| matches!(step.state, StepState::Failed | StepState::Skipped));
    bad.map(|step| format!("{}: {}", step.name, step.message))
        .collect()
}
