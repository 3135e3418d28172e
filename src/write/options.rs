//! The options and the results of the one pass. Types only.

use std::num::NonZeroUsize;
use std::ops::Range;

use super::SinkError;
use crate::base::source::Sha256Sum;
use crate::edit::block::{Edits, Extents};

/// What to do with blocks that no filesystem uses. Edited blocks always count as used.
#[derive(Clone, Copy, Debug)]
pub enum FreeSpace<'a> {
    /// Write them like others.
    Written,
    /// Write them, but report only these bytes of the image as [`Written::mapped`].
    Mapped(&'a Extents),
    /// Neither decode nor write them: only these bytes of the image matter.
    Skipped(&'a Extents),
}

/// Whether the digest of the whole image is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageDigest {
    /// Yes. Free space that is skipped counts as zeroes.
    Sha256,
    /// No: only those of the mapped ranges.
    None,
}

#[derive(Clone, Copy, Debug)]
pub struct WriteOptions<'a> {
    /// Threads that decode. The output does not depend on it.
    pub threads: NonZeroUsize,
    pub free: FreeSpace<'a>,
    pub digest: ImageDigest,
}

/// A range of the image that must be on a card, in bytes, with the digest of what is there. Never crosses a multiple
/// of 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where; a multiple of 4096 but for the end of the image.
    pub range: Range<u64>,
    pub sha256: Sha256Sum,
}

/// An image that is written and on stable storage.
#[derive(Debug)]
pub struct Written<D> {
    pub size: u64,
    /// Digest of the image, if it was asked for.
    pub sha256: Option<Sha256Sum>,
    /// Everything that is not free, in order.
    pub mapped: Vec<Mapped>,
    /// Bytes of image that are free and were skipped.
    pub skipped: u64,
    pub done: D,
}

impl<D> Written<D> {
    /// The same image with another result of its sink.
    pub(super) fn with<E>(
        self,
        done: impl FnOnce(D) -> Result<E, SinkError>,
    ) -> Result<Written<E>, SinkError> {
        Ok(Written {
            size: self.size,
            sha256: self.sha256,
            mapped: self.mapped,
            skipped: self.skipped,
            done: done(self.done)?,
        })
    }
}

/// One card of a fleet: its edits and its destination.
#[derive(Debug)]
pub struct WriteTarget<'a, S> {
    pub edits: &'a Edits,
    pub free: FreeSpace<'a>,
    pub sink: S,
}
