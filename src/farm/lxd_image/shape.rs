//! What shape an image file has: LXD's unified tarball, one of the two parts of a split image, or a plain root
//! filesystem.

use std::io::{self, Read};

use super::elf::HEADER;
use super::{Machine, METADATA};
use crate::base::source::memory_refused;
use crate::farm::packing::{unpacked, Packing};
use crate::tarball::{Excess, Tarball};

/// The longest metadata that is read, in bytes: images.linuxcontainers.org's have below 2 KiB.
const LONGEST: u64 = 256 << 10;

/// The most that an image may unpack to, in bytes. Those of images.linuxcontainers.org unpack to 1 GiB at most, and a
/// card of 16 GB has no room for a container of 8; of zeros as many take some seconds.
pub(super) const LARGEST: u64 = 8 << 30;

/// What an image file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Metadata and root filesystem in one tarball.
    Unified {
        /// What it says of itself.
        metadata: Metadata,
        /// For which machine the first program in it is.
        machine: Option<Machine>,
    },
    /// The metadata part of a split image.
    Metadata(Metadata),
    /// A root filesystem as a tarball: the other part of a split image, or all there is.
    Rootfs {
        /// For which machine the first program in it is.
        machine: Option<Machine>,
        /// What it calls itself: `PRETTY_NAME` of its os-release.
        release: Option<String>,
    },
    /// A root filesystem as a squashfs: the other part of a split image.
    Squashfs,
}

/// What `metadata.yaml` says, as far as that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The kernel's or Debian's name of an architecture.
    pub architecture: String,
}

/// Why a file is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Bzip2, for which there is no reader here.
    #[error("it is packed with bzip2")]
    Bzip2,
    /// It is no tarball, or a damaged one.
    #[error("it cannot be read to its end as a tarball ({0})")]
    Tar(&'static str, #[source] io::Error),
    /// It is larger than an image may be once it is unpacked, or its headers are.
    #[error(transparent)]
    TooMuch(Excess),
    /// It cannot be unpacked in as little memory as there is for it.
    #[error("unpacking it takes more than {0} MiB of memory, and that is the most")]
    Memory(u64, #[source] io::Error),
    /// It has neither metadata nor anything that a root filesystem has.
    #[error("it is a tarball with neither metadata.yaml nor a root filesystem at its top level")]
    Neither,
    /// Metadata cannot be read.
    #[error("invalid metadata.yaml: {0}")]
    Metadata(String),
}

impl ImageError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bzip2 => Some("repack it: bunzip2 -c IMAGE | xz > IMAGE.xz"),
            Self::TooMuch(excess) => Some(excess.hint()),
            Self::Memory(..) => Some("repack it with `xz -9` or `zstd -19`"),
            Self::Neither => Some(
                "a plain root filesystem has bin, etc and usr at its top: tar -C ROOTFS -cJf IMAGE.tar.xz .",
            ),
            Self::Tar(..) | Self::Metadata(_) => None,
        }
    }
}

/// Look at the file whose content is `bytes`.
///
/// # Errors
/// [`ImageError`].
pub fn look(bytes: &[u8]) -> Result<Shape, ImageError> {
    look_within(bytes, LARGEST)
}

/// The same, where the image may unpack to `most` bytes.
pub(super) fn look_within(bytes: &[u8], most: u64) -> Result<Shape, ImageError> {
    let packing = Packing::of(bytes);
    if packing == Packing::Squashfs {
        return Ok(Shape::Squashfs);
    }
    let broken = |error: io::Error| match (Excess::of(&error), memory_refused(&error)) {
        (Some(excess), _) => ImageError::TooMuch(excess),
        (None, Some(bytes)) => ImageError::Memory(bytes >> 20, error),
        (None, None) => ImageError::Tar(packing.name().unwrap_or("not packed"), error),
    };
    let Some(bytes) = unpacked(bytes).map_err(broken)? else {
        return Err(ImageError::Bzip2);
    };
    let seen = Seen::of(bytes, most).map_err(broken)?;
    let Some(metadata) = seen.metadata else {
        if !seen.is_root {
            return Err(ImageError::Neither);
        }
        return Ok(Shape::Rootfs {
            machine: seen.machine,
            release: seen.release,
        });
    };
    let metadata = parse(&metadata)?;
    if seen.has_rootfs {
        let machine = seen.machine;
        return Ok(Shape::Unified { metadata, machine });
    }
    Ok(Shape::Metadata(metadata))
}

/// What was met on the way through a tarball.
#[derive(Default)]
struct Seen {
    metadata: Option<Vec<u8>>,
    /// There is something below `rootfs`.
    has_rootfs: bool,
    /// There is something at the top that a root filesystem has.
    is_root: bool,
    machine: Option<Machine>,
    release: Option<String>,
}

impl Seen {
    fn of(bytes: Box<dyn Read + '_>, most: u64) -> io::Result<Self> {
        let mut seen = Self::default();
        let mut tarball = Tarball::new(bytes, most);
        for entry in tarball.members()? {
            let mut entry = entry?;
            let path = entry.path_bytes().into_owned();
            let path = String::from_utf8_lossy(&path);
            let path = path.trim_start_matches("./").trim_matches('/');
            let is_file = entry.header().entry_type().is_file();
            if path == METADATA && is_file {
                let mut text = Vec::new();
                entry.take(LONGEST).read_to_end(&mut text)?;
                seen.metadata = Some(text);
            } else {
                seen.meet(path, is_file, &mut entry)?;
            }
            // LXD's own tarballs begin with the metadata; the rest need not be unpacked.
            if seen.metadata.is_some() && seen.has_rootfs && seen.machine.is_some() {
                break;
            }
        }
        Ok(seen)
    }

    fn meet(&mut self, path: &str, is_file: bool, entry: &mut dyn Read) -> io::Result<()> {
        let inside = match path.strip_prefix("rootfs") {
            // `rootfs` itself, `rootfs.img`, `rootfs.squashfs`.
            Some(inside) if inside.is_empty() || inside.starts_with('.') => {
                self.has_rootfs = true;
                return Ok(());
            }
            Some(inside) if inside.starts_with('/') => {
                self.has_rootfs = true;
                inside.trim_start_matches('/')
            }
            _ => {
                let top = path.split('/').next().unwrap_or_default();
                self.is_root |= ["bin", "etc", "lib", "sbin", "usr"].contains(&top);
                path
            }
        };
        if !is_file {
            return Ok(());
        }
        if self.machine.is_none() && holds_programs(inside) {
            let mut header = Vec::new();
            entry
                .take(HEADER.try_into().unwrap_or(0))
                .read_to_end(&mut header)?;
            self.machine = Machine::of(&header);
        } else if ["etc/os-release", "usr/lib/os-release"].contains(&inside) {
            let mut text = Vec::new();
            entry.take(LONGEST).read_to_end(&mut text)?;
            self.release = self.release.take().or_else(|| pretty_name(&text));
        }
        Ok(())
    }
}

/// Whether what lies at `path` of a root filesystem may be a program of its own: what lies deeper may be for another
/// machine, as firmware is.
fn holds_programs(path: &str) -> bool {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let dir = path.rsplit_once('/').map(|(dir, _)| dir);
    dir.is_some_and(|dir| ["bin", "sbin", "lib"].contains(&dir))
}

/// `PRETTY_NAME` of an os-release(5).
fn pretty_name(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    let clean: String = value.chars().filter(|c| !c.is_control()).take(100).collect();
    (!clean.is_empty()).then_some(clean)
}

fn parse(text: &[u8]) -> Result<Metadata, ImageError> {
    let wrong = |error: &dyn std::fmt::Display| ImageError::Metadata(error.to_string());
    let value: serde_json::Value = serde_yaml::from_slice(text).map_err(|error| wrong(&error))?;
    match value.get("architecture").and_then(serde_json::Value::as_str) {
        Some(architecture) if !architecture.is_empty() => Ok(Metadata {
            architecture: architecture.into(),
        }),
        _ => Err(wrong(&"it names no architecture")),
    }
}
