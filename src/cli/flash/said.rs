//! What `palmfarm flash` says: why not, what is about to happen, how it went. Decides and touches nothing.

use std::time::Duration;

use serde_json::json;

use super::super::say::{self, complaint, complaint_line, event, note_line};
use super::super::{devices, Ended, Failure, Outcome, Voice};
use crate::base::source::Trust;
use crate::card::facts::{Device, Facts};
use crate::card::{explain, CardReport, CardTarget, Ejected, OpenCard, Refusal};
use crate::progress::Phase;
use crate::text::{printable, size_text};
use crate::write::flash::Job;
use crate::write::CardFailure;

/// Print every reason at once, where there is one.
///
/// # Errors
/// Refused, where there is one.
pub(super) fn refused(reasons: &[Refusal], target: &CardTarget, voice: Voice) -> Ended {
    if reasons.is_empty() {
        return Ok(());
    }
    match voice {
        Voice::Json => event(&json!({
            "event": "error", "exit": Outcome::Refused.code(), "device": target.path,
            "message": format!("{} is not written", target.path),
            "refusals": devices::reasons(reasons),
        })),
        Voice::People => {
            complaint_line!("palmfarm: {} is not written:", printable(&target.path));
            for (message, hint) in explain(reasons) {
                complaint_line!("  {message}");
                if let Some(hint) = hint {
                    complaint_line!("    hint: {hint}");
                }
            }
        }
    }
    Err(Failure::printed(Outcome::Refused))
}

/// Say what is about to happen; whoever is asked about it hears it even where they want to hear of errors only.
pub(super) fn announced(
    job: &Job,
    title: &str,
    facts: &Facts,
    device: Option<&Device>,
    voice: Voice,
    unasked: bool,
) {
    let line = if unasked { say::note } else { complaint };
    match voice {
        Voice::Json => event(&json!({
            "event": "flashing", "device": device.map(Device::node), "size": job.size(),
            "in_use": job.in_use(), "sha256": job.base().provenance().sha256.to_string(),
            "verified": job.base().provenance().trust == Trust::Matched,
        })),
        Voice::People => {
            if let Some(device) = device {
                line(format_args!("{}", devices::card_text(facts, device)));
            }
            line(format_args!(
                "will be overwritten with {}: {}, of which {} are in use",
                printable(title),
                size_text(job.size()),
                size_text(job.in_use())
            ));
            if job.base().provenance().trust == Trust::Unchecked {
                line(format_args!(
                    "the image is taken as it is: no sha256 was given to compare it with"
                ));
            }
        }
    }
}

/// A card was written: let it go, and say how it went.
pub(super) fn flashed(
    report: CardReport<OpenCard>,
    path: &str,
    seconds: f64,
    phases: &[(Phase, Duration)],
    voice: Voice,
) {
    let CardReport {
        card,
        size,
        written,
        skipped,
        verified,
        files,
        repaired,
        probe,
    } = report;
    let ejected = card.into_medium().eject();
    let phases: serde_json::Map<String, serde_json::Value> = phases
        .iter()
        .map(|(phase, took)| (phase.name().to_owned(), took.as_secs_f64().into()))
        .collect();
    match voice {
        Voice::Json => event(&json!({
            "event": "flashed", "device": path, "size": size, "written": written,
            "skipped": skipped, "verified": verified, "files": files, "repaired": repaired,
            "seconds": seconds, "probe_seconds": probe.as_secs_f64(), "phases": phases,
            "ejected": matches!(ejected, Ok(Ejected::Yes)),
        })),
        Voice::People => {
            let skipped = if skipped > 0 {
                format!(", {} of free space skipped", size_text(skipped))
            } else {
                String::new()
            };
            note_line!(
                "{path}: {} written{skipped}, {} read back and found right, {files} files looked at, in {seconds:.1} s",
                size_text(written),
                size_text(verified),
            );
            if let [first, ..] = repaired.as_slice() {
                complaint_line!(
                    "warning: {} places had to be written twice, the first at offset {first}: do not trust this card for long",
                    repaired.len()
                );
            }
            match ejected {
                Ok(Ejected::Yes) => note_line!("the card was ejected: take it out"),
                Ok(Ejected::NotNeeded) => note_line!("the card can be taken out"),
                Err(error) => note_line!("the card is written, but its reader would not eject it: {error}"),
            }
        }
    }
}

/// What a failure says of the card.
pub(super) fn failed(failure: CardFailure, path: &str, voice: Voice) -> Failure {
    let hint = failure.cause().hint();
    let cancelled = failure.cause().is_cancelled();
    let (outcome, state, cause) = match failure {
        CardFailure::Untouched(cause) => (Outcome::Failed, "was not touched", cause),
        CardFailure::Spoiled(cause) => (
            Outcome::Spoiled,
            "holds neither what it held nor the image: write it again",
            cause,
        ),
    };
    if cancelled {
        let message = format!("interrupted; {path} {state}");
        match voice {
            Voice::People => complaint_line!("{message}"),
            Voice::Json => {
                event(&json!({"event": "error", "exit": Outcome::Interrupted.code(), "message": message}));
            }
        }
        return Failure::printed(Outcome::Interrupted);
    }
    Failure::new(
        outcome,
        anyhow::Error::new(cause).context(format!("{path} {state}")),
    )
    .maybe_hint(hint)
}
