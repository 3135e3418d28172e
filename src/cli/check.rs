//! `palmfarm check`: every problem of a farm, or one line of what it would make.

use super::args::Check;
use super::say::{answer, complaint, event, note_line};
use super::{build as building, surroundings, Ended, Failure, OrFail, Outcome, Voice};
use crate::farm::{self, LoadError, LoadedFarm};
use palmfarm_spec::farm::ResolvedCard;

/// Print the problems.
///
/// # Errors
/// Refused, where there is at least one error.
pub fn run(args: &Check, voice: Voice) -> Ended {
    surroundings::as_invoker()?;
    let loaded = load(&args.farm, voice)?;
    // Whether a file is there was asked; this is whether it can be put on a card.
    building::read(&loaded)?;
    let cards = loaded.farm.resolved_cards();
    let first = cards.first().map(|card| card.name.as_str()).unwrap_or_default();
    let containers = crate::addresses::containers(&loaded.farm, first).len();
    match voice {
        Voice::Json => {
            let names: Vec<_> = cards.iter().map(|card| &card.name).collect();
            event(&serde_json::json!({"event": "ok", "cards": names, "containers": containers}));
        }
        Voice::People => {
            let (card, container) = (counted(cards.len(), "card"), counted(containers, "container"));
            let each = if cards.len() == 1 { "" } else { " each" };
            answer(format_args!(
                "ok: {card} with {container}{each}, on {}",
                loaded.farm.base
            ));
        }
    }
    Ok(())
}

/// Read a farm for any command, printing its problems: warnings do not stop it.
///
/// # Errors
/// Refused, where it cannot be read or has errors.
pub(super) fn load(path: &std::path::Path, voice: Voice) -> Result<LoadedFarm, Failure> {
    match farm::load(path) {
        Ok(loaded) => {
            show(&loaded.text, &loaded.warnings, voice);
            Ok(loaded)
        }
        Err(LoadError::Refused(refused)) => {
            show(refused.text(), refused.problems(), voice);
            Err(Failure::printed(Outcome::Refused))
        }
        Err(error) => Err(error).or_fail(Outcome::Refused),
    }
}

/// The card of that name, or the only one.
///
/// # Errors
/// Refused, where there is none, or several.
pub(super) fn card(farm: &LoadedFarm, name: Option<&str>) -> Result<ResolvedCard, Failure> {
    farm.farm.card(name).map_err(|error| {
        let hint = error.hint();
        Failure::new(Outcome::Refused, error).maybe_hint(hint)
    })
}

fn show(text: &farm::FarmText, problems: &palmfarm_spec::problem::Problems, voice: Voice) {
    match voice {
        Voice::People => {
            let told = text.render(problems);
            if problems.errors() > 0 {
                complaint(format_args!("{}", told.trim_end()));
            } else if !told.is_empty() {
                note_line!("{}", told.trim_end());
            }
        }
        Voice::Json => {
            for line in text.lines(problems) {
                // A problem is plain strings and numbers, so that it always has a JSON form.
                if let Ok(line) = serde_json::to_value(&line) {
                    event(&line);
                }
            }
        }
    }
}

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
