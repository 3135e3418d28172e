//! Everything that can go wrong with a filesystem of an image, each with what the person can do.

use std::error::Error;
use std::io;

use super::ext4::features::Refusal;
use super::ext4::BadSuperblock;
use super::fat::FatRefusal;
use crate::edit::tree::{BadPath, CardPath, Volume};

/// Why a filesystem could not be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// There is no ext4.
    #[error("the root partition holds no ext4 filesystem: {0}")]
    Superblock(#[source] BadSuperblock),
    /// The ext4 is not one that is edited.
    #[error(transparent)]
    Ext4Refused(#[from] Refusal),
    /// The FAT is not one that is edited.
    #[error(transparent)]
    FatRefused(#[from] FatRefusal),
    /// The image could not be read.
    #[error("reading the {volume} filesystem at byte {offset}")]
    Io {
        /// Which one.
        volume: Volume,
        /// Where in it.
        offset: u64,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// What a library said about the filesystem.
    #[error("{doing} {volume}:{path}")]
    Library {
        /// A gerund: what was being done.
        doing: &'static str,
        /// In which filesystem.
        volume: Volume,
        /// To what.
        path: String,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The filesystem contradicts itself.
    #[error("the {volume} filesystem is damaged: {what}")]
    Damaged {
        /// Which one.
        volume: Volume,
        /// What is wrong.
        what: String,
    },
    /// There is not enough free space.
    #[error("the {volume} filesystem has {free} bytes free, and {needed} are needed")]
    NoRoom {
        /// Which one.
        volume: Volume,
        /// Bytes that are free.
        free: u64,
        /// Bytes that the plan needs, metadata included.
        needed: u64,
    },
    /// The space ran out although it had seemed to suffice.
    #[error("the {volume} filesystem was full when {path} was being written")]
    Full {
        /// Which one.
        volume: Volume,
        /// The file that did not fit.
        path: CardPath,
    },
    /// There are not enough inodes.
    #[error("the root filesystem has {free} free inodes, and {needed} are needed")]
    NoInodes {
        /// Inodes that are free.
        free: u32,
        /// Inodes that the plan needs.
        needed: u32,
    },
    /// The fixed root directory of FAT16 is full.
    #[error("the root directory of the boot filesystem has {free} free entries, and {needed} are needed")]
    NoEntries {
        /// Entries that are free.
        free: usize,
        /// Entries that the plan needs.
        needed: usize,
    },
    /// Part of a path is no directory.
    #[error("{path} cannot be: in the {volume} filesystem, {at} is no directory")]
    NotADirectory {
        /// Which filesystem.
        volume: Volume,
        /// The whole path.
        path: CardPath,
        /// The part that should be a directory.
        at: String,
    },
    /// A directory is where something else shall be.
    #[error("{volume}:{path} is a directory of the base, and the plan wants {wanted} there")]
    DirectoryInTheWay {
        /// Which filesystem.
        volume: Volume,
        /// Where.
        path: CardPath,
        /// What is planned.
        wanted: &'static str,
    },
    /// Something else is where a directory shall be.
    #[error("{volume}:{path} is no directory in the base, and the plan wants one there")]
    NoDirectoryThere {
        /// Which filesystem.
        volume: Volume,
        /// Where.
        path: CardPath,
    },
    /// Symlinks lead in a circle, or through too many others.
    #[error("{path} leads through more than {limit} symlinks")]
    TooManyLinks {
        /// The whole path.
        path: CardPath,
        /// How many are followed.
        limit: u32,
    },
    /// A directory's symlink leads nowhere.
    #[error("{path} leads through a symlink to {target:?}, which is not there")]
    DanglingLink {
        /// The whole path.
        path: CardPath,
        /// The symlink's target.
        target: String,
    },
    /// Two planned paths are one file.
    #[error("{first} and {second} are one and the same place of the {volume} filesystem, and the plan wants different things there")]
    SamePlace {
        /// Which filesystem.
        volume: Volume,
        /// The path that came first.
        first: CardPath,
        /// The path that came second.
        second: CardPath,
    },
    /// A symlink's target is too long.
    #[error("the target of the symlink {path} has {len} bytes, and this filesystem takes {most}")]
    LinkTarget {
        /// The symlink.
        path: CardPath,
        /// Bytes of its target.
        len: usize,
        /// Bytes that fit.
        most: usize,
    },
    /// A symlink's target can name no file.
    #[error("the target of the symlink {path} has a part of more than 255 bytes")]
    LinkPart {
        /// The symlink.
        path: CardPath,
    },
    /// The mode has more than twelve bits.
    #[error("the mode {mode:#o} of {path} has more than the twelve bits of a mode")]
    Mode {
        /// The node.
        path: CardPath,
        /// The mode as planned.
        mode: u16,
    },
    /// 4294967295 is no user and no group.
    #[error("the owner or group of {path} is {}, which stands for none", u32::MAX)]
    Owner {
        /// The node.
        path: CardPath,
    },
    /// FAT has no symlinks.
    #[error("boot:{0} cannot be a symlink: it lies on FAT, which has none")]
    FatSymlink(CardPath),
    /// FAT directories are not made.
    #[error("boot:{path} needs the directory {missing}, which the base does not have, and palmfarm makes none on FAT")]
    FatDirectory {
        /// The planned path.
        path: CardPath,
        /// The directory that is not there.
        missing: String,
    },
    /// The name cannot be on FAT.
    #[error("boot:{path} cannot be on FAT: {why}")]
    FatName {
        /// The planned path.
        path: CardPath,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file is larger than is read.
    #[error("{volume}:{path} has {size} bytes, more than the {limit} that are read of it")]
    TooLarge {
        /// Which filesystem.
        volume: Volume,
        /// The file.
        path: CardPath,
        /// Its size in bytes.
        size: u64,
        /// Bytes that would be read.
        limit: u64,
    },
    /// A name in the filesystem is no path of a card.
    #[error("a name in the {volume} filesystem cannot be used")]
    Name {
        /// Which filesystem.
        volume: Volume,
        /// What is wrong with it.
        #[source]
        source: BadPath,
    },
}

impl FsError {
    /// What the person can do about it, where anything can be done.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Ext4Refused(refusal) => refusal.hint(),
            Self::FatRefused(refusal) => refusal.hint(),
            Self::Superblock(_) | Self::Io { .. } | Self::Library { .. } | Self::Damaged { .. } => {
                "the image is damaged: get it again and compare its SHA-256"
            }
            Self::NoRoom { .. } | Self::Full { .. } => {
                "carry fewer or smaller images and overlays, or let the containers fetch them on first boot"
            }
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
            Self::FatSymlink(_) | Self::FatName { .. } => "keep it on the root filesystem",
            Self::FatDirectory { .. } => {
                "keep the file in the root of the boot partition or on the root filesystem"
            }
            Self::TooLarge { .. } | Self::Name { .. } => return None,
        })
    }
}
