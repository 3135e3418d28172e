//! `palmfarm plan`: what a card would hold, and the addresses it will have.

use std::io::Write;

use super::args::{Plan, PlanFormat};
use super::progress::{Audience, Shown};
use super::{build as building, check, surroundings, Ended, OrFail, Outcome, Voice};
use crate::addresses::Prefix;
use crate::build;
use crate::plan::show;
use crate::watch::Watch;

/// Plan.
///
/// # Errors
/// Refused, where farm or base will not do.
pub fn run(args: &Plan, voice: Voice, audience: Audience) -> Ended {
    let prefixes: Result<Vec<Prefix>, _> = args.prefix.iter().map(|prefix| prefix.parse()).collect();
    let prefixes = prefixes.or_fail(Outcome::Usage)?;
    let farm = check::load(&args.farm, voice)?;
    let card = farm.farm.card(args.card.as_deref()).or_fail(Outcome::Refused)?;
    let gathered = building::read(&farm)?;
    let plan = build::plan(&farm, &gathered, card, &prefixes, surroundings::ambient()?)
        .map_err(building::refused)?;
    let format = if voice == Voice::Json {
        PlanFormat::Json
    } else {
        args.format
    };
    let text = match format {
        PlanFormat::Zone => show::zone(&plan),
        PlanFormat::Hosts => show::hosts(&plan),
        PlanFormat::Text | PlanFormat::Json => {
            let shown = Shown::new(audience);
            let cancel = surroundings::interruptible();
            let base = building::open(
                &farm,
                &surroundings::cache(),
                Watch {
                    progress: &shown,
                    cancel: &cancel,
                },
            )?;
            let tree = build::render(&farm, &gathered, &plan, &base).map_err(building::refused)?;
            shown.clear();
            if format == PlanFormat::Json {
                format!("{}\n", show::json(&plan, &tree))
            } else {
                show::text(&plan, &tree)
            }
        }
    };
    // A reader that has read enough, as head(1) does, is no failure.
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(())
}
