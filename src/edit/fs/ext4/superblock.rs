//! The ext4 superblock under the kernel's names: the only code that knows where its fields are. Offsets are those of
//! the kernel's `Documentation/filesystems/ext4/super.rst`. [`super::features`] decides what the values mean for an
//! edit; nothing here may.

use std::io;

use super::crc32c;
use super::features::{COMPAT_HAS_JOURNAL, INCOMPAT_64BIT, INCOMPAT_EXTENTS, INCOMPAT_FLEX_BG};
use crate::edit::block::{Fields, ReadAt};
use crate::edit::fs::FsError;
use crate::edit::tree::Volume;

/// Where the superblock starts, in bytes from the start of the filesystem.
pub(crate) const OFFSET: u64 = 1024;

/// Bytes of a superblock.
const LEN: usize = 1024;

/// Where it ends, in bytes from the start of the filesystem.
pub(crate) const END: u64 = 2048;

/// `s_magic`, and where it is.
const MAGIC: u16 = 0xEF53;
const MAGIC_AT: usize = 0x38;

/// Where the lowest byte of `s_feature_incompat` is, in bytes from the start of the filesystem.
pub(super) const INCOMPAT_AT: u64 = OFFSET + 0x60;

/// What tells the ext family from other filesystems, and its members apart. Any revision has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `s_feature_compat`.
    compat: u32,
    /// `s_feature_incompat`.
    incompat: u32,
    pub(crate) label: String,
}

impl Identity {
    /// Of the filesystem that begins with `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = Fields(bytes.get(1024..2048)?);
        if fields.u16(MAGIC_AT)? != MAGIC {
            return None;
        }
        Some(Self {
            compat: fields.u32(0x5C)?,
            incompat: fields.u32(0x60)?,
            label: fields.text(0x78, 16)?,
        })
    }

    /// The name that blkid has for it: extents and `flex_bg` made ext4, a journal made ext3.
    pub(crate) fn format(&self) -> &'static str {
        if self.incompat & (INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG) != 0 {
            "ext4"
        } else if self.compat & COMPAT_HAS_JOURNAL != 0 {
            "ext3"
        } else {
            "ext2"
        }
    }
}

/// Whether `volume` has the magic number of an ext4, in whatever state the filesystem is.
pub(crate) fn has_magic(volume: &impl ReadAt) -> io::Result<bool> {
    if volume.size() < END {
        return Ok(false);
    }
    let mut magic = [0; 2];
    volume.read_exact_at(OFFSET + 0x38, &mut magic)?;
    Ok(u16::from_le_bytes(magic) == MAGIC)
}

/// A superblock whose magic number, block size and revision are those of an ext4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes per block: a power of two from 1 KiB to 64 KiB.
    pub block_size: u32,
    /// `s_blocks_count`.
    pub blocks: u64,
    /// `s_free_blocks_count`: blocks that no file has, including those reserved for root.
    pub free_blocks: u64,
    /// `s_inodes_count`.
    pub inodes: u32,
    /// `s_free_inodes_count`.
    pub free_inodes: u32,
    /// `s_inode_size`, in bytes.
    pub inode_size: u16,
    /// `s_first_data_block`.
    pub(super) first_data_block: u32,
    /// `s_blocks_per_group`.
    pub(super) blocks_per_group: u32,
    /// `s_inodes_per_group`.
    pub(super) inodes_per_group: u32,
    /// `s_desc_size`, in bytes; it counts only with `INCOMPAT_64BIT`.
    pub(super) desc_size: u16,
    /// `s_reserved_gdt_blocks`.
    pub(super) reserved_gdt_blocks: u16,
    /// `s_backup_bgs`: the groups with backups, with `COMPAT_SPARSE_SUPER2`.
    pub(super) backup_bgs: [u32; 2],
    /// `s_state`.
    pub(super) state: u16,
    /// `s_error_count`.
    pub(super) error_count: u32,
    /// `s_last_orphan`.
    pub(super) last_orphan: u32,
    /// `s_journal_inum`: the inode of the journal; 0 if the journal is on another device.
    pub(super) journal_inum: u32,
    /// `s_flags`.
    pub(super) flags: u32,
    /// `s_feature_compat`.
    pub(super) compat: u32,
    /// `s_feature_incompat`.
    pub(super) incompat: u32,
    /// `s_feature_ro_compat`.
    pub(super) ro_compat: u32,
    /// `s_uuid`.
    pub(super) uuid: [u8; 16],
    /// `s_checksum_type`.
    pub(super) checksum_type: u8,
    /// `s_checksum_seed`.
    pub(super) checksum_seed: u32,
    /// `s_checksum`.
    pub(super) checksum: u32,
    /// What `s_checksum` should be: the CRC-32C of the bytes before it.
    pub(super) computed_checksum: u32,
    /// `s_wtime`: the last write, in seconds since 1970.
    pub written: u64,
    /// `s_mkfs_time`: when the filesystem was made, in seconds since 1970.
    pub made: u64,
}

/// Why bytes are not a superblock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSuperblock {
    #[error("it has {0} bytes of {LEN}")]
    Short(usize),
    #[error("its magic number is {0:#06x}, not {MAGIC:#06x}")]
    Magic(u16),
    #[error("its block size is 2^(10+{0}) bytes")]
    BlockSize(u32),
    #[error("its revision is {0}, older than any ext4")]
    Revision(u32),
}

impl Superblock {
    /// Read the superblock of the filesystem on `medium`.
    pub fn read(medium: &impl ReadAt) -> Result<Self, FsError> {
        let mut bytes = [0; LEN];
        medium
            .read_exact_at(OFFSET, &mut bytes)
            .map_err(FsError::io(Volume::Root, OFFSET))?;
        Self::parse(&bytes).map_err(FsError::Superblock)
    }

    /// Read the fields of `bytes`, which start at [`OFFSET`] of the filesystem.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadSuperblock> {
        let short = BadSuperblock::Short(bytes.len());
        let bytes = bytes.get(..LEN).ok_or(short.clone())?;
        let fields = Fields(bytes);
        let u8_at = |at| fields.u8(at).ok_or(short.clone());
        let u16_at = |at| fields.u16(at).ok_or(short.clone());
        let u32_at = |at| fields.u32(at).ok_or(short.clone());

        let magic = u16_at(MAGIC_AT)?;
        if magic != MAGIC {
            return Err(BadSuperblock::Magic(magic));
        }
        let log = u32_at(0x18)?;
        let block_size = 1024_u32
            .checked_shl(log)
            .filter(|_| log <= 6)
            .ok_or(BadSuperblock::BlockSize(log))?;
        let revision = u32_at(0x4C)?;
        if revision == 0 {
            return Err(BadSuperblock::Revision(revision));
        }
        let incompat = u32_at(0x60)?;
        let wide = |low, high| {
            let upper = if incompat & INCOMPAT_64BIT != 0 {
                u32_at(high)?
            } else {
                0
            };
            Ok(u64::from(upper) << 32 | u64::from(u32_at(low)?))
        };
        let time = |low, high| Ok(u64::from(u8_at(high)?) << 32 | u64::from(u32_at(low)?));
        Ok(Self {
            block_size,
            blocks: wide(0x4, 0x150)?,
            free_blocks: wide(0xC, 0x158)?,
            inodes: u32_at(0x0)?,
            free_inodes: u32_at(0x10)?,
            inode_size: u16_at(0x58)?,
            first_data_block: u32_at(0x14)?,
            blocks_per_group: u32_at(0x20)?,
            inodes_per_group: u32_at(0x28)?,
            desc_size: u16_at(0xFE)?,
            reserved_gdt_blocks: u16_at(0xCE)?,
            backup_bgs: [u32_at(0x24C)?, u32_at(0x250)?],
            state: u16_at(0x3A)?,
            error_count: u32_at(0x194)?,
            last_orphan: u32_at(0xE8)?,
            journal_inum: u32_at(0xE0)?,
            flags: u32_at(0x160)?,
            compat: u32_at(0x5C)?,
            incompat,
            ro_compat: u32_at(0x64)?,
            uuid: fields.array(0x68).ok_or(short.clone())?,
            checksum_type: u8_at(0x175)?,
            checksum_seed: u32_at(0x270)?,
            checksum: u32_at(0x3FC)?,
            computed_checksum: crc32c(u32::MAX, &bytes[..0x3FC]),
            written: time(0x30, 0x274)?,
            made: time(0x108, 0x276)?,
        })
    }

    /// The UUID as fstab has it.
    pub fn uuid_text(&self) -> String {
        let hex: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
        parts.map(|part| hex.get(part).unwrap_or_default()).join("-")
    }

    /// Bytes of the filesystem. Both factors come from the image, so that the product may exceed 64 bits.
    pub(super) fn size(&self) -> u128 {
        u128::from(self.blocks) * u128::from(self.block_size)
    }

    /// The inode of the journal, if the filesystem has one.
    pub(super) fn journal(&self) -> Option<u32> {
        self.has_compat(COMPAT_HAS_JOURNAL).then_some(self.journal_inum)
    }

    /// Whether `bytes` are the copy of this superblock in block group `group`: of a filesystem with the same UUID.
    pub(super) fn is_copy(&self, bytes: &[u8], group: u64) -> bool {
        let fields = Fields(bytes);
        fields.u16(MAGIC_AT) == Some(MAGIC)
            && fields.array(0x68) == Some(self.uuid)
            // `s_block_group_nr`.
            && fields.u16(0x5A).map(u64::from) == Some(group)
    }

    pub(super) fn has_compat(&self, features: u32) -> bool {
        self.compat & features != 0
    }

    pub(super) fn has_incompat(&self, features: u32) -> bool {
        self.incompat & features != 0
    }

    pub(super) fn has_ro_compat(&self, features: u32) -> bool {
        self.ro_compat & features != 0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The least that is a superblock.
    pub(in crate::edit::fs::ext4) fn minimal() -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x4C] = 1;
        bytes
    }

    #[test]
    fn each_wrong_field_has_its_own_error() {
        assert_eq!(Superblock::parse(&[0; 5]), Err(BadSuperblock::Short(5)));
        let mut bytes = [0; LEN];
        assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::Magic(0)));
        bytes[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::Revision(0)));
        bytes = minimal();
        assert!(Superblock::parse(&bytes).is_ok());
        for log in [7, 31, 32, u32::MAX] {
            bytes[0x18..0x1C].copy_from_slice(&log.to_le_bytes());
            assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::BlockSize(log)));
        }
    }

    #[test]
    fn any_revision_has_a_label() {
        let mut bytes = vec![0; 2048];
        assert_eq!(Identity::parse(&bytes), None);
        bytes[1024 + 0x38..1024 + 0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[1024 + 0x78..1024 + 0x80].copy_from_slice(b"writable");
        let identity = Identity::parse(&bytes).unwrap();
        assert_eq!((identity.label.as_str(), identity.format()), ("writable", "ext2"));
        assert_eq!(Identity::parse(&bytes[..1100]), None);
    }
}
