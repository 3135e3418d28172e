//! Where the partitions of an image lie, and which of them are the Pi's boot and root partitions.
//!
//! Reads the partition table and the head of each partition, nothing else: on a compressed image every sector may
//! cost the decoding of a block. Never writes, and never trusts a number that the image gives.

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
    /// A GUID partition table.
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

/// What a partition holds, as far as its head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A FAT filesystem with this volume label, which may be empty.
    Fat {
        /// From the boot sector, without the padding.
        label: String,
    },
    /// A filesystem of the ext family with this volume label, which may be empty.
    Ext {
        /// `s_volume_name`.
        label: String,
    },
    /// Anything else.
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

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    /// Where it lies.
    pub span: Span,
    /// Its type as the table gives it: `0x0c`, or a GUID.
    pub kind: String,
    /// What it holds.
    pub contents: Contents,
}

/// The partitions of any image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The kind of the table.
    pub scheme: Scheme,
    /// Every partition, by number.
    pub partitions: Vec<Partition>,
}

/// The partitions of an image for a Raspberry Pi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kind of the table.
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

/// Why an image has no usable layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Reading failed.
    #[error("reading the partition table, {len} bytes at offset {offset}")]
    Read {
        /// Bytes wanted.
        len: usize,
        /// From where, in bytes.
        offset: u64,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// There is no partition table.
    #[error("it is no disk image: {why}")]
    NotAnImage {
        /// What was looked for and not found.
        why: String,
    },
    /// The GPT is damaged or unusual.
    #[error("reading the GUID partition table: {why}")]
    BadGpt {
        /// What is wrong with it.
        why: String,
    },
    /// A partition ends beyond the image.
    #[error("partition {number} ends at byte {end}, but the image has only {size} bytes: {} are missing", end.saturating_sub(*size))]
    BeyondEnd {
        /// The partition.
        number: u32,
        /// Where it ends, in bytes.
        end: u64,
        /// Bytes of the image.
        size: u64,
    },
    /// Two partitions share bytes.
    #[error("partitions {first} and {second} overlap at byte {at}")]
    Overlap {
        /// The one that starts first.
        first: u32,
        /// The other.
        second: u32,
        /// The first byte that both have.
        at: u64,
    },
    /// No partition is the wanted one.
    #[error("there is no {wanted}; the image has {found}")]
    Missing {
        /// What was looked for.
        wanted: Wanted,
        /// What is there.
        found: Found,
    },
    /// More than one partition could be the wanted one.
    #[error("partitions {first} and {second} could both be the {wanted}")]
    Ambiguous {
        /// What was looked for.
        wanted: Wanted,
        /// The first candidate.
        first: u32,
        /// The second candidate.
        second: u32,
    },
}

/// A partition that an image for a Pi must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// See [`Layout::boot`].
    Boot,
    /// See [`Layout::root`].
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
pub struct Found(Vec<(u32, Contents)>);

impl fmt::Display for Found {
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
    /// What the person can do about it.
    #[must_use]
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
            mbr::Table::Plain(entries) => (Scheme::Mbr, entries),
            mbr::Table::Protective => (Scheme::Gpt, gpt::read(image)?),
        };
        within(&entries, image.size())?;
        apart(&entries)?;
        let mut partitions = Vec::with_capacity(entries.len());
        for Entry { number, span, kind } in entries {
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
    /// Where the two filesystems are.
    pub fn spans(&self) -> VolumeSpans {
        VolumeSpans {
            boot: self.boot.span,
            root: self.root.span,
        }
    }

    /// Find the partitions of `image`.
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
struct Entry {
    number: u32,
    span: Span,
    kind: String,
}

fn within(entries: &[Entry], size: u64) -> Result<(), LayoutError> {
    match entries.iter().find(|entry| entry.span.end() > size) {
        Some(entry) => Err(LayoutError::BeyondEnd {
            number: entry.number,
            end: entry.span.end(),
            size,
        }),
        None => Ok(()),
    }
}

fn apart(entries: &[Entry]) -> Result<(), LayoutError> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
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
            // FAT knows no case, and tools that rewrite the label put it in capitals.
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
            found: Found(
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
