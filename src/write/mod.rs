//! Where a card's bytes go: one ordered pass over base and edits into a [`Sink`].
//!
//! A sink sees every byte of the image exactly once, in order, and is finished by value: one that was dropped has
//! written nothing that anybody will find. It never reads the base and never decides what an image holds.

pub mod bmap;
mod card;
mod error;
mod file;
pub mod flash;
pub mod image_manifest;
mod merge;
mod options;
mod output;
mod packed;
pub mod root_space;
mod write;

pub use card::{write_card, CardFailure, CardOptions, CardWritten};
pub use error::SinkError;
pub use file::FileSink;
pub use options::{FreeSpace, ImageDigest, Mapped, WriteOptions, WriteTarget, Written};
pub use output::{companions, write_fleet, write_output, FleetCard, Output, Packing};
pub use packed::{XzSink, ZstdSink};
pub use write::{write_image, write_images};

use crate::progress::Watch;

/// How a sink wants to be told of zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroes {
    /// Apart, by [`Sink::zeroes`], where a run of them is long enough: a new file has holes for them.
    Apart,
    /// As bytes like any other: whatever a card held before must be overwritten.
    AsBytes,
}

/// Something that takes an image.
///
/// After [`begin`](Self::begin), the calls of the other three cover the image from its first byte to its last, each
/// where the one before ended. Every offset is a multiple of 4096, every length too but that of the last call, and
/// none is longer than 1 MiB. `bytes` are aligned to 4096 bytes in memory, at the same distance from a multiple of
/// 4096 as `offset` is: direct I/O can take them as they are.
pub trait Sink {
    /// What finishing yields.
    type Done;

    /// How this sink wants zeroes.
    const ZEROES: Zeroes;

    /// An image of `size` bytes comes.
    ///
    /// # Errors
    /// [`SinkError`], where it will not fit or the sink cannot start.
    fn begin(&mut self, size: u64) -> Result<(), SinkError>;

    /// `bytes` stand at `offset`.
    ///
    /// # Errors
    /// [`SinkError`]; the sink is then of no use any more.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// `len` zeroes stand at `offset`. Not called where [`Self::ZEROES`] is [`Zeroes::AsBytes`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn zeroes(&mut self, offset: u64, len: u64) -> Result<(), SinkError>;

    /// No file system uses the `len` bytes at `offset`. A sink that is new reads as zeroes there; a card may keep
    /// what it holds.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn free(&mut self, offset: u64, len: u64) -> Result<(), SinkError>;

    /// All bytes were given: make them last.
    ///
    /// # Errors
    /// [`SinkError`]; then nothing counts as written.
    fn finish(self, watch: Watch<'_>) -> Result<Self::Done, SinkError>;
}

#[cfg(test)]
mod tests;
