//! An image as a compressed file, the same bytes whatever the number of threads.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use xz2::stream::{Check, MtStreamBuilder};
use xz2::write::XzEncoder;

use super::file::flushed;
use super::{Gap, Sink, SinkError, Zeroes};
use crate::edit::block::length;
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::host::filesystem::begin_write_back;
use crate::numbers::{at_most, u64_from_usize};
use crate::progress::Observer;

/// One block of .xz holds this many bytes of image, as in Ubuntu's images: what is written here can be read here
/// again at random and in parallel.
const XZ_BLOCK: u64 = 1 << 20;

/// The preset that Ubuntu packs its images with: a higher one saves a tenth and takes ten times as long.
const XZ_PRESET: u32 = 0;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Writes an image as .xz: one stream with CRC64 and one block for every MiB.
pub type XzSink = Packed<XzEncoder<OutFile>>;

/// Writes an image as .zst: one frame with its size and checksum.
pub type ZstdSink = Packed<zstd::stream::write::Encoder<'static, OutFile>>;

/// Writes an image through an encoder.
pub struct Packed<E> {
    encoder: E,
    target: String,
}

/// Packs a stream of bytes into a file.
pub trait Encoder: Write {
    /// A new file at `path`, packed by `threads` threads.
    fn create(path: &Path, threads: NonZeroUsize) -> io::Result<Self>
    where
        Self: Sized;

    /// Announce how many bytes will be written, before the first one.
    fn expect(&mut self, _size: u64) -> io::Result<()> {
        Ok(())
    }

    /// Write what is still buffered, and return the file.
    fn finish(self) -> io::Result<OutFile>;
}

impl<E: Encoder> Packed<E> {
    /// A sink for a new file at `path`, compressed by `threads` threads.
    pub fn create(path: &Path, threads: NonZeroUsize) -> Result<Self, SinkError> {
        let target = path.display().to_string();
        let encoder = E::create(path, threads).map_err(SinkError::create(&target))?;
        Ok(Self { encoder, target })
    }
}

impl<E: Encoder> Sink for Packed<E> {
    type Done = AtomicFile;

    const ZEROES: Zeroes = Zeroes::Apart;

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        let expected = self.encoder.expect(size);
        expected.map_err(SinkError::create(&self.target))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let written = self.encoder.write_all(bytes);
        written.map_err(SinkError::write(&self.target, offset, bytes))
    }

    fn gap(&mut self, offset: u64, len: u64, _reason: Gap) -> Result<(), SinkError> {
        let zeroes = [0; 16 << 10];
        let mut done = 0;
        while done < len {
            let (piece, _) = zeroes.split_at(at_most(len - done, zeroes.len()));
            self.write(offset.saturating_add(done), piece)?;
            done += length(piece);
        }
        Ok(())
    }

    fn finish(self, observer: Observer<'_>) -> Result<AtomicFile, SinkError> {
        let out = self.encoder.finish().map_err(SinkError::finish(&self.target))?;
        flushed(out.new, &self.target, observer)
    }
}

impl Encoder for XzEncoder<OutFile> {
    fn create(path: &Path, threads: NonZeroUsize) -> io::Result<Self> {
        let stream = MtStreamBuilder::new()
            .threads(u32::try_from(threads.get()).unwrap_or(u32::MAX))
            .block_size(XZ_BLOCK)
            .preset(XZ_PRESET)
            .check(Check::Crc64)
            .encoder()?;
        Ok(Self::new_stream(OutFile::create(path)?, stream))
    }

    fn finish(self) -> io::Result<OutFile> {
        Self::finish(self)
    }
}

impl Encoder for zstd::stream::write::Encoder<'static, OutFile> {
    fn create(path: &Path, threads: NonZeroUsize) -> io::Result<Self> {
        let mut encoder = Self::new(OutFile::create(path)?, ZSTD_LEVEL)?;
        encoder.include_checksum(true)?;
        // Even one worker cuts the input into jobs, and jobs are what the output depends on.
        encoder.multithread(u32::try_from(threads.get()).unwrap_or(u32::MAX))?;
        Ok(encoder)
    }

    fn expect(&mut self, size: u64) -> io::Result<()> {
        self.set_pledged_src_size(Some(size))
    }

    fn finish(self) -> io::Result<OutFile> {
        Self::finish(self)
    }
}

/// A new file that is written from its beginning to its end, and written back as it grows.
pub struct OutFile {
    new: AtomicFile,
    at: u64,
    handed: u64,
}

impl OutFile {
    const WRITEBACK: u64 = 16 << 20;

    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            new: AtomicFile::create(path, Readers::Owner)?,
            at: 0,
            handed: 0,
        })
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wrote = self.new.file().write(bytes)?;
        self.at = self.at.saturating_add(u64_from_usize(wrote));
        if self.at - self.handed >= Self::WRITEBACK {
            begin_write_back(self.new.file(), self.handed..self.at);
            self.handed = self.at;
        }
        Ok(wrote)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
