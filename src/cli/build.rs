//! `palmfarm build`: images of one card or of a whole fleet.

mod bundle;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::Build;
use super::progress::{Audience, Shown};
use super::say::{complaint_line, event, note_line};
use super::{from_farm, surroundings, Ended, Failure, OrFail, Outcome, Voice};
use crate::pipeline::{self, Prepared};
use crate::progress::Watch;
use crate::text::size_text;
use crate::write::{
    write_fleet, write_output, FleetCard, FreeSpace, ImageDigest, Output, Packing, SinkError, WriteOptions,
    Written,
};

/// Build.
///
/// # Errors
/// Refused, where farm or base will not do; failed, where the output cannot be written; interrupted.
pub fn run(args: &Build, voice: Voice, audience: Audience) -> Ended {
    let cache = surroundings::as_invoker()?;
    let farm = from_farm::load(&args.farm, voice)?;
    let cards = match &args.card {
        Some(name) => vec![from_farm::card(&farm, Some(name))?],
        None => farm.farm.resolved_cards(),
    };
    if args
        .output
        .extension()
        .is_some_and(|extension| extension == "tar")
    {
        return bundle::run(args, &farm, &cards, &cache, voice, audience);
    }
    let outputs = outputs(
        &args.output,
        &cards.iter().map(|card| card.name.as_str()).collect::<Vec<_>>(),
    )?;
    let shown = Shown::new(audience);
    let cancel = surroundings::interruptible();
    let watch = Watch {
        progress: &shown,
        cancel: &cancel,
    };
    let gathered = from_farm::read(&farm)?;
    let client = (!args.offline).then(surroundings::client).transpose()?;
    let base = from_farm::open(&farm, &cache, client.as_ref(), watch)?;
    from_farm::spare_inputs(&args.farm, &farm, &base.image, &outputs)?;
    // Every card is prepared before the first is written: a fleet is made whole or not at all.
    let mut prepared = Vec::new();
    for card in cards {
        let plan = pipeline::plan(&farm, &gathered, card, &[], surroundings::ambient()?)
            .map_err(from_farm::refused)?;
        let tree = pipeline::render(&farm, &gathered, &plan, &base).map_err(from_farm::refused)?;
        prepared
            .push(pipeline::edit(plan, tree, &base, surroundings::ambient()?).map_err(from_farm::refused)?);
    }
    let mut maps = Vec::new();
    for card in &prepared {
        maps.push(
            pipeline::allocated(&base.image, &base.layout.partitions, &card.edits)
                .map_err(from_farm::refused)?,
        );
    }
    make_folder(&args.output)?;
    let threads = args.threads.unwrap_or_else(surroundings::threads);
    let cards: Vec<FleetCard<'_>> = prepared
        .iter()
        .zip(&maps)
        .zip(&outputs)
        .map(|((card, allocated), path)| FleetCard {
            edits: &card.edits,
            allocated,
            output: Output {
                path,
                files: &card.files,
            },
        })
        .collect();
    let written = match cards.as_slice() {
        [card] => {
            let options = WriteOptions {
                threads,
                free: FreeSpace::Mapped(card.allocated),
                digest: ImageDigest::Sha256,
            };
            vec![write_output(&base.image, card.edits, card.output, options, watch).map_err(spoilt)?]
        }
        cards => write_fleet(&base.image, cards, threads, watch).map_err(spoilt)?,
    };
    shown.clear();
    for (card, written) in prepared.iter().zip(&written) {
        said(card, written, voice);
    }
    Ok(())
}

/// Say what was built.
fn said(card: &Prepared, written: &Written<PathBuf>, voice: Voice) {
    let sha256 = written.sha256.map(|sum| sum.to_string());
    match voice {
        Voice::Json => event(&serde_json::json!({
            "event": "built", "card": card.plan.card.name, "image": written.done, "size": written.size,
            "sha256": sha256, "edited_blocks": card.edits.len(),
        })),
        Voice::People => {
            note_line!(
                "built {} ({}, {} of its blocks edited)",
                written.done.display(),
                size_text(written.size),
                card.edits.len()
            );
            if let Some(sha256) = sha256 {
                // What the card will hold; `flash --sha256` compares the file, which is another one where it is packed.
                let packed = Packing::of(&written.done).is_ok_and(|packing| packing != Packing::Raw);
                let of = if packed { " of the unpacked image" } else { "" };
                note_line!("sha256 {sha256}{of}");
            }
        }
    }
}

/// A failure while writing.
fn spoilt(error: SinkError) -> Failure {
    if error.is_cancelled() {
        complaint_line!("interrupted; nothing was left behind");
        return Failure::printed(Outcome::Interrupted);
    }
    let hint = error.hint();
    Failure::new(Outcome::Failed, error).maybe_hint(hint)
}

/// Make the folder for the images of a fleet, where it is not there.
fn make_folder(output: &Path) -> Ended {
    if Packing::of(output).is_ok() || output.is_dir() {
        return Ok(());
    }
    fs::create_dir(output)
        .with_context(|| format!("making the folder {}", output.display()))
        .or_fail(Outcome::Failed)
}

/// Where each card goes: the file that was named, or one per card in the folder that was.
fn outputs(output: &Path, cards: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    if Packing::of(output).is_ok() {
        if let [_] = cards {
            return Ok(vec![output.into()]);
        }
        let count = cards.len();
        let error = anyhow::anyhow!(
            "{} is one image, but the farm has {count} cards",
            output.display()
        );
        return Err(Failure::new(Outcome::Refused, error).hint("name a folder, or one card with --card"));
    }
    if !output.is_dir() {
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        // `.img` is an image without a name, and `-` would be a pipe, which an image cannot go to.
        let looks_like_folder = !name.contains('.') && name != "-" && !output.exists();
        if !looks_like_folder {
            return Err(SinkError::UnknownPacking {
                target: output.display().to_string(),
            })
            .or_fail(Outcome::Refused);
        }
    }
    Ok(cards
        .iter()
        .map(|card| output.join(format!("{card}.img")))
        .collect())
}
