//! Resolves paths: names below /dev to devices, and files to the devices of the filesystem they are in. It reads a
//! snapshot and never the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::mountinfo::MountLine;
use super::{DevNo, Device, DeviceKind, Snapshot, Usage, UsageKind};

/// A mount, and whether it is of our own mount namespace, in which mount numbers are ours.
pub(super) struct Mounted {
    pub(super) line: MountLine,
    pub(super) ours: bool,
}

/// How a path below /dev leads to a device.
pub(super) struct Names<'a> {
    snapshot: &'a Snapshot,
    pub(super) by_name: BTreeMap<String, DevNo>,
    by_mapped: BTreeMap<String, DevNo>,
}

impl<'a> Names<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, devices: &BTreeMap<DevNo, Device>) -> Self {
        let mapped = |device: &Device| match &device.kind {
            DeviceKind::Mapped { name, .. } => Some((name.clone(), device.dev)),
            _ => None,
        };
        Self {
            snapshot,
            by_name: devices
                .values()
                .map(|device| (device.name.clone(), device.dev))
                .collect(),
            by_mapped: devices.values().filter_map(mapped).collect(),
        }
    }

    pub(super) fn of_name(&self, name: &str) -> Option<DevNo> {
        self.by_name.get(&name.replace('!', "/")).copied()
    }

    pub(super) fn of_path(&self, path: &str) -> Option<DevNo> {
        let resolved = self.snapshot.resolved(path);
        let path = resolved.as_deref().unwrap_or(path);
        let name = path.strip_prefix("/dev/")?;
        let mapped = name.strip_prefix("mapper/");
        self.of_name(name)
            .or_else(|| self.by_mapped.get(mapped?).copied())
    }
}

/// How a file's path leads to the devices that hold it.
pub(super) struct PathResolver<'a> {
    mounts: &'a [Mounted],
    names: &'a Names<'a>,
    /// For each of `mounts`, the devices that it is on.
    pub(super) on: Vec<BTreeSet<DevNo>>,
}

impl<'a> PathResolver<'a> {
    pub(super) fn new(mounts: &'a [Mounted], names: &'a Names<'a>, shared: &[Usage]) -> Self {
        let mut on: Vec<BTreeSet<DevNo>> = mounts
            .iter()
            .map(|mount| mounted_devices(&mount.line, names, shared))
            .collect();
        // An overlay is on the devices of its layers, and a layer may be in another overlay: repeat until nothing is added.
        loop {
            let with_layers: Vec<BTreeSet<DevNo>> = mounts
                .iter()
                .zip(&on)
                .map(|(mount, own)| {
                    let layers = layers(&mount.line);
                    let below = layers.iter().filter_map(|layer| holding(mounts, &on, layer));
                    own.iter().chain(below.flatten()).copied().collect()
                })
                .collect();
            if with_layers == on {
                return Self { mounts, names, on };
            }
            on = with_layers;
        }
    }

    /// The devices that hold what is at `path`: the device itself, or those of the filesystem that the file is in.
    pub(super) fn of_path(&self, path: &str) -> BTreeSet<DevNo> {
        match self.names.of_path(path) {
            Some(dev) => BTreeSet::from([dev]),
            None => self.of_file(path),
        }
    }

    pub(super) fn of_file(&self, path: &str) -> BTreeSet<DevNo> {
        holding(self.mounts, &self.on, path).cloned().unwrap_or_default()
    }

    pub(super) fn of_mount(&self, id: u64) -> Option<BTreeSet<DevNo>> {
        let found = self.mounts.iter().zip(&self.on);
        let mut found = found.filter(|(mount, _)| mount.ours && mount.line.id == id);
        found.next().map(|(_, on)| on.clone())
    }
}

/// The devices that a mount names, and the other disks of the filesystem or pool in `shared` that they belong to.
fn mounted_devices(line: &MountLine, names: &Names<'_>, shared: &[Usage]) -> BTreeSet<DevNo> {
    let mut on: BTreeSet<DevNo> = Some(line.dev).filter(|dev| dev.is_real()).into_iter().collect();
    // bcachefs joins its devices with colons; XFS names those of its log and its realtime part as options.
    let options = line
        .options
        .split(',')
        .filter_map(|option| option.split_once('='));
    let paths = line.source.split(':').chain(options.map(|(_, value)| value));
    on.extend(paths.filter_map(|path| names.of_path(path)));
    for usage in shared {
        let is_on = match &usage.what {
            UsageKind::Pool(name) => {
                line.fstype == "zfs" && line.source.split('/').next() == Some(name.as_str())
            }
            _ => !on.is_disjoint(&usage.on),
        };
        if is_on {
            on.extend(&usage.on);
        }
    }
    on
}

/// The devices of the mount that the file at `path` is in; `on` has those of each of `mounts`.
fn holding<'a>(mounts: &[Mounted], on: &'a [BTreeSet<DevNo>], path: &str) -> Option<&'a BTreeSet<DevNo>> {
    mounts
        .iter()
        .zip(on)
        .filter(|(mount, _)| mount.ours && Path::new(path).starts_with(&mount.line.target))
        // Of two at the same mount point the later one is seen: `max_by_key` takes the last.
        .max_by_key(|(mount, _)| mount.line.target.trim_end_matches('/').len())
        .map(|(_, on)| on)
}

/// The directories that an overlay is made of (Documentation/filesystems/overlayfs.rst). A backslash in its options takes the
/// meaning from a comma or a colon.
pub(super) fn layers(line: &MountLine) -> Vec<String> {
    const LAYERS: [&str; 4] = ["lowerdir", "upperdir", "lowerdir+", "datadir+"];
    let options = if line.fstype == "overlay" {
        split(&line.options, ',')
    } else {
        Vec::new()
    };
    options
        .iter()
        .filter_map(|option| option.split_once('='))
        .filter(|(name, _)| LAYERS.contains(name))
        .flat_map(|(_, value)| split(value, ':'))
        .map(plain)
        .filter(|path| path.starts_with('/'))
        .collect()
}

/// The parts of `text` between those of the characters `at` that have no backslash before them.
fn split(text: &str, at: char) -> Vec<&str> {
    let mut is_escaped = false;
    text.split(|char| {
        let ends = char == at && !is_escaped;
        is_escaped = char == '\\' && !is_escaped;
        ends
    })
    .collect()
}

/// `text` without the backslashes before its characters.
fn plain(text: &str) -> String {
    let mut is_escaped = false;
    text.chars()
        .filter(|char| {
            is_escaped = *char == '\\' && !is_escaped;
            !is_escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::facts::mount_line;

    #[test]
    fn the_layers_of_an_overlay_may_have_any_names() {
        let check = |options: &str, expect: &[&str]| {
            let line = format!("36 35 0:83 / /m rw - overlay overlay rw,{options}");
            assert_eq!(layers(&mount_line(&line).unwrap()), expect, "{options}");
        };
        check("lowerdir=/a:/b,upperdir=/c,workdir=/w", &["/a", "/b", "/c"]);
        check(
            r"lowerdir=/a\040b:/c\134:d:/e\134\054f",
            &["/a b", "/c:d", "/e,f"],
        );
        check("lowerdir=l/A:/b,lowerdir+=/c,index=off", &["/b", "/c"]);
        check(r"lowerdir=/a\134\134:/b", &[r"/a\", "/b"]);
        check("redirect_dir=on", &[]);
    }
}
