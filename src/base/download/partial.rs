//! An incomplete download: `NAME.part` beside the final name, and `NAME.part.from` that says where it comes from, so that
//! a later run can resume it after Ctrl-C, a crash or a power cut. One process has it at a time. Only
//! [`Partial::commit`] gives the file its final name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{DownloadError, Url};
use crate::base::source::Sha256Sum;
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::host::files::open_or_create;
use crate::host::{bounded_read, filesystem, locks};
use crate::progress::{Observer, Phase};

/// The largest file that says where a download comes from.
const MOST_FROM: u64 = 16 << 10;

/// Where the bytes of a partial file come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The URL that was asked for.
    pub(super) url: String,
    /// A strong `ETag`, or the time of the last change: what `If-Range` takes (RFC 9110, section 13.1.5).
    pub(super) validator: String,
    /// The size of the whole file; 0 if the server did not say.
    pub(super) total: u64,
}

/// An incomplete file.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    pub(super) from: Origin,
    hash: Sha256,
    /// Bytes that are there.
    pub(super) len: u64,
    /// How many of them an earlier run left.
    pub(super) kept: u64,
}

impl Partial {
    /// Open and lock the partial file of `target`, with what an earlier run left of `url` in it.
    pub(super) fn open(target: &Path, url: &str, observer: Observer<'_>) -> Result<Self, DownloadError> {
        let path = with_end(target, ".part");
        let failed = |source| DownloadError::Write {
            path: path.clone(),
            source,
        };
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = loop {
            let file = open_or_create(&path).map_err(failed)?;
            if !locks::try_lock(&file).map_err(failed)? {
                return Err(DownloadError::Busy {
                    path: target.to_owned(),
                });
            }
            // The process that had it may have given it its final name before we got the lock.
            if locks::is_still(&file, &path).map_err(failed)? {
                break file;
            }
        };
        let mut partial = Self {
            file,
            path,
            target: target.to_owned(),
            from: Origin::default(),
            hash: Sha256::new(),
            len: 0,
            kept: 0,
        };
        match read_from(&partial.origin_path()) {
            Some(from) if from.url == url && !from.validator.is_empty() => {
                partial.from = from;
                partial.hash_kept(observer)?;
            }
            _ => partial.restart()?,
        }
        Ok(partial)
    }

    /// Hash what an earlier run left; the rest is appended.
    fn hash_kept(&mut self, observer: Observer<'_>) -> Result<(), DownloadError> {
        let size = self.file.metadata().map_err(|error| self.failed(error))?.len();
        if size > self.from.total && self.from.total > 0 {
            return self.restart();
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            if observer.cancel.is_cancelled() {
                return Err(DownloadError::Cancelled);
            }
            let read = self.file.read(&mut buffer).map_err(|error| self.failed(error))?;
            let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
                break;
            };
            self.hash.update(piece);
            self.len += crate::edit::block::length(piece);
            observer.progress.advance(Phase::Hash, self.len, size);
        }
        self.kept = self.len;
        Ok(())
    }

    /// Discard what is there.
    pub(super) fn restart(&mut self) -> Result<(), DownloadError> {
        let done = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        done.map_err(|error| self.failed(error))?;
        self.hash = Sha256::new();
        (self.len, self.kept) = (0, 0);
        self.from = Origin::default();
        Ok(())
    }

    /// Record where the following bytes come from.
    pub(super) fn begin(&mut self, from: Origin) -> Result<(), DownloadError> {
        let path = self.origin_path();
        let text = format!("1\n{}\n{}\n{}\n", from.url, from.validator, from.total);
        AtomicFile::write_cached(&path, Readers::Owner, text.as_bytes())
            .map_err(|source| DownloadError::Write { path, source })?;
        self.from = from;
        Ok(())
    }

    /// Append.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), DownloadError> {
        self.file.write_all(piece).map_err(|error| self.failed(error))?;
        self.hash.update(piece);
        self.len += crate::edit::block::length(piece);
        Ok(())
    }

    /// SHA-256 of all that is there.
    pub(super) fn digest(&self) -> Sha256Sum {
        Sha256Sum(self.hash.clone().finalize().into())
    }

    /// Refuse a file of `total` bytes if the disk does not have the space for the rest of it.
    pub(super) fn check_space(&self, url: &Url, total: u64) -> Result<(), DownloadError> {
        let need = total.saturating_sub(self.len);
        match filesystem::free_space_at(&self.file) {
            Ok(room) if room < need => Err(DownloadError::NoRoom {
                url: url.to_string(),
                dir: self.path.parent().map(Path::to_owned).unwrap_or_default(),
                need,
                room,
            }),
            _ => Ok(()),
        }
    }

    /// Give it its final name, once its bytes are safe on the disk.
    pub(super) fn commit(self) -> Result<(), DownloadError> {
        let done = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.target));
        done.map_err(|error| self.failed(error))?;
        // Without the partial file, the file that says its origin has no use.
        drop(fs::remove_file(self.origin_path()));
        Ok(())
    }

    /// Remove it.
    pub(super) fn discard(self) {
        drop(fs::remove_file(self.origin_path()));
        drop(fs::remove_file(&self.path));
    }

    fn origin_path(&self) -> PathBuf {
        with_end(&self.path, ".from")
    }

    fn failed(&self, source: io::Error) -> DownloadError {
        DownloadError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

fn read_from(path: &Path) -> Option<Origin> {
    let text = String::from_utf8(bounded_read::read(path, MOST_FROM).ok()?).ok()?;
    // If the last line has its end, the file was written whole.
    let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
    let ["1", url, validator, total] = lines[..] else {
        return None;
    };
    Some(Origin {
        url: url.into(),
        validator: validator.into(),
        total: total.parse().ok()?,
    })
}

/// `path` with `end` after its name.
fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(end);
    name.into()
}
