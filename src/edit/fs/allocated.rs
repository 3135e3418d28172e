//! Which bytes of an image matter: everything but the blocks that its filesystems say are free.
//!
//! Free blocks need not be written to a card. It must never guess: a partition that is not understood, or whose
//! metadata contradicts itself, counts as allocated from end to end.

use std::io;

use super::free_runs::FreeRuns;
use super::signatures::{self, Tables};
use super::{ext4, fat};
use crate::edit::block::{Extents, ReadAt, Span};

/// The bytes of `image` that matter, in whole blocks, given the `partitions` that a filesystem may have to itself. Read the
/// image through the overlay, so that what the edits allocate counts.
pub fn allocated<R: ReadAt>(image: &R, partitions: &[Span]) -> io::Result<Extents> {
    let mut all = FreeRuns::within(image.size(), 0);
    // What is on the disk as a whole may have the free space of the partitions on it, as an ISO 9660 has.
    if signatures::found(image, Tables::Belong)?.is_some() {
        return Ok(Extents::whole(image.size()));
    }
    for span in partitions {
        let Some(window) = span.of(image) else {
            continue;
        };
        let free = FreeRuns::within(image.size(), span.start());
        let found = free_space(&window, free)?;
        for (start, end) in found.map(FreeRuns::runs).iter().flat_map(Extents::iter) {
            all.add(start, end);
        }
    }
    Ok(all.runs().complement(image.size()))
}

/// The free bytes of the one filesystem in `volume`; `None` if it is not known that there is one and nothing else. A
/// superblock says what was there once: a member of a pool can keep that of before.
fn free_space<R: ReadAt>(volume: &R, free: FreeRuns) -> io::Result<Option<FreeRuns>> {
    if signatures::found(volume, Tables::Foreign)?.is_some() {
        return Ok(None);
    }
    if !ext4::superblock::has_magic(volume)? {
        return fat::free_space(volume, free);
    }
    // ext4 leaves the first sector alone, and mke2fs clears it: with this end it is that of a FAT or a partition table.
    let mut end = [0; 2];
    volume.read_exact_at(510, &mut end)?;
    if end == [0x55, 0xAA] {
        return Ok(None);
    }
    ext4::free_space(volume, free)
}
