//! Writing into an ext4 filesystem that somebody else made, and reading it back with other code.

mod attributes;
mod checksums;
mod device;
pub mod features;
mod free;
mod group_descriptor;
mod index;
mod names;
mod presence;
mod read;
mod space;
pub(crate) mod superblock;
mod unindexed;
mod walk;
mod write;

/// CRC-32C and CRC-16 as ext4 chains them: the register goes in and comes out as it is.
use fs_ext4::checksum::{crc16, linux_crc32c as crc32c};

pub use attributes::unchangeable;
pub(super) use free::free_space;
pub use read::{Ext4Reader, Journal};
pub use superblock::{BadSuperblock, Superblock};
pub use write::Ext4Writer;

/// The inode of the root directory (kernel, `Documentation/filesystems/ext4/special_inodes.rst`).
const ROOT_INODE: u32 = 2;
