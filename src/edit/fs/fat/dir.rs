//! The entries of a FAT directory: short names, and the long names that precede them (Microsoft's FAT specification
//! 1.03, "FAT Directory Structure" and "Long File Name Implementation").

use super::damaged;
use super::volume::{FatVolume, RootDir};
use crate::edit::block::{Fields, ReadAt};
use crate::edit::fs::FsError;
use crate::numbers::{at_most, usize_from_u64};
use unicode_normalization::UnicodeNormalization as _;

pub(super) use super::boot_sector::DIR_ENTRY as ENTRY;

/// Bytes that a directory may have (specification: 65,536 entries).
pub(super) const MOST_BYTES: usize = 65_536 * ENTRY;

const DIRECTORY: u8 = 0x10;
const VOLUME_ID: u8 = 0x08;
const LONG_NAME: u8 = 0x0F;

/// One file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DirEntry {
    /// The long name, or the short one if there is no long name.
    pub(super) name: String,
    /// The short name, with its dot.
    pub(super) short: String,
    pub(super) is_dir: bool,
    /// 0 for an empty file, and in `..` for the root directory.
    pub(super) first: u32,
    pub(super) size: u32,
    /// Date and time of the last modification as stored.
    pub(super) modified: (u16, u16),
}

impl DirEntry {
    /// The entry in `raw`, which `long` precedes.
    fn parse(raw: &[u8; ENTRY], long: LongName) -> Option<Self> {
        let fields = Fields(raw);
        Some(Self {
            // Windows NT and Linux write `config.txt` without a long name and note in byte 12 which half is in lower
            // case.
            name: long.finish(raw).unwrap_or_else(|| short_name(raw, raw[12])),
            short: short_name(raw, 0),
            is_dir: fields.u8(11)? & DIRECTORY != 0,
            first: u32::from(fields.u16(20)?) << 16 | u32::from(fields.u16(26)?),
            size: fields.u32(28)?,
            modified: (fields.u16(24)?, fields.u16(22)?),
        })
    }

    /// Whether `name` means this entry: FAT keeps the case of names and ignores it.
    pub(super) fn is_called(&self, name: &str) -> bool {
        same_name(&self.name, name) || self.short.eq_ignore_ascii_case(name)
    }
}

/// Whether two names are the same on FAT.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    a.chars()
        .flat_map(char::to_uppercase)
        .eq(b.chars().flat_map(char::to_uppercase))
}

/// `path` as all have it that mean the same place: FAT has one name for both cases, and other systems that read a card
/// have one for both ways to write an accent, and for characters that Unicode takes for the same one.
pub fn folded(path: &str) -> String {
    path.nfc().flat_map(char::to_uppercase).nfc().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dir {
    Root,
    At(u32),
}

pub(super) fn bytes_of<M: ReadAt>(volume: &FatVolume<M>, dir: Dir) -> Result<Vec<u8>, FsError> {
    let first = match (dir, volume.root) {
        (Dir::Root, RootDir::Fixed { start, size }) => {
            let mut bytes = vec![0; at_most(size, MOST_BYTES)];
            volume.bytes(start, &mut bytes)?;
            return Ok(bytes);
        }
        (Dir::Root, RootDir::Chain(first)) | (Dir::At(first), _) => first,
    };
    let cluster_size = usize_from_u64(volume.cluster_size);
    let mut bytes = Vec::new();
    for cluster in volume.chain(first) {
        let cluster = cluster?;
        let from = bytes.len();
        if from >= MOST_BYTES {
            return Err(damaged("a directory has more than 65536 entries".into()));
        }
        bytes.resize(from + cluster_size, 0);
        volume.bytes(volume.start(cluster), &mut bytes[from..])?;
    }
    Ok(bytes)
}

/// The entries in the bytes of a directory, without the volume label and the two dots.
pub(super) fn entries(bytes: &[u8]) -> Vec<DirEntry> {
    let mut found = Vec::new();
    let mut long = LongName::default();
    for raw in bytes.as_chunks().0 {
        match (raw[0], raw[11]) {
            (0, _) => break,
            (0xE5, _) => long = LongName::default(),
            (_, attributes) if attributes & 0x3F == LONG_NAME => long.add(raw),
            (_, attributes) if attributes & VOLUME_ID != 0 => long = LongName::default(),
            (b'.', _) => {}
            _ => {
                found.extend(DirEntry::parse(raw, std::mem::take(&mut long)));
            }
        }
    }
    found
}

/// The volume label in the bytes of the root directory, without its padding.
pub(super) fn label(root: &[u8]) -> Option<String> {
    let (entries, _) = root.as_chunks::<ENTRY>();
    let is_label = |raw: &&[u8; ENTRY]| raw[0] != 0xE5 && raw[11] & (VOLUME_ID | DIRECTORY) == VOLUME_ID;
    let raw = entries
        .iter()
        .take_while(|raw| raw[0] != 0)
        .filter(|raw| raw[11] & 0x3F != LONG_NAME)
        .find(is_label)?;
    Some(String::from_utf8_lossy(&raw[..11]).trim_end().to_owned())
}

/// How many entries at the end of a directory were never used.
pub(super) fn unused(bytes: &[u8]) -> usize {
    let entries = bytes.as_chunks::<ENTRY>().0;
    let used = entries.iter().take_while(|raw| raw[0] != 0).count();
    entries.len() - used
}

/// The parts of a long name, which come last part first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
    /// The number that the next part must have; 0 after the first part of the name was seen.
    next: u8,
}

impl LongName {
    fn add(&mut self, raw: &[u8; ENTRY]) {
        let number = raw[0] & 0x1F;
        if raw[0] & 0x40 != 0 {
            (self.checksum, self.next) = (raw[13], number);
            self.units.clear();
        }
        if number == 0 || number > 20 || number != self.next || raw[13] != self.checksum {
            *self = Self::default();
            return;
        }
        let places = (1..11).chain(14..26).chain(28..32).step_by(2);
        let mut units: Vec<u16> = places.filter_map(|at| Fields(raw).u16(at)).collect();
        units.append(&mut self.units);
        self.units = units;
        self.next = number - 1;
    }

    /// The name, if it is whole and belongs to the short name in `raw`.
    fn finish(self, raw: &[u8; ENTRY]) -> Option<String> {
        if self.units.is_empty() || self.next != 0 || self.checksum != checksum(raw) {
            return None;
        }
        let name = self.units.split(|unit| *unit == 0).next()?;
        String::from_utf16(name).ok()
    }
}

/// The checksum that ties long names to their short one.
fn checksum(raw: &[u8; ENTRY]) -> u8 {
    let name = raw[..11].iter();
    name.fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The short name with its dot, with the halves in lower case that `case` marks.
fn short_name(raw: &[u8; ENTRY], case: u8) -> String {
    let text = |bytes: &[u8], lower: u8| {
        // Code pages differ above 127, but no file of a Pi has such a name.
        let ascii = |byte: &u8| char::from(*byte).is_ascii().then(|| char::from(*byte));
        let text: String = bytes
            .iter()
            .map(|byte| ascii(byte).unwrap_or('\u{FFFD}'))
            .collect();
        let text = text.trim_end_matches(' ');
        if case & lower == 0 {
            text.to_owned()
        } else {
            text.to_ascii_lowercase()
        }
    };
    let (stem, extension) = (text(&raw[..8], 0x08), text(&raw[8..11], 0x10));
    if extension.is_empty() {
        stem
    } else {
        format!("{stem}.{extension}")
    }
}
