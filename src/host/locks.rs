//! Locks that processes of this program hold on files (flock(2)). The kernel releases them when the process ends, however it
//! ends. It reads and writes no file, but makes and removes those that are nothing but a lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use super::files::{open_or_create, FileId};

/// Lock `file` for this process alone, until it is closed; `false` if another process has the lock.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `path` still leads to `file`: who had the lock before may have renamed or removed the file.
pub(crate) fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(FileId::of(&there) == FileId::of(&ours)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file that is there only while this process has it locked, or was killed meanwhile.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    _file: File,
}

impl LockFile {
    /// Make and lock the file at `path`; `None` if another process has it.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open_or_create(path)?;
            if !try_lock(&file)? {
                return Ok(None);
            }
            if is_still(&file, path)? {
                return Ok(Some(Self {
                    path: path.to_owned(),
                    _file: file,
                }));
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Before it is unlocked. Left behind, it is taken over by the next process.
        drop(fs::remove_file(&self.path));
    }
}
