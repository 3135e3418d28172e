//! Locks that processes of this program hold on files (flock(2)): they go with the process, however it ends.

use std::fs::File;
use std::io;

use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

/// Lock `file` for this process alone, until it is closed; whether that worked, as against somebody else having it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether another process has locked `file` for itself.
pub(crate) fn is_locked(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}
