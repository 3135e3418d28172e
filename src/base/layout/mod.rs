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

/// What a partition holds, judged by its first two KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A FAT filesystem with this volume label, which may be empty.
    Fat {
        /// From the boot sector, without the padding.
        label: String,
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
            Self::Fat { label } => write!(f, "FAT {label:?}"),
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
    pub contents: Contents,
}

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
    Missing { wanted: Wanted, found: FoundPartitions },
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

/// The partitions of an image in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPartitions(Vec<(u32, Contents)>);

impl fmt::Display for FoundPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no partition");
        }
        let each: Vec<String> = self
            .0
            .iter()
            .map(|(number, contents)| format!("{number}: {contents}"))
            .collect();
        f.write_str(&each.join(", "))
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
            Self::BeyondEnd { .. } => "the download is incomplete or was cut short: get it again and compare its SHA-256",
            Self::BadGpt { .. } | Self::Overlap { .. } => "the image is damaged: get it again and compare its SHA-256",
            Self::Missing { .. } => {
                "only Ubuntu's preinstalled images for the Raspberry Pi have these two partitions; desktop and live images do not"
            }
            Self::Ambiguous { .. } => "give each partition a label of its own",
        }
    }
}

impl Table {
    /// Find the partitions of `image`: each lies within it, and no two overlap.
    pub fn read(image: &impl ReadAt) -> Result<Self, LayoutError> {
        let (scheme, entries) = match mbr::read(image)? {
            mbr::MbrTable::Plain(entries) => (Scheme::Mbr, entries),
            mbr::MbrTable::Protective => (Scheme::Gpt, gpt::read(image)?),
        };
        within(&entries, image.size())?;
        apart(&entries)?;
        let mut partitions = Vec::with_capacity(entries.len());
        for TableEntry { number, span, kind } in entries {
            partitions.push(Partition {
                number,
                span,
                kind,
                contents: sniff::contents(image, span)?,
            });
        }
        Ok(Self { scheme, partitions })
    }
}

impl Layout {
    pub fn spans(&self) -> VolumeSpans {
        VolumeSpans {
            boot: self.boot.span,
            root: self.root.span,
        }
    }

    pub fn read(image: &impl ReadAt) -> Result<Self, LayoutError> {
        let Table { scheme, partitions } = Table::read(image)?;
        let disk_size = image.size();
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

/// A partition as its table gives it, not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TableEntry {
    number: u32,
    span: Span,
    kind: String,
}

fn within(entries: &[TableEntry], size: u64) -> Result<(), LayoutError> {
    match entries.iter().find(|entry| entry.span.end() > size) {
        Some(entry) => Err(LayoutError::BeyondEnd {
            number: entry.number,
            end: entry.span.end(),
            size,
        }),
        None => Ok(()),
    }
}

fn apart(entries: &[TableEntry]) -> Result<(), LayoutError> {
    let mut sorted: Vec<&TableEntry> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.span.start());
    for pair in sorted.windows(2) {
        if let [first, second] = pair {
            if first.span.overlaps(second.span) {
                return Err(LayoutError::Overlap {
                    first: first.number,
                    second: second.number,
                    at: second.span.start(),
                });
            }
        }
    }
    Ok(())
}

fn the_only(partitions: &[Partition], wanted: Wanted) -> Result<Partition, LayoutError> {
    let mut candidates = partitions
        .iter()
        .filter(|partition| match (&partition.contents, wanted) {
            // FAT ignores case, and tools that rewrite the label put it in capitals.
            (Contents::Fat { label }, Wanted::Boot) => label.eq_ignore_ascii_case(BOOT_LABEL),
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
        (None, _) => Err(LayoutError::Missing {
            wanted,
            found: FoundPartitions(
                partitions
                    .iter()
                    .map(|partition| (partition.number, partition.contents.clone()))
                    .collect(),
            ),
        }),
    }
}

/// `len` bytes of `image` at `offset`.
fn read_bytes(image: &impl ReadAt, offset: u64, len: usize) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = vec![0; len];
    image
        .read_exact_at(offset, &mut bytes)
        .map_err(|source| LayoutError::Read { len, offset, source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
