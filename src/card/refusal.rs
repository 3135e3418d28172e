//! Why a device is not written: one variant for each reason, its message, and the command that takes the reason
//! away. Decides nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::FileRole;
use crate::text::{printable, shell_quote, size_text};

/// A reason that the user may take upon themselves, by its name on the command line.
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
    #[must_use]
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

/// A word that names no reason one may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only `internal`, `large` and `loop` can be allowed")]
pub struct NotAllowable;

/// The sector in which the partition tables of images for a Pi count, in bytes: that of every SD card (SD Physical Layer
/// Simplified Specification, section 4.3.2).
pub(super) const SECTOR: u32 = 512;

/// What the user has allowed.
pub type Allowed = BTreeSet<Allow>;

/// Through which device something lies on the card: `None` where it lies on it directly.
pub(super) type Through = Option<String>;

/// One reason not to write a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Nothing stands at the path.
    Missing {
        /// The path.
        path: String,
    },
    /// What stands at the path cannot be looked at.
    Unreadable {
        /// The path.
        path: String,
        /// Why.
        why: String,
    },
    /// A file, a directory or a character device.
    NotBlockDevice {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A node for a device that the kernel does not have.
    Unknown {
        /// The path.
        path: String,
    },
    /// A partition, or something made out of disks.
    NotWholeDisk {
        /// The node.
        node: String,
        /// What it is.
        what: &'static str,
        /// The disk, where there is one.
        disk: Option<String>,
    },
    /// A reader or drive with nothing in it, or a loop device without a file.
    NoMedium,
    /// It holds the running system.
    System {
        /// Which of the system's directories.
        holds: Vec<String>,
    },
    /// A filesystem on it is mounted.
    Mounted {
        /// The mount point.
        target: String,
        /// Through what.
        via: Through,
    },
    /// It is swapped to.
    Swap {
        /// The device or file.
        path: String,
        /// Through what.
        via: Through,
    },
    /// Another block device rests on it.
    Holder {
        /// The node of the holder.
        node: String,
        /// What is needed to let go, as a command.
        release: Option<String>,
        /// Through what.
        via: Through,
    },
    /// It is part of a filesystem over several disks that is in use.
    Volume {
        /// `btrfs` or `bcachefs`.
        fstype: &'static str,
        /// Its UUID.
        uuid: String,
        /// Through what.
        via: Through,
    },
    /// It is part of a ZFS pool.
    Pool {
        /// The pool.
        name: String,
        /// Through what.
        via: Through,
    },
    /// A file that must survive lies on it.
    Contains {
        /// Which.
        role: FileRole,
        /// Where.
        path: String,
        /// Through what.
        via: Through,
    },
    /// Writing is refused by the device.
    ReadOnly,
    /// The image does not fit.
    TooSmall {
        /// Of the device, in bytes.
        size: u64,
        /// Of the image, in bytes.
        image: u64,
    },
    /// Its sectors are not those in which the image's partition table counts.
    SectorSize {
        /// Of the device, in bytes.
        sector: u32,
    },
    /// The medium cannot be taken out.
    Internal {
        /// How it is attached.
        bus: &'static str,
    },
    /// Larger than cards are.
    Large {
        /// In bytes.
        size: u64,
    },
    /// A file shown as a disk.
    Loop {
        /// The file.
        backing: String,
    },
}

impl Refusal {
    /// The name of the reason, for scripts.
    #[must_use]
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

    /// With what it can be overridden; nearly nothing can.
    #[must_use]
    pub const fn allowed_by(&self) -> Option<Allow> {
        match self {
            Self::Internal { .. } => Some(Allow::Internal),
            Self::Large { .. } => Some(Allow::Large),
            Self::Loop { .. } => Some(Allow::Loop),
            _ => None,
        }
    }

    /// What the user can do, a command where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } | Self::Unknown { .. } => {
                "`palmfarm devices` shows what there is".to_owned()
            }
            Self::NotBlockDevice {
                what: "a regular file",
                path,
            } => to_a_file(path),
            Self::NotWholeDisk { disk: Some(disk), .. } => format!("the whole disk is {disk}"),
            Self::NoMedium => "put a card into the reader".to_owned(),
            Self::Mounted { target, .. } if !is_system(target) => {
                format!("umount {}", shell_quote(target))
            }
            Self::Swap { path, .. } => format!("swapoff {}", shell_quote(path)),
            Self::Holder {
                release: Some(command),
                ..
            } => command.clone(),
            Self::Volume { fstype: "btrfs", .. } => {
                "umount the filesystem; `btrfs filesystem show` lists its disks".to_owned()
            }
            Self::Volume { .. } => "umount the filesystem".to_owned(),
            Self::Pool { name, .. } => format!("zpool export {}", shell_quote(name)),
            Self::Contains {
                role: FileRole::Program,
                ..
            } => "copy the program to another disk and start it there".to_owned(),
            Self::Contains { .. } => "copy the file to another disk".to_owned(),
            Self::SectorSize { .. } => {
                "take another reader: cards themselves have sectors of 512 bytes".to_owned()
            }
            Self::ReadOnly => "is the write-protect tab of the card or of its adapter in the way?".to_owned(),
            Self::Internal { .. } | Self::Large { .. } | Self::Loop { .. } => {
                format!("if you are sure: --allow {}", self.allowed_by()?)
            }
            _ => return None,
        })
    }
}

/// What somebody meant who named a file as the card.
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

/// Each reason with what can be done about it: nothing where the device holds the running system, and no `--allow`
/// where anything speaks against it that cannot be allowed.
#[must_use]
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "there is no {}", printable(path)),
            Self::Unreadable { path, why } => write!(f, "{} cannot be looked at: {why}", printable(path)),
            Self::NotBlockDevice { path, what } => write!(f, "{} is {what}, not a disk", printable(path)),
            Self::Unknown { path } => write!(f, "the kernel knows no device behind {}", printable(path)),
            Self::NotWholeDisk { node, what, .. } => {
                write!(f, "{} is {what}, not a whole disk", printable(node))
            }
            Self::NoMedium => write!(f, "there is no medium in it"),
            Self::System { holds } => {
                write!(f, "holds {} of the running system", printable(&holds.join(", ")))
            }
            Self::Mounted { target, via } => write!(f, "is mounted at {}{}", printable(target), Suffix(via)),
            Self::Swap { path, via } => write!(f, "is swapped to as {}{}", printable(path), Suffix(via)),
            Self::Holder { node, via, .. } => write!(f, "is in use by {}{}", printable(node), Suffix(via)),
            Self::Volume { fstype, uuid, via } => {
                write!(
                    f,
                    "is part of the {fstype} filesystem {} in use{}",
                    printable(uuid),
                    Suffix(via)
                )
            }
            Self::Pool { name, via } => {
                write!(f, "is part of the ZFS pool {}{}", printable(name), Suffix(via))
            }
            Self::Contains { role, path, via } => {
                write!(
                    f,
                    "holds the {}, {}{}",
                    role.word(),
                    printable(path),
                    Suffix(via)
                )
            }
            Self::ReadOnly => write!(f, "is read-only"),
            Self::TooSmall { size, image } => write!(
                f,
                "holds {size} bytes ({}), the image has {image} ({})",
                size_text(*size),
                size_text(*image)
            ),
            Self::SectorSize { sector } => write!(
                f,
                "has sectors of {sector} bytes, and a Pi's image counts in sectors of {SECTOR}: its partitions would not be \
                 found"
            ),
            Self::Internal { bus } => write!(f, "is no removable medium but a fixed disk ({bus})"),
            Self::Large { size } => write!(
                f,
                "holds {}, more than the {} that cards have",
                size_text(*size),
                size_text(super::LARGE)
            ),
            Self::Loop { backing } if backing.is_empty() => write!(f, "is a loop device"),
            Self::Loop { backing } => write!(f, "is a loop device over {}", printable(backing)),
        }
    }
}

struct Suffix<'a>(&'a Through);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(via) => write!(f, " (through {})", printable(via)),
            None => Ok(()),
        }
    }
}

/// Whether the system runs from what is mounted at `target`: such a mount is not one to take away.
pub(super) fn is_system(target: &str) -> bool {
    // The Filesystem Hierarchy Standard's directories, the places of live and image based systems, and /home. Below
    // /home people mount their cards.
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
    target == "/"
        || target == "/home"
        || target == "/srv"
        || target == "/tmp"
        || WITH_ALL_BELOW.iter().any(|dir| {
            target
                .strip_prefix(dir)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_place_of_a_card_has_its_cure() {
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
