//! What the machine says about its block devices and about everything that uses them.
//!
//! [`Snapshot`] is read once by [`read_system`]; [`Facts::parse`] turns its text into a graph. Whatever cannot be
//! parsed is an error or counts as in use: a missing fact must never make a disk look free.

mod backing_file;
mod changes;
mod device;
mod links;
mod mountinfo;
mod path_resolution;
mod signature;
mod snapshot;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

pub use changes::DisksAndMounts;
pub use device::{Bus, Content, Device, DeviceKind};
pub use links::{Usage, UsageKind};
pub use mountinfo::{mount_line, swap_line, MountLine};
pub use snapshot::{normalize, NotASnapshot, Snapshot, SnapshotEntry};
pub use system::{identify, loops_over, read_system, stat_target, ReadSystemError};

/// A device number, as `st_rdev`, mountinfo and sysfs give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevNo {
    /// The driver's number; 0 for filesystems without a device.
    pub major: u32,
    /// The device's number with its driver.
    pub minor: u32,
}

impl DevNo {
    /// The number from the form that `stat` returns (makedev(3)).
    pub(crate) fn of(number: u64) -> Self {
        Self {
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
        }
    }

    /// Whether this is the number of a block device, and not one made up for a filesystem without one.
    pub fn is_real(self) -> bool {
        self.major != 0
    }
}

impl fmt::Display for DevNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DevNo {
    type Err = NotADevNo;

    fn from_str(text: &str) -> Result<Self, NotADevNo> {
        let (major, minor) = text.split_once(':').ok_or(NotADevNo)?;
        Ok(Self {
            major: major.parse().map_err(|_| NotADevNo)?,
            minor: minor.parse().map_err(|_| NotADevNo)?,
        })
    }
}

/// A text that is not of the form `MAJOR:MINOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a device number of the form MAJOR:MINOR")]
pub struct NotADevNo;

/// What distinguishes a file from every other, whatever its names are: as stat(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber {
    /// `st_dev`.
    pub dev: DevNo,
    /// `st_ino`.
    pub inode: u64,
}

impl FileNumber {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            dev: DevNo::of(metadata.dev()),
            inode: metadata.ino(),
        }
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dev, self.inode)
    }
}

impl FromStr for FileNumber {
    type Err = NotADevNo;

    fn from_str(text: &str) -> Result<Self, NotADevNo> {
        let (dev, inode) = text.split_once(' ').ok_or(NotADevNo)?;
        Ok(Self {
            dev: dev.parse()?,
            inode: inode.parse().map_err(|_| NotADevNo)?,
        })
    }
}

/// A file whose disk must not be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileRole {
    /// The image that is to be written.
    Image,
    /// The farm file.
    Farm,
    /// The program that is running.
    Program,
}

impl FileRole {
    /// Every role there is.
    pub const ALL: [Self; 3] = [Self::Image, Self::Farm, Self::Program];

    /// The word for it in messages and snapshots.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Farm => "farm",
            Self::Program => "program",
        }
    }
}

/// What is at the path that was given as the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardTarget {
    /// The path as it was given.
    pub path: String,
    /// What is there, links followed.
    pub found: TargetKind,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Nothing.
    Missing,
    Block(DevNo),
    /// Something else, in words: `a regular file`.
    Other(&'static str),
    /// It could not be examined, for the reason given.
    Unreadable(String),
}

/// How far down [`Facts::under`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// From device to device only.
    Devices,
    /// Also from a loop device to the disks that hold its file.
    Files,
}

/// The graph of block devices and of what uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every block device, partitions included, by number.
    pub devices: BTreeMap<DevNo, Device>,
    /// Everything that is in use, and the devices that it is on.
    pub uses: Vec<Usage>,
    /// Whether this is Linux inside Windows, where card readers are not seen.
    pub wsl: bool,
}

/// A snapshot that cannot be trusted to show everything that is in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFacts {
    /// A file is missing without which no disk is known to be free.
    #[error("{0} is missing, so palmfarm cannot know what is in use")]
    Missing(&'static str),
    /// A line of such a file cannot be parsed.
    #[error("line {line} of {path} cannot be parsed: {text:?}")]
    Line {
        path: &'static str,
        /// Counted from 1.
        line: usize,
        /// All of it.
        text: String,
    },
    /// A block device without a usable number.
    #[error("block device {0} has no device number in sysfs")]
    NoNumber(String),
}

impl Facts {
    /// Parse a snapshot.
    pub fn parse(snapshot: &Snapshot) -> Result<Self, BadFacts> {
        let mut devices = device::devices(snapshot)?;
        let uses = links::link(snapshot, &mut devices)?;
        let wsl = snapshot
            .text("/proc/version")
            .is_some_and(|version| version.to_lowercase().contains("microsoft"));
        Ok(Self { devices, uses, wsl })
    }

    /// The device with this kernel name, such as `sdb` or `mmcblk0p1`.
    pub fn named(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.name == name)
    }

    /// The partitions of the disk `dev`, in order of number.
    pub fn partitions(&self, dev: DevNo) -> Vec<&Device> {
        let mut found: Vec<(u32, &Device)> = self
            .devices
            .values()
            .filter_map(|device| match device.kind {
                DeviceKind::Partition { of: Some(of), number } if of == dev => Some((number, device)),
                _ => None,
            })
            .collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, device)| device).collect()
    }

    /// Every device that `top` is built on, itself included; cycles are walked once.
    pub fn under(&self, top: DevNo, follow: Follow) -> BTreeSet<DevNo> {
        let mut seen = BTreeSet::new();
        let mut open = vec![top];
        while let Some(dev) = open.pop() {
            if seen.insert(dev) {
                open.extend(
                    self.devices
                        .get(&dev)
                        .into_iter()
                        .flat_map(|device| device.rests_on(follow)),
                );
            }
        }
        seen
    }

    /// The node's path, by convention: `/dev/sdb`.
    pub fn node(&self, dev: DevNo) -> String {
        match self.devices.get(&dev) {
            Some(device) => device.node(),
            None => format!("block device {dev}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_has_two_parts() {
        assert_eq!("8:17".parse(), Ok(DevNo { major: 8, minor: 17 }));
        for text in ["", "8", "8:", ":1", "8:1:2", "a:b", "-1:0", "8:4294967296"] {
            assert_eq!(text.parse::<DevNo>(), Err(NotADevNo), "{text}");
        }
    }
}
