//! The user's cache: digests that need not be computed again, and bases that had to be unpacked.
//!
//! ```text
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/hashes/DEV-INODE      digest of the file with that identity
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/bases/SHA256.img      what the file with that digest unpacks to
//! ${XDG_CACHE_HOME:-~/.cache}/palmfarm/bases/SHA256.sha256   the digest of that, compared on every use
//! ```
//! Nothing in it is trusted because it is there: a digest counts only for the identity that it was computed of, and an
//! unpacked base only while its own digest matches.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::digest::{own_text, recall, remember, sha256, write_small};
use super::file::{FileAt, Identity};
use super::unpack::{unpack, PackedFile};
use super::{Sha256Sum, SourceError};
use crate::progress::{Phase, Watch};

/// Whether a digest that was remembered may stand for reading the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashCachePolicy {
    /// It may, if the times of its filesystem can be trusted.
    Trusted,
    /// It may not: the file is read.
    Ignored,
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

    /// Whether `path` lies in this cache.
    pub(super) fn holds(&self, path: &Path) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let ours = self.0.as_deref().and_then(real);
        ours.is_some_and(|ours| real(path).is_some_and(|path| path.starts_with(ours)))
    }

    /// The digest of `file`, remembered or computed.
    pub(super) fn digest(
        &self,
        file: &FileAt,
        name: &str,
        policy: HashCachePolicy,
        watch: Watch<'_>,
    ) -> Result<(Sha256Sum, Identity), SourceError> {
        let identity = || {
            file.identity().map_err(|source| SourceError::Read {
                name: name.into(),
                source,
            })
        };
        let before = identity()?;
        let trusted = policy == HashCachePolicy::Trusted && file.keeps_times();
        if let Some(sum) = recall(self, &before).filter(|_| trusted) {
            return Ok((sum, before));
        }
        let sum = sha256(file, name, Phase::Hash, watch)?;
        if identity()? != before {
            return Err(SourceError::Changed { name: name.into() });
        }
        remember(self, &before, &sum);
        Ok((sum, before))
    }

    /// The image that `packed`, of digest `sum` unpacks to: the one in the cache, or made now.
    pub(super) fn unpacked(
        &self,
        packed: &PackedFile<'_>,
        sum: &Sha256Sum,
        watch: Watch<'_>,
    ) -> Result<(FileAt, Identity), SourceError> {
        let Some(bases) = self.0.as_ref().map(|cache| cache.join("bases")) else {
            return Err(SourceError::Cache {
                name: packed.name.into(),
                path: PathBuf::from("~/.cache/palmfarm"),
                source: std::io::Error::other("neither XDG_CACHE_HOME nor HOME names a directory"),
            });
        };
        let image = bases.join(format!("{sum}.img"));
        let digest = bases.join(format!("{sum}.sha256"));
        if let Some(file) = self.reuse(&image, &digest, packed.name, watch)? {
            return Ok(file);
        }
        let failed = |source| SourceError::Cache {
            name: packed.name.into(),
            path: image.clone(),
            source,
        };
        std::fs::create_dir_all(&bases).map_err(failed)?;
        let unpacked = unpack(packed, &image, watch)?;
        write_small(&digest, unpacked.to_string().as_bytes()).map_err(failed)?;
        // Read again as any later use will: this is also when its digest is remembered.
        self.reuse(&image, &digest, packed.name, watch)?
            .ok_or_else(|| failed(std::io::Error::other("it was changed while it was written")))
    }

    /// The image in the cache, if it exists and is unchanged.
    fn reuse(
        &self,
        image: &Path,
        digest: &Path,
        name: &str,
        watch: Watch<'_>,
    ) -> Result<Option<(FileAt, Identity)>, SourceError> {
        let expect = own_text(digest).and_then(|text| text.parse::<Sha256Sum>().ok());
        let file = File::open(image).and_then(FileAt::new).ok();
        let Some((expect, file)) = expect.zip(file) else {
            return Ok(None);
        };
        let (found, identity) = self.digest(&file, name, HashCachePolicy::Trusted, watch)?;
        Ok((found == expect).then_some((file, identity)))
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
