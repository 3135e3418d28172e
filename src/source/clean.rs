//! Making room in the user's cache: which of its files can be made again, and taking those away. It touches nothing but
//! files of the cache whose names it gave them itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{flock, FlockOperation};

use super::CacheDir;

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clean {
    /// What packed bases were unpacked to, and remembered digests: both come back without a download.
    Unpacked,
    /// Everything, downloads too.
    All,
}

/// A file that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Where it was.
    pub path: PathBuf,
    /// What it took on the disk, in bytes.
    pub size: u64,
}

impl CacheDir {
    /// Take away what `what` says, but nothing that is being downloaded now. What went, by path.
    ///
    /// # Errors
    /// The first file that would not go; others may be gone.
    pub fn clean(&self, what: Clean) -> io::Result<Vec<Cleaned>> {
        let Some(cache) = self.path() else {
            return Ok(Vec::new());
        };
        let mut cleaned = Vec::new();
        for dir in ["bases", "hashes"] {
            let mut files = files(&cache.join(dir))?;
            files.sort();
            for path in files {
                let goes = dir == "hashes" || what == Clean::All || is_unpacked(&path);
                if goes && !is_taken(&path) {
                    let size = fs::symlink_metadata(&path)?.blocks().saturating_mul(512);
                    fs::remove_file(&path)?;
                    cleaned.push(Cleaned { path, size });
                }
            }
        }
        Ok(cleaned)
    }
}

/// The plain files in `dir`; none where there is no such folder.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// `SHA256.img` and `SHA256.sha256`.
fn is_unpacked(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let stem = name.strip_suffix(".img").or_else(|| name.strip_suffix(".sha256"));
    stem.is_some_and(|stem| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether another process is downloading it: that one has `NAME.part` locked, and `NAME.part.from` beside it.
fn is_taken(path: &Path) -> bool {
    let part = if path.extension().is_some_and(|end| end == "from") {
        path.with_extension("")
    } else {
        path.to_owned()
    };
    let lock = |file| flock(&file, FlockOperation::NonBlockingLockShared);
    File::open(part).is_ok_and(|file| lock(file) == Err(rustix::io::Errno::WOULDBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_made_again_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(dir.path().to_owned());
        let sum = "0123456789abcdef".repeat(4);
        let unpacked = [format!("bases/{sum}.img"), format!("bases/{sum}.sha256")];
        let part = "bases/ubuntu.img.xz.part";
        let from = "bases/ubuntu.img.xz.part.from";
        let others = ["bases/ubuntu.img.xz", part, from, "bases/short.img"];
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
            let cleaned = cache.clean(what).unwrap();
            assert!(cleaned.iter().all(|one| one.size >= 5000), "{cleaned:?}");
            let name = |one: &Cleaned| one.path.strip_prefix(dir.path()).unwrap().display().to_string();
            cleaned.iter().map(name).collect()
        };
        put();
        let mut expect: Vec<String> = unpacked.to_vec();
        expect.push("hashes/1-2".into());
        assert_eq!(clean(Clean::Unpacked), expect);
        assert_eq!(clean(Clean::Unpacked), [""; 0]);
        put();
        let taken = File::open(dir.path().join(part)).unwrap();
        flock(&taken, FlockOperation::LockExclusive).unwrap();
        assert_eq!(clean(Clean::All).len(), 5);
        assert!(dir.path().join(part).exists() && dir.path().join(from).exists());
        assert!(dir.path().join("bases/folder.img").exists());
        assert_eq!(CacheDir::none().clean(Clean::All).unwrap(), []);
    }
}
