//! The DOS partition table in the first sector. It never follows logical partitions: no image for a Pi has them, and
//! their chain of tables may be a loop.

use crate::edit::block::{Fields, ReadAt, Span};

use super::{read_bytes, Contents, LayoutError, Partition, SECTOR};

/// Bytes of the first sector before the four entries of 16 bytes each.
const ENTRIES_AT: usize = 446;

/// Where the number of the disk is, from which Linux makes the PARTUUIDs of its partitions.
const DISK_ID_AT: usize = 440;

/// The type of the one entry that means "look for a GPT" (UEFI specification 2.10, 5.2.3).
const PROTECTIVE: u8 = 0xEE;

/// What the first sector of an image says.
pub(super) struct Mbr {
    /// The primary partitions.
    pub(super) partitions: Vec<Partition>,
    /// Whether there is a GPT, which counts in place of them.
    pub(super) has_gpt: bool,
}

/// Read the first sector of `image`, without looking into the partitions.
pub(super) fn read(image: &impl ReadAt) -> Result<Mbr, LayoutError> {
    if image.size() < SECTOR {
        return Err(LayoutError::NotAnImage {
            why: format!("it has {} bytes, less than one sector", image.size()),
        });
    }
    let sector = read_bytes(image, 0, 512)?;
    let not = |why: &str| LayoutError::NotAnImage { why: why.into() };
    if sector.get(510..512) != Some(&[0x55, 0xAA]) {
        return Err(not("its first sector does not end in 55 aa"));
    }
    let raw = sector.get(ENTRIES_AT..510).unwrap_or_default();
    let has_gpt = raw
        .chunks_exact(16)
        .any(|entry| entry.get(4) == Some(&PROTECTIVE));
    let disk = Fields(&sector).u32(DISK_ID_AT).unwrap_or_default();
    let mut partitions = Vec::new();
    for (raw, number) in raw.chunks_exact(16).zip(1_u32..) {
        let &[status, _, _, _, kind, _, _, _, a, b, c, d, e, f, g, h] = raw else {
            continue;
        };
        // A boot sector ends in 55 aa too, but has code in the place of the entries.
        if status & 0x7F != 0 && !has_gpt {
            return Err(not("its first sector holds no partition table"));
        }
        let start = u64::from(u32::from_le_bytes([a, b, c, d]));
        let sectors = u64::from(u32::from_le_bytes([e, f, g, h]));
        if kind == 0 || kind == PROTECTIVE || sectors == 0 {
            continue;
        }
        // 32-bit numbers of sectors: neither product nor sum can leave 64 bits.
        if let Some(span) = Span::new(start.saturating_mul(SECTOR), sectors.saturating_mul(SECTOR)) {
            partitions.push(Partition {
                number,
                span,
                kind: format!("{kind:#04x}"),
                part_uuid: format!("{disk:08x}-{number:02x}"),
                contents: Contents::Unknown,
                overlaps: false,
            });
        }
    }
    Ok(Mbr { partitions, has_gpt })
}
