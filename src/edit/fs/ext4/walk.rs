//! From a planned path to its directory, through the symlinks that the base has on the way.
//!
//! Ubuntu's `/lib` is a symlink to `usr/lib`: a file that is planned below `/lib` must be written below `/usr/lib`, and
//! must never replace the symlink. No symlink may lead out of the filesystem.

use std::collections::BTreeSet;

use fs_ext4::{Error as LibError, Filesystem};

use super::ROOT_INODE;
use crate::edit::fs::FsError;
use crate::edit::tree::{CardPath, Volume};

/// How many symlinks one path may lead through, as in Linux (`MAXSYMLINKS`, `path_resolution(7)`).
const MOST_LINKS: u32 = 40;

/// The longest symlink target that Linux knows, in bytes (`PATH_MAX`).
const LONGEST_TARGET: u64 = 4096;

/// What to do if a directory on the way does not exist.
pub(super) enum Missing<'a> {
    /// Create it, 0755 root:root, and add its parent to the directories that changed.
    Make(&'a mut BTreeSet<u32>),
    Stop,
}

/// One part of the remaining path, and the target of the symlink that it comes from, if any.
struct Part {
    name: Vec<u8>,
    from: Option<Vec<u8>>,
}

/// A directory, and the way to it without symlinks.
pub(super) struct Directory {
    pub(super) inode: u32,
    names: Vec<Vec<u8>>,
}

impl Directory {
    /// Its path; `None` for the root, and for one whose name is not UTF-8.
    pub(super) fn path(&self) -> Option<CardPath> {
        let names: Option<Vec<&str>> = self
            .names
            .iter()
            .map(|name| std::str::from_utf8(name).ok())
            .collect();
        CardPath::new(&names?.join("/")).ok()
    }

    /// Whether `name` in it lies below the directory `folder`.
    pub(super) fn is_below(&self, folder: &CardPath) -> bool {
        let folder: Vec<&[u8]> = folder.parts().map(str::as_bytes).collect();
        self.names.iter().map(Vec::as_slice).take(folder.len()).eq(folder)
    }
}

/// The directory at `dir`, or the root; `None` if it does not exist and `missing` is [`Missing::Stop`]. `path` is the
/// whole planned path, for messages.
pub(super) fn directory(
    fs: &Filesystem,
    dir: Option<&CardPath>,
    path: &CardPath,
    mut missing: Missing<'_>,
) -> Result<Option<Directory>, FsError> {
    let parts = dir.into_iter().flat_map(|dir| dir.parts().rev());
    let mut todo: Vec<Part> = parts
        .map(|name| Part {
            name: name.as_bytes().to_vec(),
            from: None,
        })
        .collect();
    let mut links = 0;
    // Every directory below the root to here, for `..`.
    let mut way: Vec<(u32, Vec<u8>)> = Vec::new();
    while let Some(part) = todo.pop() {
        let here = way.last().map_or(ROOT_INODE, |(inode, _)| *inode);
        match part.name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                way.pop();
                continue;
            }
            _ => {}
        }
        let Some(inode) = child(fs, here, &part.name, path)? else {
            match (&mut missing, part.from) {
                (Missing::Stop, _) => return Ok(None),
                (Missing::Make(_), Some(target)) => {
                    return Err(FsError::DanglingLink {
                        path: path.clone(),
                        target: String::from_utf8_lossy(&target).into_owned(),
                    })
                }
                (Missing::Make(changed), None) => {
                    let made = fs
                        .apply_mkdir_at(here, &part.name, 0o755)
                        .map_err(failed("making a directory for", path))?;
                    changed.insert(here);
                    way.push((made, part.name));
                    continue;
                }
            }
        };
        let stat = fs.stat_ino(inode).map_err(failed("reading the inode of", path))?;
        if stat.is_dir() {
            way.push((inode, part.name));
        } else if stat.is_symlink() {
            links += 1;
            if links > MOST_LINKS || stat.size > LONGEST_TARGET {
                return Err(FsError::TooManyLinks {
                    path: path.clone(),
                    limit: MOST_LINKS,
                });
            }
            let target = fs
                .read_link_ino(inode)
                .map_err(failed("reading a symlink on the way to", path))?;
            if target.first() == Some(&b'/') {
                way.clear();
            }
            todo.extend(target.split(|byte| *byte == b'/').rev().map(|name| Part {
                name: name.to_vec(),
                from: Some(target.clone()),
            }));
        } else if matches!(missing, Missing::Stop) {
            return Ok(None);
        } else {
            return Err(FsError::NotADirectory {
                volume: Volume::Root,
                path: path.clone(),
                at: String::from_utf8_lossy(&part.name).into_owned(),
            });
        }
    }
    Ok(Some(Directory {
        inode: way.last().map_or(ROOT_INODE, |(inode, _)| *inode),
        names: way.into_iter().map(|(_, name)| name).collect(),
    }))
}

/// The inode that `name` has in the directory `dir`, or `None`.
pub(super) fn child(fs: &Filesystem, dir: u32, name: &[u8], path: &CardPath) -> Result<Option<u32>, FsError> {
    match fs.lookup_at(dir, name) {
        Ok(inode) => Ok(Some(inode)),
        // A target of a symlink may have names that no file can have.
        Err(LibError::NotFound | LibError::NameTooLong) => Ok(None),
        Err(error) => Err(failed("looking up", path)(error)),
    }
}

/// Convert an error of the library, which has two for a full filesystem.
pub(super) fn failed<'a>(doing: &'static str, path: &'a CardPath) -> impl Fn(LibError) -> FsError + 'a {
    move |error| match error {
        LibError::NoSpaceLeftOnDevice => FsError::Full {
            volume: Volume::Root,
            path: path.clone(),
        },
        LibError::Corrupt(what) if what.contains("no group has") => FsError::Full {
            volume: Volume::Root,
            path: path.clone(),
        },
        error => FsError::library(Volume::Root, doing, path.as_str(), error),
    }
}
