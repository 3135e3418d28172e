//! A stand-in for a card: a loop device over a file on the same disk, with direct I/O, and a throttle that makes it as slow
//! as a card. Removes what it made, and never touches a device that it did not make.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use xshell::cmd;

use crate::deps::{self, Package, Privilege};
use crate::sh;

/// What it needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[("mount", "losetup"), ("util-linux", "fallocate")];

/// Bytes per second that are written to a throttled card at most: what a good SD card of today does.
pub(crate) const WRITE: u64 = 40_000_000;

/// Bytes per second that are read from a throttled card at most: what a UHS-I reader does.
pub(crate) const READ: u64 = 90_000_000;

/// How fast the stand-in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// As the disk is.
    Full,
    /// [`WRITE`] and [`READ`].
    Card,
    /// [`WRITE`]; reads are as fast as the disk.
    SlowWrites,
}

impl Speed {
    /// Bytes per second that are read at the most.
    pub(crate) fn reading(self) -> Option<u64> {
        (self == Self::Card).then_some(READ)
    }
}

/// Whether there can be one here; an error says why not.
pub(crate) fn ready() -> Result<()> {
    if deps::privilege() != Privilege::Root {
        bail!("loop devices need root");
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
        ready()?;
        let (sh, file, size) = (sh::shell()?, dir.join("card"), size.to_string());
        sh::run(cmd!(sh, "fallocate -l {size} {file}"))?;
        let node = sh::output(cmd!(sh, "losetup --find --show --direct-io=on {file}"))?;
        let node = node.trim().to_owned();
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

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// `command`, inside the throttle if there is one.
    pub(crate) fn on(&self, command: Command) -> Command {
        match &self.throttle {
            Some(throttle) => throttle.around(&command),
            None => command,
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // Best effort: the file is in the build folder, which the next run removes.
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
        let sh = sh::shell()?;
        let number = sh::output(cmd!(sh, "lsblk --noheadings --nodeps --output MAJ:MIN {node}"))?;
        let number = number.trim();
        let (old, new) = (Path::new("/sys/fs/cgroup/blkio"), Path::new("/sys/fs/cgroup"));
        let (top, limits) = if old.is_dir() {
            let limit = |what, rate| {
                (
                    format!("blkio.throttle.{what}_bps_device"),
                    format!("{number} {rate}"),
                )
            };
            let read = reading.map(|rate| limit("read", rate));
            (old, std::iter::once(limit("write", WRITE)).chain(read).collect())
        } else if new.join("cgroup.controllers").is_file() {
            // A controller must be enabled in the parent before a child has its files.
            fs::write(new.join("cgroup.subtree_control"), "+io").context("asking for the io controller")?;
            let read = reading.map_or_else(String::new, |rate| format!(" rbps={rate}"));
            (
                new,
                vec![("io.max".to_owned(), format!("{number} wbps={WRITE}{read}"))],
            )
        } else {
            bail!("there is no cgroup controller that slows a device down");
        };
        let group = top.join(format!("palmfarm-bench-{}", std::process::id()));
        fs::create_dir(&group)?;
        let throttle = Self { group };
        for (file, limit) in limits {
            fs::write(throttle.group.join(file), limit)?;
        }
        Ok(throttle)
    }

    /// A shell that joins the group and becomes `command`.
    fn around(&self, command: &Command) -> Command {
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        let mut inside = sh::cmd("sh", ["-c", script]);
        inside.arg(self.group.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        inside
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // Every process in it has ended by now.
        let _ = fs::remove_dir(&self.group);
    }
}
