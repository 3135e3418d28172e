//! The DOS partition table in the first sector. It never follows logical partitions: no image for a Pi has them, and
//! their chain of tables may be a loop.

use crate::edit::block::{ReadAt, Span};

use super::{read_bytes, LayoutError, TableEntry, SECTOR};

/// Bytes of the first sector before the four entries of 16 bytes each.
const ENTRIES_AT: usize = 446;

/// The type of the one entry that means "look for a GPT" (UEFI specification 2.10, 5.2.3).
const PROTECTIVE: u8 = 0xEE;

/// What the first sector holds.
pub(super) enum MbrTable {
    /// Four primary partitions at most, the unused ones left out.
    Plain(Vec<TableEntry>),
    /// The disk has a GPT.
    Protective,
}

/// Read the first sector of `image`.
pub(super) fn read(image: &impl ReadAt) -> Result<MbrTable, LayoutError> {
    if image.size() < SECTOR {
        return Err(LayoutError::NotAnImage {
            why: format!("it has {} bytes, less than one sector", image.size()),
        });
    }
    let sector = read_bytes(image, 0, 512)?;
    parse(&sector)
}

/// The table in `sector`, which has 512 bytes.
pub(super) fn parse(sector: &[u8]) -> Result<MbrTable, LayoutError> {
    let not = |why: &str| LayoutError::NotAnImage { why: why.into() };
    if sector.get(510..512) != Some(&[0x55, 0xAA]) {
        return Err(not("its first sector does not end in 55 aa"));
    }
    let raw = sector.get(ENTRIES_AT..510).unwrap_or_default();
    let mut entries = Vec::new();
    for (raw, number) in raw.chunks_exact(16).zip(1_u32..) {
        let &[status, _, _, _, kind, _, _, _, a, b, c, d, e, f, g, h] = raw else {
            continue;
        };
        if kind == PROTECTIVE {
            return Ok(MbrTable::Protective);
        }
        // A boot sector ends in 55 aa too, but has code in the place of the entries.
        if status & 0x7F != 0 {
            return Err(not("its first sector holds no partition table"));
        }
        let start = u64::from(u32::from_le_bytes([a, b, c, d]));
        let sectors = u64::from(u32::from_le_bytes([e, f, g, h]));
        if kind == 0 || sectors == 0 {
            continue;
        }
        // 32-bit numbers of sectors: neither product nor sum can leave 64 bits.
        if let Some(span) = Span::new(start.saturating_mul(SECTOR), sectors.saturating_mul(SECTOR)) {
            entries.push(TableEntry {
                number,
                span,
                kind: format!("{kind:#04x}"),
            });
        }
    }
    Ok(MbrTable::Plain(entries))
}
