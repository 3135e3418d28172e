//! `palmfarm check`: every problem of a farm, or one line about what would be made from it.

use super::args::Check;
use super::env::drop_privileges;
use super::ui::Ui;
use super::{from_farm, CliResult};
use crate::farm::addresses;
use crate::text::shown_url;

pub(super) fn run(args: &Check, ui: Ui) -> CliResult {
    drop_privileges()?;
    let loaded = from_farm::check(&args.farm, ui)?;
    let cards = loaded.farm.resolved_cards();
    let counts: Vec<usize> = cards
        .iter()
        .map(|card| addresses::containers(&loaded.farm, card).len())
        .collect();
    let needs: Vec<String> = loaded
        .farm
        .carry
        .needs_of_base()
        .iter()
        .map(ToString::to_string)
        .collect();
    if ui.json {
        let names: Vec<_> = cards.iter().map(|card| &card.name).collect();
        // Of the card that has the most.
        let containers = counts.iter().max();
        let mut event = serde_json::json!({"event": "ok", "cards": names, "containers": containers});
        if !needs.is_empty() {
            event["needs"] = needs.into();
        }
        ui.event(&event);
    } else {
        ui.result_line(format_args!(
            "ok: {} with {}, on {}",
            counted(cards.len(), "card"),
            each(&counts),
            shown_url(&loaded.farm.base)
        ));
        if !needs.is_empty() {
            ui.info_line(format_args!(
                "note: the carried packages need of the base: {}\nhint: `palmfarm plan` looks whether it has them",
                needs.join(", ")
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
