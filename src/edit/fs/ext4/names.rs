//! The names of a directory, and whether they can be trusted before one is added to them: the library believes a block
//! without a checksum, and gives it one when it writes it. It must never write.

use std::collections::BTreeSet;

use fs_ext4::dir::has_csum_tail;
use fs_ext4::inode::InodeFlags;
use fs_ext4::{Error as LibError, Filesystem};

use super::walk::failed;
use crate::edit::fs::FsError;
use crate::edit::tree::CardPath;
use crate::numbers::usize_from_u32;

/// The names in the directory `dir`, if they can be trusted; `None` if the library does not list a directory of its kind,
/// which is mapped block by block. To find that a name is not there, the library reads every block; this
/// set says so at once. `path` is for messages.
pub(super) fn read(fs: &Filesystem, dir: u32, path: &CardPath) -> Result<Option<BTreeSet<Vec<u8>>>, FsError> {
    let failed = failed("reading the directory of", path);
    check(fs, dir, path)?;
    let (inode, _) = fs.read_inode_verified(dir).map_err(&failed)?;
    if !(inode.has_extents() || inode.has_inline_data()) {
        return Ok(None);
    }
    let entries = fs.read_dir_ino(dir).map_err(&failed)?;
    Ok(Some(entries.into_iter().map(|entry| entry.name).collect()))
}

/// Refuse a block of names of the directory `dir` that lacks its checksum or does not match it, in a filesystem that has
/// checksums. The library follows an index, and compares what it meets there. `path` is for messages.
fn check(fs: &Filesystem, dir: u32, path: &CardPath) -> Result<(), FsError> {
    let failed = failed("reading the directory of", path);
    let (inode, _) = fs.read_inode_verified(dir).map_err(&failed)?;
    if !fs.csum.enabled || inode.flags & InodeFlags::INDEX.bits() != 0 {
        return Ok(());
    }
    let block_size = u64::from(fs.sb.block_size());
    let mut names = vec![0; usize_from_u32(fs.sb.block_size())];
    for logical in 0..inode.size.div_ceil(block_size) {
        let place = fs.map_inode_logical(&inode, logical).map_err(&failed)?;
        let place =
            place.ok_or_else(|| failed(LibError::CorruptDirEntry("a directory block is not mapped")))?;
        fs.dev
            .read_at(place.saturating_mul(block_size), &mut names)
            .map_err(&failed)?;
        if !has_csum_tail(&names) || !fs.csum.verify_dir_entry_tail(dir, inode.generation, &names) {
            return Err(failed(LibError::BadChecksum {
                what: "directory block",
            }));
        }
    }
    Ok(())
}
