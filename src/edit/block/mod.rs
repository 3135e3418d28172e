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
use std::ops::Deref;

use crate::numbers::{u64_from_usize, usize_from_u64};

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
    /// [`io::ErrorKind::UnexpectedEof`] if `offset + buf.len()` is beyond [`ReadAt::size`]; otherwise the error of the
    /// medium or the decoder.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// Writing at any byte offset. Only [`Overlay`] and [`Window`] implement it, because no file and no device may be
/// written in place.
pub trait WriteAt: ReadAt {
    /// Write all of `buf` at `offset` (bytes), or fail.
    ///
    /// # Errors
    /// [`io::ErrorKind::WriteZero`] if the range ends beyond [`ReadAt::size`]; otherwise the error of reading the rest
    /// of a block that is written in part.
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
}

/// References, `Arc`, `Vec<u8>` and other pointers read as what they point to.
impl<P: Deref<Target: ReadAt> + Send + Sync> ReadAt for P {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

impl<P: Deref<Target: WriteAt> + Send + Sync> WriteAt for P {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        (**self).write_all_at(offset, buf)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        length(self)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_within(io::ErrorKind::UnexpectedEof, offset, buf.len(), self.size())?;
        buf.copy_from_slice(&self[usize_from_u64(offset)..][..buf.len()]);
        Ok(())
    }
}

/// The error for a range that ends beyond the medium.
pub(crate) fn beyond(kind: io::ErrorKind, offset: u64, len: usize, size: u64) -> io::Error {
    io::Error::new(
        kind,
        format!("{len} bytes at offset {offset} end beyond the medium of {size} bytes"),
    )
}

/// Refuse a transfer of `len` bytes at `offset` that ends beyond `size`.
pub(crate) fn check_within(kind: io::ErrorKind, offset: u64, len: usize, size: u64) -> io::Result<()> {
    match offset.checked_add(u64_from_usize(len)) {
        Some(end) if end <= size => Ok(()),
        _ => Err(beyond(kind, offset, len, size)),
    }
}

/// A slice's length in the type that offsets have.
pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64_from_usize(bytes.len())
}
