//! Which file is behind a loop device, in use or to be kept, whatever its names are: hard links, bind mounts, overlays and
//! deleted files lead to the same one. The forms of these entries in a snapshot, written and read here alone.

use std::collections::BTreeSet;

use super::{DevNo, FileNumber, Snapshot};

/// A file by every number under which it may be seen, and by a path for the case that no number is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SomeFile {
    pub(super) path: String,
    pub(super) numbers: BTreeSet<FileNumber>,
    /// The device, if it is the node of one.
    pub(super) device: Option<DevNo>,
}

impl SomeFile {
    /// Whether both are, or may be, the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        if self.numbers.is_empty() || other.numbers.is_empty() {
            return self.path == other.path;
        }
        !self.numbers.is_disjoint(&other.numbers)
    }

    /// Its lines in a snapshot: those of a file that must survive, or that is behind a loop device.
    pub(super) fn lines(&self) -> String {
        let device = self.device.map(|dev| format!("rdev: {dev}\n"));
        let numbers = self.numbers.iter().map(|number| format!("file: {number}\n"));
        device.into_iter().chain(numbers).collect()
    }

    /// Read back what [`SomeFile::lines`] wrote.
    pub(super) fn parse(path: &str, lines: &str) -> Self {
        let said = |name: &'static str| {
            lines
                .lines()
                .filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        Self {
            path: path.to_owned(),
            numbers: said("file").filter_map(|text| text.parse().ok()).collect(),
            device: said("rdev").find_map(|text| text.parse().ok()),
        }
    }
}

/// Where a snapshot has what is behind the loop device `dev`.
pub(super) fn loop_entry(dev: DevNo) -> String {
    format!("@loop/b{dev}")
}

/// Where a snapshot has the files that are used for swap, or mounted without a loop device: `DEV INODE PATH` in each line.
pub(super) const USED: &str = "@files";

/// The file at `path` that is used in one of these ways.
pub(super) fn used(snapshot: &Snapshot, path: &str) -> SomeFile {
    let lines = snapshot.text(USED).unwrap_or_default().lines();
    let numbers = lines.filter_map(|line| {
        let number = line.strip_suffix(path)?.strip_suffix(' ')?;
        number.parse().ok()
    });
    SomeFile {
        path: path.to_owned(),
        numbers: numbers.collect(),
        device: None,
    }
}
