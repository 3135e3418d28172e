//! Files on the FAT that the Pi's firmware reads: written by `fatfs` within its limits, read back by our own code.

pub(crate) mod boot_sector;
mod dir;
mod free;
mod read;
mod time;
mod volume;
mod whole;
mod write;

use crate::edit::tree::Volume;

pub use dir::folded;
pub(super) use free::free_space;
pub use read::FatReader;
pub use write::{acceptable_name, FatWriter};

/// A reason not to read or edit a FAT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatRefusal {
    #[error("the boot filesystem is not a FAT: {0}")]
    BootSector(&'static str),
    #[error("the boot filesystem is FAT12 ({clusters} clusters); a Pi's is FAT16 or FAT32")]
    Fat12 { clusters: u32 },
    #[error("the boot filesystem has {filesystem} bytes, its partition only {partition}")]
    LargerThanPartition { filesystem: u64, partition: u64 },
    #[error("the boot filesystem is a FAT32 with {clusters} clusters, and by the specification a FAT32 has 65525 or more")]
    SmallFat32 { clusters: u32 },
    #[error("the boot filesystem is marked dirty: it was not cleanly unmounted")]
    Dirty,
}

impl FatRefusal {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Dirty => "run `fsck.vfat -a` on the partition, or start from a fresh download",
            Self::Fat12 { .. } | Self::SmallFat32 { .. } => {
                "copy the files of the partition away, run `mkfs.vfat -F 16 -n system-boot PARTITION`, and copy them \
                 back; or use an image as Ubuntu publishes it"
            }
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
