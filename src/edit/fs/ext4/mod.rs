//! Writing into an ext4 filesystem that somebody else made, and reading it back with other code.

pub mod accept;
mod device;
mod read;
mod room;
pub mod superblock;
mod walk;
mod write;

/// CRC-32C and CRC-16 as ext4 chains them: the register goes in and comes out as it is.
pub(crate) use fs_ext4::checksum::{crc16, linux_crc32c as crc32c};
pub use read::{Ext4Reader, Journal};
pub use superblock::Superblock;
pub(crate) use superblock::METADATA_CSUM;
pub use write::Ext4Writer;

use crate::edit::block::ReadAt;
use crate::edit::tree::Volume;

use super::FsError;

/// The inode of the root directory (kernel, `Documentation/filesystems/ext4/special_inodes.rst`).
const ROOT_INODE: u32 = 2;

/// The superblock of the filesystem on `medium`.
///
/// # Errors
/// [`FsError::Io`] and [`FsError::Superblock`].
pub fn superblock_of(medium: &impl ReadAt) -> Result<Superblock, FsError> {
    let mut bytes = [0; superblock::LEN];
    medium
        .read_exact_at(superblock::OFFSET, &mut bytes)
        .map_err(|source| FsError::Io {
            volume: Volume::Root,
            offset: superblock::OFFSET,
            source,
        })?;
    Superblock::parse(&bytes).map_err(FsError::Superblock)
}
