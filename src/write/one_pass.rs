//! The one pass: base, edits and map of what is needed, merged in order into a sink.
//!
//! Workers decode and do what [`super::merge`] says; this thread writes. The digest of the whole image, if it is asked
//! for, has a thread of its own: SHA-256 cannot be split.

use std::ops::Range;
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::merge::{merge_chunk, needed_by_any, Merge, MergedChunk, RunKind};
use super::options::{ImageDigest, Mapped, WriteOptions, WriteTarget, Written};
use super::{Gap, Sink, SinkError};
use crate::base::source::{BaseImage, BufferPool, PassError, PassOptions, Sha256Sum, Verified};
use crate::edit::block::{Edits, Extents, ReadAt};
use crate::progress::{Observer, Phase};

/// Chunks that may wait for the thread that hashes the whole image.
const WAITING: usize = 8;

/// Write the card that `edits` make of `base` into `sink`.
///
/// # Errors
/// The sink is dropped unfinished. A base whose file was written to meanwhile is an error too.
pub fn write_image<S: Sink>(
    base: &Verified<BaseImage>,
    edits: &Edits,
    sink: S,
    options: WriteOptions<'_>,
    observer: Observer<'_>,
) -> Result<Written<S::Done>, SinkError> {
    let target = WriteTarget {
        edits,
        free: options.free,
        sink,
    };
    // One target has one result.
    Ok(write_images(base, vec![target], options, observer)?.remove(0))
}

/// Write several cards of one base, which is decoded once. Of `options`, all but the free space is for all of them. The
/// results are in the order of `targets`.
///
/// # Errors
/// As [`write_image`]; then no sink is finished.
pub fn write_images<S: Sink>(
    base: &Verified<BaseImage>,
    targets: Vec<WriteTarget<'_, S>>,
    options: WriteOptions<'_>,
    observer: Observer<'_>,
) -> Result<Vec<Written<S::Done>>, SinkError> {
    let pool = BufferPool::default();
    let mut merges = Vec::new();
    let mut outlets = Vec::new();
    for target in targets {
        merges.push(Merge::new(&target, base.size(), &pool)?);
        outlets.push(Outlet::new(target.sink));
    }
    pass(base, &merges, &mut outlets, &pool, options, observer)?;
    outlets
        .into_iter()
        .map(|outlet| outlet.finish(base.size(), observer))
        .collect()
}

/// Give every byte of the image to each of `outlets`, as the merge at the same place of `merges` makes it.
fn pass<S: Sink>(
    base: &Verified<BaseImage>,
    merges: &[Merge<'_>],
    outlets: &mut [Outlet<S>],
    pool: &BufferPool,
    options: WriteOptions<'_>,
    observer: Observer<'_>,
) -> Result<(), SinkError> {
    let size = base.size();
    let needed = needed_by_any(merges);
    let pass_options = PassOptions {
        threads: options.threads,
        needed: needed.as_ref(),
        cancel: observer.cancel,
        pool,
    };
    for outlet in &mut *outlets {
        outlet.sink.begin(size)?;
    }
    // Free space that is skipped takes no time.
    let total = needed.as_ref().map_or(size, Extents::total);
    let counted = |chunk: &Range<u64>| match &needed {
        Some(needed) => needed
            .within(chunk.start, chunk.end)
            .map(|(start, end)| end.saturating_sub(start))
            .sum(),
        None => chunk.end.saturating_sub(chunk.start),
    };
    let mut done = 0_u64;
    let sums = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        if options.digest == ImageDigest::Sha256 {
            for outlet in &mut *outlets {
                let (sender, receiver) = sync_channel::<Arc<MergedChunk>>(WAITING);
                outlet.hasher = Some(sender);
                threads.push(scope.spawn(move || {
                    let mut hash = Sha256::new();
                    for chunk in receiver {
                        chunk.hash(&mut hash);
                    }
                    Sha256Sum(hash.finalize().into())
                }));
            }
        }
        let passed = base.pass(
            pass_options,
            &|chunk| merge_chunk(merges, chunk),
            |chunks: Vec<Arc<MergedChunk>>| {
                let range = chunks.first().map(|chunk| chunk.range.clone());
                for (outlet, chunk) in outlets.iter_mut().zip(chunks) {
                    outlet.take(chunk)?;
                }
                if let Some(range) = range {
                    done = done.saturating_add(counted(&range));
                    observer.progress.advance(Phase::Write, done, total);
                }
                Ok(())
            },
        );
        // The hashing threads wait for more until nobody can send any, whether or not all went well.
        for outlet in &mut *outlets {
            outlet.hasher = None;
        }
        passed.map_err(|error| match error {
            PassError::Source(source) => SinkError::Source(source),
            PassError::Consumer(error) => error,
        })?;
        // A thread that panicked makes the scope panic.
        let sums = threads.into_iter().map(|thread| thread.join().ok());
        Ok::<Vec<_>, SinkError>(sums.collect())
    })?;
    for (outlet, sum) in outlets.iter_mut().zip(sums) {
        outlet.sha256 = sum;
    }
    Ok(base.unchanged()?)
}

/// Where the chunks of one card go.
struct Outlet<S> {
    sink: S,
    mapped: Vec<Mapped>,
    skipped: u64,
    hasher: Option<SyncSender<Arc<MergedChunk>>>,
    sha256: Option<Sha256Sum>,
}

impl<S: Sink> Outlet<S> {
    fn new(sink: S) -> Self {
        Self {
            sink,
            mapped: Vec::new(),
            skipped: 0,
            hasher: None,
            sha256: None,
        }
    }

    /// Write one chunk, and pass it on to be hashed.
    fn take(&mut self, chunk: Arc<MergedChunk>) -> Result<(), SinkError> {
        for run in &chunk.runs {
            let len = run.range.end - run.range.start;
            match run.kind {
                RunKind::Bytes => self.sink.write(run.range.start, chunk.bytes(&run.range))?,
                RunKind::Zero => self.sink.gap(run.range.start, len, Gap::Zero)?,
                RunKind::Free => {
                    self.skipped += len;
                    self.sink.gap(run.range.start, len, Gap::Free)?;
                }
            }
        }
        self.mapped.extend_from_slice(&chunk.mapped);
        if let Some(hasher) = &self.hasher {
            // The receiver is gone only if it panicked, and then the scope panics.
            let _sent = hasher.send(chunk);
        }
        Ok(())
    }

    fn finish(self, size: u64, observer: Observer<'_>) -> Result<Written<S::Done>, SinkError> {
        Ok(Written {
            size,
            sha256: self.sha256,
            mapped: self.mapped,
            skipped: self.skipped,
            done: self.sink.finish(observer)?,
        })
    }
}
