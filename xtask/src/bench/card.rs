//! A stand-in for a card: a loop device over a file on the same disk, past the page cache, and a throttle that makes
//! it as slow as a card is. Takes away what it made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::deps::{self, command, Package, Privilege, Ready};
use crate::sh;

/// What it needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[command("mount", "losetup"), command("util-linux", "fallocate")];

/// Bytes per second that a throttled card takes: what a good SD card of today does.
pub(crate) const WRITE: u64 = 40_000_000;

/// Bytes per second that a throttled card gives: what a UHS-I reader does.
pub(crate) const READ: u64 = 90_000_000;

/// How fast the stand-in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// As the disk is.
    Full,
    /// [`WRITE`] and [`READ`].
    Card,
    /// [`WRITE`], and reading as the disk does: what writes slowly may be read fast.
    SlowWrites,
}

impl Speed {
    /// Bytes per second that are read at the most.
    pub(crate) fn reading(self) -> Option<u64> {
        (self == Self::Card).then_some(READ)
    }
}

/// Whether there can be one here.
pub(crate) fn ready() -> Ready {
    if deps::privilege() != Privilege::Root {
        return Ready::Skip("loop devices need root".into());
    }
    deps::ensure(NEEDS)
}

/// A loop device.
#[derive(Debug)]
pub(crate) struct Card {
    file: PathBuf,
    node: String,
    throttle: Option<Throttle>,
}

impl Card {
    /// One of `size` bytes, whose file in `dir` has all its blocks.
    pub(crate) fn new(dir: &Path, size: u64, speed: Speed) -> Result<Self> {
        ready().require()?;
        let file = dir.join("card");
        sh::run(sh::cmd("fallocate", ["-l", &size.to_string()]).arg(&file))?;
        let mut losetup = sh::cmd("losetup", ["--find", "--show", "--direct-io=on"]);
        let node = sh::output(losetup.arg(&file))?.trim().to_owned();
        let mut card = Self {
            file,
            node,
            throttle: None,
        };
        if speed != Speed::Full {
            card.throttle = Some(Throttle::new(&card.node, speed.reading())?);
        }
        Ok(card)
    }

    /// Its path.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// `command`, for which the device is as slow as it was made.
    pub(crate) fn on(&self, command: Command) -> Command {
        match &self.throttle {
            Some(throttle) => throttle.around(&command),
            None => command,
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // Whatever is left of it is in the build folder, and the next run cannot use it.
        let _ = sh::run(&mut sh::cmd("losetup", ["--detach", &self.node]));
        let _ = fs::remove_file(&self.file);
    }
}

/// A cgroup in which one device is slow: blkio of version 1, or io of version 2.
#[derive(Debug)]
struct Throttle {
    group: PathBuf,
}

impl Throttle {
    fn new(node: &str, reading: Option<u64>) -> Result<Self> {
        let number = sh::output(&mut sh::cmd(
            "lsblk",
            ["--noheadings", "--nodeps", "--output", "MAJ:MIN", node],
        ))?;
        let number = number.trim();
        let name = format!("palmfarm-bench-{}", std::process::id());
        let old = Path::new("/sys/fs/cgroup/blkio");
        let new = Path::new("/sys/fs/cgroup");
        let limits = if old.is_dir() {
            let read = reading.map(|rate| ("blkio.throttle.read_bps_device", format!("{number} {rate}")));
            let write = ("blkio.throttle.write_bps_device", format!("{number} {WRITE}"));
            std::iter::once(write).chain(read).collect()
        } else if new.join("cgroup.controllers").is_file() {
            // A controller must be handed down before a child has its files.
            fs::write(new.join("cgroup.subtree_control"), "+io").context("asking for the io controller")?;
            let read = reading.map_or_else(String::new, |rate| format!(" rbps={rate}"));
            vec![("io.max", format!("{number} wbps={WRITE}{read}"))]
        } else {
            bail!("there is no cgroup controller that slows a device down");
        };
        let group = if old.is_dir() {
            old.join(&name)
        } else {
            new.join(&name)
        };
        fs::create_dir(&group).with_context(|| format!("creating {}", group.display()))?;
        let throttle = Self { group };
        for (file, limit) in limits {
            let path = throttle.group.join(file);
            fs::write(&path, limit).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(throttle)
    }

    /// A shell that joins the group and becomes `command`.
    fn around(&self, command: &Command) -> Command {
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        let mut inside = sh::cmd("sh", ["-c", script]);
        inside
            .arg(self.group.join("cgroup.procs"))
            .arg(command.get_program());
        inside.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // Everybody in it has ended by now.
        let _ = fs::remove_dir(&self.group);
    }
}
