//! Which device is built on which, and what uses them: slaves and holders, loop files, mounts, swap, filesystems and pools
//! over several disks, and the files that must survive. It reads a snapshot and never the machine.
//!
//! If two sources disagree, both count: the graph may show too much in use, never too little.

use std::collections::{BTreeMap, BTreeSet};

use super::backing_file::{loop_entry, used, SomeFile};
use super::mountinfo::{mount_line, swap_line};
use super::path_resolution::{Mounted, Names, PathResolver};
use super::{BadFacts, DevNo, Device, DeviceKind, FileRole, Snapshot};

/// Something in use, and the devices that it is on directly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    pub what: UsageKind,
    /// The devices; empty for a filesystem without one.
    pub on: BTreeSet<DevNo>,
}

/// A kind of use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageKind {
    /// A mounted filesystem.
    Mount {
        /// The mount point.
        target: String,
        /// The filesystem's type.
        fstype: String,
    },
    /// A swap area, by path.
    Swap(String),
    /// A filesystem over several disks that the kernel has in use, whether we see its mount or not.
    Volume {
        /// `btrfs` or `bcachefs`.
        fstype: &'static str,
        uuid: String,
    },
    /// A ZFS pool that may be imported.
    Pool(String),
    /// A file that must survive.
    File {
        /// Why it must.
        role: FileRole,
        /// Where it is.
        path: String,
    },
}

/// Fill in [`Device::below`] and find every use.
pub(super) fn link(
    snapshot: &Snapshot,
    devices: &mut BTreeMap<DevNo, Device>,
) -> Result<Vec<Usage>, BadFacts> {
    let names = Names::new(snapshot, devices);
    let mounts = mounts(snapshot)?;
    let swaps = swaps(snapshot)?;
    let mut shared = volumes(snapshot, &names);
    shared.extend(pools(snapshot, devices));
    let paths = PathResolver::new(&mounts, &names, &shared);

    let mut below: Vec<(DevNo, DevNo)> = Vec::new();
    for (name, dev) in &names.by_name {
        let dir = format!("/sys/class/block/{}", name.replace('/', "!"));
        let dir = snapshot.resolved(&dir).unwrap_or(dir);
        let linked = |list: &str| -> Vec<DevNo> {
            let list = snapshot.names(&format!("{dir}/{list}"));
            list.iter().filter_map(|name| names.of_name(name)).collect()
        };
        below.extend(linked("slaves").into_iter().map(|slave| (*dev, slave)));
        below.extend(linked("holders").into_iter().map(|holder| (holder, *dev)));
        if let Some(backing) = snapshot.text(&format!("{dir}/backing_dev")) {
            // zram writes what does not fit in memory to another device, by path.
            below.extend(names.of_path(backing.trim()).map(|back| (*dev, back)));
        }
    }
    let mut loops: Vec<(DevNo, SomeFile)> = Vec::new();
    for device in devices.values_mut() {
        let DeviceKind::Loop { backing: Some(path) } = &device.kind else {
            continue;
        };
        let file = SomeFile::parse(path, snapshot.text(&loop_entry(device.dev)).unwrap_or_default());
        // A file that was unlinked while in use is still on its disk (`d_path` in the kernel).
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if let Some(back) = file.device.or_else(|| names.of_path(path)) {
            below.push((device.dev, back));
        } else {
            device.file_on = paths.of_file(path).into_iter().collect();
            device.file.clone_from(&file.numbers);
            loops.push((device.dev, file));
        }
    }
    let over = |file: &SomeFile| -> Vec<DevNo> {
        let same = loops.iter().filter(|(_, its)| its.is(file));
        same.map(|(dev, _)| *dev).collect()
    };
    for (dev, file) in &loops {
        if let Some(device) = devices.get_mut(dev) {
            device.twins = over(file).into_iter().filter(|twin| twin != dev).collect();
        }
    }
    for (upper, lower) in below {
        if let Some(device) = devices.get_mut(&upper) {
            device.below.push(lower);
        }
    }
    for device in devices.values_mut() {
        device.below.sort_unstable();
        device.below.dedup();
    }

    let mut uses = Vec::new();
    for (mount, on) in mounts.iter().zip(&paths.on) {
        uses.push(Usage {
            what: UsageKind::Mount {
                target: mount.line.target.clone(),
                fstype: mount.line.fstype.clone(),
            },
            on: on
                .iter()
                .copied()
                .chain(over(&used(snapshot, &mount.line.source)))
                .collect(),
        });
    }
    uses.extend(swaps.into_iter().map(|path| {
        Usage {
            on: paths
                .of_path(&path)
                .into_iter()
                .chain(over(&used(snapshot, &path)))
                .collect(),
            what: UsageKind::Swap(path),
        }
    }));
    uses.extend(shared);
    uses.extend(
        FileRole::ALL
            .into_iter()
            .filter_map(|role| file(snapshot, role, &paths, &over)),
    );
    uses.sort();
    uses.dedup();
    Ok(uses)
}

fn mounts(snapshot: &Snapshot) -> Result<Vec<Mounted>, BadFacts> {
    const OURS: &str = "/proc/self/mountinfo";
    // A program in a container of its own may see less than the system's first process does.
    const FIRST: &str = "/proc/1/mountinfo";
    let ours = snapshot.text(OURS).ok_or(BadFacts::Missing(OURS))?;
    let first = snapshot.text(FIRST).unwrap_or_default();
    let mut found = Vec::new();
    for (path, text) in [(OURS, ours), (FIRST, first)] {
        let lines = lines(path, text, 0, mount_line)?.into_iter();
        found.extend(lines.map(|line| Mounted {
            line,
            ours: path == OURS,
        }));
    }
    Ok(found)
}

fn swaps(snapshot: &Snapshot) -> Result<Vec<String>, BadFacts> {
    const SWAPS: &str = "/proc/swaps";
    // A kernel that cannot swap has no such file.
    let text = snapshot.text(SWAPS).unwrap_or_default();
    lines(SWAPS, text, 1, swap_line)
}

/// Every line after `heading` lines, parsed; one that cannot be parsed is an error, since it may be the one that matters.
fn lines<T>(
    path: &'static str,
    text: &str,
    heading: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, BadFacts> {
    text.split('\n')
        .enumerate()
        .skip(heading)
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse(line).ok_or_else(|| BadFacts::Line {
                path,
                line: index + 1,
                text: line.to_owned(),
            })
        })
        .collect()
}

/// The disks of btrfs and bcachefs filesystems as the kernel lists them: mountinfo shows one disk of several.
fn volumes(snapshot: &Snapshot, names: &Names<'_>) -> Vec<Usage> {
    let volume = |fstype, uuid: &str, on| Usage {
        what: UsageKind::Volume {
            fstype,
            uuid: uuid.to_owned(),
        },
        on,
    };
    let mut found = Vec::new();
    for uuid in snapshot.names("/sys/fs/btrfs") {
        let devices = snapshot.names(&format!("/sys/fs/btrfs/{uuid}/devices"));
        let members = devices.iter().filter_map(|name| names.of_name(name)).collect();
        found.push(volume("btrfs", uuid, members));
    }
    for uuid in snapshot.names("/sys/fs/bcachefs") {
        let dir = format!("/sys/fs/bcachefs/{uuid}");
        let member = |name: &&str| {
            let target = snapshot.link(&format!("{dir}/{name}/block"))?;
            names.of_name(target.rsplit('/').next()?)
        };
        let members = snapshot.names(&dir).iter().filter_map(member).collect();
        found.push(volume("bcachefs", uuid, members));
    }
    found.retain(|volume| !volume.on.is_empty());
    found
}

/// ZFS does not show its members: a device with its signature belongs to the pool that the label names, or if the label
/// names none, to any of the imported pools.
fn pools(snapshot: &Snapshot, devices: &BTreeMap<DevNo, Device>) -> Vec<Usage> {
    // One directory for each imported pool, beside a few plain files.
    const KSTAT: &str = "/proc/spl/kstat/zfs";
    let imported: Vec<&str> = snapshot
        .names(KSTAT)
        .into_iter()
        .filter(|name| snapshot.text(&format!("{KSTAT}/{name}/state")).is_some())
        .collect();
    let mut found: BTreeMap<String, BTreeSet<DevNo>> = BTreeMap::new();
    for device in devices.values() {
        let Some(content) = device.content.as_ref() else {
            continue;
        };
        if content.format != "zfs_member" {
            continue;
        }
        let label = content.label.as_deref();
        for pool in imported
            .iter()
            .filter(|pool| label.is_none_or(|label| label == **pool))
        {
            found.entry((*pool).to_owned()).or_default().insert(device.dev);
        }
    }
    let usage = |(pool, on)| Usage {
        what: UsageKind::Pool(pool),
        on,
    };
    found.into_iter().map(usage).collect()
}

/// The entry `@ROLE` of the snapshot: `path:`, `mnt_id:`, `rdev:` and `file:` lines in the form of /proc/PID/fdinfo. `over`
/// gives the loop devices over a file.
fn file(
    snapshot: &Snapshot,
    role: FileRole,
    paths: &PathResolver<'_>,
    over: &impl Fn(&SomeFile) -> Vec<DevNo>,
) -> Option<Usage> {
    let text = snapshot.text(&format!("@{}", role.word()))?;
    let said = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let path = said("path")?;
    let file = SomeFile::parse(path, text);
    let mount = said("mnt_id").and_then(|id| paths.of_mount(id.parse().ok()?));
    let mut on = mount.unwrap_or_else(|| paths.of_file(path));
    on.extend(over(&file));
    on.extend(file.device);
    Some(Usage {
        what: UsageKind::File {
            role,
            path: path.to_owned(),
        },
        on,
    })
}
