//! Frees space in the user's cache by removing files that can be rebuilt or downloaded again. It touches only files whose
//! names this program chose.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::catalogue::KNOWN;
use super::url::CACHED;
use crate::base::source::CacheDir;
use crate::host::files;
use crate::host::locks::{self, LockFile};

/// What to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanScope {
    /// Unpacked bases and remembered digests: both can be rebuilt without a download.
    Unpacked,
    /// Everything, downloads too.
    All,
}

/// A file that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Where it was.
    pub path: PathBuf,
    /// What it took on the disk, in bytes.
    pub size: u64,
}

/// Remove the files of `what` from `cache`, except downloads in progress. Returns the removed files by path. After an error,
/// some may be gone already.
pub fn clean(cache: &CacheDir, what: CleanScope) -> io::Result<Vec<Cleaned>> {
    let Some(cache) = cache.path() else {
        return Ok(Vec::new());
    };
    let mut cleaned = Vec::new();
    for dir in ["bases", "hashes"] {
        let mut files = plain_files(&cache.join(dir))?;
        files.sort();
        for path in files {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let removed = match dir {
                "hashes" if is_hash(name) => remove(&path),
                "bases" if is_unpacked(name) => remove_unpacked(&path),
                "bases" if what == CleanScope::All && is_download(name) => remove_download(&path),
                _ => continue,
            };
            match removed {
                Ok(size) => cleaned.extend(size.map(|size| Cleaned { path, size })),
                // Another process removed it first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(cleaned)
}

/// The plain files in `dir`; none if there is no such folder, or a link to one.
fn plain_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::symlink_metadata(dir) {
        Ok(facts) if facts.is_dir() => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(Vec::new()),
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// `DEV-INODE`.
fn is_hash(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-')
        .is_some_and(|(dev, inode)| is_number(dev) && is_number(inode))
}

/// `SHA256.img`, `SHA256.sha256` and `SHA256.lock`.
fn is_unpacked(name: &str) -> bool {
    let mut ends = [".img", ".sha256", ".lock"].into_iter();
    let stem = ends.find_map(|end| name.strip_suffix(end));
    stem.is_some_and(|stem| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An image from Ubuntu or a URL, whole or not, and the lists that came with it.
fn is_download(name: &str) -> bool {
    let whole = name.strip_suffix(".from").unwrap_or(name);
    let ends = [".part", ".SHA256SUMS", ".SHA256SUMS.gpg"];
    let whole = ends
        .iter()
        .find_map(|end| whole.strip_suffix(end))
        .unwrap_or(whole);
    whole.starts_with(CACHED) || KNOWN.iter().any(|known| known.file == whole)
}

/// Remove the file at `path`, and return what it took on the disk, in bytes.
fn remove(path: &Path) -> io::Result<Option<u64>> {
    let size = files::disk_usage(&fs::symlink_metadata(path)?);
    fs::remove_file(path)?;
    Ok(Some(size))
}

/// Remove a file of an unpacked base; `None` if another process is unpacking that base. Nobody unpacks it meanwhile.
fn remove_unpacked(path: &Path) -> io::Result<Option<u64>> {
    let size = files::disk_usage(&fs::symlink_metadata(path)?);
    let lock = path.with_extension("lock");
    let Some(_removed_when_dropped) = LockFile::try_take(&lock)? else {
        return Ok(None);
    };
    if path == lock {
        return Ok(Some(size));
    }
    remove(path)
}

/// Remove a file of a download; `None` if another process is downloading it: that one has `NAME.part` locked, and
/// `NAME.part.from` beside it.
fn remove_download(path: &Path) -> io::Result<Option<u64>> {
    let part = match path.extension() {
        Some(end) if end == "from" => path.with_extension(""),
        _ => path.to_owned(),
    };
    let held = match File::open(part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    match &held {
        Some(file) if !locks::try_lock(file)? => Ok(None),
        _ => remove(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_made_again_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(dir.path().to_owned());
        let sum = "0123456789abcdef".repeat(4);
        let unpacked = [".img", ".sha256"].map(|end| format!("bases/{sum}{end}"));
        let lock = dir.path().join(format!("bases/{sum}.lock"));
        let known = format!("bases/{}", KNOWN[0].file);
        let (part, from) = (format!("{known}.part"), format!("{known}.part.from"));
        let others = [
            known.as_str(),
            part.as_str(),
            from.as_str(),
            "bases/url-0011-x.img",
            "bases/somebodys.img",
            "hashes/somebodys",
        ];
        let put = || {
            for dir_name in ["bases", "hashes", "bases/folder.img"] {
                fs::create_dir_all(dir.path().join(dir_name)).unwrap();
            }
            for name in unpacked
                .iter()
                .map(String::as_str)
                .chain(others)
                .chain(["hashes/1-2"])
            {
                fs::write(dir.path().join(name), [1; 5000]).unwrap();
            }
        };
        let clean = |what| -> Vec<String> {
            let cleaned = super::clean(&cache, what).unwrap();
            assert!(cleaned.iter().all(|one| one.size >= 5000), "{cleaned:?}");
            let name = |one: &Cleaned| one.path.strip_prefix(dir.path()).unwrap().display().to_string();
            cleaned.iter().map(name).collect()
        };
        put();
        let mut expect: Vec<String> = unpacked.to_vec();
        expect.push("hashes/1-2".into());
        assert_eq!(clean(CleanScope::Unpacked), expect);
        assert_eq!(clean(CleanScope::Unpacked), [""; 0]);
        // A killed process left its lock behind.
        fs::write(&lock, [1; 5000]).unwrap();
        assert_eq!(clean(CleanScope::Unpacked), [format!("bases/{sum}.lock")]);
        assert!(!lock.exists());
        // What another process unpacks stays, and so does its lock.
        put();
        let unpacking = LockFile::try_take(&lock).unwrap().unwrap();
        assert_eq!(clean(CleanScope::Unpacked), ["hashes/1-2"]);
        assert!(lock.exists());
        drop(unpacking);
        put();
        let taken = File::open(dir.path().join(&part)).unwrap();
        assert!(locks::try_lock(&taken).unwrap());
        assert_eq!(clean(CleanScope::All).len(), 5);
        for stays in [&part, &from, "bases/somebodys.img", "hashes/somebodys"] {
            assert!(dir.path().join(stays).exists(), "{stays}");
        }
        assert!(dir.path().join("bases/folder.img").exists());
        assert_eq!(super::clean(&CacheDir::none(), CleanScope::All).unwrap(), []);
    }
}
