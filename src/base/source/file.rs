//! A file as a medium, and the identity by which a changed or another file is noticed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::edit::block::{check_within, ReadAt};

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

    /// Whether its filesystem keeps a time of change that no program can set, and is not of a kind that people carry to
    /// another machine, which can set everything. Judged by the numbers of statfs(2).
    pub(crate) fn keeps_times(&self) -> bool {
        const KNOWN: [u64; 8] = [
            0xef53,      // ext2, ext3, ext4
            0x5846_5342, // XFS
            0x9123_683e, // btrfs
            0xf2f5_2010, // F2FS
            0x2fc1_2fc1, // ZFS
            0xca45_1a4e, // bcachefs
            0x0102_1994, // tmpfs
            0x794c_7630, // overlayfs
        ];
        let kind = rustix::fs::fstatfs(&self.file).map(|facts| facts.f_type);
        // The field's type differs from one architecture to the next; the numbers have 32 bits.
        kind.is_ok_and(|kind| {
            KNOWN
                .iter()
                .any(|known| u64::try_from(kind).is_ok_and(|kind| kind & 0xffff_ffff == *known))
        })
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

/// A file at one moment. Every write changes `ctime`, which no program can set back.
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
