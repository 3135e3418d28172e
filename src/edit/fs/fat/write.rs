//! Writing planned files into FAT with `fatfs` 0.3.6, within the limits that tests found in this library. It must never
//! create or remove a directory.
//!
//! * It gives long names to `.` and `..` in a directory that it creates, which fsck.vfat reports as damage: palmfarm
//!   does not create directories.
//! * It follows the chains of a damaged volume: [`super::whole`] follows and checks all of them first.
//! * It does not clear a cluster that it appends to the root directory of a FAT32, so that old bytes become entries:
//!   the clusters that it will take are zeroed first. To know these exactly, a first pass frees space and a second
//!   pass only takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use fatfs::{FileSystem, FsOptions};

use super::dir;
use super::read::{FatReader, Lookup};
use super::time::Frozen;
use super::volume::{FatVolume, RootDir};
use super::{free_space, whole, FatRefusal};
use crate::edit::block::{length, Cursor, WriteAt};
use crate::edit::fs::free_runs::FreeRuns;
use crate::edit::fs::FsError;
use crate::edit::tree::{CardPath, Node, Volume};
use crate::numbers::{u64_from_usize, usize_from_u64};

/// UTF-16 units of a name in one directory entry, and of a whole name.
const UNITS_PER_ENTRY: usize = 13;
const MOST_UNITS: usize = 255;

/// A FAT that may be edited.
#[derive(Debug)]
pub struct FatWriter<M> {
    medium: M,
    time: u32,
}

/// What a plan needs and replaces.
#[derive(Debug, Default)]
struct Needs<'a> {
    clusters: u64,
    /// New entries by directory.
    entries: BTreeMap<Option<CardPath>, usize>,
    /// The planned paths that exist.
    existing: BTreeSet<&'a CardPath>,
}

impl<M: WriteAt> FatWriter<M> {
    /// The filesystem on `medium`, if it may be edited. Every file that is written gets `time` (seconds
    /// since 1970).
    pub fn open(medium: M, time: u32) -> Result<Self, FsError> {
        let reader = FatReader::open(&medium)?;
        let volume = &reader.volume;
        if volume.dirty {
            return Err(FatRefusal::Dirty.into());
        }
        // The library goes by the number of clusters alone, and would write the table of a FAT16.
        if volume.is_small_fat32 {
            let clusters = volume.clusters;
            return Err(FatRefusal::SmallFat32 { clusters }.into());
        }
        let free = free_space(&medium, FreeRuns::within(medium.size(), 0));
        if free.map_err(FsError::io(Volume::Boot, 0))?.is_none() {
            return Err(FsError::Damaged {
                volume: Volume::Boot,
                what: "its two file allocation tables differ, or do not begin as they should".into(),
            });
        }
        let free = whole::check(&reader)?;
        // It is a hint (specification 1.03, "FAT32 FSInfo"), but the library counts on from it.
        if let Some((_, at)) = volume.free_count.filter(|(said, _)| *said != free) {
            medium
                .write_all_at(at, &free.to_le_bytes())
                .map_err(FsError::io(Volume::Boot, at))?;
        }
        Ok(Self { medium, time })
    }

    /// Write every node, in the order given, and finish.
    ///
    /// Space is checked first. After an error the filesystem may be half-written: it must be discarded.
    pub fn apply(self, nodes: &[(&CardPath, &Node)]) -> Result<(), FsError> {
        let needs = self.check(nodes)?;
        self.with_library(|fs| {
            for (path, node) in nodes.iter().filter(|(path, _)| needs.existing.contains(path)) {
                free(fs, path, node)?;
            }
            Ok(())
        })?;
        self.prepare(&needs)?;
        self.with_library(|fs| {
            for (path, node) in nodes {
                if let Node::File { content, .. } = node {
                    write_file(fs, path, content)?;
                }
            }
            Ok(())
        })
    }

    /// Compare the plan with the filesystem: refuse what cannot be done, and return what the plan needs.
    fn check<'a>(&self, nodes: &[(&'a CardPath, &Node)]) -> Result<Needs<'a>, FsError> {
        let reader = FatReader::open(&self.medium)?;
        let mut needs = Needs::default();
        let mut seen: BTreeMap<String, &CardPath> = BTreeMap::new();
        for (path, node) in nodes {
            acceptable_name(path).map_err(|why| FsError::FatName {
                path: (*path).clone(),
                why,
            })?;
            if let Some(first) = seen.insert(dir::folded(path.as_str()), path) {
                return Err(FsError::SamePlace {
                    volume: Volume::Boot,
                    first: first.clone(),
                    second: (*path).clone(),
                });
            }
            let found = reader.find(path)?;
            check_place(path, node, &found)?;
            if let Lookup::Entry(_) = found {
                needs.existing.insert(path);
            }
            if let Node::File { content, .. } = node {
                if let Lookup::Nothing = found {
                    *needs.entries.entry(path.parent()).or_default() += entries_of(path.name());
                }
                needs.clusters += length(content).div_ceil(reader.volume.cluster_size);
            }
        }
        grow(&reader.volume, &mut needs)?;
        Ok(needs)
    }

    /// Zero the clusters that will be taken, or refuse if there are too few.
    fn prepare(&self, needs: &Needs<'_>) -> Result<(), FsError> {
        let volume = FatReader::open(&self.medium)?.volume;
        let free = volume.free_clusters(needs.clusters)?;
        let found = u64_from_usize(free.len());
        if found < needs.clusters {
            return Err(FsError::NoRoom {
                volume: Volume::Boot,
                free: found.saturating_mul(volume.cluster_size),
                needed: needs.clusters.saturating_mul(volume.cluster_size),
            });
        }
        let zeroes = vec![0; usize_from_u64(volume.cluster_size)];
        for cluster in free {
            let start = volume.start(cluster);
            self.medium
                .write_all_at(start, &zeroes)
                .map_err(FsError::io(Volume::Boot, start))?;
        }
        Ok(())
    }

    fn with_library<T>(
        &self,
        work: impl FnOnce(&FileSystem<Cursor<&M>>) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        // The library needs a clock that lives forever: two dozen bytes leak for each card that is built.
        let clock: &'static Frozen = Box::leak(Box::new(Frozen::at(self.time)));
        let options = FsOptions::new().time_provider(clock);
        let fs = FileSystem::new(Cursor::new(&self.medium), options).map_err(failed("opening", "/"))?;
        let done = work(&fs)?;
        fs.unmount().map_err(failed("finishing", "/"))?;
        Ok(done)
    }
}

/// Add the clusters that directories grow by. The root directory of FAT16 cannot grow.
fn grow<M: WriteAt>(volume: &FatVolume<&M>, needs: &mut Needs<'_>) -> Result<(), FsError> {
    for (parent, entries) in &needs.entries {
        if parent.is_none() && matches!(volume.root, RootDir::Fixed { .. }) {
            let free = dir::unused(&dir::bytes_of(volume, dir::Dir::Root)?);
            if free < *entries {
                return Err(FsError::NoEntries {
                    free,
                    needed: *entries,
                });
            }
        } else {
            let bytes = u64_from_usize(entries * dir::ENTRY);
            needs.clusters += bytes.div_ceil(volume.cluster_size);
        }
    }
    Ok(())
}

/// Refuse a node that cannot be at `path`, given what was `found` there.
fn check_place(path: &CardPath, node: &Node, found: &Lookup) -> Result<(), FsError> {
    let no_directory = |missing: String| FsError::FatDirectory {
        path: path.clone(),
        missing,
    };
    match (found, node) {
        (Lookup::Entry(entry), _) => {
            check_replaced(path, node, entry.is_dir)?;
        }
        (_, Node::Absent) | (Lookup::Nothing, Node::File { .. } | Node::Symlink { .. }) => {}
        (Lookup::Nothing, Node::Dir { .. }) => return Err(no_directory(path.to_string())),
        (Lookup::NoDirectory(missing), _) => return Err(no_directory(missing.clone())),
        (Lookup::FileInTheWay(at), _) => {
            return Err(FsError::NotADirectory {
                volume: Volume::Boot,
                path: path.clone(),
                at: at.clone(),
            })
        }
    }
    match node {
        Node::Symlink { .. } => Err(FsError::FatSymlink(path.clone())),
        Node::File { .. } | Node::Dir { .. } | Node::Absent => Ok(()),
    }
}

/// Refuse a node that cannot take the place of the file or directory that is there.
fn check_replaced(path: &CardPath, node: &Node, is_dir: bool) -> Result<(), FsError> {
    let wanted = match (node, is_dir) {
        (Node::Dir { .. }, true) | (Node::File { .. } | Node::Absent | Node::Symlink { .. }, false) => {
            return Ok(())
        }
        (Node::Dir { .. }, false) => {
            return Err(FsError::NoDirectoryThere {
                volume: Volume::Boot,
                path: path.clone(),
            })
        }
        (Node::File { .. }, true) => "a file",
        (Node::Absent, true) => "nothing",
        (Node::Symlink { .. }, true) => "a symlink",
    };
    Err(FsError::DirectoryInTheWay {
        volume: Volume::Boot,
        path: path.clone(),
        wanted,
    })
}

/// Refuse names that FAT, or a system that reads it, does not allow.
///
/// # Errors
/// The reason.
pub fn acceptable_name(path: &CardPath) -> Result<(), &'static str> {
    for part in path.parts() {
        if part.encode_utf16().count() > MOST_UNITS {
            return Err("a part of it is longer than 255 UTF-16 units");
        }
        if part
            .chars()
            .any(|c| c < ' ' || c == '\u{7F}' || "\"*:<>?\\|".contains(c))
        {
            return Err("a part of it has a character that FAT does not allow");
        }
        if part.ends_with([' ', '.']) || part.starts_with(' ') {
            return Err("a part of it begins with a space, or ends with one or with a dot");
        }
        // The library writes no surrogates.
        if part.chars().any(|c| u32::from(c) > 0xFFFF) {
            return Err("a part of it has a character beyond U+FFFF");
        }
        if is_short_for_another(part) {
            return Err("a part of it looks like the short name that FAT gives to a longer one");
        }
    }
    Ok(())
}

/// Whether `name` is of the kind `NAME~1.TXT`: a longer name of the folder may have it as its second name already, or get
/// it later.
fn is_short_for_another(name: &str) -> bool {
    let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
    let number = stem.rsplit_once('~').map(|(_, number)| number);
    stem.len() <= 8
        && ending.len() <= 3
        && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// Entries that a new file takes in its directory.
fn entries_of(name: &str) -> usize {
    name.encode_utf16()
        .count()
        .div_ceil(UNITS_PER_ENTRY)
        .saturating_add(1)
}

fn relative(path: &CardPath) -> &str {
    path.as_str().trim_start_matches('/')
}

/// Free the content of a file that is replaced, or remove the file.
fn free<M: WriteAt>(fs: &FileSystem<Cursor<&M>>, path: &CardPath, node: &Node) -> Result<(), FsError> {
    let root = fs.root_dir();
    match node {
        Node::File { .. } => root
            .open_file(relative(path))
            .and_then(|mut file| file.truncate().and_then(|()| file.flush()))
            .map_err(failed("replacing", path.as_str())),
        Node::Absent => root
            .remove(relative(path))
            .map_err(failed("removing", path.as_str())),
        Node::Dir { .. } | Node::Symlink { .. } => Ok(()),
    }
}

fn write_file<M: WriteAt>(
    fs: &FileSystem<Cursor<&M>>,
    path: &CardPath,
    content: &[u8],
) -> Result<(), FsError> {
    let write = || {
        let mut file = fs.root_dir().create_file(relative(path))?;
        file.write_all(content)?;
        file.flush()
    };
    write().map_err(failed("writing", path.as_str()))
}

fn failed<'a>(doing: &'static str, path: &'a str) -> impl Fn(io::Error) -> FsError + 'a {
    move |error| FsError::library(Volume::Boot, doing, path, error)
}
