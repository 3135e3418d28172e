//! A file as a medium, and its identity, which shows whether it has changed or is another file. It never writes.

use std::fs::File;
use std::io;

use super::SourceError;
use crate::edit::block::{check_within, ReadAt};
use crate::host::{filesystem, positional};

pub(crate) use crate::host::files::FileVersion as Identity;

/// An open file that is read at any offset, through the one descriptor it was opened with.
#[derive(Debug)]
pub(crate) struct FileAt {
    file: File,
    size: u64,
}

impl FileAt {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// Whether its filesystem keeps a time of change that no program can set, and is not of a kind that people carry
    /// to another machine, which can set everything.
    pub(crate) fn keeps_times(&self) -> bool {
        filesystem::keeps_times(&self.file)
    }

    /// What the file is now; `name` is its name in errors.
    pub(crate) fn identity(&self, name: &str) -> Result<Identity, SourceError> {
        let metadata = self.file.metadata().map_err(|source| SourceError::Read {
            name: name.into(),
            source,
        })?;
        Ok(Identity::of(&metadata))
    }
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_within(io::ErrorKind::UnexpectedEof, offset, buf.len(), self.size)?;
        positional::read_exact_at(&self.file, offset, buf)
    }
}
