//! One trial's folder, router and power switch.
//!
//! The card's image is a gigabyte, so it goes when the trial is over; what is left after a failure is what one reads:
//! the serial lines, the router's log and the farm.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::deadline::Deadline;
use super::disk;
use super::guest::KeyPair;
use super::qemu::{self, Board, Disk, Machine, Parts};
use super::router::Router;
use crate::base::Base;

/// The size of the card. Ubuntu's images are smaller, so the root file system has room to grow.
const CARD: u64 = 8 << 30;

/// Folders of failed trials that stay.
const KEPT: usize = 4;

/// One trial's folder and router.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Where everything of this trial lies.
    pub(crate) dir: PathBuf,
    /// The home network.
    pub(crate) router: Router,
    /// Who may log in.
    pub(crate) key: KeyPair,
    /// The end of the trial.
    pub(crate) deadline: Deadline,
    /// What the card is put into.
    pub(crate) board: Board,
    boots: u32,
}

impl Lab {
    /// Make a trial called `name`, of at most so many seconds.
    pub(crate) fn with<T>(name: &str, seconds: u64, trial: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut lab = Self::new(name, seconds)?;
        let done = trial(&mut lab);
        lab.finish(done)
    }

    /// A new folder under target/boot, and a router that logs there.
    fn new(name: &str, seconds: u64) -> Result<Self> {
        let all = crate::target_dir().join("boot");
        sweep(&all);
        let dir = all.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let router = Router::start(&dir)?;
        let key = KeyPair::new(&dir)?;
        Ok(Self {
            dir,
            router,
            key,
            deadline: Deadline::seconds(seconds),
            board: Board::Virt,
            boots: 0,
        })
    }

    /// Where the card's image goes.
    pub(crate) fn card(&self) -> PathBuf {
        self.dir.join("card.img")
    }

    /// Give the image the size of a card; what is added takes no space.
    pub(crate) fn pad(&self) -> Result<()> {
        let card = self.card();
        fs::File::options()
            .write(true)
            .open(&card)
            .and_then(|file| file.set_len(CARD))
            .with_context(|| format!("giving {} the size of a card", card.display()))
    }

    /// Power on with the command line that is on the card.
    pub(crate) fn power_on(&mut self, base: &Base, disk: Disk<'_>) -> Result<Machine> {
        self.boots = self.boots.saturating_add(1);
        let card = self.card();
        let line =
            disk::fat_file(&card, "current/cmdline.txt").or_else(|_| disk::fat_file(&card, "cmdline.txt"))?;
        let tree = self
            .board
            .device_tree()
            .map(|name| disk::fat_copy(&card, name, &self.dir));
        let tree = tree.transpose()?;
        let parts = Parts {
            board: self.board,
            machine: base.machine,
            card: &card,
            disk,
            kernel: &base.kernel,
            initrd: &base.initrd,
            device_tree: tree.as_deref(),
            command_line: &qemu::command_line(&line, self.board),
            serial: &self.serial(),
        };
        Machine::start(&self.router, &parts)
    }

    /// How often the power came on.
    pub(crate) fn boots(&self) -> u32 {
        self.boots
    }

    /// The serial line of the boot that is running, or that was the last.
    pub(crate) fn serial(&self) -> PathBuf {
        self.dir.join(format!("serial-{}.log", self.boots))
    }

    /// Clean up after `trial`: everything after a success, the image only after a failure.
    fn finish<T>(self, trial: Result<T>) -> Result<T> {
        let Self { dir, router, .. } = self;
        // The machine, and with it the image, is gone when this returns.
        drop(router);
        if trial.is_ok() {
            let _ = fs::remove_dir_all(&dir);
            return trial;
        }
        crate::deps::give_back(&[&dir]);
        trial.with_context(|| format!("serial lines and logs are kept in {}", dir.display()))
    }
}

/// Folders of trials that are over; the newest few stay, for whoever still reads their logs.
fn sweep(dir: &Path) {
    let Ok(found) = fs::read_dir(dir) else { return };
    let over = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let pid = name.rsplit_once('-').and_then(|(_, pid)| pid.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    let mut old: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).filter(over).collect();
    old.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|facts| facts.modified()).ok()));
    for path in old.iter().skip(KEPT) {
        let _ = fs::remove_dir_all(path);
    }
}
