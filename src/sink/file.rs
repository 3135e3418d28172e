//! An image as a file: holes for zeroes, nothing under its name before it is whole.

use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::Advice;

use super::{Sink, SinkError, Zeroes};
use crate::block::length;
use crate::newfile::{NewFile, Readers};
use crate::watch::{Phase, Watch};

/// How much is written before the kernel is asked to begin writing it back, in bytes. Without that, nothing reaches
/// the disk before the flush at the end, which then takes as long as all the decoding before it.
const WRITEBACK: u64 = 16 << 20;

/// Writes an image file. Finished, it is whole and on the disk, but gets its name only from [`NewFile::commit`].
#[derive(Debug)]
pub struct FileSink {
    new: NewFile,
    target: String,
    /// What was written and not yet handed to the disk.
    pending: u64,
    handed: u64,
    size: u64,
}

impl FileSink {
    /// A sink for a new file at `path`; what is there now stays until the new one is whole.
    ///
    /// # Errors
    /// [`SinkError::Create`].
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        let target = path.display().to_string();
        match NewFile::create(path, Readers::Owner) {
            Ok(new) => Ok(Self {
                new,
                target,
                pending: 0,
                handed: 0,
                size: 0,
            }),
            Err(source) => Err(SinkError::Create { target, source }),
        }
    }
}

impl Sink for FileSink {
    type Done = NewFile;

    const ZEROES: Zeroes = Zeroes::Apart;

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        self.size = size;
        self.new.file().set_len(size).map_err(|source| SinkError::Create {
            target: self.target.clone(),
            source,
        })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.new
            .file()
            .write_all_at(bytes, offset)
            .map_err(|source| SinkError::Write {
                target: self.target.clone(),
                offset,
                len: length(bytes),
                source,
            })?;
        self.pending += length(bytes);
        if self.pending >= WRITEBACK {
            let end = offset.saturating_add(length(bytes));
            write_back(&self.new, self.handed..end);
            self.handed = end;
            self.pending = 0;
        }
        Ok(())
    }

    fn zeroes(&mut self, _offset: u64, _len: u64) -> Result<(), SinkError> {
        Ok(())
    }

    fn free(&mut self, _offset: u64, _len: u64) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self, watch: Watch<'_>) -> Result<NewFile, SinkError> {
        flushed(self.new, self.target, self.size, watch)
    }
}

/// Wait until the file's bytes are on the disk. It still has no name.
pub(super) fn flushed(
    new: NewFile,
    target: String,
    size: u64,
    watch: Watch<'_>,
) -> Result<NewFile, SinkError> {
    watch.progress.advance(Phase::Flush, 0, size);
    new.file()
        .sync_all()
        .map_err(|source| SinkError::Finish { target, source })?;
    watch.progress.advance(Phase::Flush, size, size);
    Ok(new)
}

/// Ask the kernel to begin writing `range` back, without waiting for it. `POSIX_FADV_DONTNEED` does that before it
/// drops what is clean (mm/fadvise.c); an answer that it cannot is of no consequence.
pub(super) fn write_back(new: &NewFile, range: std::ops::Range<u64>) {
    let len = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
    let _advised = rustix::fs::fadvise(new.file(), range.start, len, Advice::DontNeed);
}
