//! `palmfarm-agent apply FILE --dry-run`: what would become of a later document, from the same steps that make it true.
//! The daemon is asked and told nothing: the first change that a step would make ends that step. It writes nothing.

use std::io::{self, Write};

use palmfarm_protocol::firstboot::{FirstBoot, Lxd};
use palmfarm_protocol::report::{State, Step, StepState};

use crate::daemon::{find_socket, Daemon};
use crate::farm::{self, Farm};
use crate::root::Root;
use crate::run::ExitStatus;
use crate::status::Format;
use crate::step::{Change, StepError, StepListener};
use crate::{lock, packages, report};

/// Print what would happen if `new` took the place of `now`.
pub(crate) fn preview(root: &Root, now: &FirstBoot, new: &FirstBoot, format: Format) -> ExitStatus {
    if lock::is_held(root) {
        say!("palmfarm-agent: a run is at work, which may change what would be looked at; `palmfarm-agent status --follow` shows when it has ended");
        return ExitStatus::Refused;
    }
    let mut preview = Preview(Vec::new());
    let wanted: Vec<String> = new.carried.keys().chain(&new.packages).cloned().collect();
    preview.note("packages", "would install", &packages::missing(root, &wanted));
    let users: Vec<String> = new
        .daemon_users
        .iter()
        .filter(|user| !now.daemon_users.contains(user))
        .cloned()
        .collect();
    preview.note("people", "would let use the container daemon:", &users);
    if let Some(lxd) = &new.lxd {
        match connect(root, lxd) {
            Ok(daemon) => farm::converge(&Farm::new(&daemon, lxd, root, &new.card), new, &mut preview),
            Err(error) => preview.skip("farm", &error.message),
        }
    }
    let mut report = report::begin(root, new, 0);
    let bad = |step: &Step| matches!(step.state, StepState::Failed | StepState::Skipped);
    report.state = if preview.0.iter().any(bad) {
        State::Failed
    } else {
        State::Done
    };
    report.steps = preview.0;
    let text = match format {
        Format::Json => serde_json::to_string(&report).unwrap_or_default() + "\n",
        Format::Text => report.steps.iter().map(line).collect(),
    };
    // A reader that stops early is not a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitStatus::Done
}

fn connect(root: &Root, lxd: &Lxd) -> Result<Daemon, StepError> {
    let none = || StepError::new("there is no container daemon yet, so all of it would be made");
    let socket = find_socket(root.dir(), lxd.flavour).ok_or_else(none)?;
    let mut daemon = Daemon::connect(&socket)?;
    daemon.look_only();
    Ok(daemon)
}

/// What a person should know of `step`; empty if nothing would change.
fn line(step: &Step) -> String {
    let state = match step.state {
        StepState::Unchanged if step.message.is_empty() => return String::new(),
        StepState::Unchanged => "stays",
        StepState::Changed => "changes",
        StepState::Failed => "REFUSED",
        StepState::Skipped => "skipped",
    };
    format!("{state:<9} {}: {}\n", step.name, step.message)
}

/// Collects the steps.
struct Preview(Vec<Step>);

impl Preview {
    /// A step that would do something with `names`, if there are any.
    fn note(&mut self, name: &str, doing: &str, names: &[String]) {
        if !names.is_empty() {
            self.take_noting(name, &mut |note| {
                *note = format!("{doing} {}", names.join(", "));
                Ok(Change::Changed)
            });
        }
    }
}

impl StepListener for Preview {
    fn begin(&mut self, _name: &str) {}

    fn end(&mut self, step: Step) {
        self.0.push(step);
    }
}
