//! Multi-block .xz as a medium with random access and parallel decoding.
//!
//! The index at the end of each stream says where every block starts, packed and unpacked ([`index`]); a block is
//! decoded and its check verified on its own ([`block`]). Format: "The .xz File Format", version 1.2.1. Sections
//! below are of that document.

mod block;
mod error;
mod index;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use block::BlockDecoder;
pub use error::XzError;
pub(crate) use index::{Block, Index};

use crate::edit::block::{check_within, length, ReadAt};
use crate::numbers::at_most;

/// Decoded bytes that random access may keep, unless a single block is larger: 48 blocks of the 1 MiB that Ubuntu
/// uses since 18.04.2, two of the 24 MiB from before.
const KEPT: u64 = 48 << 20;

/// An .xz file whose blocks are small enough to be decoded one at a time.
pub(crate) struct XzImage {
    file: Arc<dyn ReadAt>,
    index: Index,
    zeroes: ZeroBlocks,
    kept: Mutex<Kept>,
}

impl XzImage {
    pub(crate) fn new(file: Arc<dyn ReadAt>, index: Index) -> Self {
        Self {
            file,
            index,
            zeroes: ZeroBlocks::default(),
            kept: Mutex::default(),
        }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// A decoder of this image's blocks; one for each thread.
    pub(crate) fn decoder(&self) -> BlockDecoder<'_> {
        BlockDecoder::new(&*self.file, &self.zeroes)
    }

    /// Free the memory that random access uses.
    pub(crate) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// The unpacked bytes of block `number`; `None` if all of them are zero.
    fn decoded(&self, number: usize, block: &Block) -> io::Result<Option<Arc<[u8]>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = kept.get(number) {
            return Ok(held.bytes.clone());
        }
        let mut decoder = self.decoder();
        let bytes = if decoder.begin(block)? {
            None
        } else {
            let len = usize::try_from(block.unpacked).map_err(|_| io::ErrorKind::OutOfMemory)?;
            let mut bytes = vec![0; len];
            decoder.fill(&mut bytes)?;
            decoder.end()?;
            Some(Arc::from(bytes))
        };
        kept.put(number, bytes.clone());
        Ok(bytes)
    }
}

impl ReadAt for XzImage {
    fn size(&self) -> u64 {
        self.index.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_within(io::ErrorKind::UnexpectedEof, offset, buf.len(), self.size())?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let (number, block) = self.index.holding(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let Range { start, end } = block.image();
            let run = at_most(end.saturating_sub(at), rest.len());
            let (now, later) = rest.split_at_mut(run);
            match self.decoded(number, &block)? {
                None => now.fill(0),
                Some(bytes) => bytes.read_exact_at(at.saturating_sub(start), now)?,
            }
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}

/// The blocks that random access used last, the latest at the back.
#[derive(Default)]
struct Kept {
    blocks: VecDeque<KeptBlock>,
    bytes: u64,
}

struct KeptBlock {
    number: usize,
    /// `None` if all of its bytes are zero.
    bytes: Option<Arc<[u8]>>,
}

impl Kept {
    fn get(&mut self, number: usize) -> Option<&KeptBlock> {
        let at = self.blocks.iter().position(|held| held.number == number)?;
        let held = self.blocks.remove(at)?;
        self.blocks.push_back(held);
        self.blocks.back()
    }

    fn put(&mut self, number: usize, bytes: Option<Arc<[u8]>>) {
        self.bytes = self.bytes.saturating_add(bytes.as_deref().map_or(0, length));
        self.blocks.push_back(KeptBlock { number, bytes });
        // The entry count is bounded too: blocks of zeroes take no bytes.
        while self.blocks.len() > 1 && (self.bytes > KEPT || self.blocks.len() > 256) {
            if let Some(held) = self.blocks.pop_front() {
                self.bytes = self.bytes.saturating_sub(held.bytes.as_deref().map_or(0, length));
            }
        }
    }
}

/// Packed blocks that are known to unpack to zeroes. Most blocks of a sparse image are the same few hundred bytes;
/// comparing them is a hundred times cheaper than decoding them.
#[derive(Default)]
pub(crate) struct ZeroBlocks(Mutex<Vec<ZeroBlock>>);

struct ZeroBlock {
    unpacked: u64,
    packed: Box<[u8]>,
}

impl ZeroBlocks {
    /// Zeroes pack about 4000 to 1: a block that is larger than this fraction of its content has other bytes.
    const RATIO: u64 = 1000;

    /// How many are remembered: a full block and the short last one, each in two packings.
    const KEPT: usize = 4;

    fn plausible(block: &Block) -> bool {
        block.packed < block.unpacked / Self::RATIO
    }

    fn has(&self, block: &Block, packed: &[u8]) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .any(|known| known.unpacked == block.unpacked && *known.packed == *packed)
    }

    fn learn(&self, block: &Block, packed: &[u8]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < Self::KEPT {
            known.push(ZeroBlock {
                unpacked: block.unpacked,
                packed: packed.into(),
            });
        }
    }
}
