//! What each card has of a chunk of the base: its edits applied, runs of zeroes found, mapped ranges hashed. It runs on
//! the decoders' threads, and must never write.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::options::{FreeSpace, Mapped, WriteTarget};
use super::{Sink, SinkError, Zeroes};
use crate::base::source::{is_zero, Buffer, BufferPool, Chunk, ChunkContent, Sha256Sum, CHUNK_LEN};
use crate::edit::block::{length, Edits, Extents, BLOCK, BLOCK_LEN};
use crate::numbers::usize_from_u64;

/// The shortest run of zeroes that becomes a hole, in bytes: a shorter hole costs more in writes and extents than it
/// saves.
const HOLE: u64 = 64 << 10;

/// The bytes that the decoder must not leave out; `None`: all of them.
pub(super) fn needed_by_any(merges: &[Merge<'_>]) -> Option<Extents> {
    let mut all = Extents::default();
    for merge in merges {
        let needed = merge
            .needed
            .as_ref()
            .filter(|_| merge.free == FreeBlocks::Skipped)?;
        for (start, end) in needed.iter() {
            all.add(start, end);
        }
    }
    Some(all)
}

/// What each card has of a chunk. Cards that have the same share it: cards of a fleet differ in few chunks.
pub(super) fn merge_chunk(merges: &[Merge<'_>], chunk: Chunk) -> Vec<Arc<MergedChunk>> {
    let range = chunk.range();
    // The first card of each group of cards that have the same, and the group of each card.
    let mut groups: Vec<&Merge<'_>> = Vec::new();
    let mut group_of_card = Vec::new();
    for merge in merges {
        let same = groups.iter().position(|first| first.is_like(merge, &range));
        group_of_card.push(same.unwrap_or(groups.len()));
        if same.is_none() {
            groups.push(merge);
        }
    }
    // The last group takes the chunk itself, those before it take copies.
    let mut chunks: Vec<Chunk> = groups
        .iter()
        .skip(1)
        .map(|merge| chunk.copy(merge.pool))
        .collect();
    chunks.push(chunk);
    let merged: Vec<_> = groups
        .into_iter()
        .zip(chunks)
        .map(|(merge, chunk)| Arc::new(merge.merge(chunk)))
        .collect();
    group_of_card
        .into_iter()
        .filter_map(|group| merged.get(group).cloned())
        .collect()
}

fn with_edits(needed: &Extents, edits: &Edits, size: u64) -> Extents {
    let mut all = needed.clone();
    for (offset, bytes) in edits.iter() {
        all.add(offset, offset.saturating_add(length(bytes)));
    }
    all.aligned(BLOCK, size)
}

/// Whether free space is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FreeBlocks {
    Written,
    Skipped,
}

/// How a chunk of the base becomes a chunk of one card.
pub(super) struct Merge<'a> {
    edits: &'a Edits,
    needed: Option<Extents>,
    free: FreeBlocks,
    zeroes: Zeroes,
    pool: &'a BufferPool,
}

impl<'a> Merge<'a> {
    /// For the card of `target`, of a base of `size` bytes.
    pub(super) fn new<S: Sink>(
        target: &WriteTarget<'a, S>,
        size: u64,
        pool: &'a BufferPool,
    ) -> Result<Self, SinkError> {
        let edits = target.edits;
        if edits.image_size() != size {
            return Err(SinkError::OtherBase {
                edits: edits.image_size(),
                base: size,
            });
        }
        let (needed, free) = match target.free {
            FreeSpace::Written => (None, FreeBlocks::Written),
            FreeSpace::Mapped(needed) => (Some(with_edits(needed, edits, size)), FreeBlocks::Written),
            FreeSpace::Skipped(needed) => (Some(with_edits(needed, edits, size)), FreeBlocks::Skipped),
        };
        Ok(Self {
            edits,
            needed,
            free,
            zeroes: S::ZEROES,
            pool,
        })
    }

    /// Whether both cards have the same in `range`: neither edits it, and both need the same of it.
    fn is_like(&self, other: &Self, range: &Range<u64>) -> bool {
        let needs = |merge: &'_ Self| -> Option<Vec<(u64, u64)>> {
            let needed = merge.needed.as_ref()?;
            Some(needed.within(range.start, range.end).collect())
        };
        let plain = |merge: &Self| merge.edits.range(range.start, range.end).next().is_none();
        std::ptr::eq(self, other)
            || self.free == other.free && plain(self) && plain(other) && needs(self) == needs(other)
    }

    fn merge(&self, chunk: Chunk) -> MergedChunk {
        let range = chunk.range();
        let buffer = self.edited(chunk, &range);
        let mut merged = MergedChunk {
            range: range.clone(),
            buffer,
            runs: Vec::new(),
            mapped: Vec::new(),
        };
        let mut at = range.start;
        let needed: Vec<Range<u64>> = match &self.needed {
            None => vec![range.clone()],
            Some(needed) => needed
                .within(range.start, range.end)
                .map(|(start, end)| start..end)
                .collect(),
        };
        for needed in needed {
            self.free(&mut merged, at..needed.start);
            at = needed.end;
            merged.mapped.push(Mapped {
                sha256: merged.sha256(&needed),
                range: needed.clone(),
            });
            self.written(&mut merged, needed);
        }
        self.free(&mut merged, at..range.end);
        merged
    }

    fn written(&self, merged: &mut MergedChunk, range: Range<u64>) {
        match self.zeroes {
            Zeroes::AsBytes => merged.run(range, RunKind::Bytes),
            Zeroes::Apart => merged.split(range),
        }
    }

    fn free(&self, merged: &mut MergedChunk, range: Range<u64>) {
        match self.free {
            FreeBlocks::Written => self.written(merged, range),
            FreeBlocks::Skipped => merged.run(range, RunKind::Free),
        }
    }

    /// The chunk's bytes with the edits applied; `None` if all are zero, or do not matter.
    fn edited(&self, chunk: Chunk, range: &Range<u64>) -> Option<Buffer> {
        let touched = self.edits.range(range.start, range.end).next().is_some();
        let mut buffer = match chunk.content {
            ChunkContent::Bytes(buffer) => buffer,
            ChunkContent::Zero | ChunkContent::Unread if touched => self.pool.zeroed(chunk.len),
            ChunkContent::Zero | ChunkContent::Unread => return None,
        };
        self.edits.apply(range.start, &mut buffer);
        Some(buffer)
    }
}

/// A chunk of what is to be written.
pub(super) struct MergedChunk {
    pub(super) range: Range<u64>,
    /// `None` if all is zero or free.
    buffer: Option<Buffer>,
    /// They cover `range`.
    pub(super) runs: Vec<Run>,
    pub(super) mapped: Vec<Mapped>,
}

pub(super) struct Run {
    pub(super) range: Range<u64>,
    pub(super) kind: RunKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RunKind {
    Bytes,
    Zero,
    Free,
}

impl MergedChunk {
    pub(super) fn bytes(&self, range: &Range<u64>) -> &[u8] {
        let place = |at: u64| usize_from_u64(at.saturating_sub(self.range.start));
        let bytes = self.buffer.as_deref().unwrap_or(zero_chunk());
        &bytes[place(range.start)..place(range.end)]
    }

    /// Add a run; one of the same kind as the last grows that.
    fn run(&mut self, range: Range<u64>, kind: RunKind) {
        if range.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.kind == kind => last.range.end = range.end,
            _ => self.runs.push(Run { range, kind }),
        }
    }

    /// Add `range` as runs of bytes and of zeroes, in whole blocks. Short runs of zeroes count as bytes.
    fn split(&mut self, range: Range<u64>) {
        if self.buffer.is_none() {
            return self.run(range, RunKind::Zero);
        }
        let blocks = self.bytes(&range).chunks(BLOCK_LEN).map(is_zero);
        let mut zeroes: Vec<Range<u64>> = Vec::new();
        for (start, zero) in (range.start..range.end).step_by(BLOCK_LEN).zip(blocks) {
            let end = start.saturating_add(BLOCK).min(range.end);
            match zeroes.last_mut() {
                _ if !zero => {}
                Some(last) if last.end == start => last.end = end,
                _ => zeroes.push(start..end),
            }
        }
        let mut at = range.start;
        for zero in zeroes {
            let whole = zero == range;
            if whole || zero.end - zero.start >= HOLE {
                self.run(at..zero.start, RunKind::Bytes);
                at = zero.end;
                self.run(zero, RunKind::Zero);
            }
        }
        self.run(at..range.end, RunKind::Bytes);
    }

    fn sha256(&self, range: &Range<u64>) -> Sha256Sum {
        static ZERO: OnceLock<Sha256Sum> = OnceLock::new();
        let bytes = self.bytes(range);
        if self.buffer.is_none() && bytes.len() == CHUNK_LEN {
            return *ZERO.get_or_init(|| Sha256Sum::of(bytes));
        }
        Sha256Sum::of(bytes)
    }

    /// Add the chunk to the digest of the whole image.
    pub(super) fn hash(&self, hash: &mut Sha256) {
        for run in &self.runs {
            let len = usize_from_u64(run.range.end - run.range.start);
            hash.update(match run.kind {
                RunKind::Bytes => self.bytes(&run.range),
                RunKind::Zero | RunKind::Free => &zero_chunk()[..len],
            });
        }
    }
}

/// A chunk of zeroes, aligned as buffers are.
fn zero_chunk() -> &'static [u8] {
    static ZERO: OnceLock<Buffer> = OnceLock::new();
    ZERO.get_or_init(|| BufferPool::default().zeroed(CHUNK_LEN))
}
