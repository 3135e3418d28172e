//! What each card has of a cell of the base: the edits laid over, zeroes told apart, what is mapped hashed. Runs on the
//! decoders' threads, and writes nothing.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::job::{FreeSpace, Mapped, Target};
use super::{Sink, SinkError, Zeroes};
use crate::base::source::{is_zero, Buffer, Cell, Content, Pool, Sha256Sum, CELL_LEN};
use crate::edit::block::Extents;
use crate::edit::block::{length, Edits, BLOCK, BLOCK_LEN};

/// The shortest run of zeroes that is told apart, in bytes: a hole saves less than it costs in writes and extents
/// where it is shorter.
const HOLE: u64 = 64 << 10;

/// What the decoder must not leave out; `None`: nothing.
pub(super) fn needed_by_any(merges: &[Merge<'_>]) -> Option<Extents> {
    let mut all = Extents::default();
    for merge in merges {
        let needed = merge.needed.as_ref().filter(|_| merge.free == Free::Skipped)?;
        for (start, end) in needed.iter() {
            all.add(start, end);
        }
    }
    Some(all)
}

/// What each card has of a cell. Those that have the same share it: cards of a fleet differ in few cells.
pub(super) fn pieces(merges: &[Merge<'_>], cell: Cell) -> Vec<Arc<Piece>> {
    let range = cell.range();
    let like = |merge: &Merge<'_>| merges.iter().position(|other| other.is_like(merge, &range));
    let mut cell = Some(cell);
    let mut made: Vec<Arc<Piece>> = Vec::new();
    for (number, merge) in merges.iter().enumerate() {
        if let Some(same) = like(merge).and_then(|first| made.get(first)) {
            made.push(Arc::clone(same));
            continue;
        }
        let is_last = merges
            .iter()
            .skip(number.saturating_add(1))
            .all(|later| like(later).is_some_and(|first| first <= number));
        let own = if is_last {
            cell.take()
        } else {
            cell.as_ref().map(|cell| cell.copy(merge.pool))
        };
        if let Some(own) = own {
            made.push(Arc::new(merge.piece(own)));
        }
    }
    made
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
enum Free {
    Written,
    Skipped,
}

/// What workers do to a cell.
pub(super) struct Merge<'a> {
    edits: &'a Edits,
    needed: Option<Extents>,
    free: Free,
    zeroes: Zeroes,
    pool: &'a Pool,
}

impl<'a> Merge<'a> {
    /// What makes the card of `target` of an image of `size` bytes.
    pub(super) fn new<S: Sink>(target: &Target<'a, S>, size: u64, pool: &'a Pool) -> Result<Self, SinkError> {
        let edits = target.edits;
        if edits.image_size() != size {
            return Err(SinkError::OtherBase {
                edits: edits.image_size(),
                base: size,
            });
        }
        let (needed, free) = match target.free {
            FreeSpace::Written => (None, Free::Written),
            FreeSpace::Mapped(needed) => (Some(with_edits(needed, edits, size)), Free::Written),
            FreeSpace::Skipped(needed) => (Some(with_edits(needed, edits, size)), Free::Skipped),
        };
        Ok(Self {
            edits,
            needed,
            free,
            zeroes: S::ZEROES,
            pool,
        })
    }

    /// Whether both make the same of `range`: neither edits it, and both need the same of it.
    fn is_like(&self, other: &Self, range: &Range<u64>) -> bool {
        let needs = |merge: &'_ Self| -> Option<Vec<(u64, u64)>> {
            let needed = merge.needed.as_ref()?;
            Some(needed.within(range.start, range.end).collect())
        };
        let plain = |merge: &Self| merge.edits.range(range.start, range.end).next().is_none();
        std::ptr::eq(self, other)
            || self.free == other.free && plain(self) && plain(other) && needs(self) == needs(other)
    }

    fn piece(&self, cell: Cell) -> Piece {
        let range = cell.range();
        let buffer = self.edited(cell, &range);
        let mut piece = Piece {
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
            self.free(&mut piece, at..needed.start);
            at = needed.end;
            piece.mapped.push(Mapped {
                sha256: piece.sha256(&needed),
                range: needed.clone(),
            });
            self.written(&mut piece, needed);
        }
        self.free(&mut piece, at..range.end);
        piece
    }

    fn written(&self, piece: &mut Piece, range: Range<u64>) {
        match self.zeroes {
            Zeroes::AsBytes => piece.run(range, Kind::Bytes),
            Zeroes::Apart => piece.split(range),
        }
    }

    fn free(&self, piece: &mut Piece, range: Range<u64>) {
        match self.free {
            Free::Written => self.written(piece, range),
            Free::Skipped => piece.run(range, Kind::Free),
        }
    }

    /// The cell's bytes with the edits laid over; `None` where all are zero, or do not matter.
    fn edited(&self, cell: Cell, range: &Range<u64>) -> Option<Buffer> {
        let touched = self.edits.range(range.start, range.end).next().is_some();
        let mut buffer = match cell.content {
            Content::Bytes(buffer) => buffer,
            Content::Zero | Content::Unread if touched => self.pool.zeroed(cell.len),
            Content::Zero | Content::Unread => return None,
        };
        self.edits.apply(range.start, &mut buffer);
        Some(buffer)
    }
}

/// A cell of what is to be written.
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    /// `None` where all is zero or free.
    buffer: Option<Buffer>,
    /// They cover `range`.
    pub(super) runs: Vec<Run>,
    pub(super) mapped: Vec<Mapped>,
}

pub(super) struct Run {
    pub(super) range: Range<u64>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Zero,
    Free,
}

impl Piece {
    pub(super) fn bytes(&self, range: &Range<u64>) -> &[u8] {
        let place = |at: u64| usize::try_from(at.saturating_sub(self.range.start)).unwrap_or(CELL_LEN);
        let bytes = self.buffer.as_deref().unwrap_or(zero_cell());
        bytes
            .get(place(range.start)..place(range.end))
            .unwrap_or_default()
    }

    /// Add a run; one of the same kind as the last grows that.
    fn run(&mut self, range: Range<u64>, kind: Kind) {
        if range.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.kind == kind => last.range.end = range.end,
            _ => self.runs.push(Run { range, kind }),
        }
    }

    /// Add `range` as runs of bytes and, where they are long enough, of zeroes; in whole blocks.
    fn split(&mut self, range: Range<u64>) {
        if self.buffer.is_none() {
            return self.run(range, Kind::Zero);
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
                self.run(at..zero.start, Kind::Bytes);
                at = zero.end;
                self.run(zero, Kind::Zero);
            }
        }
        self.run(at..range.end, Kind::Bytes);
    }

    fn sha256(&self, range: &Range<u64>) -> Sha256Sum {
        static ZERO: OnceLock<Sha256Sum> = OnceLock::new();
        let bytes = self.bytes(range);
        if self.buffer.is_none() && bytes.len() == CELL_LEN {
            return *ZERO.get_or_init(|| Sha256Sum::of(bytes));
        }
        Sha256Sum::of(bytes)
    }

    /// Take the piece into the digest of the whole image.
    pub(super) fn hash(&self, hash: &mut Sha256) {
        for run in &self.runs {
            let len = usize::try_from(run.range.end - run.range.start).unwrap_or(CELL_LEN);
            hash.update(match run.kind {
                Kind::Bytes => self.bytes(&run.range),
                Kind::Zero | Kind::Free => zero_cell().get(..len).unwrap_or_default(),
            });
        }
    }
}

/// A cell of zeroes, aligned as buffers are.
fn zero_cell() -> &'static [u8] {
    static ZERO: OnceLock<Buffer> = OnceLock::new();
    ZERO.get_or_init(|| Pool::default().zeroed(CELL_LEN))
}
