//! A filesystem as if no directory had an index, for `ext4-view`: it then looks at every name of a directory.
//!
//! The library finds a name in an index by the signed half-MD4 and TEA hashes alone. A filesystem that was made on ARM has
//! unsigned hashes, which differ for names beyond ASCII (`s_flags`, kernel `fs/ext4/super.c`), and an old one may have the
//! legacy hash. It must change nothing but what says that there is an index, and the feature whose checksums would not
//! match afterwards.

use std::io;

use super::free;
use super::superblock::{Superblock, OFFSET};
use crate::edit::block::{length, ReadAt};
use crate::numbers::usize_from_u64;

/// The second byte of `s_feature_ro_compat`, and `RO_COMPAT_METADATA_CSUM` in it.
const RO_COMPAT_AT: u64 = OFFSET + 0x65;
const METADATA_CSUM: u8 = 0x4;

/// The second byte of `i_flags` in an inode, and `EXT4_INDEX_FL` in it.
const FLAGS_AT: u64 = 0x21;
const INDEX: u8 = 0x10;

/// Where the inodes are.
pub(super) struct Unindexed {
    /// The first and the last byte of each inode table, in order.
    tables: Vec<(u64, u64)>,
    inode_size: u64,
}

impl Unindexed {
    /// Of the filesystem on `volume`; `None` if its layout is not known.
    pub(super) fn of<R: ReadAt>(volume: &R, superblock: &Superblock) -> io::Result<Option<Self>> {
        let inode_size = u64::from(superblock.inode_size);
        if inode_size <= FLAGS_AT {
            return Ok(None);
        }
        Ok(free::inode_tables(volume, superblock)?.map(|mut tables| {
            tables.sort_unstable();
            Self { tables, inode_size }
        }))
    }

    /// Change `bytes`, which are those from `start` on.
    pub(super) fn apply(&self, start: u64, bytes: &mut [u8]) {
        let end = start.saturating_add(length(bytes));
        let mut clear = |at: u64, bits: u8| {
            let byte = at
                .checked_sub(start)
                .and_then(|at| bytes.get_mut(usize_from_u64(at)));
            if let Some(byte) = byte {
                *byte &= !bits;
            }
        };
        clear(RO_COMPAT_AT, METADATA_CSUM);
        let first = self.tables.partition_point(|(_, table_end)| *table_end <= start);
        for (table, table_end) in self.tables.iter().skip(first) {
            if *table >= end {
                break;
            }
            // The first inode that is not wholly before the bytes.
            let skipped = start.saturating_sub(*table) / self.inode_size;
            let mut inode = table.saturating_add(skipped.saturating_mul(self.inode_size));
            while inode < end.min(*table_end) {
                clear(inode.saturating_add(FLAGS_AT), INDEX);
                inode = inode.saturating_add(self.inode_size);
            }
        }
    }
}
