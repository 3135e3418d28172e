//! Base images: opened, verified, read at random and streamed in order.
//!
//! A base is a raw image, or one packed as .xz, .gz or .zst. Whatever it is packed as, it becomes a [`BaseImage`],
//! which can be read at any offset ([`ReadAt`], for staging edits) and decoded in parallel and in order (for writing
//! a card). The only way to get one ends in [`Verified`]: the bytes were hashed, and compared if a digest was given,
//! through the same descriptor that they are then read through.
//!
//! Nothing here knows what is in an image, and nothing here writes anywhere but into the cache.

mod buffer;
mod cache;
mod checked;
mod digest;
mod error;
mod file;
mod format;
mod pass;
mod unpack;
mod xz;
mod zip;

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

pub(crate) use buffer::{Buffer, BufferPool};
pub use cache::CacheDir;
pub use error::hint_within;
pub use error::SourceError;
pub use format::{Format, UnsupportedFormat};
pub(crate) use pass::{Chunk, ChunkContent, PassError, PassOptions};
pub use xz::XzError;

use crate::edit::block::ReadAt;
use crate::host::files::FileId;
use crate::progress::{Observer, Phase};
pub use crate::sha256::{BadSha256, Sha256Sum};
use cache::HashCachePolicy;
use file::{FileAt, Identity};
pub(crate) use unpack::{memory_refused, XZ_MEMORY, ZSTD_WINDOW};
use unpack::{Codec, PackedFile};
use xz::Index;
pub(crate) use xz::XzImage;

/// The most bytes that a packed image may unpack to: more than any Pi image, so that a few bytes cannot fill a disk.
pub const MAX_IMAGE: u64 = 64 << 30;

/// The most bytes that an image may have that is not packed: the copy of a card, and an SDXC card has at most 2 TiB (SD
/// Physical Layer Simplified Specification, section 3.3.2).
const MAX_RAW: u64 = 2 << 40;

/// The unit in which an image is streamed, in bytes: what SD cards and file systems write at full speed, and one
/// block of Ubuntu's own packing.
pub const CHUNK: u64 = 1 << 20;

/// [`CHUNK`] as a length in memory.
pub(crate) const CHUNK_LEN: usize = 1 << 20;

/// The largest .xz block that is decoded in place; with larger ones, a few threads would take all memory of a PC, so
/// these are unpacked into the cache. `xz -9 -T2` makes blocks of 192 MiB, `xz -6 -T2` of 24 MiB.
const MAX_XZ_BLOCK: u64 = 64 << 20;

/// SHA-256 of the regular file at `path`.
pub fn file_digest(path: &Path, observer: Observer<'_>) -> Result<Sha256Sum, SourceError> {
    let name = path.display().to_string();
    digest::sha256(&open_file(path, &name)?, &name, Phase::Hash, observer)
}

/// What `file` is, if it is known and not an image that can be a base.
pub(crate) fn unsupported(file: File) -> io::Result<Option<UnsupportedFormat>> {
    Ok(format::sniff(&FileAt::new(file)?)?.err())
}

/// Open the regular file at `path`, called `name` in errors.
fn open_file(path: &Path, name: &str) -> Result<FileAt, SourceError> {
    let open = |source| SourceError::Open {
        name: name.into(),
        source,
    };
    // Checked before it is opened, because opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(open)?.is_file() {
        return Err(SourceError::NotAFile { name: name.into() });
    }
    File::open(path).and_then(FileAt::new).map_err(open)
}

/// What a base is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The file as downloaded has this digest; anything else is refused.
    Sha256(Sha256Sum),
    /// Nothing is expected: the user gave a path and no digest.
    Anything,
}

/// What proves that a base is the intended one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its digest is the one that the farm file or the catalogue gives.
    Matched,
    /// It is part of the tool.
    BuiltIn,
    /// Nothing: the user chose a file and gave no digest.
    Unchecked,
}

/// The origin of a base, for manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The file's path as given, or another name if it has no path.
    pub name: String,
    /// The digest of the file as downloaded, whether or not it was compared with anything.
    pub sha256: Sha256Sum,
    /// How it is known to be the right one.
    pub trust: Trust,
    pub format: Format,
}

/// Something whose bytes were hashed, and compared as the user asked, before anyone could read them. Only this module
/// can create it.
#[derive(Debug)]
pub struct Verified<T> {
    inner: T,
    provenance: Provenance,
}

impl<T> Verified<T> {
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// An image that cards are made of. Its size and bytes are those of the unpacked image.
pub struct BaseImage {
    backing: Backing,
    name: String,
    /// The file whose bytes must not change while the image is in use, and what it was when it was hashed.
    watched: Option<Watched>,
    /// Filesystem and inode of the file that was opened; `None` for a built-in base.
    own: Option<FileId>,
}

/// Where the bytes of an image come from.
enum Backing {
    Raw(Arc<dyn ReadAt>),
    Xz(Box<XzImage>),
}

impl BaseImage {
    /// Open and verify the file at `path`: hash it, compare the digest with what is expected, find out how it is
    /// packed, and unpack it into the cache if its format does not allow random access.
    ///
    /// # Errors
    /// On an error nothing is left behind except digests in the cache.
    pub fn open(
        path: &Path,
        expect: Expect,
        cache: &CacheDir,
        observer: Observer<'_>,
    ) -> Result<Verified<Self>, SourceError> {
        let name = path.display().to_string();
        let file = open_file(path, &name)?;
        if file.size() > MAX_RAW {
            return Err(SourceError::TooLarge { name, limit: MAX_RAW });
        }
        let policy = match expect {
            // A user who gives a digest wants the bytes that are there now.
            Expect::Sha256(_) if !cache.holds(path) => HashCachePolicy::Ignored,
            Expect::Anything | Expect::Sha256(_) => HashCachePolicy::Trusted,
        };
        let hashed = cache.hashed(file, &name, policy, observer)?;
        let sha256 = hashed.sha256;
        let trust = match expect {
            Expect::Anything => Trust::Unchecked,
            Expect::Sha256(expected) if expected == sha256 => Trust::Matched,
            Expect::Sha256(expected) => {
                return Err(SourceError::Sha256 {
                    name,
                    expected,
                    found: sha256,
                })
            }
        };
        let own = Some(FileId {
            dev: hashed.identity.dev,
            inode: hashed.identity.inode,
        });
        let (bytes, watched) = hashed.open();
        let (format, backing, unpacked) = backing(bytes, &name, &sha256, cache, observer)?;
        Ok(Verified {
            inner: Self {
                backing,
                own,
                name: name.clone(),
                watched: Some(unpacked.unwrap_or(watched)),
            },
            provenance: Provenance {
                name,
                sha256,
                trust,
                format,
            },
        })
    }

    /// Open a base that is part of the tool. It must be raw or .xz in blocks of at most 64 MiB, since it has no cache.
    pub fn built_in(
        name: &str,
        bytes: &'static [u8],
        observer: Observer<'_>,
    ) -> Result<Verified<Self>, SourceError> {
        let bytes: Arc<dyn ReadAt> = Arc::new(bytes);
        let sha256 = digest::sha256(&bytes, name, Phase::Hash, observer)?;
        let (format, backing, _) = backing(bytes, name, &sha256, &CacheDir::none(), observer)?;
        Ok(Verified {
            inner: Self {
                backing,
                name: name.into(),
                watched: None,
                own: None,
            },
            provenance: Provenance {
                name: name.into(),
                sha256,
                trust: Trust::BuiltIn,
                format,
            },
        })
    }

    /// Whether the file that was opened is the one at `path`, links followed.
    pub fn lies_at(&self, path: &Path) -> bool {
        let there = std::fs::metadata(path).ok().as_ref().map(FileId::of);
        self.own.is_some() && self.own == there
    }

    /// Refuse a base whose file somebody has written to since it was hashed. Every byte that was read is right all the same:
    /// this finds changes elsewhere in the file. A file that was only linked, renamed, removed or given another mode is as
    /// it was.
    pub fn unchanged(&self) -> Result<(), SourceError> {
        let Some((file, before)) = &self.watched else {
            return Ok(());
        };
        if file.identity(&self.name)?.is_as_written(before) {
            return Ok(());
        }
        Err(SourceError::Changed {
            name: self.name.clone(),
        })
    }
}

impl ReadAt for BaseImage {
    fn size(&self) -> u64 {
        match &self.backing {
            Backing::Raw(raw) => raw.size(),
            Backing::Xz(xz) => xz.size(),
        }
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.backing {
            Backing::Raw(raw) => raw.read_exact_at(offset, buf),
            Backing::Xz(xz) => xz.read_exact_at(offset, buf),
        }
    }
}

impl std::fmt::Debug for BaseImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseImage")
            .field("name", &self.name)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Folding 64 bytes at a time compiles to vector instructions; `all` byte by byte does not.
    let chunks = bytes.chunks_exact(64);
    chunks.remainder().iter().all(|byte| *byte == 0)
        && chunks
            .into_iter()
            .all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// A file that must stay what it was when it was hashed.
type Watched = (Arc<FileAt>, Identity);

/// Find out how `bytes` are packed, and make them readable at random. If that needs another file, it is returned.
fn backing(
    bytes: Arc<dyn ReadAt>,
    name: &str,
    sha256: &Sha256Sum,
    cache: &CacheDir,
    observer: Observer<'_>,
) -> Result<(Format, Backing, Option<Watched>), SourceError> {
    let format = format::sniff(&bytes)
        .map_err(|source| SourceError::read(name, source))?
        .map_err(|what| SourceError::UnsupportedFormat {
            name: name.into(),
            what,
        })?;
    let codec = match format {
        Format::Raw => return Ok((format, Backing::Raw(bytes), None)),
        Format::Xz => {
            let index = Index::read(&bytes).map_err(|source| SourceError::xz(name, source))?;
            if index.largest() <= MAX_XZ_BLOCK {
                let image = XzImage::new(bytes, index);
                return Ok((format, Backing::Xz(Box::new(image)), None));
            }
            Codec::Xz
        }
        Format::Gzip => Codec::Gzip,
        Format::Zstd => Codec::Zstd,
    };
    let packed = PackedFile {
        file: &bytes,
        codec,
        name,
        limit: MAX_IMAGE,
    };
    let (bytes, watched) = cache.unpacked(&packed, sha256, observer)?.open();
    Ok((format, Backing::Raw(bytes), Some(watched)))
}

#[cfg(test)]
mod change_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
