//! Which devices may be written: pure functions over [`Facts`], and the only place that makes an [`ApprovedCard`].

use super::facts::{CardTarget, DevNo, Device, DeviceKind, Facts, Follow, TargetKind, Usage, UsageKind};
use super::refusal::{is_system, Allowed, Refusal, Through, SECTOR};
use crate::text::shell_quote;

/// The largest card that is written without `--allow large`, in bytes: 256 GiB, not 256·10⁹, since cards sold as
/// 256 GB hold up to 256.6·10⁹ bytes.
pub const LARGE: u64 = 256 << 30;

/// What distinguishes a device from another one that has taken its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardIdentity {
    pub dev: DevNo,
    /// Its medium's number, if the kernel counts them.
    pub diskseq: Option<u64>,
    /// Its serial number, if it has one.
    pub serial: Option<String>,
    /// In bytes.
    pub size: u64,
    /// The unit of writes, in bytes.
    pub sector: u32,
}

impl CardIdentity {
    /// That of a device in the facts.
    pub fn of(device: &Device) -> Self {
        Self {
            dev: device.dev,
            diskseq: device.diskseq,
            serial: device.serial.clone(),
            size: device.size,
            sector: device.sector,
        }
    }
}

/// A device that passed every check. Only [`approve`] makes one.
#[derive(Debug)]
pub struct ApprovedCard {
    path: String,
    identity: CardIdentity,
}

impl ApprovedCard {
    /// The path under which it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which device it is.
    pub fn identity(&self) -> &CardIdentity {
        &self.identity
    }
}

/// The card at `target`, if it may be overwritten with an image of `image_size` bytes (`None` if that is not known yet),
/// or every reason why it may not.
pub fn approve(
    facts: &Facts,
    target: &CardTarget,
    image_size: Option<u64>,
    allowed: &Allowed,
) -> Result<ApprovedCard, Vec<Refusal>> {
    let found = refusals(facts, target, image_size, allowed);
    match disk(facts, target) {
        Ok(device) if found.is_empty() => Ok(ApprovedCard {
            path: target.path.clone(),
            identity: CardIdentity::of(device),
        }),
        _ => Err(found),
    }
}

/// Every reason not to write `target`. Empty means that [`approve`] gives a card.
pub fn refusals(
    facts: &Facts,
    target: &CardTarget,
    image_size: Option<u64>,
    allowed: &Allowed,
) -> Vec<Refusal> {
    let device = match disk(facts, target) {
        Ok(device) => device,
        Err(refusal) => return vec![refusal],
    };
    let mut found = Vec::new();
    let part = not_a_whole_disk(facts, device);
    let whole = part.is_none();
    found.extend(part);
    if whole && device.size == 0 {
        found.push(Refusal::NoMedium);
    }
    found.extend(in_use(facts, device));
    if device.read_only {
        found.push(Refusal::ReadOnly);
    }
    if let Some(image) = image_size.filter(|image| *image > device.size && device.size > 0) {
        found.push(Refusal::TooSmall {
            size: device.size,
            image,
        });
    }
    if whole {
        found.extend((device.sector != SECTOR).then_some(Refusal::SectorSize {
            sector: device.sector,
        }));
        found.extend(unlike_a_card(facts, device));
    }
    found.retain(|refusal| refusal.allowed_by().is_none_or(|allow| !allowed.contains(&allow)));
    found
}

/// Every whole disk with the reasons not to write it: first the disks without a reason, then by name.
pub fn candidates<'a>(
    facts: &'a Facts,
    image_size: Option<u64>,
    allowed: &Allowed,
) -> Vec<(&'a Device, Vec<Refusal>)> {
    let mut found: Vec<(&Device, Vec<Refusal>)> = facts
        .devices
        .values()
        .filter(|device| not_a_whole_disk(facts, device).is_none())
        .map(|device| (device, refusals(facts, &target_of(device), image_size, allowed)))
        .collect();
    found.sort_by(|(one, reasons), (other, others)| {
        (!reasons.is_empty(), &one.name).cmp(&(!others.is_empty(), &other.name))
    });
    found
}

/// The target that a device's own node is.
pub fn target_of(device: &Device) -> CardTarget {
    CardTarget {
        path: device.node(),
        found: TargetKind::Block(device.dev),
    }
}

fn disk<'a>(facts: &'a Facts, target: &CardTarget) -> Result<&'a Device, Refusal> {
    let path = target.path.clone();
    match &target.found {
        TargetKind::Missing => Err(Refusal::Missing { path }),
        TargetKind::Other(what) => Err(Refusal::NotBlockDevice { path, what }),
        TargetKind::Unreadable(why) => Err(Refusal::Unreadable {
            path,
            why: why.clone(),
        }),
        TargetKind::Block(dev) => facts.devices.get(dev).ok_or(Refusal::Unknown { path }),
    }
}

fn not_a_whole_disk(facts: &Facts, device: &Device) -> Option<Refusal> {
    let what = match &device.kind {
        DeviceKind::Disk | DeviceKind::Card | DeviceKind::Emmc | DeviceKind::Loop { .. } => return None,
        DeviceKind::EmmcArea => "a hardware area of an eMMC",
        DeviceKind::Partition { .. } => "a partition",
        DeviceKind::Mapped { .. } => "a device-mapper device",
        DeviceKind::Raid => "a RAID array",
        DeviceKind::Optical => "an optical drive",
        DeviceKind::Made => "a virtual device",
    };
    let disk = match &device.kind {
        DeviceKind::Partition { of: Some(disk), .. } => Some(facts.node(*disk)),
        _ => None,
    };
    Some(Refusal::NotWholeDisk {
        node: device.node(),
        what,
        disk,
    })
}

/// Everything that is built on the device, directly or not.
fn in_use(facts: &Facts, device: &Device) -> Vec<Refusal> {
    let holds = holds_of_system(facts, device);
    // On the system's own disk, each loop device whose file is there (one for every snap) would be a reason of its own;
    // on any other disk, they must be detached before it can be unmounted.
    let loops = if holds.is_empty() {
        Follow::Files
    } else {
        Follow::Devices
    };
    let mut found = Vec::new();
    if !holds.is_empty() {
        found.push(Refusal::System { holds });
    }
    for what in &facts.uses {
        let follow = match what.what {
            UsageKind::Mount { .. } => loops,
            _ => Follow::Files,
        };
        let Some(via) = via(facts, what, device.dev, follow) else {
            continue;
        };
        found.push(match what.what.clone() {
            UsageKind::Mount { target, .. } => Refusal::Mounted { target, via },
            UsageKind::Swap(path) => Refusal::Swap {
                via: via.filter(|via| *via != path),
                path,
            },
            UsageKind::Volume { fstype, uuid } => Refusal::Volume { fstype, uuid, via },
            UsageKind::Pool(name) => Refusal::Pool { name, via },
            UsageKind::File { role, path } => Refusal::Contains { role, path, via },
        });
    }
    found.extend(holders(facts, device, loops));
    found.sort();
    found.dedup();
    found
}

/// The mount points of the running system that rest on the device, or on the disk that it is a part of.
fn holds_of_system(facts: &Facts, device: &Device) -> Vec<String> {
    let disk = match device.kind {
        DeviceKind::Partition { of: Some(disk), .. } => disk,
        _ => device.dev,
    };
    let mut holds: Vec<String> = facts
        .uses
        .iter()
        .filter_map(|what| match &what.what {
            UsageKind::Mount { target, .. } if is_system(target) => {
                via(facts, what, disk, Follow::Files).map(|_| target.clone())
            }
            _ => None,
        })
        .collect();
    holds.sort();
    holds.dedup();
    holds
}

/// The device through which a use reaches `dev`: `None` if it does not, `Some(None)` if it is directly on it.
fn via(facts: &Facts, what: &Usage, dev: DevNo, follow: Follow) -> Option<Through> {
    if what.on.contains(&dev) {
        return Some(None);
    }
    let through = what
        .on
        .iter()
        .find(|on| facts.under(**on, follow).contains(&dev))?;
    Some(Some(facts.node(*through)))
}

/// The devices that are built directly on the disk or one of its partitions, except its partitions.
fn holders(facts: &Facts, disk: &Device, follow: Follow) -> Vec<Refusal> {
    let partitions = facts.partitions(disk.dev);
    let is_part = |dev: DevNo| partitions.iter().any(|part| part.dev == dev);
    let mut found = Vec::new();
    for holder in facts.devices.values() {
        if holder.dev == disk.dev || is_part(holder.dev) {
            continue;
        }
        let Some(below) = holder
            .rests_on(follow)
            .find(|below| *below == disk.dev || is_part(*below))
        else {
            continue;
        };
        found.push(if disk.twins.contains(&holder.dev) {
            Refusal::SameFile {
                node: holder_name(holder),
            }
        } else {
            Refusal::Holder {
                node: holder_name(holder),
                release: release(holder),
                via: is_part(below).then(|| facts.node(below)),
            }
        });
    }
    found
}

fn holder_name(holder: &Device) -> String {
    match &holder.kind {
        DeviceKind::Mapped { name, .. } => format!("{} (/dev/mapper/{name})", holder.node()),
        _ => holder.node(),
    }
}

/// The command that makes a holder release the disk.
fn release(holder: &Device) -> Option<String> {
    match &holder.kind {
        DeviceKind::Mapped { name, by } => Some(match by.as_deref() {
            Some("LVM") => format!("vgchange -an {}", shell_quote(&volume_group(name))),
            Some("CRYPT") => format!("cryptsetup close {}", shell_quote(name)),
            Some("mpath") => format!("multipath -f {}", shell_quote(name)),
            _ => format!("dmsetup remove {}", shell_quote(name)),
        }),
        DeviceKind::Raid => Some(format!("mdadm --stop {}", holder.node())),
        DeviceKind::Loop { .. } => Some(format!("losetup -d {}", holder.node())),
        _ => None,
    }
}

/// The volume group in the name of an LVM mapping, `GROUP-VOLUME`, in which a dash within either is doubled.
fn volume_group(mapped: &str) -> String {
    let mut group = String::new();
    let mut rest = mapped;
    while let Some((before, after)) = rest.split_once('-') {
        group.push_str(before);
        match after.strip_prefix('-') {
            Some(more) => {
                group.push('-');
                rest = more;
            }
            None => return group,
        }
    }
    group.push_str(rest);
    group
}

/// Why the device does not look like a card: each of these can be allowed, but for a loop device over another device. What
/// is on that device would be overwritten, and whatever uses it does not see that.
fn unlike_a_card(facts: &Facts, device: &Device) -> Vec<Refusal> {
    let mut found = Vec::new();
    match &device.kind {
        DeviceKind::Loop { .. } if !device.below.is_empty() => {
            found.extend(device.below.iter().map(|below| Refusal::LoopOverDevice {
                node: facts.node(*below),
            }));
        }
        DeviceKind::Loop { backing } => found.push(Refusal::Loop {
            backing: backing.clone().unwrap_or_default(),
        }),
        DeviceKind::Card => {}
        _ if device.removable => {}
        _ => found.push(Refusal::Internal {
            bus: device.bus.word(),
        }),
    }
    if device.size > LARGE {
        found.push(Refusal::Large { size: device.size });
    }
    found
}
