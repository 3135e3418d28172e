//! `palmfarm flash`: the order in which a card is found, opened, checked against what will go onto it, and written.

mod input;
mod messages;
mod next_steps;
mod picker;
mod target;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{anyhow, Context};

use self::input::FlashInput;
use super::args::Flash;
use super::ask::ask;
use super::env::{drop_privileges, threads};
use super::session::Session;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};
use crate::card::facts::{stat_target, Device};
use crate::card::{refusals, Allowed, CardTarget, OpenCard};
use crate::host::random;
use crate::write::flash::flash;
use crate::write::{root_space, CardOptions, FreeSpace};

pub(super) fn run(args: &Flash, ui: Ui) -> CliResult {
    let session = Session::start(ui);
    let allowed: Allowed = args.allow.iter().filter_map(|word| word.parse().ok()).collect();

    // As root, which opening the device needs. Nothing that others made is read here.
    let target = match &args.device {
        Some(device) => stat_target(device),
        None => picker::pick(args, &allowed, &session)?,
    };
    let as_root = target::look(args, None, None)?;
    messages::refuse(&refusals(&as_root.facts, &target, None, &allowed), &target, ui)?;
    require_answer(args, &target, ui)?;
    let card = target::open(args, &as_root.facts, &target, &allowed, ui)?;
    let cache = drop_privileges()?;

    // As the invoking user: everything that can be wrong with a farm or an image is found here.
    let input = input::read(args, &cache, &session)?;
    session.progress.clear();

    // Check the rules again, now that the size and the place of the image are known.
    let image = PathBuf::from(&input.job.image.provenance().name);
    let facts = target::look(args, Some(&image), Some(&as_root))?.facts;
    messages::refuse(
        &refusals(&facts, &target, Some(input.job.edits.image_size()), &allowed),
        &target,
        ui,
    )?;
    if let (Some(size), Some(free)) = (input.pool, input.job.free_when_grown(card.identity().size)) {
        root_space::fits(size, free)
            .map_err(|error| Failure::with_hint(Outcome::Refused, error, |error| Some(error.hint())))?;
    }

    // The question comes last: after it, only the card itself can fail.
    let device = facts.devices.get(&card.identity().dev);
    messages::announce(&input, &facts, device, args.yes, ui);
    if !args.yes {
        confirm(device, &target, &session)?;
    }
    write(args, &input, card, &session)
}

/// Refuse early if a question will have to be asked and nobody can answer it.
fn require_answer(args: &Flash, target: &CardTarget, ui: Ui) -> CliResult {
    if args.yes || ui.can_ask() {
        return Ok(());
    }
    let error = anyhow!(
        "there is no terminal to ask on whether {} may be overwritten",
        target.path
    );
    Err(Failure::refused(error, "add --yes if it may"))
}

/// Only the device's own name confirms: people type `y` without looking.
fn confirm(device: Option<&Device>, target: &CardTarget, session: &Session) -> CliResult {
    let name = device.map_or(target.path.as_str(), |device| device.name.as_str());
    let question = format!("type {name} to overwrite it, anything else to leave it: ");
    if ask(&question, session)? == name {
        return Ok(());
    }
    Err(messages::nothing_touched(session.ui))
}

fn write(args: &Flash, input: &FlashInput, card: OpenCard, session: &Session) -> CliResult {
    let job = &input.job;
    let salt = random::bytes()
        .context("asking the kernel for 16 random bytes")
        .or_fail(Outcome::Failed)?;
    let options = CardOptions {
        threads: args.threads.unwrap_or_else(threads),
        free: if args.full {
            FreeSpace::Written
        } else {
            FreeSpace::Skipped(&job.allocated)
        },
        salt,
    };
    let path = card.path().to_owned();
    let started = Instant::now();
    // Even after a panic, a card that may be half-written is not called untouched.
    let written = catch_unwind(AssertUnwindSafe(|| flash(job, card, options, session.observer())))
        .map_err(|_reported| Failure::printed(Outcome::Spoiled))?;
    session.progress.clear();
    let report = written.map_err(|failure| messages::write_failure(failure, &path, session))?;
    messages::report_flashed(
        report,
        &path,
        input.next.as_ref(),
        started.elapsed(),
        &session.progress.durations(),
        session.ui,
    );
    Ok(())
}
