//! Random access to bytes: the traits between an image file and a filesystem, the copy-on-write overlay that collects
//! edits, the edits themselves, and ranges and fields of bytes.
//!
//! Nothing here knows what the bytes mean, and nothing here opens a file or a device.

mod aligned;
mod cursor;
mod edited;
mod edits;
mod extents;
mod fields;
mod overlay;
mod span;
mod window;

use std::io;

use crate::numbers::u64_from_usize;

pub use aligned::{AlignedBuf, ALIGN, ALIGN_BYTES};
pub use cursor::Cursor;
pub use edited::Edited;
pub use edits::{Edits, EditsDigest};
pub use extents::Extents;
pub(crate) use fields::Fields;
pub use overlay::Overlay;
pub use span::Span;
pub use window::Window;

/// The unit in which edits are recorded, in bytes: the block size of every filesystem Ubuntu ships, and the
/// largest logical sector size of an SD card, so that an edited block is always an aligned write.
pub const BLOCK: u64 = 4096;

/// [`BLOCK`] as a length in memory.
pub const BLOCK_LEN: usize = 4096;

/// Reading at any byte offset, from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Length in bytes. It does not change while the value lives.
    fn size(&self) -> u64;

    /// Fill `buf` from `offset` (bytes), or fail; never a short read.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if `offset + buf.len()` lies beyond [`ReadAt::size`], else what the
    /// medium or the decoder says.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// Writing at any byte offset. Implemented by [`Overlay`] and [`Window`] only: nothing that is a file or a
/// device may be written in place.
pub trait WriteAt: ReadAt {
    /// Write all of `buf` at `offset` (bytes), or fail.
    ///
    /// # Errors
    /// [`io::ErrorKind::WriteZero`] if the range ends beyond [`ReadAt::size`], else what reading the rest of
    /// a partly covered block says.
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

impl<T: WriteAt + ?Sized> WriteAt for &T {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        (**self).write_all_at(offset, buf)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

impl<T: WriteAt + ?Sized> WriteAt for std::sync::Arc<T> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        (**self).write_all_at(offset, buf)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        length(self)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let range = from.and_then(|from| Some(from..from.checked_add(buf.len())?));
        match range.and_then(|range| self.get(range)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(beyond(
                io::ErrorKind::UnexpectedEof,
                offset,
                buf.len(),
                self.size(),
            )),
        }
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buf)
    }
}

/// The error for a range that ends beyond the medium.
pub(crate) fn beyond(kind: io::ErrorKind, offset: u64, len: usize, size: u64) -> io::Error {
    io::Error::new(
        kind,
        format!("{len} bytes at offset {offset} end beyond the medium of {size} bytes"),
    )
}

/// Whether `offset + len` is at most `size`, all in bytes.
fn within(offset: u64, len: usize, size: u64) -> bool {
    offset
        .checked_add(u64_from_usize(len))
        .is_some_and(|end| end <= size)
}

/// Refuses a transfer of `len` bytes at `offset` that ends beyond `size`.
pub(crate) fn check_within(kind: io::ErrorKind, offset: u64, len: usize, size: u64) -> io::Result<()> {
    if within(offset, len, size) {
        return Ok(());
    }
    Err(beyond(kind, offset, len, size))
}

/// A slice's length in the type that offsets have.
pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64_from_usize(bytes.len())
}
