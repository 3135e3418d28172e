//! Gives a directory that is to get many names an index (htree), so that each of them is found and added in the same
//! time. The library keeps an index that is there, and makes none: without one it reads all names for each that it adds,
//! and 20,000 names take minutes.
//!
//! It must never change which names a directory has.

use fs_ext4::inode::InodeFlags;
use fs_ext4::{bgd, features, Error as LibError, Filesystem};

use super::walk::failed;
use crate::edit::fs::FsError;
use crate::edit::tree::CardPath;
use crate::numbers::usize_from_u32;

/// From how many new names on an index is worth its work.
pub(super) const MANY: usize = 256;

/// Where `i_flags` is in an inode (kernel, `ext4/inodes.rst`).
const FLAGS: usize = 0x20;

/// `i_checksum_lo`, `i_extra_isize` and `i_checksum_hi`.
const SUM_LOW: usize = 0x7C;
const EXTRA: usize = 0x80;
const SUM_HIGH: usize = 0x82;

/// Bytes of `.` and of `..` in the root of an index, and of `dx_root_info` (kernel, `ext4/directory.rst`).
const DOT: usize = 12;
const INFO: usize = 24;
const COUNT: usize = 32;

/// The tail of a directory block, which has its checksum.
const TAIL: usize = 12;

/// Give the directory `dir` an index, if the filesystem has them, it has none, and its names are in one block. `path` is
/// for messages.
pub(super) fn add(fs: &Filesystem, dir: u32, path: &CardPath) -> Result<(), FsError> {
    let failed = failed("making an index for the directory of", path);
    let inode = fs.stat_ino(dir).map_err(&failed)?;
    let block_size = u64::from(fs.sb.block_size());
    let plain = InodeFlags::EXTENTS.bits();
    let fits = fs.sb.feature_compat & features::Compat::DIR_INDEX.bits() != 0
        && fs.sb.default_hash_version <= 2
        && inode.size == block_size
        && inode.flags == plain;
    if !fits {
        return Ok(());
    }
    grow(fs, dir).map_err(&failed)?;
    let (inode, mut raw) = fs.read_inode_verified(dir).map_err(&failed)?;
    let place = |logical: u64| {
        let block = fs.map_inode_logical(&inode, logical)?;
        block.ok_or(LibError::CorruptDirEntry("a directory block is not mapped"))
    };
    if inode.size != 2 * block_size {
        return Ok(());
    }
    let (root_at, leaf_at) = (place(0).map_err(&failed)?, place(1).map_err(&failed)?);
    let mut root = vec![0; usize_from_u32(fs.sb.block_size())];
    fs.dev
        .read_at(root_at.saturating_mul(block_size), &mut root)
        .map_err(&failed)?;
    let parts = split(&root, fs.csum.enabled, fs.sb.default_hash_version);
    let (mut root, mut leaf) = parts.ok_or_else(|| failed(LibError::CorruptDirEntry("its names overlap")))?;
    fs.csum.patch_dx_tail(dir, inode.generation, &mut root, COUNT);
    fs.csum.patch_dir_entry_tail(dir, inode.generation, &mut leaf);
    let flags = inode.flags | InodeFlags::INDEX.bits();
    if let Some(field) = raw.get_mut(FLAGS..FLAGS + 4) {
        field.copy_from_slice(&flags.to_le_bytes());
    }
    let sum = fs.csum.compute_inode_checksum(dir, inode.generation, &raw);
    if let Some((low, high)) = sum {
        put(&mut raw, SUM_LOW, low);
        // It is there if the inode's extra part reaches to its end.
        if extra(&raw).is_some_and(|extra| extra >= 4) {
            put(&mut raw, SUM_HIGH, high);
        }
    }
    let (table, offset) = bgd::locate_inode(&fs.sb, &fs.groups, dir).map_err(&failed)?;
    let inode_at = table.saturating_mul(block_size).saturating_add(offset.into());
    for (at, bytes) in [
        (root_at.saturating_mul(block_size), root),
        (leaf_at.saturating_mul(block_size), leaf),
        (inode_at, raw),
    ] {
        fs.dev.write_at(at, &bytes).map_err(&failed)?;
    }
    Ok(())
}

/// Write a number of 16 bits.
fn put(raw: &mut [u8], at: usize, number: u16) {
    if let Some(field) = raw.get_mut(at..at.saturating_add(2)) {
        field.copy_from_slice(&number.to_le_bytes());
    }
}

/// `i_extra_isize` of a large inode.
fn extra(raw: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(raw.get(EXTRA..EXTRA + 2)?.try_into().ok()?))
}

/// Let the directory have two blocks: names that fill the first, and are removed again.
fn grow(fs: &Filesystem, dir: u32) -> fs_ext4::Result<()> {
    let mut names = Vec::new();
    let block_size = fs.sb.block_size();
    // Of the longest names sixteen fill 4 KiB.
    for number in 0..block_size / 64 {
        if fs.stat_ino(dir)?.size > u64::from(block_size) {
            break;
        }
        let name = format!("{number:0>255}").into_bytes();
        if fs.lookup_at(dir, &name).is_ok() {
            continue;
        }
        fs.apply_create_at(dir, &name, 0o600)?;
        names.push(name);
    }
    names.iter().try_for_each(|name| fs.apply_unlink_at(dir, name))
}

/// The one block `names` of a directory as the root of an index and its first leaf.
fn split(names: &[u8], has_tail: bool, hash_version: u8) -> Option<(Vec<u8>, Vec<u8>)> {
    let size = names.len();
    let end = size.checked_sub(if has_tail { TAIL } else { 0 })?;
    let number = |block: &[u8], at: usize| -> Option<u16> {
        Some(u16::from_le_bytes(
            block.get(at..at.checked_add(2)?)?.try_into().ok()?,
        ))
    };
    let mut leaf: Vec<u8> = Vec::with_capacity(size);
    let mut last = 0;
    let mut at = 0;
    let mut parent = None;
    while at < end {
        let length = usize::from(number(names, at.checked_add(4)?)?);
        let entry = names.get(at..at.checked_add(length).filter(|end| length >= 8 && *end <= size)?)?;
        let inode: [u8; 4] = entry.get(..4)?.try_into().ok()?;
        let name_length = usize::from(*entry.get(6)?);
        let used = name_length.checked_add(8)?.next_multiple_of(4);
        match entry.get(8..name_length.checked_add(8)?)? {
            b"." => {}
            b".." => parent = Some(inode),
            _ if inode == [0; 4] => {}
            _ => {
                last = leaf.len();
                leaf.extend_from_slice(entry.get(..used)?);
                leaf.get_mut(last.checked_add(4)?..last.checked_add(6)?)?
                    .copy_from_slice(&u16::try_from(used).ok()?.to_le_bytes());
            }
        }
        at = at.checked_add(length)?;
    }
    // The last entry, or an empty one, reaches to the end.
    leaf.resize(size, 0);
    let rest = u16::try_from(end.checked_sub(last)?).ok()?;
    leaf.get_mut(last.checked_add(4)?..last.checked_add(6)?)?
        .copy_from_slice(&rest.to_le_bytes());
    let mut root = names.get(..DOT)?.to_vec();
    root.get_mut(4..6)?
        .copy_from_slice(&u16::try_from(DOT).ok()?.to_le_bytes());
    root.extend_from_slice(&parent?);
    root.extend_from_slice(&u16::try_from(size.checked_sub(DOT)?).ok()?.to_le_bytes());
    // The length of `..`, the kind of a directory, the name.
    root.extend_from_slice(&[2, *names.get(7)?, b'.', b'.', 0, 0]);
    debug_assert_eq!(root.len(), INFO);
    // Four bytes reserved, the hash, the length of this part, one level, no flags.
    root.extend_from_slice(&[0, 0, 0, 0, hash_version, 8, 0, 0]);
    let room = size
        .checked_sub(COUNT)?
        .checked_sub(if has_tail { 8 } else { 0 })?;
    let limit = u16::try_from(room / 8).ok()?;
    root.extend_from_slice(&limit.to_le_bytes());
    // One entry, whose leaf is the second block.
    root.extend_from_slice(&[1, 0, 1, 0, 0, 0]);
    root.resize(size, 0);
    Some((root, leaf))
}
