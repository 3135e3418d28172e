//! The reasons not to write a device: for each its message and what fixes it. It decides nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::FileRole;
use crate::text::{printable, shell_quote, size_text};

/// A reason that the user may override, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allow {
    /// A disk that is not removable.
    Internal,
    /// A disk larger than [`super::LARGE`].
    Large,
    /// A loop device.
    Loop,
}

impl Allow {
    /// Every reason that can be allowed.
    pub const ALL: [Self; 3] = [Self::Internal, Self::Large, Self::Loop];

    /// Its name on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Large => "large",
            Self::Loop => "loop",
        }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Allow {
    type Err = NotAllowable;

    fn from_str(word: &str) -> Result<Self, NotAllowable> {
        Self::ALL
            .into_iter()
            .find(|allow| allow.word() == word)
            .ok_or(NotAllowable)
    }
}

/// A word that is not the name of a reason that can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only `internal`, `large` and `loop` can be allowed")]
pub struct NotAllowable;

/// The unit of the partition tables in images for a Pi, in bytes: the sector of every SD card (SD Physical Layer
/// Simplified Specification, section 4.3.2).
pub(super) const SECTOR: u32 = 512;

/// What the user has allowed.
pub type Allowed = BTreeSet<Allow>;

/// The device between the card and what is on it; `None` if it is directly on the card.
pub(super) type Through = Option<String>;

/// One reason not to write a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// There is nothing at the path.
    #[error("there is no {}", printable(path))]
    Missing { path: String },
    /// What is at the path cannot be examined.
    #[error("{} cannot be accessed: {why}", printable(path))]
    Unreadable { path: String, why: String },
    /// A file, a directory or a character device.
    #[error("{} is {what}, not a disk", printable(path))]
    NotBlockDevice { path: String, what: &'static str },
    /// A node for a device that the kernel does not have.
    #[error("{} names a device that the kernel does not have", printable(path))]
    Unknown { path: String },
    /// A partition, or something made out of disks.
    #[error("{} is {what}, not a whole disk", printable(node))]
    NotWholeDisk {
        node: String,
        what: &'static str,
        /// The disk, if there is one.
        disk: Option<String>,
    },
    /// A reader or drive with nothing in it, or a loop device without a file.
    #[error("has no medium")]
    NoMedium,
    /// It holds the running system.
    #[error("holds {} of the running system", printable(&holds.join(", ")))]
    System {
        /// Which of the system's directories.
        holds: Vec<String>,
    },
    /// A filesystem on it is mounted.
    #[error("is mounted at {}{}", printable(target), suffix(via))]
    Mounted {
        /// The mount point.
        target: String,
        /// The device in between.
        via: Through,
    },
    /// It is used for swap.
    #[error("is used for swap: {}{}", printable(path), suffix(via))]
    Swap {
        /// The device or file.
        path: String,
        /// The device in between.
        via: Through,
    },
    /// Another block device is built on it.
    #[error("is in use by {}{}", printable(node), suffix(via))]
    Holder {
        /// The node of that device.
        node: String,
        /// The command that releases it.
        release: Option<String>,
        /// The device in between.
        via: Through,
    },
    /// It is a loop device, and so is another one over the same file.
    #[error("has the same file behind it as {}", printable(node))]
    SameFile {
        /// The node of the other one.
        node: String,
    },
    /// It is a loop device over a device.
    #[error("is a loop device over {}, which is a device and not a file", printable(node))]
    LoopOverDevice {
        /// The node of the device behind it.
        node: String,
    },
    /// It is part of a filesystem over several disks that is in use.
    #[error(
        "is part of the {fstype} filesystem {}, which is in use{}",
        printable(uuid),
        suffix(via)
    )]
    Volume {
        /// `btrfs` or `bcachefs`.
        fstype: &'static str,
        uuid: String,
        /// The device in between.
        via: Through,
    },
    /// It is part of a ZFS pool.
    #[error("is part of the ZFS pool {}{}", printable(name), suffix(via))]
    Pool {
        name: String,
        /// The device in between.
        via: Through,
    },
    /// It holds a file that must survive.
    #[error("holds the {}, {}{}", role.word(), printable(path), suffix(via))]
    Contains {
        /// Which.
        role: FileRole,
        /// Where.
        path: String,
        /// The device in between.
        via: Through,
    },
    /// The device refuses writes.
    #[error("is read-only")]
    ReadOnly,
    /// The image does not fit.
    #[error("is too small: it holds {size} bytes ({}), and the image has {image} ({})", size_text(*size), size_text(*image))]
    TooSmall {
        /// Of the device, in bytes.
        size: u64,
        /// Of the image, in bytes.
        image: u64,
    },
    /// Its sectors are not the unit of the image's partition table.
    #[error("has sectors of {sector} bytes, but images for a Pi need {SECTOR}: the Pi would not find the partitions")]
    SectorSize {
        /// Of the device, in bytes.
        sector: u32,
    },
    /// The medium cannot be taken out.
    #[error("is a fixed disk ({bus}), not a removable one")]
    Internal {
        /// How it is attached.
        bus: &'static str,
    },
    /// It is larger than any card.
    #[error("holds {}, but cards hold at most {}", size_text(*size), size_text(super::LARGE))]
    Large {
        /// In bytes.
        size: u64,
    },
    /// A file shown as a disk.
    #[error("is a loop device{}", backed_by(backing))]
    Loop { backing: String },
}

impl Refusal {
    /// The name of the reason, for scripts.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Unreadable { .. } => "unreadable",
            Self::NotBlockDevice { .. } => "not-block-device",
            Self::Unknown { .. } => "unknown",
            Self::NotWholeDisk { .. } => "not-whole-disk",
            Self::NoMedium => "no-medium",
            Self::System { .. } => "system",
            Self::Mounted { .. } => "mounted",
            Self::Swap { .. } => "swap",
            Self::Holder { .. } => "holder",
            Self::SameFile { .. } => "same-file",
            Self::LoopOverDevice { .. } => "loop-over-device",
            Self::Volume { .. } => "volume",
            Self::Pool { .. } => "pool",
            Self::Contains { role, .. } => match role {
                FileRole::Image => "contains-image",
                FileRole::Farm => "contains-farm",
                FileRole::Program => "contains-program",
            },
            Self::ReadOnly => "read-only",
            Self::TooSmall { .. } => "too-small",
            Self::SectorSize { .. } => "sector-size",
            Self::Internal { .. } => "internal",
            Self::Large { .. } => "large",
            Self::Loop { .. } => "loop",
        }
    }

    /// The option that overrides it. Few reasons have one.
    pub const fn allowed_by(&self) -> Option<Allow> {
        match self {
            Self::Internal { .. } => Some(Allow::Internal),
            Self::Large { .. } => Some(Allow::Large),
            Self::Loop { .. } => Some(Allow::Loop),
            _ => None,
        }
    }

    /// What the user can do: a command if there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } | Self::Unknown { .. } => "`palmfarm devices` lists the disks".to_owned(),
            Self::NotBlockDevice {
                what: "a regular file",
                path,
            } => to_a_file(path),
            Self::NotWholeDisk { disk: Some(disk), .. } => format!("the whole disk is {disk}"),
            Self::NoMedium => "insert a card into the reader".to_owned(),
            Self::Mounted { target, .. } if !is_system(target) => {
                format!("umount {}", shell_quote(target))
            }
            Self::Swap { path, .. } => format!("swapoff {}", shell_quote(path)),
            Self::Holder {
                release: Some(command),
                ..
            } => command.clone(),
            Self::SameFile { node } => format!("losetup -d {node}"),
            Self::LoopOverDevice { node } => {
                format!("if {node} is the card, name it in place of the loop device")
            }
            Self::Volume { fstype: "btrfs", .. } => {
                "unmount the filesystem; `btrfs filesystem show` lists its disks".to_owned()
            }
            Self::Volume { .. } => "unmount the filesystem".to_owned(),
            Self::Pool { name, .. } => format!("zpool export {}", shell_quote(name)),
            Self::Contains {
                role: FileRole::Program,
                ..
            } => "copy the program to another disk and run it from there".to_owned(),
            Self::Contains { .. } => "copy the file to another disk".to_owned(),
            Self::SectorSize { .. } => {
                "use another reader: the cards themselves have 512-byte sectors".to_owned()
            }
            Self::ReadOnly => "check the write-protect switch of the card or of its adapter".to_owned(),
            Self::Internal { .. } | Self::Large { .. } | Self::Loop { .. } => {
                format!("if you are sure: --allow {}", self.allowed_by()?)
            }
            _ => return None,
        })
    }
}

/// The command that the user probably wanted, who gave a file in place of the card.
fn to_a_file(path: &str) -> String {
    let ending = Path::new(path).extension().unwrap_or_default();
    if ending == "yaml" || ending == "yml" {
        return format!("the card comes last: palmfarm flash {} DEVICE", shell_quote(path));
    }
    let packed = [".img", ".img.xz", ".img.zst"]
        .iter()
        .any(|end| path.ends_with(end));
    let image = if packed {
        path.to_owned()
    } else {
        format!("{path}.img")
    };
    format!(
        "to write an image into a file: palmfarm build FARM -o {}",
        shell_quote(&image)
    )
}

/// Each reason with what can be done about it: nothing if the device holds the running system, and no `--allow` if
/// there is also a reason that cannot be allowed.
pub fn explain(refusals: &[Refusal]) -> Vec<(String, Option<String>)> {
    let is_system = refusals
        .iter()
        .any(|refusal| matches!(refusal, Refusal::System { .. }));
    let is_final = refusals.iter().any(|refusal| refusal.allowed_by().is_none());
    let hint = |refusal: &Refusal| match refusal.allowed_by() {
        _ if is_system => None,
        Some(_) if is_final => None,
        _ => refusal.hint(),
    };
    refusals
        .iter()
        .map(|refusal| (refusal.to_string(), hint(refusal)))
        .collect()
}

/// The filesystems that are mounted, if nothing else speaks against the device: the device of each, if it is not the disk
/// itself, and its mount point. Mount points come before those that they lie in.
pub fn only_mounted(refusals: &[Refusal]) -> Option<Vec<(Option<&str>, &str)>> {
    let mut mounts: Vec<(Option<&str>, &str)> = refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::Mounted { target, via } if !is_system(target) => Some((via.as_deref(), target.as_str())),
            _ => None,
        })
        .collect::<Option<_>>()?;
    mounts.sort_by_key(|(_, target)| std::cmp::Reverse(*target));
    (!mounts.is_empty()).then_some(mounts)
}

fn backed_by(backing: &str) -> String {
    if backing.is_empty() {
        return String::new();
    }
    format!(" backed by {}", printable(backing))
}

fn suffix(via: &Through) -> String {
    via.as_ref()
        .map(|via| format!(" (through {})", printable(via)))
        .unwrap_or_default()
}

/// Whether the running system needs what is mounted at `target`, so that unmounting it is not a fix.
pub(super) fn is_system(target: &str) -> bool {
    // The Filesystem Hierarchy Standard's directories, those of live and image-based systems, and /home, but nothing
    // below /home: people mount their cards there.
    const WITH_ALL_BELOW: [&str; 11] = [
        "/boot",
        "/efi",
        "/etc",
        "/gnu",
        "/nix",
        "/opt",
        "/root",
        "/sysroot",
        "/usr",
        "/var",
        "/writable",
    ];
    matches!(target, "/" | "/home" | "/srv" | "/tmp")
        || WITH_ALL_BELOW
            .iter()
            .any(|dir| Path::new(target).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_can_be_undone_by_unmounting() {
        let mounted = |target: &str, via: Option<&str>| Refusal::Mounted {
            target: target.to_owned(),
            via: via.map(str::to_owned),
        };
        let check = |refusals: &[Refusal], expect: Option<&[(Option<&str>, &str)]>| {
            assert_eq!(only_mounted(refusals).as_deref(), expect, "{refusals:?}");
        };
        let boot = mounted("/media/nina/boot", Some("/dev/sdb1"));
        let below = mounted("/media/nina/boot/efi", None);
        check(&[], None);
        check(
            &[boot.clone(), below],
            Some(&[
                (None, "/media/nina/boot/efi"),
                (Some("/dev/sdb1"), "/media/nina/boot"),
            ]),
        );
        check(&[boot.clone(), Refusal::ReadOnly], None);
        check(&[boot, mounted("/var/lib/lxd", None)], None);
    }

    #[test]
    fn a_file_in_place_of_a_card_has_a_hint() {
        let check = |path: &str, expect: &str| assert_eq!(to_a_file(path), expect);
        check(
            "farm.yaml",
            "the card comes last: palmfarm flash farm.yaml DEVICE",
        );
        check(
            "my card",
            "to write an image into a file: palmfarm build FARM -o 'my card.img'",
        );
        check(
            "a.img.xz",
            "to write an image into a file: palmfarm build FARM -o a.img.xz",
        );
    }
}
