//! Power cuts at the Pi: one first boot is recorded with every write and flush of its disk, the power is cut again and
//! again in the replay, and the card that each cut leaves behind is checked.
//!
//! A cut leaves what was flushed and any part of what was not. A few of these cards, one from each stage of the first boot,
//! are booted to the end and must have the outcome of an undisturbed boot. Never cuts the power of anything real.

mod point;
mod writes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};
use fs_err as fs;
use fs_err::File;

use super::checks::{equal, Checks};
use super::farm::Farm;
use super::lab::Lab;
use super::qemu::Disk;
use super::Renderer;
use crate::base::Base;
use crate::deps::Package;
use crate::sh;
use point::{Journal, Left, Stage};
use writes::{Chance, Log};

/// What these checks need from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    ("xfsprogs", "mkfs.xfs"),
    ("mount", "mount"),
    ("mount", "umount"),
    ("util-linux", "unshare"),
];

/// Bytes of the file system that holds the copies. It takes less space, since they share their blocks.
const SCRATCH: u64 = 64 << 30;

/// A fixed seed, so that every run keeps the same parts of writes.
const SEED: u64 = 20_190_101;

/// Record, cut, check, boot. It mounts file systems, so run it in a mount namespace of its own.
pub(crate) fn trial(lab: &mut Lab, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    let farm = Farm::on_card(lab, base, tool, Renderer::Ifupdown)?;
    let scratch = Scratch::new(&lab.dir)?;
    let blank = scratch.dir.join("blank.img");
    copy(&lab.card(), &blank)?;
    let log = lab.dir.join("writes.log");
    let undisturbed = farm.boot(lab, Disk::Recorded(&log), checks, |card, _| card.outcome())?;

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
    let stages = cuts.check_all(checks)?;
    let mut survived = 0_u32;
    for (stage, cut) in stages {
        checks.note(&format!(
            "a cut {}, after flush {cut}: booting what it left",
            stage.name()
        ));
        cuts.card_after(cut, &lab.card())?;
        let outcome = farm.boot(lab, Disk::Plain, checks, |card, _| card.outcome())?;
        let mut same = true;
        for ((what, expect), (_, seen)) in undisturbed.iter().zip(&outcome) {
            same &= checks.check(
                &format!("{what} as after an undisturbed boot"),
                equal(seen, expect.trim()),
            );
        }
        survived = survived.saturating_add(u32::from(same));
    }
    ensure!(
        survived >= 5,
        "only {survived} cut cards came to the same end, and not at least five"
    );
    let seen = Ok(format!("{survived} boots"));
    checks.check("cards whose power was cut come to the same end", seen);
    Ok(())
}

/// A file system whose files can share blocks. It disappears with this process's mount namespace.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn new(lab: &Path) -> Result<Self> {
        // The router's namespace removes files of this name at its end, whatever happens to this process.
        let image = lab.join("scratch.img");
        let dir = lab.join("scratch");
        fs::create_dir(&dir)?;
        File::create(&image)?.set_len(SCRATCH)?;
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

/// A recorded boot, and where its cards are rebuilt.
struct Cuts<'a> {
    log: &'a Log,
    blank: &'a Path,
    scratch: &'a Scratch,
}

impl Cuts<'_> {
    /// Cut the power at every flush and once before it, and check what is left. Returns for each stage the cut in its
    /// middle.
    fn check_all(&self, checks: &mut Checks) -> Result<BTreeMap<Stage, usize>> {
        let state = self.scratch.dir.join("state.img");
        let cut = self.scratch.dir.join("cut.img");
        let mount = self.scratch.dir.join("mount");
        fs::create_dir(&mount)?;
        copy(self.blank, &state)?;
        let disk = writable(&state)?;
        let mut chance = Chance::new(SEED);
        let (mut points, mut broken) = (0_u32, Vec::new());
        let mut stages: BTreeMap<Stage, Vec<usize>> = BTreeMap::new();
        let mut before = Journal::default();
        for (number, epoch) in self.log.epochs.iter().enumerate() {
            // A cut before the flush leaves any part of the epoch, a cut at the flush all of it.
            copy(&state, &cut)?;
            let card = writable(&cut)?;
            for write in epoch {
                self.log.apply(&card, *write, chance.kept(write.sectors))?;
            }
            drop(card);
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
                checks.note(&format!("{points} cuts checked, {} of them bad", broken.len()));
            }
        }
        ensure!(
            broken.is_empty(),
            "{} of {points} cuts left a bad card:\n{}",
            broken.len(),
            broken.join("\n")
        );
        checks.check("no cut leaves a bad card", Ok(format!("{points} cuts")));
        let middle = |cuts: &Vec<usize>| cuts.get(cuts.len() / 2).copied();
        Ok(stages
            .iter()
            .filter_map(|(stage, cuts)| Some((*stage, middle(cuts)?)))
            .collect())
    }

    /// Make `card` the card that a cut after flush `last` leaves, with some of the writes that follow.
    fn card_after(&self, last: usize, card: &Path) -> Result<()> {
        copy(self.blank, card)?;
        let disk = writable(card)?;
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

fn writable(image: &Path) -> Result<File> {
    Ok(fs::OpenOptions::new().write(true).open(image)?)
}

/// A copy that shares its blocks with `from`, if the file system can do that.
fn copy(from: &Path, to: &Path) -> Result<()> {
    sh::run(
        sh::cmd("cp", ["--reflink=auto", "--sparse=always"])
            .arg(from)
            .arg(to),
    )
}
