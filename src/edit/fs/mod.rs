//! The two filesystems of a card: a writer for each, a trait for reading both, and their free space. Defects of the
//! libraries are worked around or refused here; no other module uses these libraries.
//!
//! Nothing here opens a file or a device: a filesystem is a window of an overlay, and after a failed edit the overlay
//! is discarded.

mod allocated;
mod error;
pub mod ext4;
pub mod fat;
mod free_runs;
pub(crate) mod signatures;

use crate::edit::block::Span;
use crate::edit::tree::{Access, CardPath};

pub use allocated::allocated;
pub use error::FsError;

/// Where the two filesystems of a card are in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeSpans {
    pub boot: Span,
    pub root: Span,
}

/// The largest content that a reader returns, in bytes. No file that palmfarm reads from a base is larger, and a size
/// that an image claims must not decide how much memory is used.
pub const READ_LIMIT: u64 = 64 << 20;

/// A filesystem that is read. Implementations must not share code with the writer of the same filesystem.
pub trait VolumeReader {
    /// The metadata of `path`, or `None` if it does not exist. A symlink at its end is not followed; symlinks before it
    /// are.
    fn stat(&self, path: &CardPath) -> Result<Option<Stat>, FsError>;

    /// As [`VolumeReader::stat`], but a symlink at the end is followed too.
    fn stat_through(&self, path: &CardPath) -> Result<Option<Stat>, FsError>;

    /// All of a regular file; a symlink at the end is followed. `None` if there is no file.
    ///
    /// # Errors
    /// [`FsError::TooLarge`] for more than `limit` bytes.
    fn read(&self, path: &CardPath, limit: u64) -> Result<Option<Vec<u8>>, FsError>;

    /// The names in a directory, sorted, without `.` and `..`; `None` for the root. In a name that is not UTF-8, U+FFFD
    /// stands for what is not: no planned node has such a name. The files themselves are not looked up, because that would read a directory
    /// without an index once more for each name.
    fn names(&self, path: Option<&CardPath>) -> Result<Vec<String>, FsError>;

    /// Those of the names in a directory that are symlinks.
    fn links(&self, path: &CardPath) -> Result<Vec<String>, FsError>;
}

/// The most names that a directory of ext4 may have. A damaged one may have the same block many times.
const MOST_NAMES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Dir,
    /// A symlink and its target.
    Symlink(Vec<u8>),
    /// A device, a socket or a FIFO.
    Special,
}

/// The metadata of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: FileKind,
    pub size: u64,
    /// Mode and owner; `None` on FAT, which has neither.
    pub access: Option<Access>,
    /// The last modification, in seconds since 1970.
    pub modified: i64,
}
