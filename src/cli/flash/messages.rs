//! What `palmfarm flash` prints: why a card is refused, what will be written, and the result. Decides nothing. It ejects the
//! card before it prints the result, and touches nothing else.

use std::time::Duration;

use serde_json::json;

use super::input::FlashInput;
use super::next_steps::NextSteps;
use crate::base::source::Trust;
use crate::card::facts::{Device, Facts};
use crate::card::{explain, CardReport, CardTarget, Ejected, OpenCard, Refusal};
use crate::cli::session::Session;
use crate::cli::ui::{Label, Ui};
use crate::cli::{devices, CliResult, Failure, Outcome};
use crate::progress::Phase;
use crate::text::{printable, size_text};
use crate::write::CardFailure;

/// Print all reasons and fail, unless there are none.
pub(super) fn refuse(reasons: &[Refusal], target: &CardTarget, ui: Ui) -> CliResult {
    if reasons.is_empty() {
        return Ok(());
    }
    if ui.json {
        ui.event(&json!({
            "event": "error", "exit": Outcome::Refused.code(), "device": target.path,
            "message": format!("{} is not written", target.path),
            "refusals": devices::reasons(reasons),
        }));
    } else {
        print_refusals(reasons, target, ui);
    }
    Err(Failure::printed(Outcome::Refused))
}

/// Print all reasons for a person.
pub(super) fn print_refusals(reasons: &[Refusal], target: &CardTarget, ui: Ui) {
    ui.labelled_line(
        0,
        Label::Palmfarm,
        format_args!("{} is not written:", printable(&target.path)),
    );
    for (message, hint) in explain(reasons) {
        ui.error_line(format_args!("  {message}"));
        if let Some(hint) = hint {
            ui.labelled_line(4, Label::Hint, hint);
        }
    }
}

/// The person did not confirm.
pub(super) fn nothing_touched(ui: Ui) -> Failure {
    ui.error_line("nothing was touched");
    Failure::printed(Outcome::Refused)
}

/// Print what is about to happen. A person who will be asked about it sees it even with `--quiet`.
pub(super) fn announce(input: &FlashInput, facts: &Facts, device: Option<&Device>, unasked: bool, ui: Ui) {
    let job = &input.job;
    let provenance = job.image.provenance();
    if ui.json {
        ui.event(&json!({
            "event": "flashing", "device": device.map(Device::node), "size": job.edits.image_size(),
            "in_use": job.allocated.total(), "sha256": provenance.sha256.to_string(),
            "verified": provenance.trust == Trust::Matched,
        }));
        return;
    }
    let mut text = device.map_or_else(String::new, |device| {
        format!("{}\n", devices::card_text(facts, device))
    });
    text.push_str(&format!(
        "will be overwritten with {}: {}, of which {} are in use",
        printable(&input.title),
        size_text(job.edits.image_size()),
        size_text(job.allocated.total())
    ));
    if provenance.trust == Trust::Unchecked {
        text.push_str("\nthe image is not verified: no sha256 was given");
    }
    if unasked {
        ui.info_line(text);
    } else {
        ui.error_line(text);
    }
}

/// Eject the card and print how it went.
pub(super) fn report_flashed(
    report: CardReport<OpenCard>,
    path: &str,
    next: Option<&NextSteps>,
    took: Duration,
    phases: &[(Phase, Duration)],
    ui: Ui,
) {
    let ejected = report.card.into_medium().eject();
    let seconds = took.as_secs_f64();
    if ui.json {
        let phases: serde_json::Map<String, serde_json::Value> = phases
            .iter()
            .map(|(phase, took)| (phase.name().to_owned(), took.as_secs_f64().into()))
            .collect();
        ui.event(&json!({
            "event": "flashed", "device": path, "size": report.size, "written": report.written,
            "skipped": report.skipped, "verified": report.verified, "files": report.files,
            "repaired": report.repaired, "seconds": seconds, "probe_seconds": report.probe.as_secs_f64(),
            "phases": phases, "ejected": matches!(ejected, Ok(Ejected::Yes)),
            "next": next.map(|next| next.json(path)),
        }));
        return;
    }
    let skipped = if report.skipped > 0 {
        format!(", {} of free space skipped", size_text(report.skipped))
    } else {
        String::new()
    };
    ui.info_line(format_args!(
        "{path}: {} written{skipped}, {} read back and verified, {} files checked, in {seconds:.1} s",
        size_text(report.written),
        size_text(report.verified),
        report.files,
    ));
    if let [first, ..] = report.repaired.as_slice() {
        let places = report.repaired.len();
        ui.labelled_line(
            0,
            Label::Warning,
            format_args!(
                "{places} places had to be written twice, the first at offset {first}: replace this card soon"
            ),
        );
    }
    match ejected {
        Ok(Ejected::Yes) => ui.info_line("the card was ejected: take it out"),
        Ok(Ejected::NotNeeded) => ui.info_line("the card can be taken out"),
        Err(error) => ui.info_line(format_args!(
            "the card is written, but its reader did not eject it: {error}"
        )),
    }
    for line in next.map(|next| next.lines(path)).unwrap_or_default() {
        ui.info_line(line);
    }
}

/// What a failed or interrupted write has done to the card.
pub(super) fn write_failure(failure: CardFailure, path: &str, session: &Session) -> Failure {
    let cancelled = failure.cause().is_cancelled();
    let (outcome, state, cause) = match failure {
        CardFailure::Untouched(cause) => (Outcome::Failed, "was not touched", cause),
        CardFailure::Spoiled(cause) => (
            Outcome::Spoiled,
            "holds neither its old content nor the image: write it again",
            cause,
        ),
    };
    if cancelled {
        return session.interrupted(&format!("interrupted; {path} {state}"));
    }
    let hint = cause.hint();
    let error = anyhow::Error::new(cause).context(format!("{path} {state}"));
    Failure::with_hint(outcome, error, |_| hint)
}
