//! SHA-256 of a file as downloaded, and the cache of such digests. It must never believe a digest of another file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::checked::PieceSums;
use super::file::Identity;
use super::{CacheDir, Sha256Sum, SourceError};
use crate::edit::block::ReadAt;
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::host::files::read_own;
use crate::numbers::at_most;
use crate::progress::{Observer, Phase};

/// The digests of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) whole: Sha256Sum,
    pub(super) pieces: PieceSums,
}

/// Hash all of `medium`, called `name` in errors.
pub(super) fn sha256(
    medium: &dyn ReadAt,
    name: &str,
    phase: Phase,
    observer: Observer<'_>,
) -> Result<Sha256Sum, SourceError> {
    let mut hash = Sha256::new();
    read_all(medium, name, phase, observer, |bytes| hash.update(bytes))?;
    Ok(Sha256Sum(hash.finalize().into()))
}

/// The same, and hash every piece of it as well, on another processor if there is one.
pub(super) fn sums(medium: &dyn ReadAt, name: &str, observer: Observer<'_>) -> Result<Sums, SourceError> {
    let mut hash = Sha256::new();
    let mut pieces = PieceSums::new(medium.size());
    read_all(medium, name, Phase::Hash, observer, |bytes| {
        std::thread::scope(|scope| {
            scope.spawn(|| pieces.add(bytes));
            hash.update(bytes);
        });
    })?;
    Ok(Sums {
        whole: Sha256Sum(hash.finalize().into()),
        pieces,
    })
}

/// Give all bytes of `medium` to `each`, in order, 1 MiB at a time.
fn read_all(
    medium: &dyn ReadAt,
    name: &str,
    phase: Phase,
    observer: Observer<'_>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), SourceError> {
    let mut buffer = vec![0; 1 << 20];
    let total = medium.size();
    let mut done = 0;
    while done < total {
        if observer.cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        let take = at_most(total - done, buffer.len());
        let (piece, _) = buffer.split_at_mut(take);
        medium
            .read_exact_at(done, piece)
            .map_err(|source| SourceError::Read {
                name: name.into(),
                source,
            })?;
        each(piece);
        done += crate::edit::block::length(piece);
        observer.progress.advance(phase, done, total);
    }
    Ok(())
}

/// The digests that were remembered for the file with this identity: a line of text, then those of the pieces.
pub(super) fn recall(cache: &CacheDir, identity: &Identity) -> Option<Sums> {
    const LONGEST_LINE: u64 = 4096;
    let most = PieceSums::stored_len(identity.size).saturating_add(LONGEST_LINE);
    let stored = read_own(&cache.hash_of(identity)?, most)?;
    let end = stored.iter().position(|byte| *byte == b'\n')?;
    let (line, sums) = stored.split_at(end);
    let (line, whole) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    let pieces = PieceSums::parse(sums.strip_prefix(b"\n")?, identity.size)?;
    (line == fingerprint(identity)).then(|| {
        Some(Sums {
            whole: whole.parse().ok()?,
            pieces,
        })
    })?
}

/// Remember digests. A cache that cannot be written is not an error: the file is hashed again next time.
pub(super) fn remember(cache: &CacheDir, identity: &Identity, sums: &Sums) {
    let Some(path) = cache.hash_of(identity).filter(|_| settled(identity)) else {
        return;
    };
    let line = format!("{} {}\n", fingerprint(identity), sums.whole);
    let stored = [line.as_bytes(), sums.pieces.stored()].concat();
    let _remembered = AtomicFile::write_cached(&path, Readers::Owner, &stored);
}

/// Whether the last change is old enough. A file that changed a moment ago could change again within one tick of the clock
/// and keep its times.
fn settled(identity: &Identity) -> bool {
    let changed = u64::try_from(identity.ctime.0).map_or(UNIX_EPOCH, |s| UNIX_EPOCH + Duration::from_secs(s));
    SystemTime::now()
        .duration_since(changed)
        .is_ok_and(|age| age > Duration::from_secs(2))
}

pub(super) fn fingerprint(identity: &Identity) -> String {
    let Identity {
        dev,
        inode,
        size,
        mtime,
        ctime,
    } = identity;
    format!(
        "2 {dev} {inode} {size} {}.{:09} {}.{:09}",
        mtime.0, mtime.1, ctime.0, ctime.1
    )
}
