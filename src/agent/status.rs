//! `palmfarm-agent status`: how far the card is, once or until the run at work has ended. It only reads.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::lock;
use crate::report::{LIVE, PATH};
use crate::root::Root;
use crate::run::Ending;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// For whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// People.
    Text,
    /// Programs: the report as it is stored, or one line of JSON for each change of it.
    Json,
}

impl Form {
    const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
        }
    }
}

/// Print the report of the run at work, else of the last one.
pub fn once(root: &Root, form: Form) -> Ending {
    let Some(text) = read(root, form) else {
        return never();
    };
    // A reader that has read enough, as head(1) does, is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ending::Done
}

/// Print each step as it ends, and the whole report once the run at work has ended; its outcome is this command's.
pub fn follow(root: &Root, form: Form) -> Ending {
    let mut shown = Shown::default();
    loop {
        // First, or a run that ends between the two looks would be missed.
        let at_work = lock::is_held(root);
        let Some(report) = read(root, Form::Json) else {
            if at_work {
                sleep(PAUSE);
                continue;
            }
            return never();
        };
        let Ok(report) = serde_json::from_str::<Value>(&report) else {
            say!("palmfarm-agent: the report is damaged; the next run writes it anew");
            return Ending::Failed;
        };
        let mut out = io::stdout();
        let heard = match form {
            Form::Json => shown.line(&report).map(|line| writeln!(out, "{line}")),
            Form::Text if at_work => Some(
                shown
                    .steps(&report)
                    .iter()
                    .try_for_each(|line| writeln!(out, "{line}")),
            ),
            Form::Text => Some(out.write_all(read(root, Form::Text).unwrap_or_default().as_bytes())),
        };
        if matches!(heard, Some(Err(_))) {
            return Ending::Done;
        }
        if !at_work {
            return match report.get("state").and_then(Value::as_str) {
                Some("done") => Ending::Done,
                _ => Ending::Failed,
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
    /// The steps that have ended since, a line each.
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

    /// The report on one line, where it is another than before.
    fn line(&mut self, report: &Value) -> Option<String> {
        let line = report.to_string();
        let new = line != self.line;
        self.line.clone_from(&line);
        new.then_some(line)
    }
}

fn read(root: &Root, form: Form) -> Option<String> {
    let read = |stem: &str| root.read(&format!("{stem}.{}", form.extension())).ok();
    read(LIVE).or_else(|| read(PATH))
}

fn never() -> Ending {
    say!("palmfarm-agent: it has not run on this card yet");
    Ending::Refused
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_is_told_once() {
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
        // The next run begins again, also where it has got as far already.
        assert_eq!(shown.steps(&report(2, &["a", "b", "c"])).len(), 3);
        assert_eq!(shown.steps(&json!({"steps": 7})), [""; 0]);
        assert_eq!(
            shown.line(&report(1, &[])).as_deref(),
            Some(r#"{"run":1,"steps":[]}"#)
        );
        assert_eq!(shown.line(&report(1, &[])), None);
    }
}
