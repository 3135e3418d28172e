//! Facts about files that only this operating system's calls give: which file it is, who may use it, what it takes on
//! the disk. It changes no file.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// What distinguishes a file from every other that exists at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    pub dev: u64,
    pub inode: u64,
}

impl FileId {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A file at one moment. Writing to it changes `ctime`, which no program can set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileVersion {
    pub(crate) dev: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// (seconds, nanoseconds) since 1970.
    pub(crate) mtime: (i64, i64),
    pub(crate) ctime: (i64, i64),
}

impl FileVersion {
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

impl FileVersion {
    /// Whether nobody has written to the file since, as far as its times show. `ctime` also changes where a file is linked,
    /// renamed, removed or given another mode.
    pub(crate) fn is_as_written(&self, other: &Self) -> bool {
        let without = |version: &Self| Self {
            ctime: (0, 0),
            ..version.clone()
        };
        without(self) == without(other)
    }
}

/// Whether neither the group nor others have any right.
pub fn is_private(metadata: &Metadata) -> bool {
    const OTHERS: u32 = 0o077;
    metadata.mode() & OTHERS == 0
}

/// Whether it runs as its owner or group, or is sticky.
pub fn is_special(metadata: &Metadata) -> bool {
    metadata.mode() & 0o7000 != 0
}

/// The attribute by which the file at `path`, not followed, may do more than its mode says (capabilities(7)) or others may
/// do more with it (acl(5)), if it has one.
pub fn attribute_of_access(path: &Path) -> Option<&'static str> {
    ["security.capability", "system.posix_acl_access"]
        .into_iter()
        .find(|name| rustix::fs::lgetxattr_query(path, *name).is_ok_and(|bytes| bytes > 0))
}

/// Whether the group or others may read it.
pub fn others_may_read(metadata: &Metadata) -> bool {
    metadata.mode() & 0o044 != 0
}

/// Whether the owner may run it.
pub fn is_executable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// The bytes that it takes on the disk: fewer than its size if it has holes.
pub fn disk_usage(metadata: &Metadata) -> u64 {
    // st_blocks counts in this unit, whatever the file system's is (stat(2)).
    metadata.blocks().saturating_mul(512)
}

/// The first `most` bytes of a regular file that belongs to this user and that nobody else can write to: the cache is
/// trusted, so its files must be the user's own. `None` if `path` is anything else, such as a symlink.
pub(crate) fn read_own(path: &Path, most: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    let mut bytes = Vec::new();
    (own && metadata.is_file()).then_some(())?;
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Open a file for reading and writing, made with mode 0644 if it is not there, and what is in it kept. A symlink is an
/// error: in a folder that others write to, anybody could have put it there.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        path,
        flags,
        Mode::from_raw_mode(0o644),
    )?))
}
