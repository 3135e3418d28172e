//! The partitions of an image, and which of them are the Pi's boot and root partitions.
//!
//! It reads the partition table and the head of each partition, nothing else: on a compressed image every sector may
//! cost the decoding of a block. It must never write, and never trust a number that the image gives.

mod gpt;
mod mbr;
mod sniff;

use std::fmt;
use std::io;

use crate::edit::block::{ReadAt, Span};
use crate::edit::fs::VolumeSpans;

/// Bytes in a logical sector of every SD card and of every image made for one.
const SECTOR: u64 = 512;

/// Which kind of partition table an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A DOS partition table: all of Ubuntu's Raspberry Pi images.
    Mbr,
    Gpt,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "MBR",
            Self::Gpt => "GPT",
        })
    }
}

/// What a partition holds, as far as it says so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A FAT filesystem with this volume label, which may be empty.
    Fat {
        /// From the root directory, where Linux looks for it.
        label: String,
        /// From the boot sector.
        boot_label: String,
    },
    /// A filesystem of the ext family with this volume label, which may be empty.
    Ext {
        label: String,
    },
    Unknown,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fat { label, boot_label } if label.is_empty() && !boot_label.is_empty() => {
                write!(f, "FAT {label:?} ({boot_label:?} in its boot sector)")
            }
            Self::Fat { label, .. } => write!(f, "FAT {label:?}"),
            Self::Ext { label } => write!(f, "ext4 {label:?}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    pub span: Span,
    /// Its type as the table gives it: `0x0c`, or a GUID.
    pub kind: String,
    /// What Linux calls its PARTUUID: `70616c6d-02`, or a GUID.
    pub part_uuid: String,
    pub contents: Contents,
    /// Whether another entry has some of its bytes, but not the same ones.
    pub overlaps: bool,
}

impl Partition {
    /// Whether a filesystem may have all of it to itself, by what the table says: it overlaps nothing, and its type is not
    /// that of swap, of a member of a pool or of a partition with others in it.
    pub fn may_be_filesystem(&self) -> bool {
        !self.overlaps && FILESYSTEM_TYPES.contains(&self.kind.to_ascii_lowercase().as_str())
    }
}

/// The types of partitions that hold a FAT or an ext4 and nothing else: FAT as each width and way of addressing has it,
/// EFI and Linux in an MBR; Microsoft's basic data, EFI, `XBOOTLDR`, Linux and the root filesystems of the Discoverable
/// Partitions Specification for ARM, ARM 64 and x86-64 in a GPT.
const FILESYSTEM_TYPES: [&str; 16] = [
    "0x01",
    "0x04",
    "0x06",
    "0x0b",
    "0x0c",
    "0x0e",
    "0xef",
    "0x83",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172",
    "0fc63daf-8483-4772-8e79-3d69d8477de4",
    "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "44479540-f297-41b2-9af7-d131d5f0458a",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub scheme: Scheme,
    /// Every partition, by number.
    pub partitions: Vec<Partition>,
}

/// The partitions of an image for a Raspberry Pi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub scheme: Scheme,
    /// Bytes of the whole image.
    pub disk_size: u64,
    /// Every partition, by number.
    pub partitions: Vec<Partition>,
    /// The FAT partition that the firmware reads.
    pub boot: Partition,
    /// The ext4 partition that becomes `/`.
    pub root: Partition,
}

/// The label of the boot partition, since 18.04.
pub const BOOT_LABEL: &str = "system-boot";

/// The labels of the root partition: of ubuntu-image, and of the scripts that made 18.04 for the Pi 2.
pub const ROOT_LABELS: [&str; 2] = ["writable", "cloudimg-rootfs"];

/// A reason why an image has no usable layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("reading the partition table, {len} bytes at offset {offset}")]
    Read {
        len: usize,
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error("it is not a disk image: {why}")]
    NotAnImage { why: String },
    #[error("reading the GUID partition table: {why}")]
    BadGpt { why: String },
    #[error("partition {number} ends at byte {end}, but the image has only {size} bytes: {} are missing", end.saturating_sub(*size))]
    BeyondEnd { number: u32, end: u64, size: u64 },
    #[error("partitions {first} and {second} overlap at byte {at}")]
    Overlap { first: u32, second: u32, at: u64 },
    #[error("there is no {wanted}; the image has {found}")]
    Missing { wanted: Wanted, found: String },
    #[error("partition {number} is called {BOOT_LABEL} in its boot sector alone; Linux looks for the label in the root directory, so it would not be mounted")]
    LabelInBootSector { number: u32 },
    #[error("partitions {first} and {second} could both be the {wanted}")]
    Ambiguous { wanted: Wanted, first: u32, second: u32 },
}

/// A partition that an image for a Pi must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Boot,
    Root,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => write!(f, "boot partition (FAT, label {BOOT_LABEL})"),
            Self::Root => write!(f, "root partition (ext4, label {})", ROOT_LABELS.join(" or ")),
        }
    }
}

impl LayoutError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "try again with a fresh download",
            Self::NotAnImage { .. } => {
                "give one of Ubuntu's preinstalled server images for the Raspberry Pi; `palmfarm base list` names them"
            }
            Self::BeyondEnd { .. } => {
                "the download is incomplete or was cut short: get it again and compare its SHA-256; if that is right, \
                 `palmfarm flash IMAGE --sha256 SHA256 DEVICE` writes it as it is"
            }
            Self::BadGpt { .. } => "the image is damaged: get it again and compare its SHA-256",
            Self::Overlap { .. } => {
                "images of installers are made like that, and a base is not: `palmfarm flash IMAGE DEVICE` writes one as it is; \
                 `palmfarm base list` names bases"
            }
            Self::Missing { .. } => {
                "only Ubuntu's preinstalled images for the Raspberry Pi have these two partitions; desktop and live images do not"
            }
            Self::LabelInBootSector { .. } => "run `fatlabel PARTITION system-boot`",
            Self::Ambiguous { .. } => "give each partition a label of its own",
        }
    }
}

impl Table {
    /// Find the partitions of `image`. They may overlap, and one may end beyond the image.
    pub fn read(image: &impl ReadAt) -> Result<Self, LayoutError> {
        let mbr = mbr::read(image)?;
        // A GPT may have an MBR beside it whose other entries lead to the same partitions, or to something else.
        let (scheme, mut partitions, others) = if mbr.has_gpt {
            (Scheme::Gpt, gpt::read(image)?, mbr.partitions)
        } else {
            (Scheme::Mbr, mbr.partitions, Vec::new())
        };
        let spans: Vec<Span> = partitions.iter().map(|partition| partition.span).collect();
        let others: Vec<Span> = others.iter().map(|partition| partition.span).collect();
        for (nth, partition) in partitions.iter_mut().enumerate() {
            let span = partition.span;
            partition.overlaps = spans
                .iter()
                .enumerate()
                .any(|(other, its)| other != nth && its.overlaps(span))
                || others.iter().any(|its| *its != span && its.overlaps(span));
            if span.end() <= image.size() {
                partition.contents = sniff::contents(image, span)?;
            }
        }
        Ok(Self { scheme, partitions })
    }

    /// Refuse a table with a partition that ends beyond the image of `size` bytes: in a download that was cut short, it
    /// does.
    pub fn check_whole(&self, size: u64) -> Result<(), LayoutError> {
        match self.partitions.iter().find(|entry| entry.span.end() > size) {
            Some(entry) => Err(LayoutError::BeyondEnd {
                number: entry.number,
                end: entry.span.end(),
                size,
            }),
            None => Ok(()),
        }
    }
}

impl Layout {
    pub fn spans(&self) -> VolumeSpans {
        VolumeSpans {
            boot: self.boot.span,
            root: self.root.span,
        }
    }

    /// The partition that starts next behind the root partition, so that this one cannot grow beyond it.
    pub fn behind_root(&self) -> Option<&Partition> {
        let starts = |partition: &&Partition| partition.span.start();
        let behind = |partition: &&Partition| partition.span.start() > self.root.span.start();
        self.partitions.iter().filter(behind).min_by_key(starts)
    }

    /// The first partition with a FAT in it, which the firmware reads if nobody tells it another.
    pub fn first_fat(&self) -> Option<&Partition> {
        let is_fat = |partition: &&Partition| matches!(partition.contents, Contents::Fat { .. });
        self.partitions.iter().find(is_fat)
    }

    pub fn read(image: &impl ReadAt) -> Result<Self, LayoutError> {
        let table = Table::read(image)?;
        let disk_size = image.size();
        table.check_whole(disk_size)?;
        let Table { scheme, partitions } = table;
        apart(&partitions)?;
        let boot = the_only(&partitions, Wanted::Boot)?;
        let root = the_only(&partitions, Wanted::Root)?;
        Ok(Self {
            scheme,
            disk_size,
            partitions,
            boot,
            root,
        })
    }
}

fn apart(entries: &[Partition]) -> Result<(), LayoutError> {
    let mut sorted: Vec<&Partition> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.span.start());
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    match pairs.find(|(first, second)| first.span.overlaps(second.span)) {
        Some((first, second)) => Err(LayoutError::Overlap {
            first: first.number,
            second: second.number,
            at: second.span.start(),
        }),
        None => Ok(()),
    }
}

fn the_only(partitions: &[Partition], wanted: Wanted) -> Result<Partition, LayoutError> {
    let mut candidates = partitions
        .iter()
        .filter(|partition| match (&partition.contents, wanted) {
            // FAT ignores case, and tools that rewrite the label put it in capitals.
            (Contents::Fat { label, .. }, Wanted::Boot) => label.eq_ignore_ascii_case(BOOT_LABEL),
            (Contents::Ext { label }, Wanted::Root) => ROOT_LABELS.contains(&label.as_str()),
            _ => false,
        });
    match (candidates.next(), candidates.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(first), Some(second)) => Err(LayoutError::Ambiguous {
            wanted,
            first: first.number,
            second: second.number,
        }),
        (None, _) if wanted == Wanted::Boot && in_boot_sector(partitions).is_some() => {
            let number = in_boot_sector(partitions).unwrap_or_default();
            Err(LayoutError::LabelInBootSector { number })
        }
        (None, _) if partitions.is_empty() => Err(LayoutError::Missing {
            wanted,
            found: "no partition".into(),
        }),
        (None, _) => {
            let each = partitions
                .iter()
                .map(|partition| format!("{}: {}", partition.number, partition.contents));
            let found = each.collect::<Vec<_>>().join(", ");
            Err(LayoutError::Missing { wanted, found })
        }
    }
}

/// The partition whose label is in the wrong place.
fn in_boot_sector(partitions: &[Partition]) -> Option<u32> {
    let misplaced = |partition: &&Partition| match &partition.contents {
        Contents::Fat { label, boot_label } => {
            label.is_empty() && boot_label.eq_ignore_ascii_case(BOOT_LABEL)
        }
        _ => false,
    };
    partitions
        .iter()
        .find(misplaced)
        .map(|partition| partition.number)
}

fn read_bytes(image: &impl ReadAt, offset: u64, len: usize) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = vec![0; len];
    image
        .read_exact_at(offset, &mut bytes)
        .map_err(|source| LayoutError::Read { len, offset, source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
