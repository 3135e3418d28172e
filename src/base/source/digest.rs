//! SHA-256 of a file as downloaded, and the cache of such digests. It must never believe a digest of another file.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::file::Identity;
use super::{CacheDir, Sha256Sum, SourceError};
use crate::edit::block::ReadAt;
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::host::files::read_own;
use crate::numbers::at_most;
use crate::progress::{Phase, Watch};

/// Hash all of `medium`, called `name` in errors.
pub(super) fn sha256(
    medium: &dyn ReadAt,
    name: &str,
    phase: Phase,
    watch: Watch<'_>,
) -> Result<Sha256Sum, SourceError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let total = medium.size();
    let mut done = 0;
    while done < total {
        if watch.cancel.is_cancelled() {
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
        hash.update(&*piece);
        done += crate::edit::block::length(piece);
        watch.progress.advance(phase, done, total);
    }
    Ok(Sha256Sum(hash.finalize().into()))
}

/// The digest that was remembered for the file with this identity.
pub(super) fn recall(cache: &CacheDir, identity: &Identity) -> Option<Sha256Sum> {
    let text = own_text(&cache.hash_of(identity)?)?;
    let (line, sum) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    (line == fingerprint(identity)).then(|| sum.parse().ok())?
}

/// Remember a digest. A cache that cannot be written is not an error: the file is hashed again next time.
pub(super) fn remember(cache: &CacheDir, identity: &Identity, sum: &Sha256Sum) {
    let Some(path) = cache.hash_of(identity).filter(|_| settled(identity)) else {
        return;
    };
    let text = format!("{} {sum}\n", fingerprint(identity));
    let _remembered = write_small(&path, text.as_bytes());
}

/// A file that changed within the clock's granularity of now could change again and keep its times.
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
        "1 {dev} {inode} {size} {}.{:09} {}.{:09}",
        mtime.0, mtime.1, ctime.0, ctime.1
    )
}

/// The text of a small file that only this user can write: the cache is trusted, so that it must be the user's own.
pub(super) fn own_text(path: &Path) -> Option<String> {
    read_own(path, 4096)
}

pub(super) fn write_small(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let new = AtomicFile::create_unlinked(path, Readers::Owner)?;
    std::io::Write::write_all(&mut new.file(), bytes)?;
    new.commit(Durability::Cached)
}
