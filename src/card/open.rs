//! The only place that opens a block device for writing: once, exclusively, and only if it is still the one that was
//! approved. There is no fallback: a card that cannot be opened exclusively is not written.

#![expect(
    clippy::disallowed_methods,
    reason = "nothing else opens a device for writing"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{fadvise, fcntl_getfl, fcntl_setfl, Advice, OFlags};

use super::error::OpenError;
use super::facts::{identify, DevNo};
use super::medium::{Medium, Replaced};
use super::rules::{ApprovedCard, CardIdentity};
use super::{processes, sys};

/// A card that nobody else can open exclusively until this value is dropped. Only [`ApprovedCard::open`] makes one.
#[derive(Debug)]
pub struct OpenCard {
    file: File,
    path: String,
    identity: CardIdentity,
    cache: Cache,
}

/// Whether the kernel caches what is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    /// It does not: `O_DIRECT`.
    Bypassed,
    /// It does, and is asked to drop its copy before each read.
    Dropped,
}

/// The reader's answer to the request to eject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// The reader has ejected the card.
    Yes,
    /// The reader does not know the request; since everything is flushed, the card can be taken out.
    NotNeeded,
}

impl ApprovedCard {
    /// Open the card exclusively and make sure that it is the one that was approved.
    pub fn open(self) -> Result<OpenCard, OpenError> {
        let path = self.path().to_owned();
        let opened = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => return Err(not_opened(path, &self, error)),
        };
        let card = OpenCard {
            cache: bypass_cache(&file),
            identity: self.identity().clone(),
            file,
            path: path.clone(),
        };
        card.verify_identity()?;
        // Exclusive use keeps out mounts and others that ask for it, but not a `dd` that is still running.
        let by = processes::writers(Path::new("/"), card.identity.dev);
        if !by.is_empty() {
            return Err(OpenError::Busy { path, by });
        }
        match sys::read_only(card.file.as_fd()) {
            Ok(false) => Ok(card),
            Ok(true) => Err(OpenError::ReadOnly { path }),
            Err(source) => Err(OpenError::Open { path, source }),
        }
    }
}

impl OpenCard {
    /// The path under which it was approved.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which device it is.
    pub fn identity(&self) -> &CardIdentity {
        &self.identity
    }

    /// Make the kernel read the new partition table. This fails once root is given up; udev then does it when the card
    /// is closed.
    pub fn reread_partitions(&self) -> io::Result<()> {
        sys::reread_partitions(self.file.as_fd())
    }

    /// Eject the medium, after everything was flushed.
    pub fn eject(self) -> io::Result<Ejected> {
        match sys::eject(self.file.as_fd()) {
            Ok(()) => Ok(Ejected::Yes),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP | libc::EPERM)
                ) =>
            {
                Ok(Ejected::NotNeeded)
            }
            Err(error) => Err(error),
        }
    }

    fn replaced(&self, what: String) -> Replaced {
        Replaced {
            path: self.path.clone(),
            what,
        }
    }
}

impl Medium for OpenCard {
    fn size(&self) -> u64 {
        self.identity.size
    }

    fn sector(&self) -> u32 {
        self.identity.sector
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.cache == Cache::Dropped {
            let len = u64::try_from(buf.len()).ok().and_then(std::num::NonZeroU64::new);
            fadvise(&self.file, offset, len, Advice::DontNeed)?;
        }
        self.file.read_at(buf, offset)
    }

    fn flush(&self) -> io::Result<()> {
        // On a block device this also flushes the drive's own cache (blkdev_fsync, block/fops.c).
        self.file.sync_all()
    }

    /// Compare number, size, medium and serial, both from the descriptor and from sysfs: another medium in the same
    /// reader has the same number, and so may a disk that is plugged in after another was pulled.
    fn verify_identity(&self) -> Result<(), Replaced> {
        let unknown = |error: io::Error| self.replaced(format!("it does not answer ({error})"));
        let meta = self.file.metadata().map_err(unknown)?;
        if !meta.file_type().is_block_device() {
            return Err(self.replaced("it is not a block device any more".to_owned()));
        }
        let descriptor = CardIdentity {
            dev: DevNo::of(meta.rdev()),
            diskseq: sys::diskseq(self.file.as_fd()).map_err(unknown)?,
            serial: self.identity.serial.clone(),
            size: sys::size(self.file.as_fd()).map_err(unknown)?,
            sector: rustix::fs::ioctl_blksszget(&self.file).map_err(|error| unknown(error.into()))?,
        };
        let now = identify(Path::new("/"), self.identity.dev);
        let now = now.ok_or_else(|| self.replaced("it is gone".to_owned()))?;
        for seen in [descriptor, CardIdentity::of(&now)] {
            if let Some(what) = difference(&self.identity, &seen) {
                return Err(self.replaced(what));
            }
        }
        Ok(())
    }
}

/// The first difference of two identities. A mark that one of them does not know is not a difference, except that a serial
/// number must not vanish.
fn difference(was: &CardIdentity, now: &CardIdentity) -> Option<String> {
    let marks = |card: &CardIdentity| {
        [
            ("number", Some(card.dev.to_string())),
            ("medium", card.diskseq.map(|number| number.to_string())),
            ("size in bytes", Some(card.size.to_string())),
            ("sector in bytes", Some(card.sector.to_string())),
            ("serial number", card.serial.clone()),
        ]
    };
    marks(was)
        .into_iter()
        .zip(marks(now))
        .find_map(|((what, was), (_, now))| {
            let now = now.or_else(|| (what == "serial number").then(|| "none".to_owned()))?;
            let was = was.filter(|was| *was != now)?;
            Some(format!("its {what} was {was}, now it is {now}"))
        })
}

/// Direct transfers are preferred, not required: if a driver has none, each read drops the kernel's copy first.
fn bypass_cache(file: &File) -> Cache {
    let direct = fcntl_getfl(file).and_then(|flags| fcntl_setfl(file, flags | OFlags::DIRECT));
    match direct {
        Ok(()) => Cache::Bypassed,
        Err(_) => Cache::Dropped,
    }
}

fn not_opened(path: String, card: &ApprovedCard, error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::EBUSY) => OpenError::Busy {
            by: processes::uses(Path::new("/"), card.identity().dev),
            path,
        },
        Some(libc::EACCES | libc::EPERM) => OpenError::Denied { path },
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM) => OpenError::Gone { path },
        Some(libc::EROFS) => OpenError::ReadOnly { path },
        _ => OpenError::Open { path, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> CardIdentity {
        CardIdentity {
            dev: "8:16".parse().unwrap(),
            diskseq: Some(7),
            serial: Some("a".to_owned()),
            size: 1 << 30,
            sector: 512,
        }
    }

    fn check(change: impl FnOnce(&mut CardIdentity), expect: Option<&str>) {
        let mut now = identity();
        change(&mut now);
        assert_eq!(difference(&identity(), &now).as_deref(), expect);
    }

    #[test]
    fn another_disk_differs_in_any_of_its_marks() {
        check(|_| {}, None);
        check(
            |now| now.dev.minor = 32,
            Some("its number was 8:16, now it is 8:32"),
        );
        check(|now| now.diskseq = Some(8), Some("its medium was 7, now it is 8"));
        check(
            |now| now.size = 1 << 31,
            Some("its size in bytes was 1073741824, now it is 2147483648"),
        );
        check(
            |now| now.sector = 4096,
            Some("its sector in bytes was 512, now it is 4096"),
        );
        check(
            |now| now.serial = Some("b".to_owned()),
            Some("its serial number was a, now it is b"),
        );
        check(
            |now| now.serial = None,
            Some("its serial number was a, now it is none"),
        );
        // An old kernel does not count media.
        check(|now| now.diskseq = None, None);
    }
}
