//! Opens block devices for reading: a card that is inspected, and the first bytes of a disk that udev does not describe.
//! Nothing can be written through what it opens.

#![expect(clippy::disallowed_methods, reason = "it opens devices, for reading only")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::error::OpenError;
use super::facts::DevNo;
use super::sys;
use crate::edit::block::ReadAt;

/// A device that is open for reading only.
#[derive(Debug)]
pub struct ReadableCard {
    file: File,
    size: u64,
}

impl ReadableCard {
    /// The block device at `path`; `None` if something else is there.
    pub fn open(path: &Path) -> Result<Option<Self>, OpenError> {
        let shown = path.to_string_lossy().into_owned();
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => OpenError::Unreadable { path: shown.clone() },
            _ => OpenError::Open {
                path: shown.clone(),
                source: error,
            },
        };
        // Checked before it is opened: opening a pipe would wait for a writer.
        if !fs::metadata(path).map_err(fail)?.file_type().is_block_device() {
            return Ok(None);
        }
        let file = File::open(path).map_err(fail)?;
        let size = sys::size(file.as_fd()).map_err(fail)?;
        Ok(Some(Self { file, size }))
    }
}

impl ReadAt for ReadableCard {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// The block device `dev` at `node`, if we may read it. Does not wait for a drive to load a medium.
fn open(node: &Path, dev: DevNo) -> Option<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(node)
        .ok()?;
    let meta = file.metadata().ok()?;
    (meta.file_type().is_block_device() && DevNo::of(meta.rdev()) == dev).then_some(file)
}

/// What is behind the loop device `dev` at `node`, if we may ask it.
pub(super) fn loop_status(node: &Path, dev: DevNo) -> Option<sys::LoopStatus> {
    sys::loop_status(open(node, dev)?.as_fd()).ok()
}

/// The first `len` bytes of the block device `dev` at `node`, if we may read it; fewer if it is smaller.
pub(super) fn read_head(node: &Path, dev: DevNo, len: usize) -> Option<Vec<u8>> {
    let file = open(node, dev)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(len).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
