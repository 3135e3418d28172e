//! The ext4 block group descriptor under the kernel's names (`Documentation/filesystems/ext4/group_descr.rst`): the
//! only code that knows where its fields are.

use super::checksums::Checksums;
use crate::edit::block::Fields;

/// `EXT4_BG_INODE_UNINIT`: neither inode bitmap nor inode table on disk is initialised.
pub(super) const BG_INODE_UNINIT: u16 = 0x1;

/// `EXT4_BG_BLOCK_UNINIT`: the block bitmap on disk is not initialised.
pub(super) const BG_BLOCK_UNINIT: u16 = 0x2;

/// Whether descriptors have upper halves (`INCOMPAT_64BIT`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Bits32,
    Bits64,
}

/// One group descriptor, its checksum verified.
pub(super) struct GroupDescriptor {
    /// `bg_flags`.
    pub(super) flags: u16,
    /// `bg_free_blocks_count`.
    pub(super) free_blocks: u32,
    /// `bg_free_inodes_count`.
    pub(super) free_inodes: u32,
    /// `bg_block_bitmap_csum`: its lower half, and its upper half if the descriptor has room for it.
    pub(super) block_bitmap_checksum: (u16, Option<u16>),
    /// `bg_inode_bitmap_csum`, in the same way.
    pub(super) inode_bitmap_checksum: (u16, Option<u16>),
    /// `bg_block_bitmap`, in blocks.
    pub(super) block_bitmap: u64,
    /// `bg_inode_bitmap`, in blocks.
    pub(super) inode_bitmap: u64,
    /// `bg_inode_table`, in blocks.
    pub(super) inode_table: u64,
}

impl GroupDescriptor {
    /// The descriptor of group `number`; `None` if it is too short or if its checksum does not match.
    pub(super) fn parse(number: u32, bytes: &[u8], width: Width, checksums: Checksums) -> Option<Self> {
        let fields = Fields(bytes);
        let upper = |at| match width {
            Width::Bits32 => Some(0),
            Width::Bits64 => fields.u32(at),
        };
        let block = |low, high| Some(u64::from(upper(high)?) << 32 | u64::from(fields.u32(low)?));
        let count = |low, high| {
            Some(match width {
                Width::Bits32 => u32::from(fields.u16(low)?),
                Width::Bits64 => u32::from(fields.u16(high)?) << 16 | u32::from(fields.u16(low)?),
            })
        };
        let descriptor = Self {
            flags: fields.u16(0x12)?,
            free_blocks: count(0xC, 0x2C)?,
            free_inodes: count(0xE, 0x2E)?,
            block_bitmap_checksum: (fields.u16(0x18)?, fields.u16(0x38)),
            inode_bitmap_checksum: (fields.u16(0x1A)?, fields.u16(0x3A)),
            block_bitmap: block(0x0, 0x20)?,
            inode_bitmap: block(0x4, 0x24)?,
            inode_table: block(0x8, 0x28)?,
        };
        // `bg_checksum` covers what is before it and what is after it.
        let stored = fields.u16(0x1E)?;
        let computed = checksums.of_descriptor(number, bytes.get(..0x1E)?, bytes.get(0x20..)?, width);
        computed
            .is_none_or(|computed| computed == stored)
            .then_some(descriptor)
    }
}
