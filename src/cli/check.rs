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
    let loaded = from_farm::check(&args.farm, voice)?;
    let cards = loaded.farm.resolved_cards();
    let counts: Vec<usize> = cards
        .iter()
        .map(|card| crate::farm::addresses::containers(&loaded.farm, card).len())
        .collect();
    match voice {
        Voice::Json => {
            let names: Vec<_> = cards.iter().map(|card| &card.name).collect();
            // Of the card that has the most.
            let containers = counts.iter().max();
            event(&serde_json::json!({"event": "ok", "cards": names, "containers": containers}));
        }
        Voice::People => {
            answer(format_args!(
                "ok: {} with {}, on {}",
                counted(cards.len(), "card"),
                each(&counts),
                loaded.farm.base
            ));
        }
    }
    Ok(())
}

/// How many containers each card has.
fn each(counts: &[usize]) -> String {
    let least = counts.iter().min().copied().unwrap_or_default();
    let most = counts.iter().max().copied().unwrap_or_default();
    match counts {
        [] | [_] => counted(most, "container"),
        _ if least == most => format!("{} each", counted(most, "container")),
        _ => format!("{least} to {} each", counted(most, "container")),
    }
}

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
