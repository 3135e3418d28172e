//! The user's cache: digests that need not be computed again, and bases that had to be unpacked.
//!
//! ```text
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/hashes/DEV-INODE      digests of the file with that identity, and of its pieces
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/bases/SHA256.img      what the file with that digest unpacks to
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/bases/SHA256.sha256   the digest of that, compared on every use
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/bases/SHA256.lock     locked by the process that unpacks it
//! ```
//! Nothing in it is trusted because it is there: a digest counts only for the identity that it was computed of, and an
//! unpacked base only while its own digest matches.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::checked::{CheckedFile, PieceSums};
use super::digest::{recall, remember, sums};
use super::file::{FileAt, Identity};
use super::unpack::{unpack, PackedFile};
use super::{Sha256Sum, SourceError, Watched};
use crate::edit::block::ReadAt;
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::host::files::read_own;
use crate::host::locks::LockFile;
use crate::progress::{Observer, Phase, Wait};

/// Whether a remembered digest may be used in place of reading the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashCachePolicy {
    /// Yes, if the times of its filesystem can be trusted.
    Trusted,
    /// No: the file is read.
    Ignored,
}

/// How long to wait before the next look whether another process has unpacked what we need.
const WAIT: Duration = Duration::from_millis(100);

/// An open file, and what it held when it was hashed.
pub(super) struct HashedFile {
    pub(super) sha256: Sha256Sum,
    pub(super) identity: Identity,
    file: Arc<FileAt>,
    pieces: PieceSums,
    remembered: Option<PathBuf>,
}

impl HashedFile {
    /// The bytes that were hashed, and the file by which a change can be noticed.
    pub(super) fn open(self) -> (Arc<dyn ReadAt>, Watched) {
        let watched = (Arc::clone(&self.file), self.identity);
        (
            Arc::new(CheckedFile::new(self.file, self.pieces, self.remembered)),
            watched,
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDir(Option<PathBuf>);

impl CacheDir {
    /// The cache in `directory`, which need not exist yet.
    pub fn new(directory: PathBuf) -> Self {
        Self(Some(directory))
    }

    /// No cache: every digest is computed, and formats without random access are refused.
    pub const fn none() -> Self {
        Self(None)
    }

    /// The user's cache, from the values of `XDG_CACHE_HOME` and `HOME` (XDG Base Directory Specification: a
    /// relative path is ignored).
    pub fn of_user(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Self {
        let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
        Self(
            xdg_cache_home
                .and_then(absolute)
                .or_else(|| home.and_then(absolute).map(|home| home.join(".cache")))
                .map(|cache| cache.join("palmfarm")),
        )
    }

    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    pub(super) fn hash_of(&self, identity: &Identity) -> Option<PathBuf> {
        let file = format!("{}-{}", identity.dev, identity.inode);
        Some(self.0.as_ref()?.join("hashes").join(file))
    }

    /// Whether `path` is in this cache.
    pub(super) fn holds(&self, path: &Path) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let ours = self.0.as_deref().and_then(real);
        ours.is_some_and(|ours| real(path).is_some_and(|path| path.starts_with(ours)))
    }

    /// The digests of `file`, remembered or computed. They are those of the same bytes, whatever happens to the file.
    pub(super) fn hashed(
        &self,
        file: FileAt,
        name: &str,
        policy: HashCachePolicy,
        observer: Observer<'_>,
    ) -> Result<HashedFile, SourceError> {
        let before = file.identity(name)?;
        let trusted = policy == HashCachePolicy::Trusted && file.keeps_times();
        let remembered = recall(self, &before).filter(|_| trusted);
        let is_new = remembered.is_none();
        let sums = remembered.map_or_else(|| sums(&file, name, observer), Ok)?;
        let identity = file.identity(name)?;
        if !identity.is_as_written(&before) {
            return Err(SourceError::Changed { name: name.into() });
        }
        if is_new && identity == before {
            remember(self, &before, &sums);
        }
        Ok(HashedFile {
            file: Arc::new(file),
            sha256: sums.whole,
            pieces: sums.pieces,
            remembered: self.hash_of(&before),
            identity,
        })
    }

    /// The image that `packed`, whose digest is `sum`, unpacks to. If the cache does not have it, it is unpacked now, unless
    /// another process is doing that: then it is waited for.
    pub(super) fn unpacked(
        &self,
        packed: &PackedFile<'_>,
        sum: &Sha256Sum,
        observer: Observer<'_>,
    ) -> Result<HashedFile, SourceError> {
        let Some(bases) = self.0.as_ref().map(|cache| cache.join("bases")) else {
            return Err(SourceError::Cache {
                name: packed.name.into(),
                path: PathBuf::from("~/.cache/palmfarm"),
                source: std::io::Error::other("neither XDG_CACHE_HOME nor HOME names a directory"),
            });
        };
        let image = bases.join(format!("{sum}.img"));
        let digest = bases.join(format!("{sum}.sha256"));
        if let Some(file) = self.reuse(&image, &digest, packed.name, observer)? {
            return Ok(file);
        }
        let failed = |source| SourceError::Cache {
            name: packed.name.into(),
            path: image.clone(),
            source,
        };
        std::fs::create_dir_all(&bases).map_err(failed)?;
        // Until the image is open: `palmfarm base clean` leaves it alone so long.
        let lock = bases.join(format!("{sum}.lock"));
        let mut told = false;
        let _lock = loop {
            if let Some(lock) = LockFile::try_take(&lock).map_err(failed)? {
                break lock;
            }
            if observer.cancel.is_cancelled() {
                return Err(SourceError::Cancelled);
            }
            if !std::mem::replace(&mut told, true) {
                observer.progress.wait(Phase::Unpack, Wait::Unpacking);
            }
            std::thread::sleep(WAIT);
        };
        if let Some(file) = self.reuse(&image, &digest, packed.name, observer)? {
            return Ok(file);
        }
        let unpacked = unpack(packed, &image, observer)?;
        let text = unpacked.to_string();
        AtomicFile::write_cached(&digest, Readers::Owner, text.as_bytes()).map_err(failed)?;
        // Read again as any later use will: this is also when its digest is remembered.
        self.reuse(&image, &digest, packed.name, observer)?
            .ok_or_else(|| failed(std::io::Error::other("it was changed while it was written")))
    }

    /// The image in the cache, if it exists and is unchanged.
    fn reuse(
        &self,
        image: &Path,
        digest: &Path,
        name: &str,
        observer: Observer<'_>,
    ) -> Result<Option<HashedFile>, SourceError> {
        let expect =
            read_own(digest, 4096).and_then(|text| String::from_utf8(text).ok()?.parse::<Sha256Sum>().ok());
        let file = File::open(image).and_then(FileAt::new).ok();
        let Some((expect, file)) = expect.zip(file) else {
            return Ok(None);
        };
        let found = self.hashed(file, name, HashCachePolicy::Trusted, observer)?;
        Ok((found.sha256 == expect).then_some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_specification_says() {
        let check = |xdg: Option<&str>, home: Option<&str>, expect: Option<&str>| {
            let cache = CacheDir::of_user(xdg.map(Into::into), home.map(Into::into));
            assert_eq!(cache.path(), expect.map(Path::new));
        };
        check(Some("/c"), Some("/home/u"), Some("/c/palmfarm"));
        check(None, Some("/home/u"), Some("/home/u/.cache/palmfarm"));
        check(Some("c"), Some("/home/u"), Some("/home/u/.cache/palmfarm"));
        check(Some(""), None, None);
    }
}
