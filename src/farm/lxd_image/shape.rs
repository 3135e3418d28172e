//! What shape an image file has: LXD's unified tarball, one of the two parts of a split image, or a plain root
//! filesystem.

use std::io::{self, Read};

use serde_json::Value;

use super::elf::HEADER;
use super::{Machine, METADATA};
use crate::base::source::memory_refused;
use crate::edit::block::length;
use crate::farm::packing::{has_its_end, unpacked, Packing};
use crate::tarball::{Excess, Tarball};
use crate::text::printable;
use crate::text_file::decode;

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
    /// The daemon would not import it.
    #[error("LXD does not import an image with this metadata.yaml: {0}")]
    Metadata(String),
    /// It is for a virtual machine.
    #[error("it is the image of a virtual machine")]
    Vm,
    /// LXD looks for names without a slash in front.
    #[error("{0} in it is an absolute path, which LXD does not import")]
    Absolute(String),
    /// It is not whole.
    #[error("its end is missing: it has {0} bytes")]
    Cut(u64),
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
            Self::Metadata(_) => Some(
                "it needs `architecture: armv7l` or `aarch64`, and `creation_date:` with the seconds since 1970, as \
                 `date +%s` prints them; mend it, and pack it again",
            ),
            Self::Vm => Some("take the container build of the image"),
            Self::Cut(_) => Some("download it again, or pack it again"),
            Self::Absolute(_) => Some("pack it again without -P: tar -C FOLDER -cJf IMAGE.tar.xz ."),
            Self::Tar(..) => Some("download it again, or pack it again: nothing may come after its end"),
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
    let has_its_end = has_its_end(bytes);
    if has_its_end == Some(false) {
        return Err(ImageError::Cut(length(bytes)));
    }
    match packing {
        Packing::Squashfs => return Ok(Shape::Squashfs),
        Packing::Qcow2 => return Err(ImageError::Vm),
        _ => {}
    }
    let broken = |error: io::Error| match (Excess::of(&error), memory_refused(&error)) {
        (Some(excess), _) => ImageError::TooMuch(excess),
        (None, Some(bytes)) => ImageError::Memory(bytes >> 20, error),
        (None, None) => ImageError::Tar(packing.name().unwrap_or("not packed"), error),
    };
    let Some(bytes) = unpacked(packing, bytes).map_err(broken)? else {
        return Err(ImageError::Bzip2);
    };
    let seen = Seen::of(bytes, most, has_its_end == Some(true)).map_err(broken)?;
    if let Some(path) = seen.absolute {
        return Err(ImageError::Absolute(path));
    }
    if seen.has_disk {
        return Err(ImageError::Vm);
    }
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
    /// There is the disk of a virtual machine.
    has_disk: bool,
    /// There is something at the top that a root filesystem has.
    is_root: bool,
    machine: Option<Machine>,
    release: Option<String>,
    /// The first member whose name is an absolute path.
    absolute: Option<String>,
}

impl Seen {
    /// `may_stop`: the end is there, so not all need be unpacked.
    fn of(bytes: Box<dyn Read + '_>, most: u64, may_stop: bool) -> io::Result<Self> {
        let mut seen = Self::default();
        let mut tarball = Tarball::new(bytes, most);
        for entry in tarball.members()? {
            let mut entry = entry?;
            let path = entry.path_bytes().into_owned();
            let path = String::from_utf8_lossy(&path);
            if path.starts_with('/') {
                seen.absolute = Some(printable(&path));
                return Ok(seen);
            }
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
            if may_stop && seen.metadata.is_some() && seen.has_rootfs && seen.machine.is_some() {
                return Ok(seen);
            }
        }
        tarball.drain()?;
        Ok(seen)
    }

    fn meet(&mut self, path: &str, is_file: bool, entry: &mut dyn Read) -> io::Result<()> {
        let inside = match path.strip_prefix("rootfs") {
            Some("") => {
                self.has_rootfs = true;
                return Ok(());
            }
            Some(".img") => {
                self.has_disk = true;
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

/// What LXD demands (lxd/images.go, `getImageMetadata`; shared/api/image.go, `ImageMetadata`), and more strictly than it
/// does: a value that its YAML reader would convert is refused if an older reader would not.
fn parse(text: &[u8]) -> Result<Metadata, ImageError> {
    let wrong = |why: &dyn std::fmt::Display| ImageError::Metadata(why.to_string());
    let text = decode(text).map_err(|error| wrong(&format!("it {error}")))?;
    let value: Value = serde_yaml::from_str(&text).map_err(|error| wrong(&error))?;
    let fields = value.as_object().ok_or_else(|| wrong(&"it is not a mapping"))?;
    let architecture = match fields.get("architecture") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => return Err(wrong(&"it names no architecture")),
    };
    match fields.get("creation_date") {
        None | Some(Value::Null) => return Err(wrong(&"it has no creation_date")),
        Some(Value::Number(date)) if date.as_i64().is_some_and(|date| date != 0) => {}
        Some(date) => {
            let why = format!("its creation_date is {date}, and not the seconds since 1970");
            return Err(wrong(&why));
        }
    }
    match fields.get("expiry_date") {
        None | Some(Value::Null) => {}
        Some(Value::Number(date)) if date.is_i64() => {}
        Some(_) => return Err(wrong(&"its expiry_date is not the seconds since 1970")),
    }
    texts(fields.get("properties")).map_err(|why| wrong(&format!("of its properties, {why}")))?;
    let templates = mapping(fields.get("templates")).map_err(|why| wrong(&format!("its templates {why}")))?;
    for (path, template) in templates.into_iter().flatten() {
        template_is_fine(template).map_err(|why| wrong(&format!("its template for {path:?} {why}")))?;
    }
    Ok(Metadata { architecture })
}

fn template_is_fine(template: &Value) -> Result<(), String> {
    let all = mapping(Some(template))?;
    for (key, value) in all.into_iter().flatten() {
        let fine = match (key.as_str(), value) {
            (_, Value::Null) => true,
            ("when", Value::Array(when)) => when.iter().all(Value::is_string),
            ("create_only", value) => value.is_boolean(),
            ("template", value) => value.is_string(),
            ("properties", value) => texts(Some(value)).is_ok(),
            ("when", _) => false,
            _ => true,
        };
        if !fine {
            return Err(format!("has a `{key}` of another form than LXD reads"));
        }
    }
    Ok(())
}

/// A mapping; nothing is an empty one.
fn mapping(value: Option<&Value>) -> Result<Option<&serde_json::Map<String, Value>>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err("are not a mapping".into()),
    }
}

/// A mapping of single values.
fn texts(value: Option<&Value>) -> Result<(), String> {
    let fields = mapping(value)?;
    let single = |value: &Value| !(value.is_array() || value.is_object());
    match fields.into_iter().flatten().find(|(_, value)| !single(value)) {
        Some((key, _)) => Err(format!("{key:?} is not a single value")),
        None => Ok(()),
    }
}
