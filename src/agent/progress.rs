//! What steps have in common: they are announced, timed against nothing, recorded once they are over, and told.

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::{Container, Report, State, Step, StepState};

use crate::farm::{Change, Done, Watch};
use crate::journal::{Entry, Journal};
use crate::report;
use crate::root::Root;

/// A run while it lasts.
pub(crate) struct Progress<'a> {
    root: &'a Root,
    document: &'a FirstBoot,
    journal: Journal,
    report: Report,
}

impl<'a> Progress<'a> {
    /// A run of which nothing has happened yet. Where the last one made everything true, its report stands until there
    /// is something else to say.
    pub(crate) fn new(root: &'a Root, document: &'a FirstBoot, journal: Journal, digest: &str) -> Self {
        let report = report::begin(root, document, journal.runs());
        if journal.done(digest) {
            report::show(root, &report);
        } else {
            report::publish(root, document, &report);
        }
        Self {
            root,
            document,
            journal,
            report,
        }
    }

    /// Take a step; whether it is true now.
    pub(crate) fn take(&mut self, name: &str, step: impl FnOnce() -> Done) -> bool {
        self.begin(name);
        let (state, message, output) = match step() {
            Ok(Change::Unchanged) => (StepState::Unchanged, String::new(), Vec::new()),
            Ok(Change::Changed) => (StepState::Changed, String::new(), Vec::new()),
            Err(trouble) => (StepState::Failed, trouble.message, trouble.output),
        };
        let name = name.to_owned();
        self.end(Step {
            name,
            state,
            message,
            output,
        });
        state != StepState::Failed
    }

    /// Leave a step out, because of what it stands on.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        self.end(Step {
            name: name.to_owned(),
            state: StepState::Skipped,
            message: why.to_owned(),
            output: Vec::new(),
        });
    }

    /// Whether a step of this run has changed anything on the farm.
    pub(crate) fn has_changed_the_farm(&self) -> bool {
        let of_the_farm = |step: &Step| step.name.starts_with("container ") || step.name == "preseed";
        let mut steps = self.report.steps.iter();
        steps.any(|step| of_the_farm(step) && step.state != StepState::Unchanged)
    }

    /// What became of the containers.
    pub(crate) fn containers(&mut self, containers: Vec<Container>) {
        for container in containers.iter().filter(|one| !one.message.is_empty()) {
            say!("container {}: {}", container.name, container.message);
        }
        self.report.containers = containers;
    }

    /// Everything was tried.
    pub(crate) fn finish(mut self, digest: &str) -> State {
        if self
            .report
            .steps
            .iter()
            .any(|step| step.state == StepState::Changed)
        {
            report::settle(self.root, self.document);
        }
        self.report.network = report::network_now(self.root, self.document);
        self.report.state = report::state(&self.report.steps);
        let state = self.report.state;
        report::publish(self.root, self.document, &self.report);
        // After the report: a journal that says done stands for a report that does.
        if !(state == State::Done && self.journal.done(digest)) {
            let document = digest.to_owned();
            self.record(Entry::Finished { state, document });
        }
        state
    }

    fn record(&mut self, entry: Entry) {
        if let Err(error) = self.journal.add(self.root, entry) {
            say!("adding to {}: {error}", crate::journal::PATH);
        }
    }
}

impl Watch for Progress<'_> {
    fn begin(&mut self, name: &str) {
        say!("{name} …");
    }

    fn end(&mut self, step: Step) {
        let Step {
            name, state, message, ..
        } = &step;
        say!(
            "{name}: {}{}{message}",
            match state {
                StepState::Unchanged => "as declared",
                StepState::Changed => "done",
                StepState::Failed => "failed",
                StepState::Skipped => "not tried",
            },
            if message.is_empty() { "" } else { ": " },
        );
        for line in &step.output {
            say!("    | {line}");
        }
        let (name, state) = (name.clone(), *state);
        self.report.steps.push(step);
        self.report.network = report::network_now(self.root, self.document);
        if state == StepState::Failed {
            report::publish(self.root, self.document, &self.report);
        } else {
            report::show(self.root, &self.report);
        }
        if state != StepState::Unchanged {
            self.record(Entry::Step { name, state });
        }
    }
}
