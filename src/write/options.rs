//! What is asked of the one pass, and what it answers. Does nothing.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::base::source::Sha256Sum;
use crate::edit::block::{Edits, Extents};

/// What becomes of blocks that no file system uses. Edited blocks never count as such.
#[derive(Clone, Copy, Debug)]
pub enum FreeSpace<'a> {
    /// They are not told from others.
    Written,
    /// They are written, but only these bytes of the image are [`Written::mapped`].
    Mapped(&'a Extents),
    /// They are left out, and not even decoded: only these bytes of the image matter.
    Skipped(&'a Extents),
}

/// Whether the digest of the whole image is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageDigest {
    /// Yes; free space that is skipped counts as zeroes.
    Sha256,
    /// No: only those of the mapped ranges.
    None,
}

/// How to write an image.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions<'a> {
    /// Threads that decode. What is written does not depend on it.
    pub threads: NonZeroUsize,
    /// What to do with free space.
    pub free: FreeSpace<'a>,
    /// Whether to hash the whole.
    pub digest: ImageDigest,
}

/// A range of the image that must be on a card, in bytes, with the digest of what is there. Never crosses a multiple
/// of 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where; a multiple of 4096 but for the end of the image.
    pub range: Range<u64>,
    /// What.
    pub sha256: Sha256Sum,
}

/// An image that was written to its end, and made to last.
#[derive(Debug)]
pub struct Written<D> {
    /// Bytes of image.
    pub size: u64,
    /// Digest of the image, where it was asked for.
    pub sha256: Option<Sha256Sum>,
    /// Everything that is not free, in order.
    pub mapped: Vec<Mapped>,
    /// Bytes of image that are free and were skipped.
    pub skipped: u64,
    /// What the sink says.
    pub done: D,
}

/// A card of a fleet: what makes it differ from the base, and where it goes.
#[derive(Debug)]
pub struct WriteTarget<'a, S> {
    /// In what it differs.
    pub edits: &'a Edits,
    /// What to do with free space.
    pub free: FreeSpace<'a>,
    /// Where it goes.
    pub sink: S,
}
