//! The units that a base is decoded in: blocks of an .xz stream, or chunks of a raw image. It knows how to decode one,
//! and neither the order nor the thread.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::base::source::xz::{Block, BlockDecoder};
use crate::base::source::{Backing, XzError, CHUNK};
use crate::edit::block::ReadAt;
use crate::numbers::{at_most, u64_from_usize};

/// Memory for the decoders of all workers together, in bytes. A decoder holds at most as much of its dictionary as
/// its block is long.
const DECODERS: u64 = 96 << 20;

/// What a worker decodes as a whole.
pub(super) struct Unit {
    /// Its place in the image, in bytes.
    pub(super) range: Range<u64>,
    /// Its place in the file, if the base is an .xz.
    block: Option<Block>,
}

impl Unit {
    /// How many pieces it is cut into: one for each chunk that it has a part of.
    pub(super) fn pieces(&self) -> u64 {
        let Range { start, end } = self.range;
        end.div_ceil(CHUNK).saturating_sub(start / CHUNK)
    }
}

pub(super) enum Failure {
    Read(std::io::Error),
    Xz(XzError),
}

impl Backing {
    pub(super) fn unit(&self, number: usize) -> Option<Unit> {
        match self {
            Self::Raw(raw) => {
                let start = u64_from_usize(number).checked_mul(CHUNK)?;
                let end = raw.size().min(start.saturating_add(CHUNK));
                (start < end).then_some(Unit {
                    range: start..end,
                    block: None,
                })
            }
            Self::Xz(xz) => {
                let block = xz.index().get(number)?;
                Some(Unit {
                    range: block.image(),
                    block: Some(block),
                })
            }
        }
    }

    /// Bytes of the largest unit, and the number of workers: at most `threads`, and not more than there is work and
    /// memory for.
    pub(super) fn plan(&self, threads: NonZeroUsize) -> (u64, usize) {
        match self {
            Self::Raw(_) => (CHUNK, threads.get()),
            Self::Xz(xz) => {
                let largest = xz.index().largest();
                let most = at_most(DECODERS / largest.max(1), xz.index().len());
                (largest, threads.get().min(most).max(1))
            }
        }
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        match self {
            Self::Raw(raw) => Reader::Chunks { raw: &**raw, at: 0 },
            Self::Xz(xz) => Reader::Blocks(Box::new(xz.decoder())),
        }
    }
}

/// Decodes units; each worker has its own.
pub(super) enum Reader<'a> {
    Chunks { raw: &'a dyn ReadAt, at: u64 },
    Blocks(Box<BlockDecoder<'a>>),
}

impl Reader<'_> {
    /// Turn to a unit; `true` if it is known to hold nothing but zeroes, and need not be decoded.
    pub(super) fn begin(&mut self, unit: &Unit) -> Result<bool, Failure> {
        match (self, &unit.block) {
            (Self::Chunks { at, .. }, _) => {
                *at = unit.range.start;
                Ok(false)
            }
            (Self::Blocks(decoder), Some(block)) => decoder.begin(block).map_err(Failure::Xz),
            (Self::Blocks(_), None) => Err(Failure::Read(std::io::Error::other(
                "a unit of a raw image for the decoder of an .xz",
            ))),
        }
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::Chunks { raw, at } => {
                raw.read_exact_at(*at, out).map_err(Failure::Read)?;
                *at = at.saturating_add(crate::edit::block::length(out));
                Ok(())
            }
            Self::Blocks(decoder) => decoder.fill(out).map_err(Failure::Xz),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Chunks { .. } => Ok(()),
            Self::Blocks(decoder) => decoder.end().map_err(Failure::Xz),
        }
    }
}
