//! Which bytes of an image matter: everything but the blocks that its filesystems say are free.
//!
//! Free blocks need not be written to a card. It must never guess: a partition that is not understood, or whose
//! metadata contradicts itself, counts as allocated from end to end.

mod checks;
mod ext4;
mod extents;
mod fat;
mod free;

use std::io;

use crate::edit::block::{ReadAt, Window};

pub use extents::Extents;
use free::Free;

/// A partition: where it starts in the image and how long it is, both in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Length.
    pub size: u64,
}

/// The bytes of `image` that matter, given its `partitions`, in whole blocks. Read it through the overlay, so that what
/// the edits allocate counts.
///
/// # Errors
/// What reading the image says.
pub fn allocated<R: ReadAt>(image: &R, partitions: &[Range]) -> io::Result<Extents> {
    let mut all = Free::within(image.size(), 0);
    for range in partitions {
        let Some(window) = Window::new(image, range.start, range.size) else {
            continue;
        };
        let free = Free::within(image.size(), range.start);
        // Before an ext4 that is not to be relied on there may still be the first sector of a FAT that was there once.
        let found = if ext4::is_there(&window)? {
            ext4::free(&window, free)?
        } else {
            fat::free(&window, free)?
        };
        for (start, end) in found.map(Free::runs).iter().flat_map(Extents::iter) {
            all.add(start, end);
        }
    }
    Ok(all.runs().complement(image.size()))
}

/// Little-endian fields of a structure that is held whole in memory; out of bounds they read as `None`.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        let bytes = self.0.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    fn u32(self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}
