//! An image as a file, with holes for zeroes. The file must never have its name before it is whole.
//!
//! It bypasses the page cache if the filesystem can do that: copying into the cache takes a tenth of the time that
//! decoding takes, and everything would still have to reach the disk in the end.

use std::io;
use std::path::Path;

use super::{Gap, Sink, SinkError, Zeroes};
use crate::edit::block::{length, BLOCK_LEN};
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::host::filesystem::{begin_write_back, set_page_cache, PageCache};
use crate::host::positional::write_all_at;
use crate::progress::{Observer, Phase};

/// How much is written through the page cache before the kernel is asked to begin writing it back, in bytes. Otherwise
/// nothing reaches the disk before the flush at the end, which then takes as long as all the decoding before it.
const WRITEBACK: u64 = 16 << 20;

/// Writes an image file. Finished, it is whole and on the disk, but gets its name only from [`AtomicFile::commit`].
#[derive(Debug)]
pub struct FileSink {
    new: AtomicFile,
    target: String,
    path: Through,
}

/// How the bytes reach the disk.
#[derive(Clone, Copy, Debug)]
enum Through {
    /// Not through the page cache: `O_DIRECT`.
    Direct,
    /// Through the page cache: `pending` bytes were written since the kernel was last asked to write back, all of
    /// them behind `handed`.
    Cache { pending: u64, handed: u64 },
}

impl Through {
    const CACHE: Self = Self::Cache {
        pending: 0,
        handed: 0,
    };
}

impl FileSink {
    /// A sink for a new file at `path`; what is there now stays until the new one is whole.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        let target = path.display().to_string();
        let new = AtomicFile::create(path, Readers::Owner).map_err(SinkError::create(&target))?;
        Ok(Self {
            path: match set_page_cache(new.file(), PageCache::Bypassed) {
                Ok(()) => Through::Direct,
                Err(_) => Through::CACHE,
            },
            new,
            target,
        })
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Through::Direct = self.path {
            let (whole, tail) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_LEN);
            match write_all_at(self.new.file(), offset, whole) {
                Ok(()) if tail.is_empty() => return Ok(()),
                // The end of the image is not a whole block, and some filesystems refuse only the first write.
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(error),
            }
            set_page_cache(self.new.file(), PageCache::Used)?;
            self.path = Through::CACHE;
        }
        write_all_at(self.new.file(), offset, bytes)?;
        if let Through::Cache { pending, handed } = &mut self.path {
            *pending += length(bytes);
            if *pending >= WRITEBACK {
                let end = offset.saturating_add(length(bytes));
                begin_write_back(self.new.file(), *handed..end);
                *handed = end;
                *pending = 0;
            }
        }
        Ok(())
    }
}

impl Sink for FileSink {
    type Done = AtomicFile;

    const ZEROES: Zeroes = Zeroes::Apart;

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        let file = self.new.file();
        file.set_len(size).map_err(SinkError::create(&self.target))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let written = self.put(offset, bytes);
        written.map_err(SinkError::write(&self.target, offset, bytes))
    }

    fn gap(&mut self, _offset: u64, _len: u64, _reason: Gap) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self, observer: Observer<'_>) -> Result<AtomicFile, SinkError> {
        flushed(self.new, &self.target, observer)
    }
}

/// Wait until the file's bytes are on the disk. It still does not have its name.
pub(super) fn flushed(
    new: AtomicFile,
    target: &str,
    observer: Observer<'_>,
) -> Result<AtomicFile, SinkError> {
    observer.progress.advance(Phase::Flush, 0, 1);
    new.file().sync_all().map_err(SinkError::finish(target))?;
    observer.progress.advance(Phase::Flush, 1, 1);
    Ok(new)
}
