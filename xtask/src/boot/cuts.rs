//! Power cuts at the Pi: one first boot is recorded with every write and flush of its disk, the power is cut again and
//! again in the replay, and the card that each cut leaves behind is looked at.
//!
//! A cut leaves what was flushed and any part of what was not. The cards of a few cuts, one from each stage of the first
//! boot, are booted to the end and must come to what the undisturbed boot came to.

mod point;
mod writes;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use super::checks::{equal, Checks};
use super::farm::{card, powered};
use super::lab::Lab;
use super::qemu::Disk;
use super::Renderer;
use crate::base::Base;
use crate::deps::{command, Package};
use crate::sh;
use point::{Journal, Left, Stage};
use writes::{Chance, Log};

/// What looking at so many cards needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    command("xfsprogs", "mkfs.xfs"),
    command("mount", "mount"),
    command("mount", "umount"),
    command("util-linux", "unshare"),
];

/// Bytes of the file system that the copies lie on; it takes only what they differ by.
const SCRATCH: u64 = 64 << 30;

/// With it the same parts of writes are kept in every run.
const SEED: u64 = 20_190_101;

/// Record, cut, look, boot. Mounts file systems, and so must run in a mount namespace of its own.
pub(crate) fn trial(lab: &mut Lab, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    let renderer = Renderer::Ifupdown;
    let predicted = card(lab, base, tool, renderer)?;
    let scratch = Scratch::new(&lab.dir)?;
    let blank = scratch.dir.join("blank.img");
    copy(&lab.card(), &blank)?;
    let log = lab.dir.join("writes.log");
    let undisturbed = powered(
        lab,
        base,
        predicted,
        renderer,
        Disk::Recorded(&log),
        checks,
        |card, _| card.outcome(),
    )?;

    let log = Log::open(&log)?;
    let writes: usize = log.epochs.iter().map(Vec::len).sum();
    checks.note(&format!(
        "{writes} writes between {} flushes; the power is cut at each flush, and once between each two",
        log.epochs.len()
    ));
    let cuts = Cuts {
        log: &log,
        blank: &blank,
        scratch: &scratch,
    };
    let stages = cuts.look(checks)?;
    let mut survived = 0_u32;
    for (stage, cut) in stages {
        checks.note(&format!(
            "a cut {}, after flush {cut}: booting what it left",
            stage.name()
        ));
        cuts.card_after(cut, &lab.card())?;
        let come_to = powered(lab, base, predicted, renderer, Disk::Plain, checks, |card, _| {
            card.outcome()
        })?;
        let mut same = true;
        for ((what, expect), (_, seen)) in undisturbed.iter().zip(&come_to) {
            same &= checks.check(
                &format!("{what} as after an undisturbed boot"),
                equal(seen, expect.trim()),
            );
        }
        survived = survived.saturating_add(u32::from(same));
    }
    let enough = if survived < 5 {
        bail!("only {survived} cut cards came to the end, of five at least")
    } else {
        Ok(format!("{survived} boots"))
    };
    checks.check("cards whose power was cut come to the same end", enough);
    Ok(())
}

/// A file system whose files share what they have in common, gone with this process's mount namespace.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn new(lab: &Path) -> Result<Self> {
        // The name says that it goes with the trial, whatever becomes of this process.
        let image = lab.join("scratch.img");
        let dir = lab.join("scratch");
        std::fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        File::create(&image)
            .and_then(|file| file.set_len(SCRATCH))
            .with_context(|| format!("creating {}", image.display()))?;
        sh::run(sh::cmd("mkfs.xfs", ["-q", "-m", "reflink=1"]).arg(&image))?;
        sh::run(sh::cmd("mount", ["-o", "loop,noatime"]).arg(&image).arg(&dir))?;
        Ok(Self { dir })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = sh::run(sh::cmd("umount", ["--lazy"]).arg(&self.dir));
    }
}

/// A recorded boot, and where its cards are made again.
struct Cuts<'a> {
    log: &'a Log,
    blank: &'a Path,
    scratch: &'a Scratch,
}

impl Cuts<'_> {
    /// Cut the power at every flush and once after it, and look at what is left; for each stage the cut in its middle.
    fn look(&self, checks: &mut Checks) -> Result<BTreeMap<Stage, usize>> {
        let state = self.scratch.dir.join("state.img");
        let cut = self.scratch.dir.join("cut.img");
        let mount = self.scratch.dir.join("mount");
        std::fs::create_dir(&mount).with_context(|| format!("creating {}", mount.display()))?;
        copy(self.blank, &state)?;
        let disk = File::options()
            .write(true)
            .open(&state)
            .with_context(|| format!("opening {}", state.display()))?;
        let mut chance = Chance::new(SEED);
        let (mut points, mut broken) = (0_u32, Vec::new());
        let mut stages: BTreeMap<Stage, Vec<usize>> = BTreeMap::new();
        let mut before = Journal::default();
        for (number, epoch) in self.log.epochs.iter().enumerate() {
            // A cut before the flush leaves any part of the epoch, a cut at the flush all of it.
            copy(&state, &cut)?;
            let part = File::options()
                .write(true)
                .open(&cut)
                .context("opening the cut card")?;
            for write in epoch {
                self.log.apply(&part, *write, chance.kept(write.sectors))?;
            }
            drop(part);
            let part = point::left(&cut, &mount);
            for write in epoch {
                self.log.apply(&disk, *write, write.sectors)?;
            }
            copy(&state, &cut)?;
            let whole = point::left(&cut, &mount);
            let after = whole
                .as_ref()
                .map_or_else(|_| before.clone(), |left| left.journal.clone());
            let is_sound = |left: Result<Left>| {
                let left = left?;
                left.is_sound(&before, &after)?;
                Ok::<_, anyhow::Error>(left.stage())
            };
            points = points.saturating_add(2);
            if let Err(error) = is_sound(part) {
                broken.push(format!("before flush {number}: {error:#}"));
            }
            match is_sound(whole) {
                Ok(stage) => {
                    before = after;
                    stages.entry(stage).or_default().push(number);
                }
                Err(error) => broken.push(format!("at flush {number}: {error:#}")),
            }
            if number % 100 == 99 {
                checks.note(&format!("{points} cuts looked at, {} of them bad", broken.len()));
            }
        }
        let sound = if broken.is_empty() {
            Ok(format!("{points} cuts"))
        } else {
            bail!(
                "{} of {points} cuts left a bad card:\n{}",
                broken.len(),
                broken.join("\n")
            )
        };
        checks.check("no cut leaves a bad card", sound);
        let middle = |cuts: &Vec<usize>| cuts.get(cuts.len() / 2).copied();
        Ok(stages
            .iter()
            .filter_map(|(stage, cuts)| Some((*stage, middle(cuts)?)))
            .collect())
    }

    /// Make `card` the card that a cut after flush `last` leaves, with some of what came next.
    fn card_after(&self, last: usize, card: &Path) -> Result<()> {
        copy(self.blank, card)?;
        let disk = File::options()
            .write(true)
            .open(card)
            .with_context(|| format!("opening {}", card.display()))?;
        for write in self.log.epochs.iter().take(last.saturating_add(1)).flatten() {
            self.log.apply(&disk, *write, write.sectors)?;
        }
        let mut chance = Chance::new(SEED);
        for write in self.log.epochs.get(last.saturating_add(1)).into_iter().flatten() {
            self.log.apply(&disk, *write, chance.kept(write.sectors))?;
        }
        Ok(())
    }
}

/// A copy that shares what it can with `from`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    sh::run(
        sh::cmd("cp", ["--reflink=auto", "--sparse=always"])
            .arg(from)
            .arg(to),
    )
}
