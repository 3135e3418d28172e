//! One block device from its directory in sysfs (Documentation/ABI/stable/sysfs-block in the kernel), and what
//! udev found on it. Reads a snapshot only.

use std::collections::{BTreeMap, BTreeSet};

use super::{BadFacts, DevNo, FileNumber, Follow, Snapshot};

/// The sector in which sysfs counts sizes, whatever the device's own is, in bytes.
const SYSFS_SECTOR: u64 = 512;

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bus {
    /// USB, card readers mostly.
    Usb,
    /// A reader for SD cards or soldered eMMC.
    Mmc,
    /// SATA or IDE.
    Ata,
    /// SCSI by other ways: SAS, iSCSI, a hypervisor.
    Scsi,
    /// `NVMe`.
    Nvme,
    /// A virtual machine's disk.
    Virtio,
    /// A file shown as a disk.
    Loop,
    /// Made by the kernel out of others, or out of memory.
    Virtual,
    /// None of these.
    Other,
}

impl Bus {
    /// The word for it in tables and messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Usb => "usb",
            Self::Mmc => "mmc",
            Self::Ata => "ata",
            Self::Scsi => "scsi",
            Self::Nvme => "nvme",
            Self::Virtio => "virtio",
            Self::Loop => "loop",
            Self::Virtual => "virtual",
            Self::Other => "other",
        }
    }
}

/// What a block device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A disk with a medium of its own.
    Disk,
    /// An SD or MMC card in a reader of the machine: removable, though the kernel says otherwise.
    Card,
    /// eMMC, soldered to the board.
    Emmc,
    /// A hardware area of an eMMC beside its user area: boot0, boot1, rpmb, gp0.
    EmmcArea,
    /// A part of a disk.
    Partition {
        /// The disk; `None` if sysfs does not show it.
        of: Option<DevNo>,
        /// As the kernel counts.
        number: u32,
    },
    /// A file, or a device, shown as a disk.
    Loop {
        /// The path behind it; `None` while nothing is attached.
        backing: Option<String>,
    },
    /// Made by device-mapper: LVM, LUKS, multipath.
    Mapped {
        /// Its name below /dev/mapper.
        name: String,
        /// Who made it, from the start of its UUID: `LVM`, `CRYPT`, `mpath`.
        by: Option<String>,
    },
    Raid,
    /// An optical drive.
    Optical,
    /// Made by the kernel in another way: zram, ram disk, bcache, drbd.
    Made,
}

/// What is on a device, by udev's database or its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The filesystem, or the kind of member, in blkid's words: `ext4`, `crypto_LUKS`, `zfs_member`; or the
    /// partition table: `dos`, `gpt`.
    pub format: String,
    pub label: Option<String>,
}

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name, such as `mmcblk0p1`.
    pub name: String,
    pub dev: DevNo,
    pub kind: DeviceKind,
    /// How it is attached.
    pub bus: Bus,
    /// In bytes; 0 for a drive or reader without a medium.
    pub size: u64,
    /// The unit of writes, in bytes.
    pub sector: u32,
    /// Whether the driver says that the medium can be taken out: for SD readers it does not.
    pub removable: bool,
    /// Whether the device can be unplugged.
    pub hotplug: bool,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// As the device says.
    pub model: Option<String>,
    /// As the device says.
    pub vendor: Option<String>,
    /// The serial number; for an SD card its CID, which holds it.
    pub serial: Option<String>,
    /// The medium's number, counted in the whole machine (Linux 5.15 and later): another number means another medium.
    pub diskseq: Option<u64>,
    /// What is on it.
    pub content: Option<Content>,
    /// The devices that it is built from directly: a partition's disk, slaves, the device behind a loop device.
    pub below: Vec<DevNo>,
    /// For a loop device, those of the filesystem that holds its file.
    pub file_on: Vec<DevNo>,
    /// For a loop device, its file: by the number of each layer, if it is in an overlay. Empty if that is not known.
    pub file: BTreeSet<FileNumber>,
    /// For a loop device, the others over the same file: what is written to one is written to all.
    pub twins: Vec<DevNo>,
}

impl Device {
    /// The path of its node.
    pub fn node(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// The devices that it is built on directly, and its twins.
    pub fn rests_on(&self, follow: Follow) -> impl Iterator<Item = DevNo> + '_ {
        let files: &[DevNo] = match follow {
            Follow::Devices => &[],
            Follow::Files => &self.file_on,
        };
        self.below.iter().chain(&self.twins).chain(files).copied()
    }

    /// Vendor and model in one text, or what the device is if it gives neither.
    pub fn title(&self) -> String {
        // Every SATA disk says that its vendor is ATA.
        let vendor = self.vendor.as_deref().filter(|vendor| *vendor != "ATA");
        let said: Vec<&str> = vendor.into_iter().chain(self.model.as_deref()).collect();
        match &self.kind {
            _ if !said.is_empty() => said.join(" "),
            DeviceKind::Loop { backing: Some(path) } => path.clone(),
            DeviceKind::Mapped { name, .. } => name.clone(),
            DeviceKind::EmmcArea => "hardware area of an eMMC".to_owned(),
            _ => String::new(),
        }
    }
}

/// Every block device of the snapshot. [`Device::below`] holds only a partition's disk so far.
pub(super) fn devices(snapshot: &Snapshot) -> Result<BTreeMap<DevNo, Device>, BadFacts> {
    let mut found = BTreeMap::new();
    let mut paths = BTreeMap::new();
    for name in snapshot.names("/sys/class/block") {
        let Some(path) = snapshot.resolved(&format!("/sys/class/block/{name}")) else {
            continue;
        };
        let device = device(
            &Dir {
                snapshot,
                path: &path,
            },
            name,
        )?;
        paths.insert(path, device.dev);
        found.insert(device.dev, device);
    }
    // A partition's directory is in its disk's.
    for (path, dev) in &paths {
        let disk = path.rsplit_once('/').and_then(|(parent, _)| paths.get(parent));
        let (Some(disk), Some(device)) = (disk, found.get_mut(dev)) else {
            continue;
        };
        // So is that of an eMMC's hardware area, which shares no sector with the disk.
        if let DeviceKind::Partition { of, .. } = &mut device.kind {
            *of = Some(*disk);
            device.below.push(*disk);
        }
    }
    Ok(found)
}

/// A device's directory in sysfs.
struct Dir<'a> {
    snapshot: &'a Snapshot,
    path: &'a str,
}

impl<'a> Dir<'a> {
    /// An attribute without the spaces with which SCSI fills its fields; `None` if it is missing or empty.
    fn said(&self, attribute: &str) -> Option<&'a str> {
        self.snapshot
            .text(&format!("{}/{attribute}", self.path))
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, attribute: &str) -> Option<T> {
        self.said(attribute)?.parse().ok()
    }

    fn is_one(&self, attribute: &str) -> bool {
        self.said(attribute) == Some("1")
    }

    /// The directory above.
    fn parent(&self) -> Option<Dir<'a>> {
        let (path, _) = self.path.rsplit_once('/')?;
        Some(Dir {
            snapshot: self.snapshot,
            path,
        })
    }

    /// The directory of the USB device that this one belongs to: the nearest above with a vendor's number.
    fn usb(&self) -> Option<Dir<'a>> {
        std::iter::successors(self.parent(), Dir::parent).find(|dir| dir.said("idVendor").is_some())
    }
}

fn device(dir: &Dir<'_>, name: &str) -> Result<Device, BadFacts> {
    // The kernel writes `!` for the slash of names such as cciss/c0d0.
    let name = name.replace('!', "/");
    let dev: DevNo = dir
        .number("dev")
        .ok_or_else(|| BadFacts::NoNumber(name.clone()))?;
    let bus = bus(dir.path);
    let kind = kind(dir, &name, bus);
    // A partition's own directory has few attributes; those of its disk apply to it.
    let disk = match kind {
        DeviceKind::Partition { .. } => dir.parent(),
        _ => None,
    };
    let disk = disk.as_ref().unwrap_or(dir);
    let usb = (bus == Bus::Usb).then(|| disk.usb()).flatten();
    let usb_says = |attribute| usb.as_ref().and_then(|usb| usb.said(attribute));
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Device {
        size: dir
            .number::<u64>("size")
            .unwrap_or(0)
            .saturating_mul(SYSFS_SECTOR),
        sector: disk.number("queue/logical_block_size").unwrap_or(512),
        removable: disk.is_one("removable"),
        hotplug: matches!(bus, Bus::Usb | Bus::Mmc) && kind != DeviceKind::Emmc || disk.is_one("removable"),
        // A disk that is read-only makes its partitions so, whatever they say.
        read_only: !(dir.said("ro") == Some("0") && disk.said("ro") == Some("0")),
        model: owned(
            disk.said("device/model")
                .or_else(|| usb_says("product"))
                .or_else(|| (bus == Bus::Mmc).then(|| disk.said("device/name")).flatten()),
        ),
        vendor: owned(disk.said("device/vendor").filter(|vendor| !is_hex_number(vendor)))
            .or_else(|| owned(usb_says("manufacturer"))),
        serial: owned(
            usb_says("serial")
                .or_else(|| disk.said("device/cid"))
                .or_else(|| disk.said("device/serial"))
                .or_else(|| disk.said("serial")),
        )
        .or_else(|| udev(dir, dev, "ID_SERIAL_SHORT")),
        diskseq: disk.number("diskseq"),
        content: content(dir, dev),
        below: Vec::new(),
        file_on: Vec::new(),
        file: BTreeSet::new(),
        twins: Vec::new(),
        name,
        dev,
        kind,
        bus,
    })
}

/// The bus, from the names of the directories above: each driver leaves its own in the path.
fn bus(path: &str) -> Bus {
    let has = |test: &dyn Fn(&str) -> bool| path.split('/').any(test);
    let numbered = |prefix: &'static str| move |part: &str| part.strip_prefix(prefix).is_some_and(is_number);
    if path.starts_with("/sys/devices/virtual/block/loop") {
        Bus::Loop
    } else if has(&|part| part == "mmc_host") {
        // Before USB: a reader for SD cards may itself be a USB device (rtsx_usb_sdmmc).
        Bus::Mmc
    } else if has(&numbered("usb")) {
        Bus::Usb
    } else if has(&numbered("ata")) {
        Bus::Ata
    } else if has(&numbered("nvme")) || has(&numbered("nvme-subsys")) {
        Bus::Nvme
    } else if has(&numbered("host")) {
        // Before virtio: virtio-scsi is SCSI.
        Bus::Scsi
    } else if has(&numbered("virtio")) {
        Bus::Virtio
    } else if path.starts_with("/sys/devices/virtual/") {
        Bus::Virtual
    } else {
        Bus::Other
    }
}

fn kind(dir: &Dir<'_>, name: &str, bus: Bus) -> DeviceKind {
    if let Some(number) = dir.number("partition") {
        return DeviceKind::Partition { of: None, number };
    }
    if name.strip_prefix("loop").is_some_and(is_number) {
        return DeviceKind::Loop {
            backing: dir.said("loop/backing_file").map(str::to_owned),
        };
    }
    if let Some(mapped) = dir.said("dm/name") {
        return DeviceKind::Mapped {
            name: mapped.to_owned(),
            by: dir
                .said("dm/uuid")
                .and_then(|uuid| uuid.split_once('-'))
                .map(|(by, _)| by.to_owned()),
        };
    }
    if !dir.snapshot.names(&format!("{}/md", dir.path)).is_empty() {
        return DeviceKind::Raid;
    }
    if name.strip_prefix("sr").is_some_and(is_number) {
        return DeviceKind::Optical;
    }
    if bus == Bus::Mmc {
        return mmc(dir, name);
    }
    match bus {
        Bus::Virtual | Bus::Loop => DeviceKind::Made,
        _ => DeviceKind::Disk,
    }
}

/// `mmcblk0` is a card, unless hardware boot areas beside it show that it is a soldered eMMC: its driver says
/// removable=0 for both (drivers/mmc/core/block.c).
fn mmc(dir: &Dir<'_>, name: &str) -> DeviceKind {
    let after_disk = name
        .strip_prefix("mmcblk")
        .map(|rest| rest.trim_start_matches(|char: char| char.is_ascii_digit()));
    if after_disk.is_some_and(|rest| !rest.is_empty()) {
        return DeviceKind::EmmcArea;
    }
    let boot_area = format!("/sys/class/block/{name}boot0");
    if dir.said("device/type") == Some("MMC") && dir.snapshot.link(&boot_area).is_some() {
        DeviceKind::Emmc
    } else {
        DeviceKind::Card
    }
}

fn content(dir: &Dir<'_>, dev: DevNo) -> Option<Content> {
    let format = udev(dir, dev, "ID_FS_TYPE").or_else(|| udev(dir, dev, "ID_PART_TABLE_TYPE"))?;
    Some(Content {
        label: udev(dir, dev, "ID_FS_LABEL"),
        format,
    })
}

/// A property of the device from udev's database, with lines `E:NAME=VALUE`; or, if there is no udev, what
/// [`super::read_system`] found itself and wrote down in the same form.
fn udev(dir: &Dir<'_>, dev: DevNo, name: &str) -> Option<String> {
    let kept = dir.snapshot.text(&format!("/run/udev/data/b{dev}"));
    kept.or_else(|| dir.snapshot.text(&format!("@content/b{dev}")))?
        .lines()
        .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Virtio and `NVMe` give the PCI vendor's number in place of a name.
fn is_hex_number(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| u32::from_str_radix(digits, 16).is_ok())
}
