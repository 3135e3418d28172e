//! The one pass: base, edits and map of what is needed, merged in order into a sink.
//!
//! Workers decode, lay the edits over, look for zeroes and hash what is mapped; this thread writes. The digest of the
//! whole image, where it is asked for, has a thread of its own: SHA-256 cannot be split.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::{Sink, SinkError, Zeroes};
use crate::block::{length, Edits, ReadAt, BLOCK, BLOCK_LEN};
use crate::map::Extents;
use crate::source::{
    is_zero, BaseImage, Buffer, Cell, Content, Order, PassError, Pool, Sha256Sum, SourceError, Verified,
    CELL_LEN,
};
use crate::watch::{Phase, Watch};

/// The shortest run of zeroes that is told apart, in bytes: a hole saves less than it costs in writes and extents
/// where it is shorter.
const HOLE: u64 = 64 << 10;

/// Cells that may wait for the thread that hashes the whole image.
const WAITING: usize = 8;

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
pub struct Target<'a, S> {
    /// In what it differs.
    pub edits: &'a Edits,
    /// What to do with free space.
    pub free: FreeSpace<'a>,
    /// Where it goes.
    pub sink: S,
}

/// Write the card that `edits` make of `base` into `sink`.
///
/// # Errors
/// [`SinkError`]. The sink is dropped unfinished, and a base whose file was written to meanwhile is an error too.
pub fn write_image<S: Sink>(
    base: &Verified<BaseImage>,
    edits: &Edits,
    sink: S,
    options: WriteOptions<'_>,
    watch: Watch<'_>,
) -> Result<Written<S::Done>, SinkError> {
    let target = Target {
        edits,
        free: options.free,
        sink,
    };
    let mut all = write_images(base, vec![target], options, watch)?;
    // One goes in, one comes out.
    all.pop().ok_or(SinkError::Source(SourceError::Cancelled))
}

/// Write several cards of one base, which is decoded once; all of `options` but the free space is for all of them.
/// They are in the order of `targets`.
///
/// # Errors
/// As [`write_image`]; then no sink is finished.
pub fn write_images<S: Sink>(
    base: &Verified<BaseImage>,
    targets: Vec<Target<'_, S>>,
    options: WriteOptions<'_>,
    watch: Watch<'_>,
) -> Result<Vec<Written<S::Done>>, SinkError> {
    let size = base.size();
    let pool = Pool::default();
    let mut merges = Vec::new();
    let mut outlets = Vec::new();
    for target in targets {
        merges.push(Merge::new::<S>(&target, size, &pool)?);
        outlets.push(Outlet {
            sink: target.sink,
            mapped: Vec::new(),
            skipped: 0,
            hasher: None,
        });
    }
    let needed = needed_by_any(&merges);
    let order = Order {
        threads: options.threads,
        needed: needed.as_ref(),
        cancel: watch.cancel,
        pool: &pool,
    };
    for outlet in &mut outlets {
        outlet.sink.begin(size)?;
    }
    let sums = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for outlet in &mut outlets {
            if options.digest == ImageDigest::None {
                continue;
            }
            let (sender, receiver) = sync_channel::<Arc<Piece>>(WAITING);
            outlet.hasher = Some(sender);
            threads.push(scope.spawn(move || {
                let mut hash = Sha256::new();
                for piece in receiver {
                    piece.hash(&mut hash);
                }
                Sha256Sum(hash.finalize().into())
            }));
        }
        let passed = base.pass(order, &|cell| pieces(&merges, cell), |pieces: Vec<Arc<Piece>>| {
            let end = pieces.first().map_or(0, |piece| piece.range.end);
            for (outlet, piece) in outlets.iter_mut().zip(pieces) {
                outlet.take(piece)?;
            }
            watch.progress.advance(Phase::Write, end, size);
            Ok(())
        });
        // Whether or not all went well: they wait for more until nobody can send any.
        for outlet in &mut outlets {
            outlet.hasher = None;
        }
        passed.map_err(|error| match error {
            PassError::Source(source) => SinkError::Source(source),
            PassError::Consumer(error) => error,
        })?;
        // One panics only where SHA-256 does, and then the scope panics too.
        let sums = threads.into_iter().map(|thread| thread.join().ok());
        Ok::<Vec<_>, SinkError>(sums.collect())
    })?;
    base.unchanged()?;
    let mut sums = sums.into_iter();
    let mut written = Vec::new();
    for outlet in outlets {
        written.push(Written {
            size,
            sha256: sums.next().flatten(),
            mapped: outlet.mapped,
            skipped: outlet.skipped,
            done: outlet.sink.finish(watch)?,
        });
    }
    Ok(written)
}

/// What the decoder must not leave out; `None`: nothing.
fn needed_by_any(merges: &[Merge<'_>]) -> Option<Extents> {
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
fn pieces(merges: &[Merge<'_>], cell: Cell) -> Vec<Arc<Piece>> {
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

/// Where a card's pieces go.
struct Outlet<S> {
    sink: S,
    mapped: Vec<Mapped>,
    skipped: u64,
    hasher: Option<SyncSender<Arc<Piece>>>,
}

impl<S: Sink> Outlet<S> {
    /// Write one piece, and pass it on.
    fn take(&mut self, piece: Arc<Piece>) -> Result<(), SinkError> {
        for run in &piece.runs {
            let len = run.range.end - run.range.start;
            match run.kind {
                Kind::Bytes => self.sink.write(run.range.start, piece.bytes(&run.range))?,
                Kind::Zero => self.sink.zeroes(run.range.start, len)?,
                Kind::Free => {
                    self.skipped += len;
                    self.sink.free(run.range.start, len)?;
                }
            }
        }
        self.mapped.extend_from_slice(&piece.mapped);
        if let Some(hasher) = &self.hasher {
            // It can only be gone where it panicked.
            let _sent = hasher.send(piece);
        }
        Ok(())
    }
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
struct Merge<'a> {
    edits: &'a Edits,
    needed: Option<Extents>,
    free: Free,
    zeroes: Zeroes,
    pool: &'a Pool,
}

impl<'a> Merge<'a> {
    /// What makes the card of `target` of an image of `size` bytes.
    fn new<S: Sink>(target: &Target<'a, S>, size: u64, pool: &'a Pool) -> Result<Self, SinkError> {
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
struct Piece {
    range: Range<u64>,
    /// `None` where all is zero or free.
    buffer: Option<Buffer>,
    /// They cover `range`.
    runs: Vec<Run>,
    mapped: Vec<Mapped>,
}

struct Run {
    range: Range<u64>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes,
    Zero,
    Free,
}

impl Piece {
    fn bytes(&self, range: &Range<u64>) -> &[u8] {
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
    fn hash(&self, hash: &mut Sha256) {
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
