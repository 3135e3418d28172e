//! Everything that can go wrong with a filesystem of an image, with a hint for each. It must not decide what to do
//! about an error.

use std::error::Error;
use std::io;

use super::ext4::features::Ext4Refusal;
use super::ext4::BadSuperblock;
use super::fat::FatRefusal;
use crate::edit::tree::{CardPath, Mount, Volume};

/// What a card needs of the root filesystem if the farm carries hardly anything: the agent, and some hundred small files.
/// Where there is no room for that, the base is to blame, and not the farm.
const OWN_BYTES: u64 = 16 << 20;
const OWN_INODES: u32 = 500;

/// What helps against a base that was shrunk to what it holds.
const ENLARGE: &str = "the base was shrunk to what it holds: unpack it, run `truncate -s +1G IMAGE` and \
                       `echo ,+ | sfdisk -N 2 IMAGE`, and then `e2fsck -f` and `resize2fs` on its root partition";

/// Why a filesystem could not be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("the root partition holds no ext4 filesystem")]
    Superblock(#[source] BadSuperblock),
    #[error(transparent)]
    Ext4Refused(#[from] Ext4Refusal),
    #[error(transparent)]
    FatRefused(#[from] FatRefusal),
    #[error("reading the {volume} filesystem at byte {offset}")]
    Io {
        volume: Volume,
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error("{doing} {volume}:{path}")]
    Library {
        doing: &'static str,
        volume: Volume,
        path: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the {volume} filesystem is damaged: {what}")]
    Damaged { volume: Volume, what: String },
    #[error("the {volume} filesystem has {free} bytes free, and {needed} are needed")]
    NoRoom { volume: Volume, free: u64, needed: u64 },
    #[error("the {volume} filesystem was full when {path} was being written")]
    Full { volume: Volume, path: CardPath },
    #[error("the root filesystem has {free} free inodes, and {needed} are needed")]
    NoInodes { free: u32, needed: u32 },
    #[error("the root directory of the boot filesystem has {free} free entries, and {needed} are needed")]
    NoEntries { free: usize, needed: usize },
    #[error("{path} is not possible: in the {volume} filesystem, {at} is not a directory")]
    NotADirectory {
        volume: Volume,
        path: CardPath,
        at: String,
    },
    #[error("{volume}:{path} is a directory in the base, but the plan has {wanted} there")]
    DirectoryInTheWay {
        volume: Volume,
        path: CardPath,
        wanted: &'static str,
    },
    #[error("{volume}:{path} is not a directory in the base, but the plan has one there")]
    NoDirectoryThere { volume: Volume, path: CardPath },
    #[error("{path} leads through more than {limit} symlinks")]
    TooManyLinks { path: CardPath, limit: u32 },
    #[error("{path} leads through a symlink to {target:?}, which does not exist")]
    DanglingLink { path: CardPath, target: String },
    #[error("{first} and {second} are the same place in the {volume} filesystem, but the plan has different nodes there")]
    SamePlace {
        volume: Volume,
        first: CardPath,
        second: CardPath,
    },
    #[error("nobody would see root:{path} on the Pi: {real} is covered by {what}", real = mount.folder, what = mount.what)]
    Covered { path: CardPath, mount: Mount },
    #[error("the target of the symlink {path} has {len} bytes, and this filesystem takes {most}")]
    LinkTarget { path: CardPath, len: usize, most: usize },
    #[error("the target of the symlink {path} has a part of more than 255 bytes")]
    LinkPart { path: CardPath },
    #[error("the mode {mode:#o} of {path} has more than the twelve bits of a mode")]
    Mode { path: CardPath, mode: u16 },
    #[error("the owner or group of {path} is {}, which means \"none\"", u32::MAX)]
    Owner { path: CardPath },
    #[error("boot:{0} cannot be a symlink: FAT has no symlinks")]
    FatSymlink(CardPath),
    #[error("boot:{path} needs the directory {missing}, which the base does not have, and palmfarm does not create directories on FAT")]
    FatDirectory { path: CardPath, missing: String },
    #[error("boot:{path} cannot be on FAT: {why}")]
    FatName { path: CardPath, why: &'static str },
    #[error("{volume}:{path} has {size} bytes, more than the {limit} that are read of it")]
    TooLarge {
        volume: Volume,
        path: CardPath,
        size: u64,
        limit: u64,
    },
}

impl FsError {
    /// An error of reading or writing at `offset` of `volume`.
    pub(super) fn io(volume: Volume, offset: u64) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io {
            volume,
            offset,
            source,
        }
    }

    pub(super) fn library<E: Error + Send + Sync + 'static>(
        volume: Volume,
        doing: &'static str,
        path: &str,
        error: E,
    ) -> Self {
        Self::Library {
            doing,
            volume,
            path: path.to_owned(),
            source: Box::new(error),
        }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Ext4Refused(refusal) => refusal.hint(),
            Self::FatRefused(refusal) => refusal.hint(),
            Self::Damaged {
                volume: Volume::Boot, ..
            } => FatRefusal::Dirty.hint(),
            Self::Superblock(BadSuperblock::Revision(_)) => {
                "make the root filesystem of the base again with mke2fs as it is by default, or use Ubuntu's image"
            }
            Self::Superblock(_) | Self::Io { .. } | Self::Library { .. } | Self::Damaged { .. } => {
                "the image is damaged: get it again and compare its SHA-256"
            }
            Self::NoRoom {
                volume: Volume::Root,
                needed,
                ..
            } if *needed < OWN_BYTES => ENLARGE,
            Self::NoInodes { needed, .. } if *needed < OWN_INODES => ENLARGE,
            Self::NoRoom { volume, .. } | Self::Full { volume, .. } => match volume {
                Volume::Root => {
                    "carry fewer or smaller images and overlays, let the containers fetch them on first boot, or enlarge \
                     the root filesystem of the base"
                }
                Volume::Boot => {
                    "put fewer or smaller files onto the boot partition; the root filesystem has more room"
                }
            },
            Self::NoInodes { .. } => "pack small files into an archive that a `run:` line unpacks",
            Self::NoEntries { .. } => "put fewer files into the root of the boot partition",
            Self::NotADirectory { .. }
            | Self::DirectoryInTheWay { .. }
            | Self::NoDirectoryThere { .. }
            | Self::TooManyLinks { .. }
            | Self::DanglingLink { .. }
            | Self::LinkTarget { .. }
            | Self::LinkPart { .. }
            | Self::Mode { .. }
            | Self::Owner { .. }
            | Self::SamePlace { .. } => "change the path in farm.yaml or in the overlay",
            Self::Covered { .. } => Mount::HINT,
            Self::FatSymlink(_) | Self::FatName { .. } => "keep it on the root filesystem",
            Self::FatDirectory { .. } => {
                "keep the file in the root of the boot partition or on the root filesystem"
            }
            Self::TooLarge { .. } => return None,
        })
    }
}
