//! Writing planned nodes into ext4 with `rust-fs-ext4`, within the limits that tests found in this library:
//!
//! * It opens filesystems that it would damage: [`super::features`] decides first.
//! * It cannot write into block-mapped inodes, and replacing a content in place needs one contiguous run: a file is
//!   always removed and created again, which also leaves the other names of a hard link unchanged.
//! * It uses the group counters that it read when it was opened, so it does not find space that was freed since. If it
//!   reports a full filesystem, it is closed, opened again, and the step is retried.
//! * A failed step may leave parts behind: the overlay is discarded on any error.
//!
//! It must never rename or remove a directory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fs_ext4::block_io::BlockDevice;
use fs_ext4::Filesystem;

use super::device::{Device, Frozen};
use super::free_space;
use super::index;
use super::names;
use super::space;
use super::superblock::Superblock;
use super::walk::{self, failed, Missing};
use crate::edit::block::WriteAt;
use crate::edit::fs::free_runs::FreeRuns;
use crate::edit::fs::FsError;
use crate::edit::tree::{Access, CardPath, IfThere, Mount, Node, Volume};
use crate::numbers::usize_from_u32;

/// Bytes of one write: below any journal's limit, and what an xz block of Ubuntu's images has.
const PIECE: usize = 1 << 20;

/// Nanoseconds that mean "leave this time as it is" (utimensat(2)).
const UTIME_OMIT: u32 = (1 << 30) - 2;

/// An ext4 filesystem that may be edited.
pub struct Ext4Writer {
    device: Arc<dyn BlockDevice>,
    clock: Arc<Frozen>,
    superblock: Superblock,
    /// `None` before the first use and after [`Self::close`].
    open: Option<Filesystem>,
    /// What was written: the directory's inode and the name, then the planned path and the plan.
    placed: BTreeMap<(u32, String), (CardPath, Node)>,
    /// The directories that got or lost a name. Linux changes their times; the library does not.
    changed: BTreeSet<u32>,
    /// The names of the directories that were written to, if the library lists them.
    names: BTreeMap<u32, Option<BTreeSet<Vec<u8>>>>,
    /// Folders below which nothing is put.
    mounts: Vec<Mount>,
    /// The directories, as they are planned, that get many names and have no index yet.
    crowded: BTreeSet<CardPath>,
    time: u32,
}

impl Ext4Writer {
    /// The filesystem on `medium`, if it may be edited. Every inode that is written gets `time` (seconds
    /// since 1970).
    pub fn open<M: WriteAt + 'static>(medium: M, time: u32) -> Result<Self, FsError> {
        let superblock = Superblock::read(&medium)?;
        superblock.check(medium.size())?;
        // The library allocates by the bitmaps alone.
        let free = free_space(&medium, FreeRuns::within(medium.size(), 0));
        let free = free.map_err(FsError::io(Volume::Root, 0))?;
        if free.is_none() {
            return Err(FsError::Damaged {
                volume: Volume::Root,
                what: "its bitmaps of free blocks and inodes do not agree with its block groups".into(),
            });
        }
        Ok(Self {
            device: Arc::new(Device(medium)),
            clock: Arc::new(Frozen::new(time)),
            superblock,
            open: None,
            placed: BTreeMap::new(),
            changed: BTreeSet::new(),
            names: BTreeMap::new(),
            mounts: Vec::new(),
            crowded: BTreeSet::new(),
            time,
        })
    }

    /// The same, which refuses what would be below one of `mounts`.
    #[must_use]
    pub fn mounts(mut self, mounts: &[Mount]) -> Self {
        self.mounts = mounts.to_vec();
        self
    }

    /// Write every node, in the order given, and finish.
    ///
    /// Space is checked first. After an error the filesystem may be half-written: it must be discarded.
    pub fn apply(mut self, nodes: &[(&CardPath, &Node)]) -> Result<(), FsError> {
        let block_size = self.superblock.block_size;
        for (path, node) in nodes {
            acceptable(path, node, block_size)?;
        }
        self.with(|own, fs| {
            own.find_mounts(fs)?;
            space::check(fs, &own.superblock, nodes)
        })?;
        self.crowded = crowded(nodes);
        for (path, node) in nodes {
            self.put(path, node)?;
        }
        self.date()?;
        self.close()
    }

    fn fs(&mut self) -> Result<Filesystem, FsError> {
        if let Some(fs) = self.open.take() {
            return Ok(fs);
        }
        let mut fs = Filesystem::mount_with_runtime(self.device.clone(), self.clock.clone())
            .map_err(whole("opening"))?;
        // The journal protects against a power cut half-way, which cannot happen here: the overlay is kept or discarded
        // as a whole. Without it, each block is changed once, in its place, and the journal stays clean.
        fs.journal = None;
        Ok(fs)
    }

    /// Do `work` on the open filesystem.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Filesystem) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let fs = self.fs()?;
        let done = work(self, &fs);
        self.open = Some(fs);
        done
    }

    /// Write everything out, so that the next use opens the filesystem again.
    fn close(&mut self) -> Result<(), FsError> {
        match self.open.take() {
            Some(fs) => fs.finish().map_err(whole("finishing")),
            None => Ok(()),
        }
    }

    /// Follow the symlinks of the base on the way to each mount point.
    fn find_mounts(&mut self, fs: &Filesystem) -> Result<(), FsError> {
        for mount in &mut self.mounts {
            if let Some(real) = walk::directory(fs, Some(&mount.folder), &mount.folder, Missing::Stop)? {
                mount.folder = real.path().unwrap_or_else(|| mount.folder.clone());
            }
        }
        Ok(())
    }

    /// Give the directory of `path` an index if it is to get many names.
    fn prepare(&mut self, path: &CardPath) -> Result<(), FsError> {
        let Some(parent) = path.parent().filter(|parent| self.crowded.remove(parent)) else {
            return Ok(());
        };
        self.with(|own, fs| {
            let missing = Missing::Make(&mut own.changed);
            match walk::directory(fs, Some(&parent), path, missing)? {
                Some(dir) => index::add(fs, dir.inode, path),
                None => Ok(()),
            }
        })?;
        // The library must not keep what it read before the indexes were written, and a directory may be new.
        self.names.clear();
        self.close()
    }

    fn put(&mut self, path: &CardPath, node: &Node) -> Result<(), FsError> {
        if *node != Node::Absent {
            self.prepare(path)?;
        }
        match self.with(|own, fs| own.put_once(fs, path, node)) {
            Err(FsError::Full { .. }) => {
                // What the step did before it failed is there.
                self.names.clear();
                self.close()?;
                self.with(|own, fs| own.put_once(fs, path, node))
            }
            done => done,
        }
    }

    fn put_once(&mut self, fs: &Filesystem, path: &CardPath, node: &Node) -> Result<(), FsError> {
        let mut made_in = BTreeSet::new();
        let missing = match node {
            Node::Absent => Missing::Stop,
            _ => Missing::Make(&mut made_in),
        };
        let Some(dir) = walk::directory(fs, path.parent().as_ref(), path, missing)? else {
            return Ok(());
        };
        // These are read again if they are written to again.
        self.names.retain(|dir, _| !made_in.contains(dir));
        self.changed.append(&mut made_in);
        let mount = self.mounts.iter().find(|mount| dir.is_below(&mount.folder));
        if let Some(mount) = mount.filter(|_| *node != Node::Absent) {
            return Err(FsError::Covered {
                path: path.clone(),
                mount: mount.clone(),
            });
        }
        let dir = dir.inode;
        let names = match self.names.entry(dir) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(names::read(fs, dir, path)?),
        };
        let name = path.name().as_bytes();
        let is_there = match names {
            Some(names) => names.contains(name),
            None => walk::child(fs, dir, name, path)?.is_some(),
        };
        let place = (dir, path.name().to_owned());
        match self.placed.get(&place) {
            Some((_, planned)) if planned == node => return Ok(()),
            Some((first, _)) => {
                return Err(FsError::SamePlace {
                    volume: Volume::Root,
                    first: first.clone(),
                    second: path.clone(),
                })
            }
            None => {}
        }
        let names_changed = match node {
            Node::Dir { access, if_there } if is_there => {
                keep_directory(fs, path, *access, *if_there)?;
                false
            }
            Node::Dir { access, .. } => {
                make_directory(fs, path, dir, *access)?;
                true
            }
            Node::File { content, access } => {
                if is_there {
                    clear(fs, path, dir, "a file")?;
                }
                make_file(fs, path, dir, content, *access)?;
                true
            }
            Node::Symlink { target } => {
                if is_there {
                    clear(fs, path, dir, "a symlink")?;
                }
                fs.apply_symlink_at(dir, name, target.as_bytes())
                    .map_err(failed("linking", path))?;
                true
            }
            Node::Absent if is_there => {
                clear(fs, path, dir, "nothing")?;
                true
            }
            Node::Absent => false,
        };
        if names_changed {
            if let Some(names) = names {
                if *node == Node::Absent {
                    names.remove(name);
                } else {
                    names.insert(name.to_vec());
                }
            }
            self.changed.insert(dir);
        }
        self.placed.insert(place, (path.clone(), node.clone()));
        Ok(())
    }

    /// Set the time of every directory that changed.
    fn date(&mut self) -> Result<(), FsError> {
        let time = i64::from(self.time);
        let changed = std::mem::take(&mut self.changed);
        self.with(|_, fs| {
            for dir in changed {
                fs.apply_utimens_ino(dir, 0, UTIME_OMIT, time, 0)
                    .map_err(whole("setting the times of directories of"))?;
            }
            Ok(())
        })
    }
}

/// The directories that get so many names that an index is worth its work.
fn crowded(nodes: &[(&CardPath, &Node)]) -> BTreeSet<CardPath> {
    let mut names: BTreeMap<CardPath, usize> = BTreeMap::new();
    for (path, node) in nodes {
        if let Some(parent) = path.parent().filter(|_| **node != Node::Absent) {
            let count = names.entry(parent).or_default();
            *count = count.saturating_add(1);
        }
    }
    names.retain(|_, count| *count >= index::MANY);
    names.into_keys().collect()
}

/// Refuse what the library would refuse only after the first writes.
fn acceptable(path: &CardPath, node: &Node, block_size: u32) -> Result<(), FsError> {
    if let Node::File { access, .. } | Node::Dir { access, .. } = node {
        if access.mode > 0o7777 {
            return Err(FsError::Mode {
                path: path.clone(),
                mode: access.mode,
            });
        }
        // It means "leave it as it is" to chown(2) and to the library.
        if access.uid == u32::MAX || access.gid == u32::MAX {
            return Err(FsError::Owner { path: path.clone() });
        }
    }
    if let Node::Symlink { target } = node {
        // The target and a NUL share one block, and Linux follows at most PATH_MAX.
        let most = usize_from_u32(block_size).min(4096).saturating_sub(1);
        if target.is_empty() || target.len() > most {
            return Err(FsError::LinkTarget {
                path: path.clone(),
                len: target.len(),
                most,
            });
        }
        // No file can have that name, and the second reader refuses it.
        if target.split('/').any(|part| part.len() > 255) {
            return Err(FsError::LinkPart { path: path.clone() });
        }
    }
    Ok(())
}

/// Remove the file or symlink at `path`, whose directory is `dir`.
fn clear(fs: &Filesystem, path: &CardPath, dir: u32, wanted: &'static str) -> Result<(), FsError> {
    let name = path.name().as_bytes();
    let inode = fs.lookup_at(dir, name).map_err(failed("looking up", path))?;
    let there = fs.stat_ino(inode).map_err(failed("reading the inode of", path))?;
    if there.is_dir() {
        return Err(FsError::DirectoryInTheWay {
            volume: Volume::Root,
            path: path.clone(),
            wanted,
        });
    }
    fs.apply_unlink_at(dir, name).map_err(failed("removing", path))
}

fn make_file(
    fs: &Filesystem,
    path: &CardPath,
    dir: u32,
    content: &[u8],
    access: Access,
) -> Result<(), FsError> {
    let inode = fs
        .apply_create_at(dir, path.name().as_bytes(), access.mode)
        .map_err(failed("creating", path))?;
    let mut offset = 0;
    for piece in content.chunks(PIECE) {
        offset = fs
            .apply_pwrite_ino(inode, offset, piece)
            .map_err(failed("writing", path))?;
    }
    own(fs, path, inode, access)
}

/// Create the directory at `path`, in the directory `parent`.
fn make_directory(fs: &Filesystem, path: &CardPath, parent: u32, access: Access) -> Result<(), FsError> {
    let inode = fs
        .apply_mkdir_at(parent, path.name().as_bytes(), access.mode)
        .map_err(failed("making the directory", path))?;
    own(fs, path, inode, access)
}

/// Change the access of the directory that is at `path` if `if_there` says so.
fn keep_directory(
    fs: &Filesystem,
    path: &CardPath,
    access: Access,
    if_there: IfThere,
) -> Result<(), FsError> {
    // It may be a symlink to a directory: an overlay that has `lib/` means the directory that the base's `lib` leads
    // to.
    let Some(inode) = walk::directory(fs, Some(path), path, Missing::Stop)? else {
        return Err(FsError::NoDirectoryThere {
            volume: Volume::Root,
            path: path.clone(),
        });
    };
    let inode = inode.inode;
    let there = fs.stat_ino(inode).map_err(failed("reading the inode of", path))?;
    let there = Access {
        mode: there.mode & 0o7777,
        uid: there.uid,
        gid: there.gid,
    };
    let access = if_there.access(access, there);
    if there.mode != access.mode {
        fs.apply_chmod_ino(inode, access.mode)
            .map_err(failed("setting the mode of", path))?;
    }
    if (there.uid, there.gid) != (access.uid, access.gid) {
        fs.apply_chown_ino(inode, access.uid, access.gid)
            .map_err(failed("setting the owner of", path))?;
    }
    Ok(())
}

/// Set the owner of a new inode, which belongs to root.
fn own(fs: &Filesystem, path: &CardPath, inode: u32, access: Access) -> Result<(), FsError> {
    if (access.uid, access.gid) == (0, 0) {
        return Ok(());
    }
    fs.apply_chown_ino(inode, access.uid, access.gid)
        .map_err(failed("setting the owner of", path))
}

/// An error of the whole filesystem.
fn whole(doing: &'static str) -> impl Fn(fs_ext4::Error) -> FsError {
    move |error| FsError::library(Volume::Root, doing, "/", error)
}
