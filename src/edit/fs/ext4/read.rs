//! Reading ext4 with `ext4-view`: for the facts of a base, for `inspect`, and to verify what was written. Where the library
//! would look for a name by another hash than the kernel, it looks at all names ([`super::unindexed`]).
//!
//! It must not share code with the writer. Numbers from the image are bounded before the library allocates by them.

use std::cell::OnceCell;
use std::error::Error;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType, Metadata};

use super::features::{INCOMPAT_RECOVER, RO_COMPAT_METADATA_CSUM};
use super::superblock::{Superblock, INCOMPAT_AT};
use super::unindexed::Unindexed;
use crate::edit::block::ReadAt;
use crate::edit::fs::{FileKind, FsError, Stat, VolumeReader, MOST_NAMES};
use crate::edit::tree::{Access, CardPath, Volume};

/// How many symlinks one path may lead through (`path_resolution(7)`).
const MOST_LINKS: u32 = 40;

/// The longest target, in bytes (`PATH_MAX`).
const LONGEST_TARGET: u64 = 4096;

/// The most bytes of a directory that is searched: a million names. The library reads all of it to find that a name
/// does not exist, and a damaged directory may have the same block many times.
const LARGEST_DIRECTORY: u64 = 64 << 20;

/// An ext4 filesystem, read only. A journal that was not replayed is taken into account if the library can read it.
pub struct Ext4Reader {
    ext4: Ext4,
    journal: Journal,
    medium: Arc<dyn ReadAt>,
    superblock: Superblock,
    /// Made when it is needed; `None` if that is not possible.
    unindexed: OnceCell<Option<Ext4>>,
}

/// What was done with changes that are only in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// They are taken into account, or there are none.
    Read,
    /// They are ignored: the latest writes may be missing or incomplete.
    PassedOver,
}

/// The medium as the library reads it.
struct Source {
    medium: Arc<dyn ReadAt>,
    journal: Journal,
    unindexed: Option<Unindexed>,
}

impl Ext4Read for Source {
    fn read(&mut self, start_byte: u64, dst: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.medium.read_exact_at(start_byte, dst)?;
        if self.journal == Journal::PassedOver {
            // Without this feature bit the filesystem counts as unmounted, and the library does not read the journal.
            let at = INCOMPAT_AT
                .checked_sub(start_byte)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| dst.get_mut(at)) {
                *byte &= !RECOVER_LOW;
            }
        }
        if let Some(unindexed) = &self.unindexed {
            unindexed.apply(start_byte, dst);
        }
        Ok(())
    }
}

/// [`INCOMPAT_RECOVER`] in the lowest byte of its field.
const RECOVER_LOW: u8 = 0x4;

impl Ext4Reader {
    /// The filesystem on `medium`.
    pub fn open<M: ReadAt + 'static>(medium: M) -> Result<Self, FsError> {
        let superblock = Superblock::read(&medium)?;
        superblock.check_size(medium.size())?;
        superblock.check_readable()?;
        let medium: Arc<dyn ReadAt> = Arc::new(medium);
        let load = |journal| {
            let medium = Arc::clone(&medium);
            let unindexed = None;
            Ext4::load(Box::new(Source {
                medium,
                journal,
                unindexed,
            }))
        };
        // The library replays journals with checksums, which only filesystems with checksums have. These have a
        // checksum of the superblock, too, which a changed bit would not match.
        let may_pass =
            superblock.has_incompat(INCOMPAT_RECOVER) && !superblock.has_ro_compat(RO_COMPAT_METADATA_CSUM);
        let (ext4, journal) = match load(Journal::Read) {
            Err(_) if may_pass => (load(Journal::PassedOver), Journal::PassedOver),
            loaded => (loaded, Journal::Read),
        };
        let ext4 = ext4.map_err(failed("opening", "/"))?;
        let root = ext4.symlink_metadata("/").map_err(failed("reading", "/"))?;
        check_directory("/", &root)?;
        Ok(Self {
            ext4,
            journal,
            medium,
            superblock,
            unindexed: OnceCell::new(),
        })
    }

    /// The filesystem as if no directory had an index.
    fn unindexed(&self) -> Option<&Ext4> {
        let load = || {
            let medium = Arc::clone(&self.medium);
            let unindexed = Unindexed::of(&medium, &self.superblock).ok().flatten()?;
            let source = Source {
                medium,
                journal: self.journal,
                unindexed: Some(unindexed),
            };
            Ext4::load(Box::new(source)).ok()
        };
        self.unindexed.get_or_init(load).as_ref()
    }

    /// Do `work` with `path`, whose names the library may have looked for by the wrong hash.
    fn at<T>(&self, path: &str, work: impl Fn(&Ext4) -> Result<T, Ext4Error>) -> Result<T, Ext4Error> {
        let done = work(&self.ext4);
        match &done {
            Err(Ext4Error::NotFound) if !path.is_ascii() => {}
            Err(Ext4Error::Incompatible(_)) => {}
            _ => return done,
        }
        self.unindexed().map_or(done, work)
    }

    /// What was done with changes that are only in the journal.
    pub fn journal(&self) -> Journal {
        self.journal
    }

    /// `path` without symlinks, and its metadata; `None` if it does not exist. `last` says whether a symlink at its end
    /// is followed.
    fn resolve(&self, path: &CardPath, last: Last) -> Result<Option<(String, Metadata)>, FsError> {
        let mut todo: Vec<String> = path.parts().rev().map(str::to_owned).collect();
        let mut real = String::new();
        let mut found = None;
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or(0));
                    found = None;
                    continue;
                }
                _ => {}
            }
            let next = format!("{real}/{part}");
            let metadata = match self.at(&next, |ext4| ext4.symlink_metadata(next.as_str())) {
                Ok(metadata) => metadata,
                Err(error) if is_absence(&error) => return Ok(None),
                Err(error) => return Err(failed("reading", &next)(error)),
            };
            check_directory(&next, &metadata)?;
            let follow = !todo.is_empty() || last == Last::Follow;
            if !(metadata.is_symlink() && follow) {
                real = next;
                found = Some(metadata);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(FsError::TooManyLinks {
                    path: path.clone(),
                    limit: MOST_LINKS,
                });
            }
            let target = self.target(&next, &metadata)?;
            let Ok(target) = String::from_utf8(target) else {
                return Ok(None);
            };
            if target.starts_with('/') {
                real.clear();
            }
            todo.extend(target.split('/').rev().map(str::to_owned));
        }
        if let Some(metadata) = found {
            return Ok(Some((real, metadata)));
        }
        let dir = if real.is_empty() { "/" } else { &real };
        let metadata = self
            .at(dir, |ext4| ext4.symlink_metadata(dir))
            .map_err(failed("reading", dir))?;
        Ok(Some((real, metadata)))
    }

    fn target(&self, path: &str, metadata: &Metadata) -> Result<Vec<u8>, FsError> {
        if metadata.len() > LONGEST_TARGET {
            return Err(FsError::Damaged {
                volume: Volume::Root,
                what: format!("the target of {path} has {} bytes", metadata.len()),
            });
        }
        let target = self
            .at(path, |ext4| ext4.read_link(path))
            .map_err(failed("reading the symlink", path))?;
        Ok(target.as_ref().to_vec())
    }

    fn stat_to(&self, path: &CardPath, last: Last) -> Result<Option<Stat>, FsError> {
        let Some((real, metadata)) = self.resolve(path, last)? else {
            return Ok(None);
        };
        let kind = match metadata.file_type() {
            FileType::Regular => FileKind::File,
            FileType::Directory => FileKind::Dir,
            FileType::Symlink => FileKind::Symlink(self.target(&real, &metadata)?),
            _ => FileKind::Special,
        };
        Ok(Some(Stat {
            kind,
            size: metadata.len(),
            access: Some(Access {
                mode: metadata.mode(),
                uid: metadata.uid(),
                gid: metadata.gid(),
            }),
            modified: metadata.modified().seconds(),
        }))
    }
}

/// What to do with a symlink at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

impl VolumeReader for Ext4Reader {
    fn stat(&self, path: &CardPath) -> Result<Option<Stat>, FsError> {
        self.stat_to(path, Last::Keep)
    }

    fn stat_through(&self, path: &CardPath) -> Result<Option<Stat>, FsError> {
        self.stat_to(path, Last::Follow)
    }

    fn read(&self, path: &CardPath, limit: u64) -> Result<Option<Vec<u8>>, FsError> {
        let Some((real, metadata)) = self.resolve(path, Last::Follow)? else {
            return Ok(None);
        };
        if metadata.file_type() != FileType::Regular {
            return Ok(None);
        }
        if metadata.len() > limit {
            return Err(FsError::TooLarge {
                volume: Volume::Root,
                path: path.clone(),
                size: metadata.len(),
                limit,
            });
        }
        self.at(&real, |ext4| ext4.read(real.as_str()))
            .map(Some)
            .map_err(failed("reading", &real))
    }

    fn names(&self, path: Option<&CardPath>) -> Result<Vec<String>, FsError> {
        let entries = self.entries(path)?;
        Ok(entries.into_iter().map(|(name, _)| name).collect())
    }

    fn links(&self, path: &CardPath) -> Result<Vec<String>, FsError> {
        let entries = self.entries(Some(path))?.into_iter();
        Ok(entries
            .filter_map(|(name, is_link)| is_link.then_some(name))
            .collect())
    }
}

impl Ext4Reader {
    /// The names in a directory, sorted, each with whether it is that of a symlink.
    fn entries(&self, path: Option<&CardPath>) -> Result<Vec<(String, bool)>, FsError> {
        let real = match path {
            None => String::new(),
            Some(path) => match self.resolve(path, Last::Follow)? {
                Some((real, metadata)) if metadata.is_dir() => real,
                _ => {
                    return Err(FsError::NotADirectory {
                        volume: Volume::Root,
                        path: path.clone(),
                        at: path.to_string(),
                    })
                }
            },
        };
        let dir = if real.is_empty() { "/" } else { &real };
        let mut names = Vec::new();
        let entries = self
            .at(dir, |ext4| ext4.read_dir(dir))
            .map_err(failed("listing", dir))?;
        for entry in entries {
            let entry = entry.map_err(failed("listing", dir))?;
            let name = entry.file_name();
            if !matches!(name.as_ref(), b"." | b"..") {
                let is_link = entry.file_type().is_ok_and(FileType::is_symlink);
                names.push((String::from_utf8_lossy(name.as_ref()).into_owned(), is_link));
            }
            if names.len() > MOST_NAMES {
                return Err(FsError::Damaged {
                    volume: Volume::Root,
                    what: format!("the directory {dir} has over {MOST_NAMES} names"),
                });
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Refuse a directory that is too large to be searched.
fn check_directory(path: &str, metadata: &Metadata) -> Result<(), FsError> {
    let size = metadata.len();
    if metadata.is_dir() && size > LARGEST_DIRECTORY {
        return Err(FsError::Damaged {
            volume: Volume::Root,
            what: format!(
                "the directory {path} has {size} bytes, more than the {LARGEST_DIRECTORY} that are read"
            ),
        });
    }
    Ok(())
}

/// Whether the error means that the path does not exist.
fn is_absence(error: &Ext4Error) -> bool {
    matches!(
        error,
        Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::MalformedPath | Ext4Error::PathTooLong
    )
}

fn failed<'a>(doing: &'static str, path: &'a str) -> impl Fn(Ext4Error) -> FsError + 'a {
    move |error| FsError::library(Volume::Root, doing, path, error)
}
