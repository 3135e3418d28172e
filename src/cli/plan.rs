//! `palmfarm plan`: what a card would hold, and the addresses it will have.

use anyhow::anyhow;

use super::args::{Plan, PlanFormat};
use super::progress::{Audience, Shown};
use super::say::harmless;
use super::{from_farm, surroundings, written, Ended, Failure, OrFail, Outcome, Voice};
use crate::farm::addresses::Prefix;
use crate::farm::LoadedFarm;
use crate::pipeline;
use crate::plan::{html, show};
use crate::progress::Watch;

/// Plan.
///
/// # Errors
/// Refused, where farm or base will not do.
pub fn run(args: &Plan, voice: Voice, audience: Audience) -> Ended {
    let prefixes: Result<Vec<Prefix>, _> = args.prefix.iter().map(|prefix| prefix.parse()).collect();
    let prefixes = prefixes.or_fail(Outcome::Usage)?;
    let cache = surroundings::as_invoker()?;
    let farm = from_farm::load(&args.farm, voice)?;
    let card = from_farm::card(&farm, args.card.as_deref())?;
    let gathered = from_farm::read(&farm)?;
    let plan = pipeline::plan(&farm, &gathered, card, &prefixes, surroundings::ambient()?)
        .map_err(from_farm::refused)?;
    let format = if voice == Voice::Json {
        PlanFormat::Json
    } else {
        args.format
    };
    let text = match format {
        PlanFormat::Zone => listed(show::zone(&plan))?,
        PlanFormat::Hosts => listed(show::hosts(&plan))?,
        PlanFormat::Text | PlanFormat::Json | PlanFormat::Html => {
            let shown = Shown::new(audience);
            let cancel = surroundings::interruptible();
            let base = from_farm::open(
                &farm,
                &cache,
                // A plan is looked at; nobody expects a gigabyte of it.
                None,
                Watch {
                    progress: &shown,
                    cancel: &cancel,
                },
            )?;
            let tree = pipeline::render(&farm, &gathered, &plan, &base).map_err(from_farm::refused)?;
            shown.clear();
            match format {
                PlanFormat::Json => format!("{}\n", show::json(&plan, &tree)),
                PlanFormat::Html => html::page(&plan, &tree, &farm.farm.base, &warnings(&farm)),
                // What lies in files may be anybody's.
                _ => harmless(&show::text(&plan, &tree)),
            }
        }
    };
    written(text.as_bytes())
}

/// Addresses, where there is one: an empty zone would take every name away.
fn listed(text: String) -> Result<String, Failure> {
    if text.is_empty() {
        let error = anyhow!("there is no address to list");
        return Err(Failure::new(Outcome::Usage, error).hint("give a /64 of the home network: --prefix P/64"));
    }
    Ok(text)
}

/// What `check` warns of, a sentence each.
fn warnings(farm: &LoadedFarm) -> Vec<String> {
    let sentence = |line: crate::farm::problem::ProblemLine<'_>| match line.hint {
        Some(hint) => format!("{}; {hint}", line.message),
        None => line.message.to_string(),
    };
    farm.text.lines(&farm.warnings).map(sentence).collect()
}
