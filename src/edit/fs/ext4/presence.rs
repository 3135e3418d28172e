//! Whether a superblock describes what is on the medium now. A device that became part of something else can keep the
//! superblock of before, with group descriptors and bitmaps that still match it. It must never take such remains for a
//! filesystem.

use std::io;

use super::group_descriptor::GroupDescriptor;
use super::superblock::Superblock;
use super::ROOT_INODE;
use crate::edit::block::{Fields, ReadAt};
use crate::numbers::{u64_from_usize, usize_from_u64};

/// `S_IFMT` and two of its values.
const TYPE: u16 = 0xF000;
const DIRECTORY: u16 = 0x4000;
const REGULAR: u16 = 0x8000;

/// `EXT4_EXTENTS_FL` and `EXT4_INLINE_DATA_FL`.
const EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;

/// `eh_magic` of a node of an extent tree, and the most levels that a tree has.
const EXTENT_NODE: u16 = 0xF30A;
const MOST_LEVELS: u16 = 5;

/// `h_magic` of a journal, big-endian, and the two types of its superblock (kernel
/// `Documentation/filesystems/ext4/journal.rst`).
const JOURNAL: &[u8] = b"\xc0\x3b\x39\x98\0\0\0";
const JOURNAL_SUPERBLOCKS: [u8; 2] = [3, 4];

/// A filesystem whose superblock and group descriptors were read.
pub(super) struct Presence<'a, R> {
    pub(super) volume: &'a R,
    pub(super) superblock: &'a Superblock,
    pub(super) groups: &'a [GroupDescriptor],
}

impl<R: ReadAt> Presence<'_, R> {
    /// Whether the root directory is one, and the journal, if there is one, is one.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        Ok(self.has_root()? && self.has_journal()?)
    }

    /// Whether the block at `at` (bytes) is the copy of the superblock in group `number`.
    pub(super) fn has_backup(&self, number: u64, at: u64) -> io::Result<bool> {
        let mut bytes = [0; 1024];
        self.volume.read_exact_at(at, &mut bytes)?;
        Ok(self.superblock.is_copy(&bytes, number))
    }

    fn has_root(&self) -> io::Result<bool> {
        let Some(inode) = self.inode(ROOT_INODE)? else {
            return Ok(false);
        };
        if !inode.is(DIRECTORY) {
            return Ok(false);
        }
        if inode.flags & INLINE_DATA != 0 {
            // The number of the parent, which is the root itself.
            return Ok(Fields(&inode.block).u32(0) == Some(ROOT_INODE));
        }
        let Some(block) = self.first_block(&inode)? else {
            return Ok(false);
        };
        let fields = Fields(&block);
        let is_entry = |at: usize, name: &[u8]| {
            fields.u32(at) == Some(ROOT_INODE)
                && fields.u8(at + 6).map(usize::from) == Some(name.len())
                && fields.has(at + 8, name)
        };
        // `.` in an entry of 12 bytes, then `..`: both are the root itself.
        Ok(is_entry(0, b".") && fields.u16(4) == Some(12) && is_entry(12, b".."))
    }

    fn has_journal(&self) -> io::Result<bool> {
        let Some(number) = self.superblock.journal() else {
            return Ok(true);
        };
        let Some(inode) = self.inode(number)?.filter(|inode| inode.is(REGULAR)) else {
            return Ok(false);
        };
        let Some(block) = self.first_block(&inode)? else {
            return Ok(false);
        };
        Ok(block.starts_with(JOURNAL)
            && block
                .get(7)
                .is_some_and(|kind| JOURNAL_SUPERBLOCKS.contains(kind)))
    }

    /// The inode with this number; `None` if there is none.
    fn inode(&self, number: u32) -> io::Result<Option<Inode>> {
        let Some(index) = number.checked_sub(1) else {
            return Ok(None);
        };
        let per_group = self.superblock.inodes_per_group;
        let place = index.checked_div(per_group).zip(index.checked_rem(per_group));
        let found =
            place.and_then(|(group, index)| Some((self.groups.get(usize::try_from(group).ok()?)?, index)));
        let Some((group, index)) = found else {
            return Ok(None);
        };
        let at = self
            .start(group.inode_table)
            .saturating_add(u64::from(index).saturating_mul(u64::from(self.superblock.inode_size)));
        let mut bytes = [0; 128];
        if at.saturating_add(u64_from_usize(bytes.len())) > self.volume.size() {
            return Ok(None);
        }
        self.volume.read_exact_at(at, &mut bytes)?;
        Ok(Inode::parse(&bytes))
    }

    /// The first block of a file; `None` if it has none.
    fn first_block(&self, inode: &Inode) -> io::Result<Option<Vec<u8>>> {
        let mut node = inode.block.clone();
        if inode.flags & EXTENTS == 0 {
            let block = Fields(&node).u32(0).map_or(0, u64::from);
            return self.block(block);
        }
        for _ in 0..=MOST_LEVELS {
            let fields = Fields(&node);
            if fields.u16(0) != Some(EXTENT_NODE) || fields.u16(2).is_none_or(|entries| entries == 0) {
                return Ok(None);
            }
            let is_leaf = fields.u16(6) == Some(0);
            // An extent has its upper half before its lower one, and an index after it.
            let (lower, upper) = if is_leaf { (20, 18) } else { (16, 20) };
            let Some((lower, upper)) = fields.u32(lower).zip(fields.u16(upper)) else {
                return Ok(None);
            };
            let Some(block) = self.block(u64::from(upper) << 32 | u64::from(lower))? else {
                return Ok(None);
            };
            if is_leaf {
                return Ok((fields.u32(12) == Some(0)).then_some(block));
            }
            node = block;
        }
        Ok(None)
    }

    fn block(&self, number: u64) -> io::Result<Option<Vec<u8>>> {
        if number == 0 || number >= self.superblock.blocks {
            return Ok(None);
        }
        let mut bytes = vec![0; usize_from_u64(self.superblock.block_size.into())];
        self.volume.read_exact_at(self.start(number), &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Where a block starts, in bytes.
    fn start(&self, block: u64) -> u64 {
        block.saturating_mul(self.superblock.block_size.into())
    }
}

/// The fields of an inode that are needed here (kernel `Documentation/filesystems/ext4/inodes.rst`).
struct Inode {
    /// `i_mode`.
    mode: u16,
    /// `i_flags`.
    flags: u32,
    /// `i_block`.
    block: Vec<u8>,
}

impl Inode {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = Fields(bytes);
        Some(Self {
            mode: fields.u16(0)?,
            flags: fields.u32(0x20)?,
            block: fields.array::<60>(0x28)?.to_vec(),
        })
    }

    fn is(&self, kind: u16) -> bool {
        self.mode & TYPE == kind
    }
}
