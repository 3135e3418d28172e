//! The destination of a card's bytes: one ordered pass over base and edits into a [`Sink`].
//!
//! A sink gets every byte of the image exactly once, in order, and is finished by value: a sink that is dropped leaves
//! nothing behind. It never reads the base and never decides what an image holds.

pub mod bmap;
mod card;
mod error;
mod file;
pub mod flash;
pub mod image_manifest;
mod merge;
mod one_pass;
mod options;
mod output;
mod packed;
pub mod root_space;

pub use card::{write_card, CardFailure, CardOptions};
pub use error::SinkError;
pub use file::FileSink;
pub use one_pass::{write_image, write_images};
pub use options::{FreeSpace, ImageDigest, Mapped, WriteOptions, WriteTarget, Written};
pub use output::{companions, write_fleet, write_output, FleetCard, Output, Packing};
pub use packed::{XzSink, ZstdSink};

use crate::progress::Observer;

/// How a sink takes zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroes {
    /// Long runs by [`Sink::gap`]: a new file has holes for them.
    Apart,
    /// By [`Sink::write`] like other bytes: the old bytes of a card must be overwritten.
    AsBytes,
}

/// Why bytes are not given to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// They are zero.
    Zero,
    /// No filesystem uses them.
    Free,
}

/// Something that takes an image.
///
/// After [`begin`](Self::begin), the calls of `write` and `gap` cover the image from its first byte to its last; each
/// begins at the end of the one before. Every offset is a multiple of 4096, and so is every length except that of the
/// last call. No call has more than 1 MiB. `bytes` are aligned to 4096 bytes in memory, so that direct I/O can use
/// them.
pub trait Sink {
    type Done;

    const ZEROES: Zeroes;

    /// Start an image of `size` bytes.
    fn begin(&mut self, size: u64) -> Result<(), SinkError>;

    /// Write `bytes` at `offset`.
    ///
    /// # Errors
    /// After an error the sink cannot be used any more.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// Skip `len` bytes at `offset`. A new file must read as zeroes there; a card may keep its old bytes if no
    /// filesystem uses them. Not called with [`Gap::Zero`] if [`Self::ZEROES`] is [`Zeroes::AsBytes`].
    fn gap(&mut self, offset: u64, len: u64, reason: Gap) -> Result<(), SinkError>;

    /// Flush everything to stable storage and return the result.
    ///
    /// # Errors
    /// After an error nothing counts as written.
    fn finish(self, observer: Observer<'_>) -> Result<Self::Done, SinkError>;
}

#[cfg(test)]
mod tests;
