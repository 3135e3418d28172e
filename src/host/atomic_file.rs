//! A file that gets its name when it is whole, or not at all.
//!
//! It is written without a name if the file system can do that (`O_TMPFILE`, open(2)), else under a hidden name beside
//! the final one. Only [`AtomicFile::commit`] gives it the final name, in one step and after its bytes have reached the
//! disk. If it is dropped before or the program is killed, the file that had the name is unchanged.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, CWD};
use rustix::io::Errno;

/// Who may read the file, whatever the umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Mode 0600: an image holds password hashes and keys.
    Owner,
    /// Mode 0644.
    All,
}

/// Whether the file may get its name before its bytes are safe on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After a power cut there is the whole old file or the whole new one.
    Synced,
    /// For files that can be rebuilt and are checked when read.
    Cached,
}

/// A file that is being written and has no name yet.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    directory: OwnedFd,
    /// The name to be given, in `directory`.
    name: OsString,
    path: PathBuf,
    /// The hidden name, if the file system has no files without one.
    hidden: Option<OsString>,
}

impl AtomicFile {
    /// Start a file that is to become `path`. A symlink there is followed; what it leads to is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `path` does not name a file, [`io::ErrorKind::AlreadyExists`] if a directory,
    /// a device or the like is there.
    pub fn create(path: &Path, readers: Readers) -> io::Result<Self> {
        Self::begin(resolve(path)?, readers)
    }

    /// As [`create`](Self::create), for a name that the user did not choose: a symlink there is replaced, and what it
    /// leads to is left alone. In a folder that others write to, anybody could have put it there.
    pub fn create_unlinked(path: &Path, readers: Readers) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.is_symlink() => Self::begin(path.to_owned(), readers),
            _ => Self::create(path, readers),
        }
    }

    fn begin(path: PathBuf, readers: Readers) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let directory = rustix::fs::openat(
            CWD,
            parent,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mode = match readers {
            Readers::Owner => Mode::from_raw_mode(0o600),
            Readers::All => Mode::from_raw_mode(0o644),
        };
        let (file, hidden) = if let Some(file) = nameless(&directory, mode)? {
            (file, None)
        } else {
            let (file, hidden) = named(&directory, mode)?;
            (file, Some(hidden))
        };
        let new = Self {
            file: File::from(file),
            directory,
            name,
            path,
            hidden,
        };
        rustix::fs::fchmod(&new.file, mode)?;
        Ok(new)
    }

    /// Make or replace the small file at `path` and its folder, as by [`create_unlinked`](Self::create_unlinked), with
    /// the content `bytes`, which can be made again.
    pub(crate) fn write_cached(path: &Path, readers: Readers, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let new = Self::create_unlinked(path, readers)?;
        new.file().write_all(bytes)?;
        new.commit(Durability::Cached)
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path that it will have, symlinks resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Give the file its name, replacing the file that had it. If that fails, the old file is still there.
    pub fn commit(mut self, durability: Durability) -> io::Result<()> {
        self.ready(durability)?;
        if let Some(hidden) = &self.hidden {
            rustix::fs::renameat(&self.directory, hidden, &self.directory, &self.name)?;
            self.hidden = None;
        }
        if durability == Durability::Synced {
            rustix::fs::fsync(&self.directory)?;
        }
        Ok(())
    }

    /// Do everything of [`commit`](Self::commit) that can fail because the disk is full. Only the last step then remains.
    pub fn ready(&mut self, durability: Durability) -> io::Result<()> {
        if durability == Durability::Synced {
            self.file.sync_all()?;
        }
        if self.hidden.is_none() {
            self.hidden = Some(self.link()?);
        }
        Ok(())
    }

    /// Give a nameless file a hidden name: `linkat` replaces nothing, only `rename` does.
    fn link(&self) -> io::Result<OsString> {
        unique(|hidden| {
            rustix::fs::linkat(
                CWD,
                proc_path(&self.file),
                &self.directory,
                hidden,
                AtFlags::SYMLINK_FOLLOW,
            )
        })
        .map(|(hidden, ())| hidden)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // Nothing more can be done about a hidden file that cannot be removed.
            let _gone = rustix::fs::unlinkat(&self.directory, hidden, AtFlags::empty());
        }
    }
}

/// Follow symlinks, and refuse what is not a file.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => match std::fs::canonicalize(path) {
            Ok(real) => resolve(&real),
            // Its target does not exist yet. A link to itself is another error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(Path::new("."));
                resolve(&folder.join(std::fs::read_link(path)?))
            }
            Err(error) => Err(error),
        },
        Ok(there) if !there.is_file() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} exists and is not a regular file", path.display()),
        )),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(path.to_owned()),
    }
}

/// A file without a name, if the file system and `/proc` allow to name it later.
fn nameless(directory: &OwnedFd, mode: Mode) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, ".", flags, mode) {
        Ok(file) if std::fs::symlink_metadata(proc_path(&file)).is_ok() => Ok(Some(file)),
        // The three ways in which open(2) says that O_TMPFILE is not supported.
        Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn named(directory: &OwnedFd, mode: Mode) -> io::Result<(OwnedFd, OsString)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let (hidden, file) = unique(|hidden| rustix::fs::openat(directory, hidden, flags, mode))?;
    Ok((file, hidden))
}

/// Try hidden names until one is free. They do not contain the final name, which may be as long as a name can be.
fn unique<T>(make: impl Fn(&OsStr) -> Result<T, Errno>) -> io::Result<(OsString, T)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hidden = OsString::from(format!(".palmfarm-{}-{number}.partial", std::process::id()));
        match make(&hidden) {
            Err(Errno::EXIST) => {}
            done => return Ok((hidden, done?)),
        }
    }
}

fn proc_path(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_comes_with_the_commit() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        for content in ["one", "two"] {
            let new = AtomicFile::create(&out, Readers::Owner).unwrap();
            new.file().write_all(content.as_bytes()).unwrap();
            assert_ne!(std::fs::read_to_string(&out).ok().as_deref(), Some(content));
            new.commit(Durability::Synced).unwrap();
            assert_eq!(std::fs::read_to_string(&out).unwrap(), content);
            assert_eq!(names(dir.path()), ["out"]);
        }
        let mode = std::fs::metadata(&out).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let new = AtomicFile::create(&dir.path().join("out"), Readers::All).unwrap();
        new.file().write_all(b"half").unwrap();
        drop(new);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_hidden_name_is_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap().into();
        let mode = Mode::from_raw_mode(0o600);
        let make = |directory: OwnedFd| {
            let (file, hidden) = named(&directory, mode).unwrap();
            AtomicFile {
                file: file.into(),
                directory,
                name: "out".into(),
                path: dir.path().join("out"),
                hidden: Some(hidden),
            }
        };
        let new = make(directory);
        assert_eq!(names(dir.path()).len(), 1);
        drop(new);
        assert!(names(dir.path()).is_empty());
        make(File::open(dir.path()).unwrap().into())
            .commit(Durability::Synced)
            .unwrap();
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/null")] {
            let error = AtomicFile::create(path, Readers::All).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{}", path.display());
        }
        // A link to what is not there yet, and a name as long as a name can be.
        let long = "x".repeat(255);
        symlink(&long, dir.path().join("dangling")).unwrap();
        let new = AtomicFile::create(&dir.path().join("dangling"), Readers::All).unwrap();
        new.commit(Durability::Synced).unwrap();
        assert!(dir.path().join(&long).is_file());
        symlink("circle", dir.path().join("circle")).unwrap();
        AtomicFile::create(&dir.path().join("circle"), Readers::All).unwrap_err();
        std::fs::write(dir.path().join("real"), "old").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let unlinked = dir.path().join("unlinked");
        symlink("there", &unlinked).unwrap();
        AtomicFile::create_unlinked(&unlinked, Readers::All)
            .unwrap()
            .commit(Durability::Cached)
            .unwrap();
        assert!(std::fs::symlink_metadata(&unlinked).unwrap().is_file());
        assert!(!dir.path().join("there").exists());
        let new = AtomicFile::create(&dir.path().join("link"), Readers::All).unwrap();
        new.file().write_all(b"new").unwrap();
        new.commit(Durability::Cached).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("real")).unwrap(), "new");
        assert!(dir.path().join("link").is_symlink());
    }
}
