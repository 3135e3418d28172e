//! `palmfarm build`: images of one card or of a whole fleet.

pub(super) mod bundle;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context};

use super::args::Build;
use super::env::{drop_privileges, host_inputs, threads};
use super::session::Session;
use super::ui::Ui;
use super::{from_farm, CliResult, Failure, Outcome, OutcomeExt};
use crate::farm::ResolvedCard;
use crate::pipeline::{self, BaseImageInfo, FarmInputs, PreparedCard};
use crate::text::{shell_quote, size_text};
use crate::write::{
    write_fleet, write_output, FleetCard, FreeSpace, ImageDigest, Output, Packing, SinkError, WriteOptions,
    Written,
};

pub(super) fn run(args: &Build, ui: Ui) -> CliResult {
    let cache = drop_privileges()?;
    refuse_device(args)?;
    let session = Session::start(ui);
    let farm = from_farm::load_to_write(&args.farm, args.offline, &session)?;
    let cards = match &args.card {
        Some(name) => vec![from_farm::card(&farm, Some(name))?],
        None => farm.farm.resolved_cards(),
    };
    let outputs = outputs(&args.output, &cards)?;
    let mut inputs = FarmInputs::read(farm, host_inputs()?)?;
    let base = session.open_base(&inputs.loaded, &cache, args.offline)?;
    from_farm::protect_inputs(&args.farm, &inputs.loaded, Some(&base.image), &outputs)?;
    if is_bundle(&args.output) {
        return cards
            .into_iter()
            .try_for_each(|card| bundle::write(&args.output, card, &inputs, &base, &session));
    }
    // Every card is prepared before the first is written, so an error in one leaves no part of a fleet behind.
    let prepared = cards
        .into_iter()
        .map(|card| inputs.prepare(card, &base))
        .collect::<Result<Vec<_>, _>>()?;
    from_farm::judge(&mut inputs, prepared.iter().map(|card| &card.plan), ui)?;
    make_folder(&args.output)?;
    let threads = args.threads.unwrap_or_else(threads);
    let written = write(&prepared, &outputs, &base, threads, &session)?;
    session.progress.clear();
    for (card, written) in prepared.iter().zip(&written) {
        report(card, written, ui);
    }
    if let (Some(first), false) = (written.first(), ui.json) {
        let image = shell_quote(&first.done.to_string_lossy());
        ui.info_line(format_args!(
            "hint: `palmfarm flash {image}` writes it to a card; so does Raspberry Pi Imager, without its own customization"
        ));
    }
    Ok(())
}

fn write(
    prepared: &[PreparedCard],
    outputs: &[PathBuf],
    base: &BaseImageInfo,
    threads: std::num::NonZeroUsize,
    session: &Session,
) -> Result<Vec<Written<PathBuf>>, Failure> {
    let maps = prepared
        .iter()
        .map(|card| pipeline::allocated(&base.image, &base.layout.partitions, &card.edits))
        .collect::<Result<Vec<_>, _>>()?;
    let cards: Vec<FleetCard<'_>> = prepared
        .iter()
        .zip(&maps)
        .zip(outputs)
        .map(|((card, allocated), path)| FleetCard {
            edits: &card.edits,
            allocated,
            output: Output {
                path,
                tree: &card.tree,
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
            write_output(&base.image, card.edits, card.output, options, session.observer())
                .map(|written| vec![written])
        }
        cards => write_fleet(&base.image, cards, threads, session.observer()),
    };
    written.map_err(|error| {
        if error.is_cancelled() {
            return session.interrupted("interrupted; nothing was left behind");
        }
        Failure::with_hint(Outcome::Failed, error, SinkError::hint)
    })
}

fn report(card: &PreparedCard, written: &Written<PathBuf>, ui: Ui) {
    // Logs are kept and read by others; the manifest beside the image is as private as the image.
    let sha256 = written.sha256.filter(|_| !card.has_secrets());
    let sha256 = sha256.map(|sum| sum.to_string());
    if ui.json {
        ui.event(&serde_json::json!({
            "event": "built", "card": card.plan.card.name, "image": written.done, "size": written.size,
            "sha256": sha256, "edited_blocks": card.edits.len(),
        }));
        return;
    }
    ui.info_line(format_args!(
        "built {} ({}, {} of its blocks edited)",
        written.done.display(),
        size_text(written.size),
        card.edits.len()
    ));
    if let Some(sha256) = sha256 {
        // The digest of what the card will hold. `flash --sha256` compares that of the file, which differs if packed.
        let packed = Packing::of(&written.done).is_ok_and(|packing| packing != Packing::Raw);
        let of = if packed { " of the unpacked image" } else { "" };
        ui.info_line(format_args!("sha256 {sha256}{of}"));
    }
}

/// Create the folder for the images of a fleet.
fn make_folder(output: &Path) -> CliResult {
    if Packing::of(output).is_ok() || output.is_dir() {
        return Ok(());
    }
    fs::create_dir(output)
        .with_context(|| format!("creating the folder {}", output.display()))
        .or_fail(Outcome::Failed)
}

/// Below /dev an image would be a file in memory that looks like a device, and in the way of the next card.
fn refuse_device(args: &Build) -> CliResult {
    let absolute = std::path::absolute(&args.output).unwrap_or_else(|_| args.output.clone());
    let real = absolute.parent().and_then(|parent| parent.canonicalize().ok());
    if ![Some(absolute.clone()), real]
        .into_iter()
        .flatten()
        .any(|path| path.starts_with("/dev"))
    {
        return Ok(());
    }
    let word = |path: &Path| shell_quote(&path.to_string_lossy());
    let error = anyhow!(
        "{} is a device, or would be a file among devices",
        args.output.display()
    );
    let hint = format!(
        "to write a card: palmfarm flash {} {}",
        word(&args.farm),
        word(&args.output)
    );
    Err(Failure::refused(error, hint))
}

fn is_bundle(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "tar")
}

/// Where each card goes: the file that was named, or one per card in the folder that was.
fn outputs(output: &Path, cards: &[ResolvedCard]) -> Result<Vec<PathBuf>, Failure> {
    let (what, hint) = if is_bundle(output) {
        ("for one card", "name one of them with --card")
    } else if Packing::of(output).is_ok() {
        ("one image", "name a folder, or one card with --card")
    } else {
        return in_folder(output, cards);
    };
    if let [_] = cards {
        return Ok(vec![output.into()]);
    }
    let error = anyhow!(
        "{} is {what}, but the farm has {} cards",
        output.display(),
        cards.len()
    );
    Err(Failure::refused(error, hint))
}

/// A folder for images must be there, end in a slash, or be for several cards: one card without a suffix is more often a
/// suffix that was forgotten.
fn in_folder(output: &Path, cards: &[ResolvedCard]) -> Result<Vec<PathBuf>, Failure> {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let ends_in_slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    // `.img` is an image without a name, and `-` would be a pipe, which cannot take an image.
    let is_name = !name.contains('.') && name != "-" && !output.exists();
    let is_new_folder = ends_in_slash && !output.exists();
    if !(output.is_dir() || is_new_folder || is_name && cards.len() > 1) {
        let error = SinkError::UnknownPacking {
            target: output.display().to_string(),
        };
        let stem = name
            .split('.')
            .next()
            .filter(|stem| !stem.is_empty() && *stem != "-");
        let hint = format!(
            "name it {0}.img for an image, {0}.img.xz or {0}.img.zst for a packed one, {0}.tar for a running card; a new \
             folder ends in a slash",
            output.with_file_name(stem.unwrap_or("NAME")).display()
        );
        return Err(Failure::refused(error, hint));
    }
    Ok(cards
        .iter()
        .map(|card| output.join(format!("{}.img", card.name)))
        .collect())
}
