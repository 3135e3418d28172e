//! Finds the processes that use a device: after an open failed, to name them and mounts elsewhere, and after one
//! succeeded, to find those that write without having asked for exclusive use. It stops nobody.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::facts::{mount_line, read_system, DevNo, Facts, FileNumber};
use super::rules::{refusals, target_of};
use super::Allow;
use crate::text::printable;

/// The most uses that are named.
const NAMED: usize = 8;

/// Everything that uses the disk `dev` or a part of it: what the rules find now, then processes that
/// have a node open, then mounts in other namespaces.
pub(super) fn uses(root: &Path, dev: DevNo) -> Vec<String> {
    let Some(facts) = facts(root) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Some(device) = facts.devices.get(&dev) {
        let all = Allow::ALL.into_iter().collect();
        let reasons = refusals(&facts, &target_of(device), None, &all);
        found.extend(reasons.iter().map(|reason| format!("it {reason}")));
    }
    if found.is_empty() {
        found.extend(processes(root, &with_partitions(Some(&facts), dev)));
    }
    found.truncate(NAMED);
    found
}

/// The processes that have the disk `dev` or a partition of it open for writing, or the file behind it if it is a loop
/// device, as virtual machines have: an exclusive open does not keep them out. Only root sees those of other users; readers,
/// such as udev, do no harm.
pub(super) fn writers(root: &Path, dev: DevNo) -> Vec<String> {
    let facts = facts(root);
    let devices = with_partitions(facts.as_ref(), dev);
    let file = facts.as_ref().and_then(|facts| facts.devices.get(&dev));
    let files = file.map(|device| device.file.clone()).unwrap_or_default();
    let is_it = |meta: &Metadata| is_one_of(meta, &devices) || files.contains(&FileNumber::of(meta));
    let mut found: Vec<String> = others(root)
        .filter(|dir| {
            descriptors(dir, is_it).any(|descriptor| is_writable(dir, &descriptor))
                || writes_through_memory(dir, is_it)
        })
        .map(|dir| format!("{} is writing to it", describe(&dir)))
        .collect();
    found.truncate(NAMED);
    found
}

fn facts(root: &Path) -> Option<Facts> {
    Facts::parse(&read_system(root, &[], None).ok()?).ok()
}

/// The disk `dev` and its partitions, as far as they are known.
fn with_partitions(facts: Option<&Facts>, dev: DevNo) -> BTreeSet<DevNo> {
    let partitions = facts.map(|facts| facts.partitions(dev)).unwrap_or_default();
    partitions.iter().map(|part| part.dev).chain([dev]).collect()
}

/// The directories below /proc of all processes but this one, by number.
fn others(root: &Path) -> impl Iterator<Item = PathBuf> {
    let proc = root.join("proc");
    let own = std::process::id();
    let mut numbers: Vec<u32> = fs::read_dir(&proc)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number != own)
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(move |number| proc.join(number.to_string()))
}

/// A process by number and name.
fn describe(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let number = process.file_name().unwrap_or_default().to_string_lossy();
    format!("process {number} ({})", printable(name.trim()))
}

fn processes(root: &Path, devices: &BTreeSet<DevNo>) -> Vec<String> {
    let mut found = Vec::new();
    for dir in others(root) {
        if descriptors(&dir, |meta| is_one_of(meta, devices))
            .next()
            .is_some()
        {
            found.push(format!("{} has it open", describe(&dir)));
        } else if let Some(target) = mounted_by(&dir, devices) {
            let target = printable(&target);
            found.push(format!(
                "{} has it mounted at {target} in its own mount namespace",
                describe(&dir)
            ));
        }
        if found.len() >= NAMED {
            break;
        }
    }
    found
}

/// Whether a file is the node of one of `devices`.
fn is_one_of(meta: &Metadata, devices: &BTreeSet<DevNo>) -> bool {
    meta.file_type().is_block_device() && devices.contains(&DevNo::of(meta.rdev()))
}

/// The numbers of the descriptors with which a process has a file open that `is_it`.
fn descriptors<'a>(
    process: &Path,
    is_it: impl Fn(&Metadata) -> bool + 'a,
) -> impl Iterator<Item = OsString> + 'a {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten();
    entries.filter_map(move |entry| {
        let entry = entry.ok()?;
        let meta = fs::metadata(entry.path()).ok()?;
        is_it(&meta).then(|| entry.file_name())
    })
}

/// Whether a descriptor was opened for writing: `flags:` in its fdinfo, in octal, as open(2) has them (proc(5)).
fn is_writable(process: &Path, descriptor: &OsStr) -> bool {
    let info = fs::read_to_string(process.join("fdinfo").join(descriptor)).unwrap_or_default();
    info.lines()
        .find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok())
        // O_WRONLY is 1 and O_RDWR is 2 on every architecture of Linux.
        .is_some_and(|flags| flags & 3 != 0)
}

/// Whether a process has mapped a file that `is_it` so that what it writes into its memory gets there. It needs no descriptor
/// for that any more: `maps` and `map_files` in proc(5).
fn writes_through_memory(process: &Path, is_it: impl Fn(&Metadata) -> bool) -> bool {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines()
        .filter_map(|line| line.split_once(' '))
        // `rw-s`: written to, and shared.
        .filter(|(_, rest)| rest.get(1..2) == Some("w") && rest.get(3..4) == Some("s"))
        .any(|(range, _)| fs::metadata(process.join("map_files").join(range)).is_ok_and(|meta| is_it(&meta)))
}

fn mounted_by(process: &Path, devices: &BTreeSet<DevNo>) -> Option<String> {
    let text = fs::read_to_string(process.join("mountinfo")).ok()?;
    text.lines()
        .filter_map(mount_line)
        .find(|mount| devices.contains(&mount.dev))
        .map(|mount| mount.target)
}
