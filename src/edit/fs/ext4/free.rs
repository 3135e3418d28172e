//! Free blocks of ext4, from its block bitmaps (kernel `Documentation/filesystems/ext4`, "Block and Inode Bitmaps" and
//! "Block Group Descriptors"). It must never guess: a layout that it does not know has no free blocks.

use std::io;

use super::checksums::Checksums;
use super::features::{
    COMPAT_SPARSE_SUPER2, INCOMPAT_64BIT, INCOMPAT_FREE_SPACE_KNOWN, RO_COMPAT_BIGALLOC,
    RO_COMPAT_SPARSE_SUPER,
};
use super::group_descriptor::{GroupDescriptor, Width, BG_BLOCK_UNINIT, BG_INODE_UNINIT};
use super::presence::Presence;
use super::superblock::{self, Superblock};
use crate::edit::block::{Extents, ReadAt};
use crate::edit::fs::free_runs::FreeRuns;
use crate::edit::fs::FsError;
use crate::numbers::{u64_from_usize, usize_from_u64};

/// The most groups that are read: 128 GiB of 1 KiB blocks, or 2 TiB of 4 KiB blocks. That is more than an image may
/// have, and their descriptors fit into memory.
const MOST_GROUPS: u64 = 1 << 14;

/// Add the free bytes of the filesystem in `volume` to `free`; `None` if its layout is not known here, or if its
/// bitmaps cannot be trusted.
pub(in crate::edit::fs) fn free_space<R: ReadAt>(volume: &R, free: FreeRuns) -> io::Result<Option<FreeRuns>> {
    if volume.size() < superblock::END {
        return Ok(None);
    }
    let superblock = match Superblock::read(volume) {
        Ok(superblock) => superblock,
        Err(FsError::Io { source, .. }) => return Err(source),
        Err(_) => return Ok(None),
    };
    // A filesystem longer than its partition is cut off, and its metadata cannot be trusted.
    if superblock.size() > u128::from(volume.size()) {
        return Ok(None);
    }
    let (Some(groups), Some(checksums)) = (Groups::of(&superblock), Checksums::of(&superblock)) else {
        return Ok(None);
    };
    let Some(descriptors) = groups.descriptors(volume, checksums)? else {
        return Ok(None);
    };
    let presence = Presence {
        volume,
        superblock: &superblock,
        groups: &descriptors,
    };
    if !presence.is_whole()? {
        return Ok(None);
    }
    let mut found = FreeBlocks {
        free,
        block: groups.block,
        kept: groups.metadata(&descriptors),
    };
    let mut bitmap = vec![0; usize_from_u64(groups.block)];
    for (number, group) in (0_u64..).zip(&descriptors) {
        let start = groups
            .first
            .saturating_add(number.saturating_mul(groups.per_group));
        let end = start.saturating_add(groups.per_group).min(groups.blocks);
        let has_backup = number > 0 && groups.has_backup(number);
        if has_backup && !presence.has_backup(number, start.saturating_mul(groups.block))? {
            return Ok(None);
        }
        if !groups.match_inodes(volume, group, checksums)? {
            return Ok(None);
        }
        if group.flags & BG_BLOCK_UNINIT != 0 && checksums.cover_flags() {
            found.add(start.saturating_add(groups.overhead(number)), end);
            continue;
        }
        volume.read_exact_at(group.block_bitmap.saturating_mul(groups.block), &mut bitmap)?;
        let used = &bitmap[..groups.bitmap];
        if !checksums.match_bitmap(group.block_bitmap_checksum, used)
            || found.add_clear(used, start, end) != u64::from(group.free_blocks)
        {
            return Ok(None);
        }
    }
    Ok(Some(found.free))
}

/// The first and the last byte of each inode table; `None` if the layout is not known here.
pub(super) fn inode_tables<R: ReadAt>(
    volume: &R,
    superblock: &Superblock,
) -> io::Result<Option<Vec<(u64, u64)>>> {
    let (Some(groups), Some(checksums)) = (Groups::of(superblock), Checksums::of(superblock)) else {
        return Ok(None);
    };
    let descriptors = groups.descriptors(volume, checksums)?;
    let len = groups.inode_table.saturating_mul(groups.block);
    Ok(descriptors.map(|descriptors| {
        let starts = descriptors
            .iter()
            .map(|group| group.inode_table.saturating_mul(groups.block));
        starts.map(|start| (start, start.saturating_add(len))).collect()
    }))
}

/// The free blocks found so far.
struct FreeBlocks {
    free: FreeRuns,
    /// Bytes of a block.
    block: u64,
    /// Bytes that are never free.
    kept: Extents,
}

impl FreeBlocks {
    /// Add the blocks from `start` to before `end`.
    fn add(&mut self, start: u64, end: u64) {
        let mut at = start.saturating_mul(self.block);
        let end = end.saturating_mul(self.block);
        for (from, to) in self.kept.within(at, end) {
            self.free.add(at, from);
            at = to;
        }
        self.free.add(at, end);
    }

    /// Add the runs of clear bits and return the number of clear bits. The bits are those of the blocks from `start` to
    /// before `end`.
    fn add_clear(&mut self, bitmap: &[u8], start: u64, end: u64) -> u64 {
        let mut clear_from = start;
        let mut count = 0;
        for (block, bit) in (start..end).zip(0..) {
            if bitmap[bit / 8] & (1 << (bit % 8)) == 0 {
                count += 1;
                continue;
            }
            if clear_from < block {
                self.add(clear_from, block);
            }
            clear_from = block + 1;
        }
        self.add(clear_from, end);
        count
    }
}

/// Where the block groups are, and where each one's metadata is.
struct Groups<'a> {
    superblock: &'a Superblock,
    /// Bytes of a block.
    block: u64,
    /// Blocks of the filesystem.
    blocks: u64,
    /// The first block of the first group.
    first: u64,
    /// Blocks of a group.
    per_group: u64,
    /// Bytes of a bitmap that are used.
    bitmap: usize,
    count: u64,
    /// Bytes of a descriptor.
    descriptor: usize,
    width: Width,
    /// Blocks of an inode table.
    inode_table: u64,
}

impl<'a> Groups<'a> {
    /// `None` if the superblock has a feature that may move bitmaps or change their meaning, or an impossible number.
    fn of(superblock: &'a Superblock) -> Option<Self> {
        if superblock.has_incompat(!INCOMPAT_FREE_SPACE_KNOWN) || superblock.has_ro_compat(RO_COMPAT_BIGALLOC)
        {
            return None;
        }
        let block = u64::from(superblock.block_size);
        let blocks = superblock.blocks;
        let first = u64::from(superblock.first_data_block);
        let per_group = u64::from(superblock.blocks_per_group);
        // One block of bitmap describes one group.
        if per_group == 0
            || !per_group.is_multiple_of(8)
            || per_group > block.saturating_mul(8)
            || first > 1
            || blocks <= first
        {
            return None;
        }
        let count = blocks.saturating_sub(first).div_ceil(per_group);
        let (width, descriptor, least) = if superblock.has_incompat(INCOMPAT_64BIT) {
            (Width::Bits64, usize::from(superblock.desc_size), 64)
        } else {
            (Width::Bits32, 32, 32)
        };
        if count > MOST_GROUPS || !(least..=1024).contains(&descriptor) {
            return None;
        }
        let inode_table = u64::from(superblock.inodes_per_group)
            .saturating_mul(u64::from(superblock.inode_size))
            .div_ceil(block);
        Some(Self {
            superblock,
            block,
            blocks,
            first,
            per_group,
            bitmap: usize_from_u64(per_group / 8),
            count,
            descriptor,
            width,
            inode_table,
        })
    }

    /// Every group descriptor, or `None` if one is damaged or points out of the filesystem.
    fn descriptors<R: ReadAt>(
        &self,
        volume: &R,
        checksums: Checksums,
    ) -> io::Result<Option<Vec<GroupDescriptor>>> {
        let mut table = vec![0; usize_from_u64(self.count).saturating_mul(self.descriptor)];
        let start = self.first.saturating_add(1).saturating_mul(self.block);
        volume.read_exact_at(start, &mut table)?;
        let inside = |block: u64| block > 0 && block < self.blocks;
        let parse = |(number, bytes): (u32, &[u8])| {
            GroupDescriptor::parse(number, bytes, self.width, checksums).filter(|group| {
                inside(group.block_bitmap) && inside(group.inode_bitmap) && inside(group.inode_table)
            })
        };
        Ok((0..)
            .zip(table.chunks_exact(self.descriptor))
            .map(parse)
            .collect())
    }

    /// Whether the inode bitmap of `group` is as its descriptor says, so far as that can be known.
    fn match_inodes<R: ReadAt>(
        &self,
        volume: &R,
        group: &GroupDescriptor,
        checksums: Checksums,
    ) -> io::Result<bool> {
        if group.flags & BG_INODE_UNINIT != 0 && checksums.cover_flags() {
            return Ok(true);
        }
        let inodes = u64::from(self.superblock.inodes_per_group);
        if !inodes.is_multiple_of(8) || inodes > self.block.saturating_mul(8) {
            return Ok(false);
        }
        let mut bitmap = vec![0; usize_from_u64(inodes / 8)];
        volume.read_exact_at(group.inode_bitmap.saturating_mul(self.block), &mut bitmap)?;
        let clear: u32 = bitmap.iter().map(|byte| byte.count_zeros()).sum();
        Ok(clear == group.free_inodes && checksums.match_bitmap(group.inode_bitmap_checksum, &bitmap))
    }

    /// Bitmaps and inode tables, in bytes, which are never free. Those of an uninitialised group may be in another
    /// group, and some writers leave them out of an uninitialised group's count.
    fn metadata(&self, groups: &[GroupDescriptor]) -> Extents {
        let mut kept = Extents::default();
        for group in groups {
            for (block, count) in [
                (group.block_bitmap, 1),
                (group.inode_bitmap, 1),
                (group.inode_table, self.inode_table),
            ] {
                let start = block.saturating_mul(self.block);
                kept.add(start, start.saturating_add(count.saturating_mul(self.block)));
            }
        }
        kept
    }

    /// How many blocks at the start of group `number` hold copies of superblock and descriptors.
    fn overhead(&self, number: u64) -> u64 {
        if !self.has_backup(number) {
            return 0;
        }
        let table = self
            .count
            .saturating_mul(u64_from_usize(self.descriptor))
            .div_ceil(self.block);
        table
            .saturating_add(u64::from(self.superblock.reserved_gdt_blocks))
            .saturating_add(1)
    }

    fn has_backup(&self, number: u64) -> bool {
        if self.superblock.has_compat(COMPAT_SPARSE_SUPER2) {
            let backups = self.superblock.backup_bgs;
            return number == 0 || backups.iter().any(|backup| u64::from(*backup) == number);
        }
        let sparse = self.superblock.has_ro_compat(RO_COMPAT_SPARSE_SUPER);
        !sparse || number <= 1 || [3, 5, 7].iter().any(|base| is_power(number, *base))
    }
}

fn is_power(number: u64, base: u64) -> bool {
    let mut power = base;
    while power < number {
        power = power.saturating_mul(base);
    }
    power == number
}
