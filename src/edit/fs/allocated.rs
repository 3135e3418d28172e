//! Which bytes of an image matter: everything but the blocks that its filesystems say are free.
//!
//! Free blocks need not be written to a card. It must never guess: a partition that is not understood, or whose
//! metadata contradicts itself, counts as allocated from end to end.

use std::io;

use super::free_runs::FreeRuns;
use super::{ext4, fat};
use crate::edit::block::{Extents, ReadAt, Span};

/// The bytes of `image` that matter, given its `partitions`, in whole blocks. Read the image through the overlay, so
/// that what the edits allocate counts.
pub fn allocated<R: ReadAt>(image: &R, partitions: &[Span]) -> io::Result<Extents> {
    let mut all = FreeRuns::within(image.size(), 0);
    for span in partitions {
        let Some(window) = span.of(image) else {
            continue;
        };
        let free = FreeRuns::within(image.size(), span.start());
        // In front of an ext4 that cannot be trusted there may still be the first sector of an earlier FAT.
        let found = if ext4::superblock::has_magic(&window)? {
            ext4::free_space(&window, free)?
        } else {
            fat::free_space(&window, free)?
        };
        for (start, end) in found.map(FreeRuns::runs).iter().flat_map(Extents::iter) {
            all.add(start, end);
        }
    }
    Ok(all.runs().complement(image.size()))
}
