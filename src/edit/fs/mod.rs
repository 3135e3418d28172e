//! The two filesystems of a card behind one trait for writing and one for reading. What libraries cannot do is
//! mended or refused here; nobody else talks to them.
//!
//! Nothing here opens a file or a device: a filesystem is a window of an overlay, and a failed edit leaves nothing
//! but an overlay to throw away.

mod allocated;
mod error;
pub mod ext4;
pub mod fat;
mod free_runs;

use crate::edit::block::Span;
use crate::edit::tree::{Access, CardPath, Node};

pub use allocated::allocated;
pub use error::FsError;

/// Where the two filesystems of a card are in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeSpans {
    pub boot: Span,
    pub root: Span,
}

/// The largest content that a reader gives back whole, in bytes: nothing that is read of a base is larger, and a
/// size that an image claims must not decide how much memory is taken.
pub const READ_LIMIT: u64 = 64 << 20;

/// A filesystem that planned nodes are written into.
pub trait VolumeWriter: Sized {
    /// Write every node, in the order given, and finish.
    ///
    /// Room is checked first. After an error the filesystem beneath may be half written: it must be thrown away.
    ///
    /// # Errors
    /// Why a node cannot be written, or what the filesystem is refused for.
    fn apply(self, nodes: &[(&CardPath, &Node)]) -> Result<(), FsError>;
}

/// A filesystem that is read, by other code than the one that writes.
pub trait VolumeReader {
    /// What lies at `path`. Symlinks in the directories before its last part are followed, the last part is not.
    /// `None` where there is nothing.
    ///
    /// # Errors
    /// What is wrong with the filesystem.
    fn stat(&self, path: &CardPath) -> Result<Option<Stat>, FsError>;

    /// As [`VolumeReader::stat`], but a symlink at the end is followed too.
    ///
    /// # Errors
    /// What is wrong with the filesystem.
    fn stat_through(&self, path: &CardPath) -> Result<Option<Stat>, FsError>;

    /// All of a regular file; a symlink at the end is followed. `None` where there is no file.
    ///
    /// # Errors
    /// What is wrong with the filesystem, and [`FsError::TooLarge`] for more than `limit` bytes.
    fn read(&self, path: &CardPath, limit: u64) -> Result<Option<Vec<u8>>, FsError>;

    /// The names in a directory, sorted, without `.` and `..`; `None` for the root. Names that are no UTF-8 are
    /// left out: nothing that is planned has one. What they name is not looked at, since that reads a directory without
    /// an index once more for each of them.
    ///
    /// # Errors
    /// What is wrong with the filesystem, and [`FsError::NotADirectory`].
    fn names(&self, path: Option<&CardPath>) -> Result<Vec<String>, FsError>;
}

/// The most names that are read of a directory of ext4.
pub const MOST_NAMES: usize = 1 << 14;

/// The kind of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink and its target.
    Symlink(Vec<u8>),
    /// A device, a socket or a FIFO.
    Special,
}

/// What is known of a file without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: Kind,
    /// Bytes of its content.
    pub size: u64,
    /// Mode and owner; `None` on FAT, which has neither.
    pub access: Option<Access>,
    /// The last modification, in seconds since 1970.
    pub modified: i64,
}
