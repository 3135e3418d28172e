//! The GUID partition table, read by the `gpt` crate after the numbers that it would trust have been bounded.

use gpt::disk::LogicalBlockSize;

use crate::edit::block::{Cursor, ReadAt, Span};

use super::{Contents, LayoutError, Partition};

/// Entries that a table may have. The specification asks for room for 128; a number from a hostile header would
/// otherwise decide how much is read.
const MOST_ENTRIES: u32 = 1024;

/// Bytes of an entry, the only size in use (UEFI specification 2.10, 5.3.3).
const ENTRY_SIZE: u32 = 128;

/// Read the primary table of `image`, without looking into the partitions. The backup at the end is not consulted: an image whose primary table is
/// damaged was not copied whole.
pub(super) fn read(image: &impl ReadAt) -> Result<Vec<Partition>, LayoutError> {
    let bad = |why: String| LayoutError::BadGpt { why };
    let mut cursor = Cursor::new(image);
    let size = LogicalBlockSize::Lb512;
    let header = gpt::header::read_header_from_arbitrary_device(&mut cursor, size)
        .map_err(|error| bad(error.to_string()))?;
    if header.part_size != ENTRY_SIZE {
        return Err(bad(format!(
            "its entries have {} bytes, not {ENTRY_SIZE}",
            header.part_size
        )));
    }
    if header.num_parts > MOST_ENTRIES {
        return Err(bad(format!(
            "it has {} entries, more than {MOST_ENTRIES}",
            header.num_parts
        )));
    }
    let table = gpt::partition::file_read_partitions(&mut cursor, &header, size)
        .map_err(|error| bad(error.to_string()))?;
    let mut entries = Vec::new();
    for (number, partition) in table {
        let (start, len) = (partition.bytes_start(size), partition.bytes_len(size));
        let Some(span) = start
            .ok()
            .zip(len.ok())
            .and_then(|(start, len)| Span::new(start, len))
        else {
            return Err(bad(format!(
                "partition {number} goes from sector {} to sector {}",
                partition.first_lba, partition.last_lba
            )));
        };
        entries.push(Partition {
            number,
            span,
            kind: partition.part_type_guid.guid.to_string(),
            part_uuid: partition.part_guid.to_string(),
            contents: Contents::Unknown,
            overlaps: false,
        });
    }
    Ok(entries)
}
