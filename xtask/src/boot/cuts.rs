//! Power cuts at the Pi: one first boot is recorded with every write and flush of its disk, the power is cut again and
//! again in the replay, and the card that each cut leaves behind is checked.
//!
//! A cut leaves what was flushed and any part of what was not. Some of these cards, chosen at random over the whole first
//! boot, are booted to the end and must have the outcome of an undisturbed boot. Never cuts the power of anything real.

mod point;
mod writes;

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

/// Which cuts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What the random choices follow from: the same cuts and the same parts of writes. Not 0.
    pub(crate) seed: u64,
    /// How many of the cards are booted to the end.
    pub(crate) boots: usize,
}

/// Record, cut, check, boot. It mounts file systems, so run it in a mount namespace of its own.
pub(crate) fn trial(
    lab: &mut Lab,
    base: &Base,
    tool: &Path,
    choice: Choice,
    checks: &mut Checks,
) -> Result<()> {
    checks.note(&format!("the random choices follow from --seed {}", choice.seed));
    let farm = Farm::with_archive(lab, base, tool, Renderer::Ifupdown)?;
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
        seed: choice.seed,
    };
    let stages = cuts.check_all(checks)?;
    let mut chance = Chance::new(choice.seed);
    for number in 1..=choice.boots {
        let cut = usize::try_from(chance.below(u64::try_from(stages.len())?))?;
        let stage = stages.get(cut).map_or("", |stage| stage.name());
        let of = choice.boots;
        checks.note(&format!(
            "{number} of {of}: a cut {stage}, after flush {cut}: booting what it left"
        ));
        cuts.card_after(cut, &lab.card())?;
        let outcome = farm.boot(lab, Disk::Plain, checks, |card, _| card.outcome())?;
        for ((what, expect), (_, seen)) in undisturbed.iter().zip(&outcome) {
            checks.check(
                &format!("{what} as after an undisturbed boot"),
                equal(seen, expect.trim()),
            );
        }
    }
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
    seed: u64,
}

impl Cuts<'_> {
    /// Cut the power at every flush and once before it, and check what is left. Returns how far the boot had come at each
    /// flush.
    fn check_all(&self, checks: &mut Checks) -> Result<Vec<Stage>> {
        let state = self.scratch.dir.join("state.img");
        let cut = self.scratch.dir.join("cut.img");
        let mount = self.scratch.dir.join("mount");
        fs::create_dir(&mount)?;
        copy(self.blank, &state)?;
        let disk = writable(&state)?;
        let mut chance = Chance::new(self.seed);
        let (mut points, mut broken) = (0_u32, Vec::new());
        let mut stages = Vec::new();
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
                    stages.push(stage);
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
        Ok(stages)
    }

    /// Make `card` the card that a cut after flush `last` leaves, with some of the writes that follow.
    fn card_after(&self, last: usize, card: &Path) -> Result<()> {
        copy(self.blank, card)?;
        let disk = writable(card)?;
        for write in self.log.epochs.iter().take(last.saturating_add(1)).flatten() {
            self.log.apply(&disk, *write, write.sectors)?;
        }
        let mut chance = Chance::new(self.seed);
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
