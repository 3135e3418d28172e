//! A file as a medium, and what tells it from every other file at every other time.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::block::{check_within, ReadAt};

/// An open file that is read at any offset, through the one descriptor it was opened with.
#[derive(Debug)]
pub(crate) struct FileAt {
    file: File,
    size: u64,
}

impl FileAt {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.size();
        Ok(Self { file, size })
    }

    pub(crate) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&self.file.metadata()?))
    }
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_within(io::ErrorKind::UnexpectedEof, offset, buf.len(), self.size)?;
        self.file.read_exact_at(buf, offset)
    }
}

/// A file at one moment. Whoever writes to it changes `ctime`, which no program can set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// (seconds, nanoseconds) since 1970.
    pub(crate) mtime: (i64, i64),
    pub(crate) ctime: (i64, i64),
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
