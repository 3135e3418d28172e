//! One pass over a base: decoded in parallel, handed over in order, in bounded memory.
//!
//! The image is cut into cells of [`CELL`] bytes. Workers take the base's units (an .xz block; a cell of a raw image)
//! in order and decode them piece by piece; a piece is made only while it lies less than a window ahead of what was
//! handed over, so that memory does not grow with the image, the size of its blocks or the number of threads, and
//! the worker on the foremost unit can always go on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::xz::{BlockDecoder, Index};
use super::{BaseImage, Buffer, Medium, Pool, SourceError, CELL, CELL_LEN};
use crate::block::ReadAt;
use crate::map::Extents;
use crate::watch::Cancel;

/// Memory for the decoders of all workers together, in bytes. A decoder holds at most as much of its dictionary as
/// its block is long.
const DECODERS: u64 = 96 << 20;

/// Bounds of the window, in pieces of at most [`CELL`] bytes.
const WINDOW: (usize, usize) = (16, 80);

/// What a pass is to do.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) threads: NonZeroUsize,
    /// The bytes that are needed; what lies in a unit without any is not decoded. `None`: all.
    pub(crate) needed: Option<&'a Extents>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) pool: &'a Pool,
}

/// [`CELL`] bytes of the image at a multiple of [`CELL`]; the last cell may be shorter.
pub(crate) struct Cell {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) content: Content,
}

impl Cell {
    /// The bytes of the image that it is.
    pub(crate) fn range(&self) -> Range<u64> {
        let len = u64::try_from(self.len).unwrap_or(CELL);
        self.offset..self.offset.saturating_add(len)
    }

    /// Another one like it.
    pub(crate) fn copy(&self, pool: &Pool) -> Self {
        let content = match &self.content {
            Content::Bytes(bytes) => {
                let mut copy = pool.zeroed(self.len);
                copy.copy_from_slice(bytes);
                Content::Bytes(copy)
            }
            Content::Zero => Content::Zero,
            Content::Unread => Content::Unread,
        };
        Self {
            offset: self.offset,
            len: self.len,
            content,
        }
    }
}

pub(crate) enum Content {
    Bytes(Buffer),
    /// Nothing but zeroes.
    Zero,
    /// Not needed, and not decoded.
    Unread,
}

/// How a pass failed.
pub(crate) enum PassError<E> {
    Source(SourceError),
    Consumer(E),
}

impl BaseImage {
    /// Decode the image; `prepare` gets every cell once, on any thread and in any order, and `consume` what it made of
    /// them, on this thread and in order.
    pub(crate) fn pass<T: Send, E>(
        &self,
        order: Order<'_>,
        prepare: &(impl Fn(Cell) -> T + Sync),
        mut consume: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), PassError<E>> {
        let units = Units::of(&self.medium);
        if let Medium::Xz(xz) = &self.medium {
            xz.forget();
        }
        let workers = units.workers(order.threads);
        let pieces_of_a_unit = units.largest().div_ceil(CELL);
        let ahead = u64::try_from(workers).unwrap_or(1).saturating_mul(2) + 1;
        let window = usize::try_from(ahead.saturating_mul(pieces_of_a_unit))
            .unwrap_or(WINDOW.1)
            .clamp(WINDOW.0, WINDOW.1);
        let belt = Belt::new(window);
        let size = self.size();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    let _stop_on_panic = Alarm(&belt);
                    Worker {
                        units: &units,
                        order,
                        belt: &belt,
                        prepare,
                        size,
                    }
                    .run();
                });
            }
            // Whatever happens here, the workers must come to an end before the scope can.
            let _stop = Stop(&belt);
            let mut grid = Grid {
                size,
                pool: order.pool,
                open: None,
            };
            while let Some(ready) = belt.next() {
                if order.cancel.is_cancelled() {
                    break;
                }
                let prepared = match ready {
                    Ready::Prepared(prepared) => Some(prepared),
                    Ready::Part(part) => grid.add(&part).map(prepare),
                    Ready::Failed(failure) => return Err(PassError::Source(self.failed(failure))),
                };
                if let Some(prepared) = prepared {
                    consume(prepared).map_err(PassError::Consumer)?;
                }
            }
            if order.cancel.is_cancelled() {
                return Err(PassError::Source(SourceError::Cancelled));
            }
            Ok(())
        })
    }

    fn failed(&self, failure: Failure) -> SourceError {
        let name = self.name.clone();
        match failure {
            Failure::Read(source) => SourceError::Read { name, source },
            Failure::Xz(source) => SourceError::Xz { name, source },
        }
    }
}

enum Failure {
    Read(std::io::Error),
    Xz(super::XzError),
}

/// What a base is decoded in.
#[derive(Clone, Copy)]
enum Units<'a> {
    Cells(&'a dyn ReadAt),
    Blocks(&'a super::XzImage),
}

impl<'a> Units<'a> {
    fn of(medium: &'a Medium) -> Self {
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

    fn get(&self, number: usize) -> Option<Range<u64>> {
        match self {
            Self::Cells(raw) => {
                let start = u64::try_from(number).ok()?.checked_mul(CELL)?;
                (start < raw.size()).then(|| start..raw.size().min(start.saturating_add(CELL)))
            }
            Self::Blocks(xz) => Some(xz.index().get(number)?.image()),
        }
    }

    fn largest(&self) -> u64 {
        self.index().map_or(CELL, Index::largest)
    }

    /// How many workers: as many as asked for, as there is work for, and as there is memory for.
    fn workers(&self, threads: NonZeroUsize) -> usize {
        let fits = match self {
            Self::Cells(_) => usize::MAX,
            Self::Blocks(xz) => usize::try_from(DECODERS / xz.index().largest().max(1))
                .unwrap_or(usize::MAX)
                .min(xz.index().len()),
        };
        threads.get().min(fits).max(1)
    }

    fn reader(&self) -> Reader<'a> {
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
enum Reader<'a> {
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
    fn begin(&mut self, number: usize, unit: &Range<u64>) -> Result<bool, Failure> {
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

    fn fill(&mut self, out: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::Cells { raw, at } => {
                raw.read_exact_at(*at, out).map_err(Failure::Read)?;
                *at = at.saturating_add(crate::block::length(out));
                Ok(())
            }
            Self::Blocks { decoder, .. } => decoder.fill(out).map_err(Failure::Xz),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Cells { .. } => Ok(()),
            Self::Blocks { decoder, .. } => decoder.end().map_err(Failure::Xz),
        }
    }
}

/// A piece on its way to the consumer.
enum Ready<T> {
    Prepared(T),
    /// Less than a cell, since a unit begins or ends inside one.
    Part(Cell),
    Failed(Failure),
}

/// What workers and consumer share.
struct Belt<T> {
    state: Mutex<State<T>>,
    made: Condvar,
    taken: Condvar,
    window: u64,
}

struct State<T> {
    next_unit: usize,
    /// Number of the first piece of the next unit.
    next_piece: u64,
    /// Number of the piece that the consumer wants.
    wanted: u64,
    ready: BTreeMap<u64, Ready<T>>,
    end: End,
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// There are no more units: the last piece is the one before this.
    At(u64),
    /// Somebody gave up.
    Stopped,
}

impl<T> Belt<T> {
    fn new(window: usize) -> Self {
        Self {
            state: Mutex::new(State {
                next_unit: 0,
                next_piece: 0,
                wanted: 0,
                ready: BTreeMap::new(),
                end: End::Open,
            }),
            made: Condvar::new(),
            taken: Condvar::new(),
            window: u64::try_from(window).unwrap_or(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next unit, with the number of its first piece.
    fn take_unit(&self, units: Units<'_>) -> Option<(usize, Range<u64>, u64)> {
        let mut state = self.lock();
        if state.end != End::Open {
            return None;
        }
        let (number, first) = (state.next_unit, state.next_piece);
        let Some(unit) = units.get(number) else {
            state.end = End::At(first);
            self.made.notify_all();
            return None;
        };
        state.next_unit += 1;
        state.next_piece += pieces(&unit);
        Some((number, unit, first))
    }

    /// Wait until `piece` may be made; `false` where nobody wants it any more.
    fn may_make(&self, piece: u64) -> bool {
        let state = self.lock();
        let state = self
            .taken
            .wait_while(state, |state| {
                state.end != End::Stopped && piece >= state.wanted.saturating_add(self.window)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.end != End::Stopped
    }

    fn put(&self, piece: u64, ready: Ready<T>) {
        let mut state = self.lock();
        state.ready.insert(piece, ready);
        if piece == state.wanted {
            self.made.notify_all();
        }
    }

    /// The piece that comes next; `None` at the end.
    fn next(&self) -> Option<Ready<T>> {
        let state = self.lock();
        let mut state = self
            .made
            .wait_while(state, |state| {
                !state.ready.contains_key(&state.wanted)
                    && state.end != End::Stopped
                    && state.end != End::At(state.wanted)
            })
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = state.wanted;
        let ready = state.ready.remove(&wanted)?;
        state.wanted += 1;
        self.taken.notify_all();
        Some(ready)
    }

    fn stop(&self) {
        self.lock().end = End::Stopped;
        self.made.notify_all();
        self.taken.notify_all();
    }
}

/// Stops the belt when the consumer is done with it, however that came.
struct Stop<'a, T>(&'a Belt<T>);

impl<T> Drop for Stop<'_, T> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Stops the belt when a worker panics: the consumer would wait for ever.
struct Alarm<'a, T>(&'a Belt<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

struct Worker<'a, T, P> {
    units: &'a Units<'a>,
    order: Order<'a>,
    belt: &'a Belt<T>,
    prepare: &'a P,
    size: u64,
}

impl<T, P: Fn(Cell) -> T> Worker<'_, T, P> {
    fn run(&self) {
        let mut reader = self.units.reader();
        while let Some((number, unit, first)) = self.belt.take_unit(*self.units) {
            let mut piece = first;
            if let Err(failure) = self.unit(&mut reader, number, &unit, &mut piece) {
                self.belt.put(piece, Ready::Failed(failure));
                return;
            }
        }
    }

    /// Put every piece of `unit` on the belt; `piece` is then the number of the one that comes after, or of the one
    /// that failed.
    fn unit(
        &self,
        reader: &mut Reader<'_>,
        number: usize,
        unit: &Range<u64>,
        piece: &mut u64,
    ) -> Result<(), Failure> {
        let needed = self
            .order
            .needed
            .is_none_or(|needed| needed.touches(unit.start, unit.end));
        let zero = needed && reader.begin(number, unit)?;
        let mut last = None;
        for range in cuts(unit) {
            // What is behind the last piece is verified before that piece is handed over.
            if let Some(cell) = last.take() {
                self.hand_over(cell, *piece);
                *piece += 1;
            }
            if self.order.cancel.is_cancelled() {
                self.belt.stop();
            }
            if !self.belt.may_make(*piece) {
                return Ok(());
            }
            let len = usize::try_from(range.end - range.start).unwrap_or(CELL_LEN);
            let content = if !needed {
                Content::Unread
            } else if zero {
                Content::Zero
            } else {
                let mut buffer = self.order.pool.take(len);
                reader.fill(&mut buffer)?;
                Content::Bytes(buffer)
            };
            last = Some(Cell {
                offset: range.start,
                len,
                content,
            });
        }
        if needed && !zero {
            reader.end()?;
        }
        if let Some(cell) = last {
            self.hand_over(cell, *piece);
            *piece += 1;
        }
        Ok(())
    }

    fn hand_over(&self, cell: Cell, piece: u64) {
        let whole = cell.offset.is_multiple_of(CELL) && cell.len == cell_len(cell.offset, self.size);
        let ready = if whole {
            Ready::Prepared((self.prepare)(cell))
        } else {
            Ready::Part(cell)
        };
        self.belt.put(piece, ready);
    }
}

/// Puts cells together where units do not begin and end with them.
struct Grid<'a> {
    size: u64,
    pool: &'a Pool,
    open: Option<Cell>,
}

impl Grid<'_> {
    /// Add the part that comes next; the cell, when it is whole.
    fn add(&mut self, part: &Cell) -> Option<Cell> {
        let mut cell = self.open.take().unwrap_or(Cell {
            offset: part.offset,
            len: 0,
            content: Content::Unread,
        });
        let whole = cell_len(cell.offset, self.size);
        match &part.content {
            Content::Unread => {}
            Content::Zero if matches!(cell.content, Content::Zero) || cell.len == 0 => {
                cell.content = Content::Zero;
            }
            content => {
                if !matches!(cell.content, Content::Bytes(_)) {
                    cell.content = Content::Bytes(self.pool.zeroed(whole));
                }
                if let (Content::Bytes(to), Content::Bytes(from)) = (&mut cell.content, content) {
                    if let Some(to) = to.get_mut(cell.len..cell.len.saturating_add(part.len)) {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
        cell.len = cell.len.saturating_add(part.len);
        if cell.len < whole {
            self.open = Some(cell);
            return None;
        }
        Some(cell)
    }
}

fn cell_len(offset: u64, size: u64) -> usize {
    usize::try_from(size.saturating_sub(offset).min(CELL)).unwrap_or(CELL_LEN)
}

/// `unit` cut where cells begin.
fn cuts(unit: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = *unit;
    (start / CELL..end.div_ceil(CELL)).map(move |cell| {
        let from = cell.saturating_mul(CELL);
        from.max(start)..from.saturating_add(CELL).min(end)
    })
}

fn pieces(unit: &Range<u64>) -> u64 {
    unit.end.div_ceil(CELL).saturating_sub(unit.start / CELL)
}
