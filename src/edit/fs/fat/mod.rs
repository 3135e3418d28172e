//! Files on the FAT that the Pi's firmware reads: written by `fatfs` within the limits found in it, read back by
//! code of our own.

pub(crate) mod boot_sector;
mod dir;
mod free;
mod read;
mod time;
mod volume;
mod write;

use crate::edit::tree::Volume;

pub(super) use free::free_space;
pub use read::FatReader;
pub use write::FatWriter;

/// Why a FAT is not read or edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatRefusal {
    /// The boot sector makes no sense.
    #[error("the boot filesystem is no FAT: {0}")]
    BootSector(&'static str),
    /// It is FAT12.
    #[error("the boot filesystem is FAT12 ({clusters} clusters); a Pi's is FAT16 or FAT32")]
    Fat12 {
        /// How many clusters it has.
        clusters: u32,
    },
    /// It is larger than its partition.
    #[error("the boot filesystem has {filesystem} bytes, its partition only {partition}")]
    LargerThanPartition {
        /// Bytes of the filesystem.
        filesystem: u64,
        /// Bytes of the partition.
        partition: u64,
    },
    /// It was not unmounted, or errors were seen.
    #[error("the boot filesystem is marked dirty: it was not cleanly unmounted")]
    Dirty,
}

impl FatRefusal {
    /// What the person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Dirty => "run `fsck.vfat -a` on the partition, or start from a fresh download",
            Self::Fat12 { .. } => "use an image as Ubuntu publishes it",
            Self::BootSector(_) | Self::LargerThanPartition { .. } => {
                "the image is damaged or was cut: get it again and compare its SHA-256"
            }
        }
    }
}

fn damaged(what: String) -> super::FsError {
    super::FsError::Damaged {
        volume: Volume::Boot,
        what,
    }
}

#[cfg(test)]
mod tests;
