//! `palmfarm-agent status`: how far the card is, once or until the current run has ended. It only reads.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::lock;
use crate::report::{LIVE, PATH};
use crate::root::Root;
use crate::run::ExitStatus;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: the report as it is stored, or one line of JSON for each change of it.
    Json,
}

impl Format {
    const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
        }
    }
}

/// Print the report of the current run, or of the last one.
pub fn once(root: &Root, format: Format) -> ExitStatus {
    let Some(text) = read(root, format) else {
        return has_not_run();
    };
    // A reader that stops early, as head(1) does, is not a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitStatus::Done
}

/// Print each step as it ends, and the whole report once the current run has ended. The exit status is that of the run.
pub fn follow(root: &Root, format: Format) -> ExitStatus {
    let mut shown = Shown::default();
    loop {
        // Before the report, or the report of a run that ends in between would be missed.
        let at_work = lock::is_held(root);
        let Some(report) = read(root, Format::Json) else {
            if at_work {
                sleep(PAUSE);
                continue;
            }
            return has_not_run();
        };
        let Ok(report) = serde_json::from_str::<Value>(&report) else {
            say!("palmfarm-agent: the report is damaged; the next run writes a new one");
            return ExitStatus::Failed;
        };
        let mut out = io::stdout();
        let written = match format {
            Format::Json => shown.line(&report).map(|line| writeln!(out, "{line}")),
            Format::Text if at_work => Some(
                shown
                    .steps(&report)
                    .iter()
                    .try_for_each(|line| writeln!(out, "{line}")),
            ),
            Format::Text => Some(out.write_all(read(root, Format::Text).unwrap_or_default().as_bytes())),
        };
        if matches!(written, Some(Err(_))) {
            return ExitStatus::Done;
        }
        if !at_work {
            return match report.get("state").and_then(Value::as_str) {
                Some("done") => ExitStatus::Done,
                _ => ExitStatus::Failed,
            };
        }
        sleep(PAUSE);
    }
}

/// What has been printed.
#[derive(Default)]
struct Shown {
    run: u64,
    steps: usize,
    line: String,
}

impl Shown {
    /// The steps that have ended since the last call, a line each.
    fn steps(&mut self, report: &Value) -> Vec<String> {
        let run = report.get("run").and_then(Value::as_u64).unwrap_or(0);
        if run != self.run {
            (self.run, self.steps) = (run, 0);
        }
        let steps = report.get("steps").and_then(Value::as_array);
        let steps = steps.map(Vec::as_slice).unwrap_or_default();
        let new = steps.get(self.steps..).unwrap_or_default();
        self.steps = steps.len();
        let word = |step: &Value, key: &str| {
            let text = step.get(key).and_then(Value::as_str).unwrap_or_default();
            text.to_owned()
        };
        let line = |step: &Value| {
            let message = word(step, "message");
            let colon = if message.is_empty() { "" } else { ": " };
            format!(
                "{:<9} {}{colon}{message}",
                word(step, "state"),
                word(step, "name")
            )
        };
        new.iter().map(line).collect()
    }

    /// The report on one line if it has changed.
    fn line(&mut self, report: &Value) -> Option<String> {
        let line = report.to_string();
        let new = line != self.line;
        self.line.clone_from(&line);
        new.then_some(line)
    }
}

pub(crate) fn read(root: &Root, format: Format) -> Option<String> {
    let read = |stem: &str| root.read(&format!("{stem}.{}", format.extension())).ok();
    read(LIVE).or_else(|| read(PATH))
}

fn has_not_run() -> ExitStatus {
    say!("palmfarm-agent: the agent has not run on this card yet");
    ExitStatus::Refused
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_is_printed_once() {
        let report = |run: u32, names: &[&str]| {
            let steps = names
                .iter()
                .map(|name| json!({"name": name, "state": "changed", "message": ""}));
            json!({"run": run, "steps": steps.collect::<Vec<_>>()})
        };
        let mut shown = Shown::default();
        assert_eq!(shown.steps(&report(1, &["a"])), ["changed   a"]);
        assert_eq!(shown.steps(&report(1, &["a"])), [""; 0]);
        assert_eq!(shown.steps(&report(1, &["a", "b", "c"])).len(), 2);
        // The next run is printed from its first step, even if it is as far already.
        assert_eq!(shown.steps(&report(2, &["a", "b", "c"])).len(), 3);
        assert_eq!(shown.steps(&json!({"steps": 7})), [""; 0]);
        assert_eq!(
            shown.line(&report(1, &[])).as_deref(),
            Some(r#"{"run":1,"steps":[]}"#)
        );
        assert_eq!(shown.line(&report(1, &[])), None);
    }
}
