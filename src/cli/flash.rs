//! `palmfarm flash`: the order in which a card is found, taken, checked against what shall go onto it, and written.
//!
//! The device is opened first, because only root may; then root is given up, and only then is anything looked into
//! that others made. Nothing is written before the last question was answered.

mod said;

use std::env;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::farm::{Farm, StorageDriver, User};
use anyhow::{anyhow, Context};

use super::args::Flash;
use super::init::NOBODYS_KEY;
use super::progress::{Audience, Shown};
use super::say::{complaint_line, note_line};
use super::{ask, devices, from_farm, surroundings, Ended, Failure, OrFail, Outcome, Voice};
use crate::base::source::{BaseImage, CacheDir, Expect, Sha256Sum};
use crate::card::facts::{read_system, stat_target, Device, Facts};
use crate::card::{approve, candidates, refusals, target_of, Allowed, CardTarget, FileRole, OpenCard};
use crate::pipeline;
use crate::progress::Watch;
use crate::text::shell_quote;
use crate::write::flash::{flash, Job};
use crate::write::root_space;
use crate::write::{CardOptions, FreeSpace};

/// Flash.
///
/// # Errors
/// Refused, where device, farm or image will not do; failed with the card untouched; spoiled, once something was
/// written; interrupted.
pub fn run(args: &Flash, voice: Voice, audience: Audience) -> Ended {
    let shown = Shown::new(audience);
    let cancel = surroundings::interruptible();
    let watch = Watch {
        progress: &shown,
        cancel: &cancel,
    };
    let allowed: Allowed = args.allow.iter().filter_map(|word| word.parse().ok()).collect();
    let target = match &args.device {
        Some(device) => stat_target(device),
        None => pick(args, &allowed, voice, watch)?,
    };
    let facts = look(&files(args, None))?;
    said::refused(&refusals(&facts, &target, None, &allowed), &target, voice)?;
    if !args.yes && !ask::is_anybody_there(voice) {
        let error = anyhow!(
            "nobody is there to be asked whether {} may be overwritten",
            target.path
        );
        return Err(Failure::new(Outcome::Refused, error).hint("add --yes if it may"));
    }
    let card = take(args, &facts, &target, &allowed, voice)?;
    let cache = surroundings::as_invoker()?;

    let subject = prepare(args, voice, &cache, watch)?;
    shown.clear();
    let job = &subject.job;
    // Again, now that it is known how large the image is and where it lies.
    let image = PathBuf::from(&job.base().provenance().name);
    let facts = look(&files(args, Some(&image)))?;
    said::refused(
        &refusals(&facts, &target, Some(job.size()), &allowed),
        &target,
        voice,
    )?;
    if let (Some(size), Some(free)) = (subject.pool, job.free_when_grown(card.identity().size)) {
        root_space::fits(size, free).map_err(|error| {
            let hint = error.hint();
            Failure::new(Outcome::Refused, error).hint(hint)
        })?;
    }
    let device = facts.devices.get(&card.identity().dev);
    said::announced(job, &subject.title, &facts, device, voice, args.yes);
    if !args.yes {
        confirm(device, &target, watch)?;
    }
    write(args, job, card, voice, watch, &shown)
}

/// What goes onto the card.
struct Subject {
    job: Job,
    /// What to call it.
    title: String,
    /// The size of the storage pool that it declares, in bytes.
    pool: Option<u64>,
}

/// Let the person choose among the cards that may be written.
fn pick(args: &Flash, allowed: &Allowed, voice: Voice, watch: Watch<'_>) -> Result<CardTarget, Failure> {
    if !ask::is_anybody_there(voice) {
        let error = anyhow!("no device is given, and nobody is there to pick one");
        return Err(Failure::new(Outcome::Usage, error).hint("`palmfarm devices` shows what there is"));
    }
    let facts = look(&files(args, None))?;
    let all = candidates(&facts, None, allowed);
    let cards: Vec<&Device> = all
        .iter()
        .filter(|(_, reasons)| reasons.is_empty())
        .map(|(device, _)| *device)
        .collect();
    if cards.is_empty() {
        let error = anyhow!("there is no card that may be written");
        let hint = "`palmfarm devices` shows every disk, and why it is not one";
        return Err(Failure::new(Outcome::Refused, error).hint(hint));
    }
    for (number, device) in (1_usize..).zip(&cards) {
        complaint_line!("{number}: {}", devices::card_text(&facts, device));
    }
    let question = format!("which one shall be overwritten (1 to {})? ", cards.len());
    let answer = ask::ask(&question, watch.cancel)?;
    let chosen = answer
        .parse::<usize>()
        .ok()
        .and_then(|number| cards.get(number.checked_sub(1)?));
    let Some(device) = chosen else {
        complaint_line!("nothing was touched");
        return Err(Failure::printed(Outcome::Refused));
    };
    Ok(target_of(device))
}

/// Read the machine, and where `files` lie on it.
fn look(files: &[(FileRole, PathBuf)]) -> Result<Facts, Failure> {
    let files: Vec<(FileRole, &Path)> = files.iter().map(|(role, path)| (*role, path.as_path())).collect();
    let snapshot = read_system(Path::new("/"), &files).or_fail(Outcome::Refused)?;
    Facts::parse(&snapshot).or_fail(Outcome::Refused)
}

/// What must not lie on the card.
fn files(args: &Flash, image: Option<&Path>) -> Vec<(FileRole, PathBuf)> {
    let role = if is_farm(&args.source) {
        FileRole::Farm
    } else {
        FileRole::Image
    };
    let program = env::current_exe().ok().map(|path| (FileRole::Program, path));
    let image = image.map(|path| (FileRole::Image, path.to_owned()));
    let mut found = vec![(role, args.source.clone())];
    found.extend(program);
    found.extend(image.filter(|(_, path)| *path != args.source));
    found
}

/// Whether the name is that of a farm file; anything else is an image.
fn is_farm(path: &Path) -> bool {
    let is = |end: &str| {
        path.extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case(end))
    };
    is("yaml") || is("yml")
}

/// Approve the device and open it.
fn take(
    args: &Flash,
    facts: &Facts,
    target: &CardTarget,
    allowed: &Allowed,
    voice: Voice,
) -> Result<OpenCard, Failure> {
    let approved = match approve(facts, target, None, allowed) {
        Ok(approved) => approved,
        Err(reasons) => {
            said::refused(&reasons, target, voice)?;
            return Err(Failure::printed(Outcome::Refused));
        }
    };
    approved.open().map_err(|error| {
        let hint = match &error {
            crate::card::OpenError::Denied { .. } => Some(format!(
                "{}; root is given up as soon as the card is open",
                with_sudo(args, target)
            )),
            other => other.hint(),
        };
        Failure::new(Outcome::Refused, error).maybe_hint(hint)
    })
}

/// The same command for root, ready to be pasted: every option as it was given, a digest to compare with among them,
/// and the card that was picked where none was named.
fn with_sudo(args: &Flash, target: &CardTarget) -> String {
    let mut given = env::args_os();
    // sudo has a search path of its own (sudoers(5), `secure_path`), without ~/.cargo/bin.
    let typed = given
        .next()
        .filter(|program| program.to_string_lossy().contains('/'));
    let found = || env::current_exe().ok().map(PathBuf::into_os_string);
    let program = typed.or_else(found).unwrap_or_else(|| "palmfarm".into());
    let picked = args.device.is_none().then(|| target.path.clone().into());
    let words: Vec<String> = std::iter::once(program)
        .chain(given)
        .chain(picked)
        .map(|word| shell_quote(&word.to_string_lossy()))
        .collect();
    format!("sudo {}", words.join(" "))
}

/// Everything that can be found wrong with farm or image is found here.
fn prepare(args: &Flash, voice: Voice, cache: &CacheDir, watch: Watch<'_>) -> Result<Subject, Failure> {
    if !is_farm(&args.source) {
        return image(args, cache, watch);
    }
    if args.sha256.is_some() {
        let error = anyhow!("--sha256 is for images; a farm says `sha256:` itself");
        return Err(Failure::new(Outcome::Usage, error));
    }
    let farm = from_farm::load(&args.source, voice)?;
    let card = from_farm::card(&farm, args.card.as_deref())?;
    if voice == Voice::People {
        for remark in remarks(&farm.farm) {
            note_line!("note: {remark}");
        }
    }
    let title = format!("{} of {}", card.name, args.source.display());
    let storage = farm.farm.lxd.as_ref().map(|lxd| lxd.storage.clone());
    let gathered = from_farm::read(&farm)?;
    let client = (!args.offline).then(surroundings::client).transpose()?;
    let base = from_farm::open(&farm, cache, client.as_ref(), watch)?;
    let plan =
        pipeline::plan(&farm, &gathered, card, &[], surroundings::ambient()?).map_err(from_farm::refused)?;
    let tree = pipeline::render(&farm, &gathered, &plan, &base).map_err(from_farm::refused)?;
    let prepared = pipeline::edit(plan, tree, &base, surroundings::ambient()?).map_err(from_farm::refused)?;
    Ok(Subject {
        job: pipeline::card_job(&base, prepared).map_err(from_farm::refused)?,
        title,
        pool: storage
            .filter(|storage| storage.driver == StorageDriver::Btrfs)
            .and_then(|storage| storage.size),
    })
}

/// What a farm may say that is right for trying, and not what anybody wants on a real card.
fn remarks(farm: &Farm) -> Vec<String> {
    let mut remarks = Vec::new();
    if farm.base == "mini" {
        remarks.push("`mini` is for trying palmfarm out; no Pi starts from it".to_owned());
    }
    let is_nobodys = |user: &&User| {
        user.password.is_none()
            && !user.ssh_keys.is_empty()
            && user.ssh_keys.iter().all(|key| key.contains(NOBODYS_KEY))
    };
    for user in farm.users.iter().filter(is_nobodys) {
        remarks.push(format!(
            "{} has the key of the example, whose other half nobody has: put your own into the farm",
            user.name
        ));
    }
    remarks
}

fn image(args: &Flash, cache: &CacheDir, watch: Watch<'_>) -> Result<Subject, Failure> {
    if args.card.is_some() {
        let error = anyhow!("--card is for farms, but {} is an image", args.source.display());
        return Err(Failure::new(Outcome::Usage, error).hint("the name of a farm file ends in .yaml"));
    }
    let expect = match &args.sha256 {
        Some(text) => Expect::Sha256(text.parse::<Sha256Sum>().or_fail(Outcome::Usage)?),
        None => Expect::Anything,
    };
    let image = BaseImage::open(&args.source, expect, cache, watch).map_err(|error| {
        let hint = error.hint();
        from_farm::not_opened(error, hint, watch)
    })?;
    Ok(Subject {
        job: pipeline::image_job(image).map_err(from_farm::refused)?,
        title: args.source.display().to_string(),
        pool: None,
    })
}

/// Only the device's own name will do: an answer that one gives without looking is no answer.
fn confirm(device: Option<&Device>, target: &CardTarget, watch: Watch<'_>) -> Ended {
    let name = device.map_or(target.path.as_str(), |device| device.name.as_str());
    let question = format!("type {name} to overwrite it, anything else to leave it: ");
    if ask::ask(&question, watch.cancel)? == name {
        return Ok(());
    }
    complaint_line!("nothing was touched");
    Err(Failure::printed(Outcome::Refused))
}

fn write(args: &Flash, job: &Job, card: OpenCard, voice: Voice, watch: Watch<'_>, shown: &Shown) -> Ended {
    let mut salt = [0; 16];
    rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)
        .context("asking the kernel for 16 random bytes")
        .or_fail(Outcome::Failed)?;
    let options = CardOptions {
        threads: args.threads.unwrap_or_else(surroundings::threads),
        free: if args.full {
            FreeSpace::Written
        } else {
            FreeSpace::Skipped(job.allocated())
        },
        salt,
    };
    let path = card.path().to_owned();
    let started = Instant::now();
    // Whatever goes wrong in there: a card that may be half written is never called untouched.
    let done = catch_unwind(AssertUnwindSafe(|| flash(job, card, options, watch)));
    let done = done.map_err(|_told| Failure::printed(Outcome::Spoiled))?;
    let flashed = done.map_err(|failure| {
        shown.clear();
        said::failed(failure, &path, voice)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    shown.clear();
    said::flashed(flashed, &path, seconds, &shown.durations(), voice);
    Ok(())
}
