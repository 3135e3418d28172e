//! An image as a compressed file, the same bytes whatever the number of threads.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use xz2::stream::{Check, MtStreamBuilder};
use xz2::write::XzEncoder;

use super::file::{flushed, write_back};
use super::{Sink, SinkError, Zeroes};
use crate::block::length;
use crate::newfile::{NewFile, Readers};
use crate::watch::Watch;

/// One block of .xz holds this many bytes of image, as in Ubuntu's images: what is written here can be read here
/// again at random and in parallel.
const XZ_BLOCK: u64 = 1 << 20;

/// The preset that Ubuntu packs its images with: a higher one saves a tenth and takes ten times as long.
const XZ_PRESET: u32 = 0;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Writes an image as .xz: one stream, CRC64, a block for every MiB.
pub struct XzSink(Packed<XzEncoder<OutFile>>);

impl XzSink {
    /// A sink for a new file at `path`, compressed by `threads` threads.
    ///
    /// # Errors
    /// [`SinkError::Create`].
    pub fn create(path: &Path, threads: NonZeroUsize) -> Result<Self, SinkError> {
        let target = path.display().to_string();
        let start = || {
            let stream = MtStreamBuilder::new()
                .threads(u32::try_from(threads.get()).unwrap_or(1))
                .block_size(XZ_BLOCK)
                .preset(XZ_PRESET)
                .check(Check::Crc64)
                .encoder()?;
            let out = OutFile::create(path)?;
            Ok(XzEncoder::new_stream(out, stream))
        };
        match start() {
            Ok(encoder) => Ok(Self(Packed {
                encoder,
                target,
                size: 0,
            })),
            Err(source) => Err(SinkError::Create { target, source }),
        }
    }
}

impl Sink for XzSink {
    type Done = NewFile;

    const ZEROES: Zeroes = Zeroes::Apart;

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        self.0.size = size;
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.write(offset, bytes)
    }

    fn zeroes(&mut self, offset: u64, len: u64) -> Result<(), SinkError> {
        self.0.zeroes(offset, len)
    }

    fn free(&mut self, offset: u64, len: u64) -> Result<(), SinkError> {
        self.0.zeroes(offset, len)
    }

    fn finish(self, watch: Watch<'_>) -> Result<NewFile, SinkError> {
        let Packed { encoder, target, .. } = self.0;
        match encoder.finish() {
            Ok(out) => flushed(out.new, target, watch),
            Err(source) => Err(SinkError::Finish { target, source }),
        }
    }
}

/// Writes an image as .zst: one frame with its size and checksum.
pub struct ZstdSink(Packed<zstd::stream::write::Encoder<'static, OutFile>>);

impl ZstdSink {
    /// A sink for a new file at `path`, compressed by `threads` threads.
    ///
    /// # Errors
    /// [`SinkError::Create`].
    pub fn create(path: &Path, threads: NonZeroUsize) -> Result<Self, SinkError> {
        let target = path.display().to_string();
        let start = || {
            let mut encoder = zstd::stream::write::Encoder::new(OutFile::create(path)?, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            // Even one worker cuts the input into jobs, and jobs are what the output depends on.
            encoder.multithread(u32::try_from(threads.get()).unwrap_or(1))?;
            Ok(encoder)
        };
        match start() {
            Ok(encoder) => Ok(Self(Packed {
                encoder,
                target,
                size: 0,
            })),
            Err(source) => Err(SinkError::Create { target, source }),
        }
    }
}

impl Sink for ZstdSink {
    type Done = NewFile;

    const ZEROES: Zeroes = Zeroes::Apart;

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        self.0.size = size;
        self.0
            .encoder
            .set_pledged_src_size(Some(size))
            .map_err(|source| SinkError::Create {
                target: self.0.target.clone(),
                source,
            })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.write(offset, bytes)
    }

    fn zeroes(&mut self, offset: u64, len: u64) -> Result<(), SinkError> {
        self.0.zeroes(offset, len)
    }

    fn free(&mut self, offset: u64, len: u64) -> Result<(), SinkError> {
        self.0.zeroes(offset, len)
    }

    fn finish(self, watch: Watch<'_>) -> Result<NewFile, SinkError> {
        let Packed { encoder, target, .. } = self.0;
        match encoder.finish() {
            Ok(out) => flushed(out.new, target, watch),
            Err(source) => Err(SinkError::Finish { target, source }),
        }
    }
}

/// What the two have in common.
struct Packed<E> {
    encoder: E,
    target: String,
    size: u64,
}

impl<E: Write> Packed<E> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.encoder.write_all(bytes).map_err(|source| SinkError::Write {
            target: self.target.clone(),
            offset,
            len: length(bytes),
            source,
        })
    }

    fn zeroes(&mut self, offset: u64, len: u64) -> Result<(), SinkError> {
        let zeroes = [0; 16 << 10];
        let mut done = 0;
        while done < len {
            let take = usize::try_from(len - done).map_or(zeroes.len(), |left| left.min(zeroes.len()));
            let piece = zeroes.get(..take).unwrap_or_default();
            self.write(offset.saturating_add(done), piece)?;
            done += length(piece);
        }
        Ok(())
    }
}

/// A new file that is written from its beginning to its end, and written back as it grows.
struct OutFile {
    new: NewFile,
    at: u64,
    handed: u64,
}

impl OutFile {
    const WRITEBACK: u64 = 16 << 20;

    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            new: NewFile::create(path, Readers::Owner)?,
            at: 0,
            handed: 0,
        })
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wrote = self.new.file().write(bytes)?;
        self.at = self.at.saturating_add(u64::try_from(wrote).unwrap_or(0));
        if self.at - self.handed >= Self::WRITEBACK {
            write_back(&self.new, self.handed..self.at);
            self.handed = self.at;
        }
        Ok(wrote)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
