//! What a base is decoded in: blocks of an .xz stream, or cells of a raw image. Knows how to decode one, and not in which
//! order or by whom.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::base::source::xz::{BlockDecoder, Index};
use crate::base::source::{Medium, XzError, XzImage, CELL};
use crate::edit::block::ReadAt;

/// Memory for the decoders of all workers together, in bytes. A decoder holds at most as much of its dictionary as
/// its block is long.
const DECODERS: u64 = 96 << 20;

/// How decoding failed.
pub(super) enum Failure {
    Read(std::io::Error),
    Xz(XzError),
}

/// What a base is decoded in.
#[derive(Clone, Copy)]
pub(super) enum Units<'a> {
    Cells(&'a dyn ReadAt),
    Blocks(&'a XzImage),
}

impl<'a> Units<'a> {
    pub(super) fn of(medium: &'a Medium) -> Self {
        match medium {
            Medium::Raw(raw) => Self::Cells(&**raw),
            Medium::Xz(xz) => Self::Blocks(xz),
        }
    }

    fn index(&self) -> Option<&'a Index> {
        match self {
            Self::Cells(_) => None,
            Self::Blocks(xz) => Some(xz.index()),
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<Range<u64>> {
        match self {
            Self::Cells(raw) => {
                let start = u64::try_from(number).ok()?.checked_mul(CELL)?;
                (start < raw.size()).then(|| start..raw.size().min(start.saturating_add(CELL)))
            }
            Self::Blocks(xz) => Some(xz.index().get(number)?.image()),
        }
    }

    pub(super) fn largest(&self) -> u64 {
        self.index().map_or(CELL, Index::largest)
    }

    /// How many workers: as many as asked for, as there is work for, and as there is memory for.
    pub(super) fn workers(&self, threads: NonZeroUsize) -> usize {
        let fits = match self {
            Self::Cells(_) => usize::MAX,
            Self::Blocks(xz) => usize::try_from(DECODERS / xz.index().largest().max(1))
                .unwrap_or(usize::MAX)
                .min(xz.index().len()),
        };
        threads.get().min(fits).max(1)
    }

    pub(super) fn reader(&self) -> Reader<'a> {
        match self {
            Self::Cells(raw) => Reader::Cells { raw: *raw, at: 0 },
            Self::Blocks(xz) => Reader::Blocks {
                index: xz.index(),
                decoder: Box::new(xz.decoder()),
            },
        }
    }
}

/// Decodes units; each worker has its own.
pub(super) enum Reader<'a> {
    Cells {
        raw: &'a dyn ReadAt,
        at: u64,
    },
    Blocks {
        index: &'a Index,
        decoder: Box<BlockDecoder<'a>>,
    },
}

impl Reader<'_> {
    /// Turn to a unit; `true` where it is known to hold nothing but zeroes.
    pub(super) fn begin(&mut self, number: usize, unit: &Range<u64>) -> Result<bool, Failure> {
        match self {
            Self::Cells { at, .. } => {
                *at = unit.start;
                Ok(false)
            }
            Self::Blocks { index, decoder } => match index.get(number) {
                Some(block) => decoder.begin(&block).map_err(Failure::Xz),
                None => Ok(true),
            },
        }
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::Cells { raw, at } => {
                raw.read_exact_at(*at, out).map_err(Failure::Read)?;
                *at = at.saturating_add(crate::edit::block::length(out));
                Ok(())
            }
            Self::Blocks { decoder, .. } => decoder.fill(out).map_err(Failure::Xz),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Cells { .. } => Ok(()),
            Self::Blocks { decoder, .. } => decoder.end().map_err(Failure::Xz),
        }
    }
}
