//! The one pass: base, edits and map of what is needed, merged in order into a sink.
//!
//! Workers decode and do what [`super::merge`] says; this thread writes. The digest of the
//! whole image, where it is asked for, has a thread of its own: SHA-256 cannot be split.

use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::job::{ImageDigest, Mapped, Target, WriteOptions, Written};
use super::merge::{needed_by_any, pieces, Kind, Merge, Piece};
use super::{Sink, SinkError};
use crate::base::source::{BaseImage, Order, PassError, Pool, Sha256Sum, SourceError, Verified};
use crate::edit::block::{Edits, ReadAt};
use crate::progress::{Phase, Watch};

/// Cells that may wait for the thread that hashes the whole image.
const WAITING: usize = 8;

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
