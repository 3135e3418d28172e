//! The names in a zip archive, so that a message can say what to take out of it. It unpacks nothing.

use std::io;

use crate::edit::block::ReadAt;
use crate::numbers::{at_most, u64_from_usize};

/// The end of the central directory has 22 bytes, and a comment of at most 65535 after it (APPNOTE.TXT, section 4.3.16).
const END: usize = 22 + 65_535;

/// The most bytes of names that are looked at.
const NAMES: usize = 64 << 10;

/// The name of the largest member in `file`; `None` if its central directory cannot be read.
pub(super) fn largest_member(file: &dyn ReadAt) -> io::Result<Option<String>> {
    let there = at_most(file.size(), END);
    let mut tail = vec![0; there];
    file.read_exact_at(file.size().saturating_sub(u64_from_usize(there)), &mut tail)?;
    let Some(end) = tail.windows(4).rposition(|mark| mark == b"PK\x05\x06") else {
        return Ok(None);
    };
    let field = |at: usize| tail.get(end.saturating_add(at)..).and_then(u32_at);
    let (Some(bytes), Some(offset)) = (field(12), field(16)) else {
        return Ok(None);
    };
    let offset = u64::from(offset);
    let Some(room) = file.size().checked_sub(offset) else {
        return Ok(None);
    };
    let room = room.min(u64::from(bytes));
    let mut directory = vec![0; at_most(room, NAMES)];
    file.read_exact_at(offset, &mut directory)?;
    let mut rest = directory.as_slice();
    let mut largest: Option<(u32, String)> = None;
    // One entry after the other (section 4.3.12).
    while let Some(entry) = rest.strip_prefix(b"PK\x01\x02") {
        let length = |at: usize| entry.get(at..).and_then(u16_at).map_or(0, usize::from);
        let (name, others) = (length(24), length(26).saturating_add(length(28)));
        let Some(size) = entry.get(20..).and_then(u32_at) else {
            break;
        };
        let Some(bytes) = entry.get(42..42_usize.saturating_add(name)) else {
            break;
        };
        if largest.as_ref().is_none_or(|(before, _)| *before < size) {
            largest = Some((size, String::from_utf8_lossy(bytes).into_owned()));
        }
        let next = 42_usize.saturating_add(name).saturating_add(others);
        rest = entry.get(next..).unwrap_or_default();
    }
    Ok(largest.map(|(_, name)| name))
}

fn u16_at(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of empty members that say to be `sizes` bytes long.
    fn archive(members: &[(&str, u32)], comment: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04 what comes before".to_vec();
        let offset = u32::try_from(bytes.len()).unwrap();
        for (name, size) in members {
            let mut entry = b"PK\x01\x02".to_vec();
            entry.resize(46, 0);
            entry[24..28].copy_from_slice(&size.to_le_bytes());
            entry[28..30].copy_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
            entry[30] = 3;
            entry.extend_from_slice(name.as_bytes());
            entry.extend_from_slice(b"xxx");
            bytes.extend_from_slice(&entry);
        }
        let length = u32::try_from(bytes.len()).unwrap() - offset;
        let mut end = b"PK\x05\x06".to_vec();
        end.resize(22, 0);
        end[12..16].copy_from_slice(&length.to_le_bytes());
        end[16..20].copy_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&end);
        bytes.extend_from_slice(comment);
        bytes
    }

    #[test]
    fn the_largest_member_is_named() {
        let members = [
            ("README.txt", 900),
            ("palm.img", 4_000_000_000),
            ("palm.sha256", 100),
        ];
        let whole = archive(&members, b"a comment");
        assert_eq!(largest_member(&whole).unwrap().as_deref(), Some("palm.img"));
        // No prefix of it makes anybody stumble.
        for end in 0..whole.len() {
            let cut = whole[..end].to_vec();
            assert!(
                largest_member(&cut).is_ok_and(|name| name.is_none_or(|name| name == "palm.img")),
                "{end}"
            );
        }
        for at in 0..whole.len() {
            for byte in [0, 0xFF] {
                let mut other = whole.clone();
                other[at] = byte;
                largest_member(&other).unwrap();
            }
        }
    }
}
