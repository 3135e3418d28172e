//! `palmfarm check`: every problem of a farm, or one line of what it would make.

use super::args::Check;
use super::say::{answer, event};
use super::{from_farm, surroundings, Ended, Voice};

/// Print the problems.
///
/// # Errors
/// Refused, where there is at least one error.
pub fn run(args: &Check, voice: Voice) -> Ended {
    surroundings::as_invoker()?;
    let loaded = from_farm::load(&args.farm, voice)?;
    // Whether a file is there was asked; this is whether it can be put on a card.
    from_farm::read(&loaded)?;
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

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
