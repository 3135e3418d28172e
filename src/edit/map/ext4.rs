//! Free blocks of ext4, from its block bitmaps (kernel Documentation/filesystems/ext4, "Block and Inode Bitmaps"
//! and "Block Group Descriptors").

use std::io;

use super::checks::Checks;
use super::{Extents, Fields, Free};
use crate::edit::block::ReadAt;

/// Where the superblock lies, in bytes.
const SUPERBLOCK: u64 = 1024;

/// `s_magic`.
const MAGIC: u16 = 0xEF53;

/// `RO_COMPAT_SPARSE_SUPER`: backups of the superblock lie only in groups 0, 1 and powers of 3, 5 and 7.
const RO_SPARSE_SUPER: u32 = 0x1;

/// `RO_COMPAT_BIGALLOC`: a bit of the bitmap is a cluster, not a block.
const RO_BIGALLOC: u32 = 0x200;

/// `INCOMPAT_64BIT`: descriptors have upper halves.
const INCOMPAT_64BIT: u32 = 0x80;

/// Features that change nothing about where free blocks are: `filetype`, `extent`, `64bit`, `mmp`, `flex_bg`,
/// `ea_inode`, `dirdata`, `metadata_csum_seed`, `large_dir`, `inline_data`, `encrypt`, `casefold`.
const INCOMPAT_KNOWN: u32 = 0x3_F7C2;

/// `COMPAT_SPARSE_SUPER2`: backups lie in the two groups of `s_backup_bgs`.
const COMPAT_SPARSE_SUPER2: u32 = 0x200;

/// `EXT4_BG_BLOCK_UNINIT`: the bitmap on disk is not initialised.
const BLOCK_UNINIT: u16 = 0x2;

/// The most groups that are looked at: 128 GiB of 1 KiB blocks, 2 TiB of 4 KiB blocks, more than an image may have and
/// few enough to keep descriptors in memory.
const MOST_GROUPS: u64 = 1 << 14;

/// The superblock's fields that say where bitmaps are.
struct Geometry {
    block: u64,
    blocks: u64,
    first: u64,
    per_group: u64,
    /// Bytes of a bitmap that are used.
    bitmap: usize,
    groups: u64,
    descriptor: usize,
    wide: bool,
    reserved_gdt: u64,
    inode_table: u64,
    compat: u32,
    ro_compat: u32,
    backups: [u32; 2],
}

/// One group descriptor.
struct Group {
    flags: u16,
    /// `bg_free_blocks_count`.
    free: u64,
    /// `bg_block_bitmap_csum`, as `Checks` takes it.
    checksum: (u16, Option<u16>),
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
}

/// Whether `volume` bears the magic number of an ext4, in whatever state that is.
pub(super) fn is_there<R: ReadAt>(volume: &R) -> io::Result<bool> {
    let mut magic = [0; 2];
    let at = SUPERBLOCK.saturating_add(0x38);
    if volume.size() < at.saturating_add(2) {
        return Ok(false);
    }
    volume.read_exact_at(at, &mut magic)?;
    Ok(u16::from_le_bytes(magic) == MAGIC)
}

/// Add the free bytes of the filesystem in `volume` to `free`; `None` where its layout is not one that this module
/// knows, and where its bitmaps are not to be relied on.
pub(super) fn free<R: ReadAt>(volume: &R, free: Free) -> io::Result<Option<Free>> {
    let mut raw = [0; 1024];
    if volume.size() < SUPERBLOCK.saturating_add(1024) {
        return Ok(None);
    }
    volume.read_exact_at(SUPERBLOCK, &mut raw)?;
    let (Some(geometry), Some(checks)) = (Geometry::parse(Fields(&raw)), Checks::of(&raw)) else {
        return Ok(None);
    };
    // A filesystem longer than its partition is cut off: nothing it says can be relied on.
    if geometry
        .blocks
        .checked_mul(geometry.block)
        .is_none_or(|end| end > volume.size())
    {
        return Ok(None);
    }
    let Some(groups) = geometry.descriptors(volume, checks)? else {
        return Ok(None);
    };
    let mut found = Found {
        free,
        block: geometry.block,
        kept: geometry.metadata(&groups),
    };
    let mut bitmap = vec![0; usize::try_from(geometry.block).unwrap_or(0)];
    for (number, group) in (0_u64..).zip(&groups) {
        let start = geometry
            .first
            .saturating_add(number.saturating_mul(geometry.per_group));
        let end = start.saturating_add(geometry.per_group).min(geometry.blocks);
        if group.flags & BLOCK_UNINIT != 0 && checks.cover_flags() {
            let used = geometry.overhead(number);
            found.add(start.saturating_add(used), end);
            continue;
        }
        volume.read_exact_at(group.block_bitmap.saturating_mul(geometry.block), &mut bitmap)?;
        let described = bitmap.get(..geometry.bitmap).unwrap_or_default();
        if !checks.fit_bitmap(group.checksum, described)
            || found.add_clear(described, start, end) != group.free
        {
            return Ok(None);
        }
    }
    Ok(Some(found.free))
}

/// What is free so far.
struct Found {
    free: Free,
    /// Bytes of a block.
    block: u64,
    /// Bytes that are never free.
    kept: Extents,
}

impl Found {
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

    /// Add the runs of clear bits, of which the first stands for block `start`; how many are clear.
    fn add_clear(&mut self, bitmap: &[u8], start: u64, end: u64) -> u64 {
        let mut run = None;
        let mut block = start;
        let mut count = 0_u64;
        for byte in bitmap {
            for bit in 0..8 {
                if block >= end {
                    break;
                }
                let clear = byte & (1 << bit) == 0;
                count = count.saturating_add(u64::from(clear));
                match (clear, run) {
                    (true, None) => run = Some(block),
                    (false, Some(first)) => {
                        self.add(first, block);
                        run = None;
                    }
                    _ => {}
                }
                block = block.saturating_add(1);
            }
        }
        if let Some(first) = run {
            self.add(first, block.min(end));
        }
        count
    }
}

impl Geometry {
    fn parse(sb: Fields<'_>) -> Option<Self> {
        if sb.u16(0x38)? != MAGIC {
            return None;
        }
        let (compat, incompat, ro_compat) = (sb.u32(0x5C)?, sb.u32(0x60)?, sb.u32(0x64)?);
        // Not known are meta_bg, which puts group descriptors elsewhere, a journal to be replayed, which may allocate more
        // than the bitmaps say, and what there will be.
        if incompat & !INCOMPAT_KNOWN != 0 || ro_compat & RO_BIGALLOC != 0 {
            return None;
        }
        let log = sb.u32(0x18)?;
        if log > 6 {
            return None;
        }
        let block = 1024_u64 << log;
        let wide = incompat & INCOMPAT_64BIT != 0;
        let high = if wide { u64::from(sb.u32(0x150)?) << 32 } else { 0 };
        let blocks = high | u64::from(sb.u32(0x4)?);
        let first = u64::from(sb.u32(0x14)?);
        let per_group = u64::from(sb.u32(0x20)?);
        // One block of bitmap describes one group.
        if per_group == 0
            || !per_group.is_multiple_of(8)
            || per_group > block.saturating_mul(8)
            || first > 1
            || blocks <= first
        {
            return None;
        }
        let groups = blocks.saturating_sub(first).div_ceil(per_group);
        let descriptor = if wide { usize::from(sb.u16(0xFE)?) } else { 32 };
        if groups > MOST_GROUPS || !(32..=1024).contains(&descriptor) || (wide && descriptor < 64) {
            return None;
        }
        let inode_size = u64::from(sb.u16(0x58)?);
        let inode_table = u64::from(sb.u32(0x28)?)
            .saturating_mul(inode_size)
            .div_ceil(block);
        Some(Self {
            block,
            blocks,
            first,
            per_group,
            bitmap: usize::try_from(per_group / 8).unwrap_or(0),
            groups,
            descriptor,
            wide,
            reserved_gdt: u64::from(sb.u16(0xCE)?),
            inode_table,
            compat,
            ro_compat,
            backups: [sb.u32(0x24C)?, sb.u32(0x250)?],
        })
    }

    /// Every group descriptor, or `None` where one points out of the filesystem, or is not what its checksum says.
    fn descriptors<R: ReadAt>(&self, volume: &R, checks: Checks) -> io::Result<Option<Vec<Group>>> {
        let count = usize::try_from(self.groups).unwrap_or(0);
        let mut table = vec![0; count.saturating_mul(self.descriptor)];
        volume.read_exact_at(
            self.first.saturating_add(1).saturating_mul(self.block),
            &mut table,
        )?;
        let read = |(number, bytes): (u32, &[u8])| {
            let raw = Fields(bytes);
            let wide = |low: usize, high: usize| {
                let upper = if self.wide {
                    u64::from(raw.u32(high)?) << 32
                } else {
                    0
                };
                let at = upper | u64::from(raw.u32(low)?);
                (at > 0 && at < self.blocks).then_some(at)
            };
            let upper = if self.wide {
                u64::from(raw.u16(0x2C)?) << 16
            } else {
                0
            };
            let group = Group {
                flags: raw.u16(0x12)?,
                free: upper | u64::from(raw.u16(0xC)?),
                checksum: (raw.u16(0x18)?, raw.u16(0x38)),
                block_bitmap: wide(0x0, 0x20)?,
                inode_bitmap: wide(0x4, 0x24)?,
                inode_table: wide(0x8, 0x28)?,
            };
            checks.fit_descriptor(number, bytes, self.wide).then_some(group)
        };
        Ok((0..).zip(table.chunks_exact(self.descriptor)).map(read).collect())
    }

    /// Bitmaps and inode tables, in bytes. Those of an uninitialised group may lie in another, and some writers leave
    /// them out of an uninitialised group's count: they always matter.
    fn metadata(&self, groups: &[Group]) -> Extents {
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
            .groups
            .saturating_mul(u64::try_from(self.descriptor).unwrap_or(64))
            .div_ceil(self.block);
        table.saturating_add(self.reserved_gdt).saturating_add(1)
    }

    fn has_backup(&self, number: u64) -> bool {
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            return number == 0 || self.backups.iter().any(|backup| u64::from(*backup) == number);
        }
        let sparse = self.ro_compat & RO_SPARSE_SUPER != 0;
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
