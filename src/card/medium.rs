//! Reading and writing whole sectors of a medium: alignment, short transfers, the end. It opens no device: a [`Medium`]
//! is the open card, or in tests something that lies.

use std::io;

use crate::edit::block::{check_within, ReadAt};
use crate::numbers::{u64_from_usize, usize_from_u32, usize_from_u64};

pub use crate::edit::block::{AlignedBuf, ALIGN, ALIGN_BYTES};

/// What an address must be a multiple of for a direct transfer, in bytes: `dma_alignment` is at most 511 for SCSI and
/// MMC. Parts of an [`AlignedBuf`] that start at a sector fulfil it.
const ALIGNED_ENOUGH: usize = 512;

/// A medium that is read and written in whole sectors. Every transfer's offset, length and address is a multiple of [`Medium::sector`].
pub trait Medium: Send + Sync {
    /// In bytes, a multiple of the sector.
    fn size(&self) -> u64;

    /// The smallest transfer, in bytes.
    fn sector(&self) -> u32;

    /// Write some of `bytes` at `offset`, and return the number of bytes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Read some of `buf` from the medium itself at `offset`, not from a cache of what was written, and return the
    /// number of bytes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Return once everything written is on the medium and not only in its cache.
    fn flush(&self) -> io::Result<()>;

    /// Whether it is still the medium that was approved.
    fn verify_identity(&self) -> Result<(), Replaced>;
}

/// The device, or the medium in it, is not the one that was approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} is no longer the disk that was checked: {what}")]
pub struct Replaced {
    pub path: String,
    pub what: String,
}

/// A transfer that did not happen, and where.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("writing {len} bytes at offset {offset} of the card")]
    Write {
        offset: u64,
        len: usize,
        #[source]
        source: io::Error,
    },
    #[error("reading {len} bytes at offset {offset} of the card")]
    Read {
        offset: u64,
        len: usize,
        #[source]
        source: io::Error,
    },
    #[error("waiting until everything is on the card")]
    Flush(#[source] io::Error),
    #[error(transparent)]
    Replaced(#[from] Replaced),
}

/// Whole transfers on a [`Medium`].
#[derive(Debug)]
pub struct CardIo<M> {
    medium: M,
}

impl<M: Medium> CardIo<M> {
    pub fn new(medium: M) -> Self {
        Self { medium }
    }

    pub fn medium(&self) -> &M {
        &self.medium
    }

    pub fn into_medium(self) -> M {
        self.medium
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.medium.size()
    }

    /// Write all of `bytes` at `offset`, both multiples of the sector, from aligned memory.
    pub fn write_all(&self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        self.transfer(offset, bytes.len(), bytes.as_ptr(), |at, done| {
            self.medium.write_at(at, &bytes[done..])
        })
        .map_err(|(offset, source)| TransferError::Write {
            offset,
            len: bytes.len(),
            source,
        })
    }

    /// Fill `buf` from `offset`, both multiples of the sector, into aligned memory.
    pub fn read_exact(&self, offset: u64, buf: &mut [u8]) -> Result<(), TransferError> {
        let len = buf.len();
        self.transfer(offset, len, buf.as_ptr(), |at, done| {
            self.medium.read_at(at, &mut buf[done..])
        })
        .map_err(|(offset, source)| TransferError::Read { offset, len, source })
    }

    /// Call `step` with an offset on the medium and one in memory until `len` bytes are transferred. An error comes
    /// with its offset on the medium.
    fn transfer(
        &self,
        offset: u64,
        len: usize,
        address: *const u8,
        mut step: impl FnMut(u64, usize) -> io::Result<usize>,
    ) -> Result<(), (u64, io::Error)> {
        self.check(offset, len, address)
            .map_err(|error| (offset, error))?;
        let mut done = 0;
        while done < len {
            let at = offset.saturating_add(u64_from_usize(done));
            done += self
                .whole(step(at, done), len - done)
                .map_err(|error| (at, error))?;
        }
        Ok(())
    }

    /// Return once everything written is on the medium.
    pub fn flush(&self) -> Result<(), TransferError> {
        loop {
            match self.medium.flush() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(TransferError::Flush),
            }
        }
    }

    /// Whether it is still the medium that was approved.
    pub fn verify_identity(&self) -> Result<(), TransferError> {
        Ok(self.medium.verify_identity()?)
    }

    /// Write `bytes` at `offset`, from any memory and of any length; the rest of the last sector becomes zero.
    /// `offset` is a multiple of the sector.
    pub fn write_padded(&self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let sector = self.sector();
        if bytes.len().is_multiple_of(sector) && bytes.as_ptr().align_offset(ALIGNED_ENOUGH) == 0 {
            return self.write_all(offset, bytes);
        }
        let mut whole = AlignedBuf::new(bytes.len().next_multiple_of(sector));
        whole[..bytes.len()].copy_from_slice(bytes);
        self.write_all(offset, &whole)
    }

    /// The smallest transfer, as a length in memory.
    fn sector(&self) -> usize {
        usize_from_u32(self.medium.sector()).max(1)
    }

    /// A transfer's result, in whole sectors. Nothing at all, or less than a sector, is an error: the rest would no
    /// longer be aligned, and a device that always does this would be retried forever.
    fn whole(&self, result: io::Result<usize>, asked: usize) -> io::Result<usize> {
        let sector = self.sector();
        match result {
            Ok(done) if done > 0 && done <= asked && done % sector == 0 => Ok(done),
            Ok(done) => Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("the device moved {done} bytes of {asked}, its sector has {sector}"),
            )),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn check(&self, offset: u64, len: usize, address: *const u8) -> io::Result<()> {
        let sector = u64::from(self.medium.sector()).max(1);
        let length = u64_from_usize(len);
        check_within(io::ErrorKind::UnexpectedEof, offset, len, self.medium.size())?;
        let whole = offset.is_multiple_of(sector) && length.is_multiple_of(sector);
        if !whole || address.align_offset(ALIGNED_ENOUGH) != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{len} bytes at offset {offset} are not whole sectors of {sector} bytes in aligned memory"),
            ));
        }
        Ok(())
    }
}

/// Reads at any offset and of any length, for readers of filesystems.
impl<M: Medium> ReadAt for CardIo<M> {
    fn size(&self) -> u64 {
        self.medium.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let unit = u64::from(self.medium.sector()).max(1);
        let start = offset / unit * unit;
        let skip = usize_from_u64(offset.saturating_sub(start));
        let len = skip.saturating_add(buf.len()).next_multiple_of(self.sector());
        let mut whole = AlignedBuf::new(len);
        self.read_exact(start, &mut whole).map_err(|error| match error {
            TransferError::Read { source, .. } => source,
            other => io::Error::other(other),
        })?;
        buf.copy_from_slice(&whole[skip..skip + buf.len()]);
        Ok(())
    }
}
