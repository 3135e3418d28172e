//! What is asked of the file system that a file is on: free space, its kind, whether to cache, when to write back. It
//! changes no byte of a file.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{fcntl_getfl, fcntl_setfl, Advice, OFlags, StatVfs};

/// Bytes that are free for this user on the file system of `path`.
pub fn free_space(path: &Path) -> io::Result<u64> {
    Ok(available(&rustix::fs::statvfs(path)?))
}

/// Bytes that are free for this user on the file system of `file`.
pub fn free_space_at(file: &impl AsFd) -> io::Result<u64> {
    Ok(available(&rustix::fs::fstatvfs(file)?))
}

fn available(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

/// Whether the file system keeps a time of change that no program can set, and is not of a kind that people carry to
/// another machine, on which everything can be set. By the numbers of statfs(2).
pub(crate) fn keeps_times(file: &impl AsFd) -> bool {
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
    let kind = rustix::fs::fstatfs(file).map(|facts| facts.f_type);
    // The field's type differs from one architecture to the next; the numbers have 32 bits.
    kind.is_ok_and(|kind| {
        KNOWN
            .iter()
            .any(|known| u64::try_from(kind).is_ok_and(|kind| kind & 0xffff_ffff == *known))
    })
}

/// Whether the kernel keeps copies of what is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageCache {
    Used,
    /// `O_DIRECT`: every transfer must be aligned.
    Bypassed,
}

/// Use the page cache for `file`, or bypass it. Some file systems say only at the first write that they cannot.
pub(crate) fn set_page_cache(file: &File, cache: PageCache) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    let flags = match cache {
        PageCache::Bypassed => flags | OFlags::DIRECT,
        PageCache::Used => flags - OFlags::DIRECT,
    };
    Ok(fcntl_setfl(file, flags)?)
}

/// Ask the kernel to begin writing `range` of `file` back, without waiting for it. `POSIX_FADV_DONTNEED` does that
/// before it drops what is clean (mm/fadvise.c); if it cannot, nothing is lost.
pub(crate) fn begin_write_back(file: &File, range: Range<u64>) {
    let len = NonZeroU64::new(range.end.saturating_sub(range.start));
    let _advised = rustix::fs::fadvise(file, range.start, len, Advice::DontNeed);
}
