//! One pass over a base: decoded in parallel, handed over in order, in bounded memory.
//!
//! The image is cut into cells of [`CELL`] bytes. Workers take the base's units (an .xz block; a cell of a raw image)
//! in order and decode them piece by piece; a piece is made only while it lies less than a window ahead of what was
//! handed over, so that memory does not grow with the image, the size of its blocks or the number of threads, and
//! the worker on the foremost unit can always go on.

mod belt;
mod grid;
mod units;

use std::num::NonZeroUsize;
use std::ops::Range;

use super::{BaseImage, Buffer, Medium, Pool, SourceError, CELL, CELL_LEN};
use crate::edit::block::Extents;
use crate::edit::block::ReadAt;
use crate::progress::Cancel;
use belt::{Alarm, Belt, Ready, Stop};
use grid::Grid;
use units::{Failure, Reader, Units};

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
