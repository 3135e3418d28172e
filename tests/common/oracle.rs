//! Judges: e2fsck and fsck.vfat, which find damage, and the kernel, which says what is there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::disk::{Access, Mounted};
use super::make::Image;
use super::{attempt, run};

/// Both filesystems of `image` are whole: the checkers exit with 0 and complain of nothing.
pub fn assert_whole(image: &Image) {
    assert_root_whole(image);
    assert_fat_whole(image);
}

/// The ext4 of `image` is whole.
pub fn assert_root_whole(image: &Image) {
    let root = format!("{}?offset={}", image.path.display(), image.root.0);
    let (ok, text) = attempt("e2fsck", &["-fn", &root]);
    // A complaint that changes nothing ("Free blocks count wrong") exits with 0 under -n, too.
    let complaint = text.lines().find(|line| {
        let fine = line.starts_with("e2fsck ")
            || line.starts_with("Pass ")
            || line.trim().is_empty()
            || (line.contains("files (") && line.contains("blocks"));
        !fine
    });
    assert!(ok && complaint.is_none(), "e2fsck: {text}");
}

/// The FAT of `image` is whole.
pub fn assert_fat_whole(image: &Image) {
    let boot = extract(image, image.boot);
    let (ok, text) = attempt("fsck.vfat", &["-n", boot.path().to_str().unwrap()]);
    let complaint = text
        .lines()
        .find(|line| !(line.starts_with("fsck.fat ") || line.contains(" files, ") || line.trim().is_empty()));
    assert!(ok && complaint.is_none(), "fsck.vfat: {text}");
}

/// A part of `image` in a file of its own.
pub fn extract(image: &Image, (start, size): (u64, u64)) -> tempfile::NamedTempFile {
    let from = File::open(&image.path).unwrap();
    let mut to = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    from.read_exact_at(&mut bytes, start).unwrap();
    to.write_all(&bytes).unwrap();
    to.flush().unwrap();
    to
}

/// One file as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: SeenKind,
    /// Twelve bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What it is.
#[derive(Clone, PartialEq, Eq)]
pub enum SeenKind {
    File(Vec<u8>),
    Dir,
    Symlink(String),
    Other,
}

impl std::fmt::Debug for SeenKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(content) => {
                let head: Vec<u8> = content.iter().copied().take(40).collect();
                write!(
                    f,
                    "File({} bytes: {:?}…)",
                    content.len(),
                    String::from_utf8_lossy(&head)
                )
            }
            Self::Dir => f.write_str("Dir"),
            Self::Symlink(target) => write!(f, "Symlink({target:?})"),
            Self::Other => f.write_str("Other"),
        }
    }
}

/// Everything in a filesystem, by path.
pub type Walk = BTreeMap<String, Seen>;

/// Everything that the kernel finds in the ext4 of `image`; needs root.
pub fn kernel_walk(image: &Image) -> Walk {
    let mounted = Mounted::new(&image.path, image.root, Access::Read);
    let mut walk = Walk::new();
    visit(&mounted.at, Path::new("/"), &mut walk);
    walk
}

/// Every file on the FAT of `image`, as mtools copies them out.
pub fn mtools_walk(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let drive = format!("{}@@{}", image.path.display(), image.boot.0);
    run(
        "mcopy",
        &["-s", "-Q", "-i", &drive, "::*", dir.path().to_str().unwrap()],
    );
    let mut walk = Walk::new();
    visit(dir.path(), Path::new("/"), &mut walk);
    walk.into_iter()
        .filter_map(|(name, seen)| match seen.kind {
            SeenKind::File(content) => Some((name, content)),
            _ => None,
        })
        .collect()
}

fn visit(top: &Path, path: &Path, walk: &mut Walk) {
    let full = top.join(path.strip_prefix("/").unwrap());
    let metadata = fs::symlink_metadata(&full).unwrap();
    let kind = metadata.file_type();
    let kind = if kind.is_dir() {
        SeenKind::Dir
    } else if kind.is_symlink() {
        SeenKind::Symlink(fs::read_link(&full).unwrap().to_str().unwrap().into())
    } else if kind.is_file() {
        SeenKind::File(fs::read(&full).unwrap())
    } else {
        SeenKind::Other
    };
    let is_dir = kind == SeenKind::Dir;
    let seen = Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: metadata.mtime(),
        xattrs: xattrs(&full),
    };
    walk.insert(path.to_str().unwrap().into(), seen);
    if is_dir {
        let names = fs::read_dir(&full)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            visit(top, &path.join(name), walk);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return BTreeMap::new();
    };
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 4096];
            let name = std::ffi::OsStr::from_bytes(name);
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_str().unwrap().to_owned(), value)
        })
        .collect()
}
