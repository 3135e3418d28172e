//! Who has a device that could not be had exclusively: only read when an open failed, to name processes and
//! mounts elsewhere. Stops nobody.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::facts::{dev_no, gather, mount_line, DevNo, Facts};
use super::rules::{refusals, target_of};
use super::text::printable;
use super::Allow;

/// How many are named at most.
const NAMED: usize = 8;

/// Everything that uses the disk `dev` or a part of it: what the rules find when asked again, then processes
/// that have a node open, then mounts in other namespaces.
pub(super) fn uses(root: &Path, dev: DevNo) -> Vec<String> {
    let Ok(facts) = gather(root, &[])
        .map_err(drop)
        .and_then(|read| Facts::parse(&read).map_err(drop))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Some(device) = facts.devices.get(&dev) {
        let all = Allow::ALL.into_iter().collect();
        let reasons = refusals(&facts, &target_of(device), None, &all);
        found.extend(reasons.iter().map(|reason| format!("it {reason}")));
    }
    let devices: BTreeSet<DevNo> = facts
        .partitions(dev)
        .into_iter()
        .map(|part| part.dev)
        .chain([dev])
        .collect();
    if found.is_empty() {
        found.extend(processes(root, &devices));
    }
    found.truncate(NAMED);
    found
}

fn processes(root: &Path, devices: &BTreeSet<DevNo>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("proc")) else {
        return Vec::new();
    };
    let own = std::process::id();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number != own)
        .collect();
    numbers.sort_unstable();
    let mut found = Vec::new();
    for number in numbers {
        let dir = root.join("proc").join(number.to_string());
        let name = fs::read_to_string(dir.join("comm")).unwrap_or_default();
        let name = printable(name.trim());
        if has_open(&dir, devices) {
            found.push(format!("process {number} ({name}) has it open"));
        } else if let Some(target) = mounted_by(&dir, devices) {
            let target = printable(&target);
            found.push(format!(
                "process {number} ({name}) has it mounted at {target} in a namespace of its own"
            ));
        }
        if found.len() >= NAMED {
            break;
        }
    }
    found
}

fn has_open(process: &Path, devices: &BTreeSet<DevNo>) -> bool {
    let Ok(entries) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    entries
        .filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
        .any(|meta| meta.file_type().is_block_device() && devices.contains(&dev_no(meta.rdev())))
}

fn mounted_by(process: &Path, devices: &BTreeSet<DevNo>) -> Option<String> {
    let text = fs::read_to_string(process.join("mountinfo")).ok()?;
    text.lines()
        .filter_map(mount_line)
        .find(|mount| devices.contains(&mount.dev))
        .map(|mount| mount.target)
}
