//! SHA-256 of a file as downloaded, and where such digests are remembered.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::file::Identity;
use super::{CacheDir, SourceError};
use crate::edit::block::ReadAt;
use crate::host::atomic_file::{Durability, NewFile, Readers};
use crate::progress::{Phase, Watch};

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Sum(pub [u8; 32]);

/// Text that is no SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no SHA-256 digest: it must be 64 hexadecimal digits")]
pub struct BadSha256(pub String);

impl Sha256Sum {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl FromStr for Sha256Sum {
    type Err = BadSha256;

    fn from_str(text: &str) -> Result<Self, BadSha256> {
        let bad = || BadSha256(text.into());
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut sum = [0; 32];
        for (byte, digits) in sum.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            // `from_str_radix` takes a sign.
            if digits.starts_with('+') {
                return Err(bad());
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(sum))
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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
        let take = usize::try_from(total - done).map_or(buffer.len(), |left| left.min(buffer.len()));
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

/// Remember a digest. A cache that cannot be written is no error: the file is hashed again next time.
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

/// A small file that this user wrote and nobody else can: what a cache says is believed, so that it must be ours.
pub(super) fn own_text(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let facts = file.metadata().ok()?;
    let ours = facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o022 == 0;
    let mut text = String::new();
    (ours && facts.is_file()).then_some(())?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, 4096), &mut text).ok()?;
    Some(text)
}

pub(super) fn write_small(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let new = NewFile::create_unlinked(path, Readers::Owner)?;
    std::io::Write::write_all(&mut new.file(), bytes)?;
    new.commit(Durability::Cached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_parse_as_they_print() {
        let sum = Sha256Sum::of(b"");
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sum.to_string(), text);
        assert_eq!(text.parse(), Ok(sum));
        assert_eq!(text.to_uppercase().parse(), Ok(sum));
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.replace('e', "g"),
            &text.replace("e3", "+3"),
        ] {
            assert_eq!(bad.parse::<Sha256Sum>(), Err(BadSha256(bad.into())));
        }
    }
}
