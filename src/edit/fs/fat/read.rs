//! Reading FAT. It must not share code with the library that writes it.

use super::damaged;
use super::dir::{self, Dir, DirEntry};
use super::time::seconds;
use super::volume::FatVolume;
use crate::edit::block::ReadAt;
use crate::edit::fs::{FileKind, FsError, Stat, VolumeReader};
use crate::edit::tree::{CardPath, Volume};
use crate::numbers::{usize_from_u32, usize_from_u64};

/// A FAT16 or FAT32, read only.
#[derive(Debug)]
pub struct FatReader<M> {
    pub(super) volume: FatVolume<M>,
}

impl<M: ReadAt> FatReader<M> {
    /// The filesystem on `medium`.
    pub fn open(medium: M) -> Result<Self, FsError> {
        Ok(Self {
            volume: FatVolume::open(medium)?,
        })
    }

    /// The label by which Linux finds the volume: blkid since 2018 reads it in the root directory alone.
    pub fn label(&self) -> Result<Option<String>, FsError> {
        Ok(dir::label(&dir::bytes_of(&self.volume, Dir::Root)?))
    }

    /// The volume's number as fstab has it.
    pub fn uuid(&self) -> String {
        let id = self.volume.volume_id;
        format!("{:04X}-{:04X}", id >> 16, id & 0xFFFF)
    }

    /// The entry at `path`, or what prevents it.
    pub(super) fn find(&self, path: &CardPath) -> Result<Lookup, FsError> {
        let mut dir = Dir::Root;
        let mut way = String::new();
        let mut parts = path.parts().peekable();
        while let Some(part) = parts.next() {
            way.push('/');
            way.push_str(part);
            let last = parts.peek().is_none();
            let bytes = dir::bytes_of(&self.volume, dir)?;
            let entry = dir::entries(&bytes)
                .into_iter()
                .find(|entry| entry.is_called(part));
            match entry {
                Some(entry) if last => return Ok(Lookup::Entry(entry)),
                Some(entry) if entry.is_dir => dir = below(&entry)?,
                Some(_) => return Ok(Lookup::FileInTheWay(way)),
                None if last => return Ok(Lookup::Nothing),
                None => return Ok(Lookup::NoDirectory(way)),
            }
        }
        Ok(Lookup::NoDirectory(way))
    }
}

/// The result of looking up a path.
pub(super) enum Lookup {
    /// A file or a directory.
    Entry(DirEntry),
    /// Nothing, but its directory exists.
    Nothing,
    /// A directory on the way does not exist.
    NoDirectory(String),
    /// A part before the last one is a file.
    FileInTheWay(String),
}

/// The directory that `entry` is.
pub(super) fn below(entry: &DirEntry) -> Result<Dir, FsError> {
    match entry.first {
        0 => Err(damaged(format!("the directory {:?} has no cluster", entry.name))),
        first => Ok(Dir::At(first)),
    }
}

impl<M: ReadAt> VolumeReader for FatReader<M> {
    fn stat(&self, path: &CardPath) -> Result<Option<Stat>, FsError> {
        let Lookup::Entry(entry) = self.find(path)? else {
            return Ok(None);
        };
        Ok(Some(Stat {
            kind: if entry.is_dir {
                FileKind::Dir
            } else {
                FileKind::File
            },
            size: u64::from(entry.size),
            access: None,
            modified: seconds(entry.modified),
        }))
    }

    fn stat_through(&self, path: &CardPath) -> Result<Option<Stat>, FsError> {
        self.stat(path)
    }

    /// FAT has none.
    fn links(&self, _path: &CardPath) -> Result<Vec<String>, FsError> {
        Ok(Vec::new())
    }

    fn read(&self, path: &CardPath, limit: u64) -> Result<Option<Vec<u8>>, FsError> {
        let Lookup::Entry(entry) = self.find(path)? else {
            return Ok(None);
        };
        if entry.is_dir {
            return Ok(None);
        }
        let size = u64::from(entry.size);
        if size > limit {
            return Err(FsError::TooLarge {
                volume: Volume::Boot,
                path: path.clone(),
                size,
                limit,
            });
        }
        if size == 0 {
            return Ok(Some(Vec::new()));
        }
        // Clusters after the last one that is needed are not read.
        let mut content = vec![0; usize_from_u32(entry.size)];
        let cluster = usize_from_u64(self.volume.cluster_size);
        let mut chain = self.volume.chain(entry.first);
        for part in content.chunks_mut(cluster) {
            let number = chain
                .next()
                .ok_or_else(|| damaged(format!("{path} has {size} bytes, more than its clusters")))??;
            self.volume.bytes(self.volume.start(number), part)?;
        }
        Ok(Some(content))
    }

    fn names(&self, path: Option<&CardPath>) -> Result<Vec<String>, FsError> {
        let dir = match path {
            None => Dir::Root,
            Some(path) => match self.find(path)? {
                Lookup::Entry(entry) if entry.is_dir => below(&entry)?,
                _ => {
                    return Err(FsError::NotADirectory {
                        volume: Volume::Boot,
                        path: path.clone(),
                        at: path.to_string(),
                    })
                }
            },
        };
        let bytes = dir::bytes_of(&self.volume, dir)?;
        let mut names: Vec<String> = dir::entries(&bytes).into_iter().map(|entry| entry.name).collect();
        names.sort();
        Ok(names)
    }
}
