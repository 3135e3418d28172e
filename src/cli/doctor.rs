//! `palmfarm doctor`: what on an image would keep its cards from coming up. Prints what the pipeline finds; writes nothing.

use serde_json::json;

use super::args::Doctor;
use super::env;
use super::session::Session;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome};
use crate::pipeline::doctor::{doctor, DoctorError, Finding, Verdict};
use crate::text::printable;

pub(super) fn run(args: &Doctor, ui: Ui) -> CliResult {
    let session = Session::start(ui);
    let image = session.open_image_or_card(&args.image)?;
    session.progress.clear();
    let findings = doctor(&image.bytes, env::host_inputs()?)
        .map_err(|error| Failure::with_hint(Outcome::Failed, error, DoctorError::hint))?;
    if ui.json {
        for finding in &findings {
            ui.event(&json!({
                "event": "finding", "verdict": finding.verdict.word(), "about": finding.about,
                "message": finding.message, "hint": finding.hint,
            }));
        }
    } else {
        let lines: String = findings.iter().map(as_text).collect();
        ui.output(lines.as_bytes())?;
    }
    let refused = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused);
    match refused.count() {
        0 => {
            if !ui.json {
                ui.info_line("nothing was found that would keep a card from coming up");
            }
            Ok(())
        }
        count => {
            if !ui.json {
                let things = if count == 1 { "thing" } else { "things" };
                ui.error_line(format_args!(
                    "palmfarm makes no card from this image: {count} {things} refused"
                ));
            }
            Err(Failure::printed(Outcome::Refused))
        }
    }
}

fn as_text(finding: &Finding) -> String {
    let message = printable(&finding.message);
    let mut text = match (finding.verdict, &finding.about) {
        (Verdict::Found, Some(about)) => format!("{about}: {message}\n"),
        (Verdict::Undone, Some(about)) => format!("palmfarm undoes it: {}: {message}\n", printable(about)),
        (verdict, _) => format!("{}: {message}\n", verdict.word()),
    };
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("    hint: {}\n", printable(hint)));
    }
    text
}
