//! `palmfarm plan`: what a card would hold, and the addresses it will have.

use super::args::{Plan, PlanFormat};
use super::env::{drop_privileges, host_inputs};
use super::session::Session;
use super::ui::{harmless, Ui};
use super::{from_farm, CliResult, Failure, Outcome, OutcomeExt};
use crate::farm::addresses::Prefix;
use crate::farm::problem::ProblemLine;
use crate::farm::LoadedFarm;
use crate::pipeline::FarmInputs;
use crate::plan::{html, show};
use crate::text::shown_url;

pub(super) fn run(args: &Plan, ui: Ui) -> CliResult {
    let prefixes: Result<Vec<Prefix>, _> = args.prefix.iter().map(|prefix| prefix.parse()).collect();
    let prefixes = prefixes.or_fail(Outcome::Usage)?;
    let cache = drop_privileges()?;
    let farm = from_farm::load(&args.farm, ui)?;
    let card = from_farm::card(&farm, args.card.as_deref())?;
    let inputs = FarmInputs::read(farm, host_inputs()?)?;
    let plan = inputs.plan(card, &prefixes)?;
    let render = || {
        let session = Session::start(ui);
        // Nobody expects a plan to download a gigabyte.
        let offline = true;
        let base = session.open_base(&inputs.loaded, &cache, offline)?;
        Ok::<_, Failure>(inputs.render(&plan, &base)?)
    };
    let format = if ui.json { PlanFormat::Json } else { args.format };
    let text = match format {
        PlanFormat::Zone => listed(show::zone(&plan))?,
        PlanFormat::Hosts => listed(show::hosts(&plan))?,
        PlanFormat::Json => format!("{}\n", show::json(&plan, &render()?)),
        PlanFormat::Html => html::page(
            &plan,
            &render()?,
            &shown_url(&inputs.loaded.farm.base),
            &warnings(&inputs.loaded),
        ),
        // Files may have any content.
        PlanFormat::Text => harmless(&show::text(&plan, &render()?)),
    };
    ui.output(text.as_bytes())
}

/// Addresses, if there are any: an empty zone would delete every name.
fn listed(text: String) -> Result<String, Failure> {
    if text.is_empty() {
        let error = "there is no address to list";
        return Err(Failure::usage(error).hint("give a /64 of the home network: --prefix P/64"));
    }
    Ok(text)
}

/// The warnings of `check`, one sentence each.
fn warnings(farm: &LoadedFarm) -> Vec<String> {
    let sentence = |line: ProblemLine<'_>| match line.hint {
        Some(hint) => format!("{}; {hint}", line.message),
        None => line.message.to_string(),
    };
    farm.text.lines(&farm.warnings).map(sentence).collect()
}
