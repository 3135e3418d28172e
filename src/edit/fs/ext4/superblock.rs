//! The ext4 superblock under the kernel's names. Offsets are those of the kernel's
//! `Documentation/filesystems/ext4/super.rst`. It reads fields; what they mean for an edit, [`super::accept`] says.

/// Where the superblock starts, in bytes from the start of the filesystem.
pub const OFFSET: u64 = 1024;

/// Bytes of a superblock.
pub const LEN: usize = 1024;

const MAGIC: u16 = 0xEF53;

/// The bit of `s_feature_incompat` that makes numbers of blocks 64 bits wide.
const BIT64: u32 = 0x80;

/// `INCOMPAT_RECOVER`: it was not unmounted, and its journal is to be replayed.
pub const RECOVER: u32 = 0x4;

/// `RO_COMPAT_METADATA_CSUM`: all metadata has a CRC-32C.
pub const METADATA_CSUM: u32 = 0x400;

/// What an editor must know of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes per block.
    pub block_size: u32,
    /// `s_blocks_count`: blocks of the filesystem.
    pub blocks: u64,
    /// `s_free_blocks_count`: those that no file has, the ones reserved for root among them.
    pub free_blocks: u64,
    /// `s_inodes_count`.
    pub inodes: u32,
    /// `s_free_inodes_count`.
    pub free_inodes: u32,
    /// `s_inode_size`, in bytes.
    pub inode_size: u16,
    /// `s_state`.
    pub state: u16,
    /// `s_error_count`.
    pub error_count: u32,
    /// `s_last_orphan`.
    pub last_orphan: u32,
    /// `s_feature_compat`.
    pub compat: u32,
    /// `s_feature_incompat`.
    pub incompat: u32,
    /// `s_feature_ro_compat`.
    pub ro_compat: u32,
    /// `s_volume_name`.
    pub label: String,
    /// `s_wtime`: the last write, in seconds since 1970.
    pub written: u64,
    /// `s_mkfs_time`: when the filesystem was made, in seconds since 1970.
    pub made: u64,
}

/// Why bytes are no superblock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSuperblock {
    /// There are too few of them.
    #[error("it has {0} bytes of {LEN}")]
    Short(usize),
    /// `s_magic` is another.
    #[error("its magic number is {0:#06x}, not {MAGIC:#06x}")]
    Magic(u16),
    /// `s_log_block_size` is out of range.
    #[error("its block size is 2^(10+{0}) bytes")]
    BlockSize(u32),
    /// `s_rev_level` is that of a filesystem without features.
    #[error("its revision is {0}, older than any ext4")]
    Revision(u32),
}

impl Superblock {
    /// Read the fields of `bytes`, which start at [`OFFSET`] of the filesystem.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadSuperblock> {
        let Some(bytes) = bytes.first_chunk::<LEN>() else {
            return Err(BadSuperblock::Short(bytes.len()));
        };
        let magic = u16_at(bytes, 0x38);
        if magic != MAGIC {
            return Err(BadSuperblock::Magic(magic));
        }
        let log = u32_at(bytes, 0x18);
        let block_size = 1024_u32
            .checked_shl(log)
            .filter(|_| log <= 6)
            .ok_or(BadSuperblock::BlockSize(log))?;
        let revision = u32_at(bytes, 0x4C);
        if revision == 0 {
            return Err(BadSuperblock::Revision(revision));
        }
        let incompat = u32_at(bytes, 0x60);
        let wide = incompat & BIT64 != 0;
        let high = |at| {
            if wide {
                u64::from(u32_at(bytes, at)) << 32
            } else {
                0
            }
        };
        let time = |low, high: usize| {
            let high = bytes.get(high).copied().unwrap_or(0);
            u64::from(u32_at(bytes, low)) | u64::from(high) << 32
        };
        Ok(Self {
            block_size,
            blocks: u64::from(u32_at(bytes, 0x4)) | high(0x150),
            free_blocks: u64::from(u32_at(bytes, 0xC)) | high(0x158),
            inodes: u32_at(bytes, 0x0),
            free_inodes: u32_at(bytes, 0x10),
            inode_size: u16_at(bytes, 0x58),
            state: u16_at(bytes, 0x3A),
            error_count: u32_at(bytes, 0x194),
            last_orphan: u32_at(bytes, 0xE8),
            compat: u32_at(bytes, 0x5C),
            incompat,
            ro_compat: u32_at(bytes, 0x64),
            label: label_of(bytes),
            written: time(0x30, 0x274),
            made: time(0x108, 0x276),
        })
    }
}

/// The label in `bytes`, the start of a superblock, where they are one.
pub(crate) fn label(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.first_chunk::<LEN>()?;
    (u16_at(bytes, 0x38) == MAGIC).then(|| label_of(bytes))
}

fn label_of(bytes: &[u8; LEN]) -> String {
    let raw = bytes.get(0x78..0x88).unwrap_or_default();
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
    String::from_utf8_lossy(raw.get(..end).unwrap_or_default()).into_owned()
}

fn u16_at(bytes: &[u8; LEN], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8; LEN], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_superblock_is_said_to_be_none() {
        assert_eq!(Superblock::parse(&[0; 5]), Err(BadSuperblock::Short(5)));
        let mut bytes = [0; LEN];
        assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::Magic(0)));
        bytes[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::Revision(0)));
        bytes[0x4C] = 1;
        bytes[0x78..0x80].copy_from_slice(b"writable");
        assert_eq!(Superblock::parse(&bytes).unwrap().label, "writable");
        assert_eq!(label(&bytes).as_deref(), Some("writable"));
        for log in [7, 31, 32, u32::MAX] {
            bytes[0x18..0x1C].copy_from_slice(&log.to_le_bytes());
            assert_eq!(Superblock::parse(&bytes), Err(BadSuperblock::BlockSize(log)));
        }
    }
}
