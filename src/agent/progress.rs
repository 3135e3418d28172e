//! A run as it goes on: it prints each step, keeps the report up to date, and records the end in the journal.

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::{Cluster, Container, Report, State, Step, StepState};

use crate::root::Root;
use crate::step::StepListener;
use crate::{clock, journal, report};

/// A run that is at work.
pub(crate) struct Progress<'a> {
    root: &'a Root,
    document: &'a FirstBoot,
    /// Digest of the document.
    digest: &'a str,
    /// Whether the last run made everything true that the same document declares.
    was_done: bool,
    report: Report,
}

impl<'a> Progress<'a> {
    /// The run with this number, before its first step. If the last run made everything true, its report stays on the
    /// card until there is something else to say.
    pub(crate) fn new(root: &'a Root, document: &'a FirstBoot, digest: &'a str, number: u32) -> Self {
        let report = report::begin(root, document, number);
        // A journal that cannot be read has been reported already; then nothing is known of an earlier run.
        let was_done = journal::Journal::open(root).is_ok_and(|journal| journal.done(digest));
        if was_done {
            report::show(root, &report);
        } else {
            report::publish(root, document, &report);
        }
        Self {
            root,
            document,
            digest,
            was_done,
            report,
        }
    }

    /// Whether a step of this run has changed anything on the farm.
    pub(crate) fn has_changed_the_farm(&self) -> bool {
        let of_the_farm = |step: &Step| step.name.starts_with("container ") || step.name == "preseed";
        let mut steps = self.report.steps.iter();
        steps.any(|step| of_the_farm(step) && step.state != StepState::Unchanged)
    }

    /// Put the containers into the report.
    pub(crate) fn containers(&mut self, containers: Vec<Container>) {
        for container in containers.iter().filter(|one| !one.message.is_empty()) {
            say!("container {}: {}", container.name, container.message);
        }
        self.report.containers = containers;
    }

    /// Put the cluster into the report.
    pub(crate) fn cluster(&mut self, cluster: Option<Cluster>) {
        self.report.cluster = cluster;
    }

    /// Close the report and the journal after the last step.
    pub(crate) fn finish(mut self) -> State {
        let changed = |step: &Step| step.state == StepState::Changed;
        if self.report.steps.iter().any(changed) {
            report::settle(self.root, self.document);
        }
        self.report.network = report::network_now(self.root, self.document);
        self.report.state = report::state(&self.report);
        let state = self.report.state;
        report::publish(self.root, self.document, &self.report);
        // After the report: if the journal says done, the report on the card must say so, too.
        if state == State::Done && self.was_done {
            return state;
        }
        if let Err(error) = journal::finish_run(self.root, state, self.digest) {
            say!("writing to {}: {error}", journal::PATH);
        }
        state
    }
}

impl Progress<'_> {
    /// Whether this run went on although nobody had set the clock.
    fn clock_is_unset(&self) -> bool {
        let mut steps = self.report.steps.iter();
        steps.any(|step| step.name == clock::STEP && !step.message.is_empty())
    }
}

/// Whether a step may have failed because the clock is wrong.
fn is_of_the_clock(step: &Step) -> bool {
    let mut lines = std::iter::once(&step.message).chain(&step.output);
    lines.any(|line| clock::may_explain(line))
}

impl StepListener for Progress<'_> {
    fn begin(&mut self, name: &str) {
        if self.report.doing.as_deref() == Some(name) {
            return;
        }
        say!("{name} …");
        self.report.doing = Some(name.to_owned());
        report::show(self.root, &self.report);
    }

    fn end(&mut self, mut step: Step) {
        if step.state == StepState::Failed && self.clock_is_unset() && is_of_the_clock(&step) {
            step.message
                .push_str("; that may be due to the clock, see the step clock");
        }
        say!(
            "{}: {}{}{}",
            step.name,
            match step.state {
                StepState::Unchanged => "as declared",
                StepState::Changed => "done",
                StepState::Failed => "failed",
                StepState::Skipped => "skipped",
            },
            if step.message.is_empty() { "" } else { ": " },
            step.message,
        );
        for line in &step.output {
            say!("    | {line}");
        }
        let failed = step.state == StepState::Failed;
        self.report.doing = None;
        self.report.steps.push(step);
        self.report.network = report::network_now(self.root, self.document);
        if failed {
            report::publish(self.root, self.document, &self.report);
        } else {
            report::show(self.root, &self.report);
        }
    }
}
