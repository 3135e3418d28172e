//! One pass over a base: decoded in parallel, handed over in order, in bounded memory.
//!
//! The image is cut into chunks of [`CHUNK`] bytes. Workers take the base's units (an .xz block; a chunk of a raw
//! image) in order and decode them piece by piece. A piece is decoded only if it is less than a window ahead of what
//! was handed over, so that memory does not grow with the image, the size of its blocks or the number of threads, and
//! the worker on the foremost unit is never blocked.

mod chunk_assembler;
mod decode_units;
mod reorder_buffer;

use std::num::NonZeroUsize;
use std::ops::Range;

use super::{Backing, BaseImage, Buffer, BufferPool, SourceError, CHUNK, CHUNK_LEN};
use crate::edit::block::{Extents, ReadAt};
use crate::numbers::{at_most, u64_from_usize, usize_from_u64};
use crate::progress::Cancel;
use chunk_assembler::ChunkAssembler;
use decode_units::{Failure, Reader, Unit};
use reorder_buffer::{Ready, ReorderBuffer, StopOnDrop, StopOnPanic};

/// Bounds of the window, in pieces of at most [`CHUNK`] bytes.
const WINDOW: (u64, u64) = (16, 80);

#[derive(Clone, Copy)]
pub(crate) struct PassOptions<'a> {
    pub(crate) threads: NonZeroUsize,
    /// The bytes that are needed; a unit without any is not decoded. `None`: all are needed.
    pub(crate) needed: Option<&'a Extents>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) pool: &'a BufferPool,
}

/// [`CHUNK`] bytes of the image at a multiple of [`CHUNK`]; the last chunk may be shorter.
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) content: ChunkContent,
}

impl Chunk {
    /// Its place in the image, in bytes.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64_from_usize(self.len))
    }

    pub(crate) fn copy(&self, pool: &BufferPool) -> Self {
        let content = match &self.content {
            ChunkContent::Bytes(bytes) => {
                let mut copy = pool.zeroed(self.len);
                copy.copy_from_slice(bytes);
                ChunkContent::Bytes(copy)
            }
            ChunkContent::Zero => ChunkContent::Zero,
            ChunkContent::Unread => ChunkContent::Unread,
        };
        Self {
            offset: self.offset,
            len: self.len,
            content,
        }
    }
}

pub(crate) enum ChunkContent {
    Bytes(Buffer),
    /// Nothing but zeroes.
    Zero,
    /// Not needed, and not decoded.
    Unread,
}

pub(crate) enum PassError<E> {
    Source(SourceError),
    Consumer(E),
}

impl BaseImage {
    /// Decode the image. `prepare` gets every chunk once, on any thread and in any order; `consume` gets what `prepare`
    /// made of them, on this thread and in order.
    pub(crate) fn pass<T: Send, E>(
        &self,
        options: PassOptions<'_>,
        prepare: &(impl Fn(Chunk) -> T + Sync),
        mut consume: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), PassError<E>> {
        if let Backing::Xz(xz) = &self.backing {
            xz.forget();
        }
        let (largest, workers) = self.backing.plan(options.threads);
        let pieces_of_a_unit = largest.div_ceil(CHUNK);
        let ahead = u64_from_usize(workers).saturating_mul(2).saturating_add(1);
        let window = ahead.saturating_mul(pieces_of_a_unit).clamp(WINDOW.0, WINDOW.1);
        let buffer = ReorderBuffer::new(window);
        let size = self.size();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    let _stop_on_panic = StopOnPanic(&buffer);
                    Worker {
                        units: &self.backing,
                        options,
                        buffer: &buffer,
                        prepare,
                        size,
                    }
                    .run();
                });
            }
            // Whatever happens here, the workers must end before the scope can.
            let _stop = StopOnDrop(&buffer);
            let mut assembler = ChunkAssembler {
                size,
                pool: options.pool,
                open: None,
            };
            while let Some(ready) = buffer.next() {
                if options.cancel.is_cancelled() {
                    break;
                }
                let prepared = match ready {
                    Ready::Prepared(prepared) => Some(prepared),
                    Ready::Part(part) => assembler.add(&part).map(prepare),
                    Ready::Failed(failure) => return Err(PassError::Source(self.failed(failure))),
                };
                if let Some(prepared) = prepared {
                    consume(prepared).map_err(PassError::Consumer)?;
                }
            }
            if options.cancel.is_cancelled() {
                return Err(PassError::Source(SourceError::Cancelled));
            }
            Ok(())
        })
    }

    fn failed(&self, failure: Failure) -> SourceError {
        match failure {
            Failure::Read(source) => SourceError::read(&self.name, source),
            Failure::Xz(source) => SourceError::xz(&self.name, source),
        }
    }
}

struct Worker<'a, T, P> {
    units: &'a Backing,
    options: PassOptions<'a>,
    buffer: &'a ReorderBuffer<T>,
    prepare: &'a P,
    size: u64,
}

impl<T, P: Fn(Chunk) -> T> Worker<'_, T, P> {
    fn run(&self) {
        let mut reader = self.units.reader();
        while let Some((unit, first)) = self.buffer.take_unit(self.units) {
            if let Err((piece, failure)) = self.decode(&mut reader, &unit, first) {
                self.buffer.put(piece, Ready::Failed(failure));
                return;
            }
        }
    }

    /// Hand over every piece of `unit`, whose first piece has the number `first`. An error comes with the number of the
    /// piece that could not be decoded.
    fn decode(&self, reader: &mut Reader<'_>, unit: &Unit, first: u64) -> Result<(), (u64, Failure)> {
        let range = &unit.range;
        let needed = self
            .options
            .needed
            .is_none_or(|needed| needed.touches(range.start, range.end));
        let is_zero = needed && reader.begin(unit).map_err(|failure| (first, failure))?;
        for (piece, part) in (first..).zip(cuts(range)) {
            if self.options.cancel.is_cancelled() {
                self.buffer.stop();
            }
            if !self.buffer.wait_for_room(piece) {
                return Ok(());
            }
            let len = usize_from_u64(part.end - part.start);
            let content = if !needed {
                ChunkContent::Unread
            } else if is_zero {
                ChunkContent::Zero
            } else {
                let mut bytes = self.options.pool.take(len);
                reader.fill(&mut bytes).map_err(|failure| (piece, failure))?;
                if part.end == range.end {
                    // The check of the whole unit is verified before its last piece is handed over.
                    reader.end().map_err(|failure| (piece, failure))?;
                }
                ChunkContent::Bytes(bytes)
            };
            let chunk = Chunk {
                offset: part.start,
                len,
                content,
            };
            self.buffer.put(piece, self.ready(chunk));
        }
        Ok(())
    }

    fn ready(&self, chunk: Chunk) -> Ready<T> {
        if chunk.offset.is_multiple_of(CHUNK) && chunk.len == chunk_len(chunk.offset, self.size) {
            Ready::Prepared((self.prepare)(chunk))
        } else {
            Ready::Part(chunk)
        }
    }
}

fn chunk_len(offset: u64, size: u64) -> usize {
    at_most(size.saturating_sub(offset), CHUNK_LEN)
}

/// `unit`, cut at the multiples of [`CHUNK`].
fn cuts(unit: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = *unit;
    (start / CHUNK..end.div_ceil(CHUNK)).map(move |chunk| {
        let from = chunk.saturating_mul(CHUNK);
        from.max(start)..from.saturating_add(CHUNK).min(end)
    })
}
