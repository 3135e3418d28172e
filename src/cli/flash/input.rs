//! What `palmfarm flash` puts onto a card: a farm, prepared, or an image. Knows no device, and writes nothing.

use super::next_steps::NextSteps;
use super::target::is_farm;
use crate::base::source::{CacheDir, Expect, Sha256Sum};
use crate::cli::args::Flash;
use crate::cli::env::host_inputs;
use crate::cli::session::Session;
use crate::cli::{from_farm, Failure, Outcome, OutcomeExt};
use crate::farm::StorageDriver;
use crate::pipeline::{self, FarmInputs};
use crate::write::flash::Job;

/// The base that is for trying palmfarm out.
const MINI: &str = "mini";

pub(super) struct FlashInput {
    pub(super) job: Job,
    /// What to call it in messages.
    pub(super) title: String,
    /// The size of the storage pool that the farm declares, in bytes.
    pub(super) pool: Option<u64>,
    /// What comes after it, if it is a farm that a Pi boots.
    pub(super) next: Option<NextSteps>,
}

pub(super) fn read(args: &Flash, cache: &CacheDir, session: &Session) -> Result<FlashInput, Failure> {
    if is_farm(&args.source) {
        from_farm_file(args, cache, session)
    } else {
        from_image(args, cache, session)
    }
}

fn from_farm_file(args: &Flash, cache: &CacheDir, session: &Session) -> Result<FlashInput, Failure> {
    if args.sha256.is_some() {
        return Err(Failure::usage(
            "--sha256 is for images; a farm has the key `sha256:`",
        ));
    }
    let farm = from_farm::load_to_write(&args.source, args.offline, session)?;
    let card = from_farm::card(&farm, args.card.as_deref())?;
    let title = format!("{} of {}", card.name, args.source.display());
    let mut inputs = FarmInputs::read(farm, host_inputs()?)?;
    let base = session.open_base(&inputs.loaded, cache, args.offline)?;
    let prepared = inputs.prepare(card, &base)?;
    from_farm::judge(&mut inputs, [&prepared.plan], session.ui)?;
    let is_bootable = inputs.loaded.farm.base != MINI;
    let next = is_bootable.then(|| NextSteps::of(args, &prepared.plan, &base.facts));
    let storage = inputs.loaded.farm.lxd.map(|lxd| lxd.storage);
    Ok(FlashInput {
        job: pipeline::card_job(&base, prepared)?,
        title,
        pool: storage
            .filter(|storage| storage.driver == StorageDriver::Btrfs)
            .and_then(|storage| storage.size),
        next,
    })
}

fn from_image(args: &Flash, cache: &CacheDir, session: &Session) -> Result<FlashInput, Failure> {
    if args.card.is_some() {
        let error = format!("--card is for farms, but {} is an image", args.source.display());
        return Err(Failure::usage(error).hint("the name of a farm file ends in .yaml"));
    }
    let expect = match &args.sha256 {
        Some(text) => Expect::Sha256(text.parse::<Sha256Sum>().or_fail(Outcome::Usage)?),
        None => Expect::Anything,
    };
    let image = session.open_image(&args.source, expect, cache)?;
    Ok(FlashInput {
        job: pipeline::image_job(image)?,
        title: args.source.display().to_string(),
        pool: None,
        next: None,
    })
}
