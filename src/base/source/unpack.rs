//! Formats without random access: unpacked once, in one thread, into a file.
//!
//! A compressed file is untrusted: a limit and the free space bound what it unpacks to, and the decoders' own limits
//! bound their memory.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};
use xz2::stream::{Stream, CONCATENATED};

use super::checked::is_changed;
use super::{is_zero, Sha256Sum, SourceError};
use crate::edit::block::{length, ReadAt};
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::host::{filesystem, positional};
use crate::numbers::{at_most, u64_from_usize};
use crate::progress::{Observer, Phase};

/// Memory that the .xz decoder may take, in bytes: the 64 MiB dictionary of `xz -9` and a little more.
pub(crate) const XZ_MEMORY: u64 = 72 << 20;

/// The largest zstd window, as a power of two: 128 MiB, which is what `zstd -d` allows without `--memory`.
pub(crate) const ZSTD_WINDOW: u32 = 27;

/// Unpacked bytes that are written at once.
const PIECE: usize = 1 << 20;

/// Space to leave free on the cache's filesystem, in bytes.
const RESERVE: u64 = 64 << 20;

/// The formats that are unpacked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Gzip,
    Xz,
    Zstd,
}

pub(super) struct PackedFile<'a> {
    pub(super) file: &'a dyn ReadAt,
    pub(super) codec: Codec,
    pub(super) name: &'a str,
    /// The most bytes it may unpack to.
    pub(super) limit: u64,
}

/// Unpack into a new file at `image`, and return the digest of its content.
pub(super) fn unpack(
    packed: &PackedFile<'_>,
    image: &Path,
    observer: Observer<'_>,
) -> Result<Sha256Sum, SourceError> {
    let failed = |source| SourceError::Cache {
        name: packed.name.into(),
        path: image.into(),
        source,
    };
    let new = AtomicFile::create_unlinked(image, Readers::Owner).map_err(failed)?;
    let dir = image.parent().unwrap_or(image);
    let free = filesystem::free_space(dir).map_err(failed)?;
    let room = free.saturating_sub(RESERVE);
    let taken = Cell::new(0);
    let mut unpacked = decoder(packed, &taken)?;
    let mut hash = Sha256::new();
    let mut piece = Vec::with_capacity(PIECE);
    let mut done = 0;
    let mut written = 0;
    loop {
        if observer.cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        piece.clear();
        (&mut unpacked)
            .take(u64_from_usize(PIECE))
            .read_to_end(&mut piece)
            .map_err(|error| failure(packed, done, &error))?;
        if piece.is_empty() {
            break;
        }
        hash.update(&piece);
        if done.saturating_add(length(&piece)) > packed.limit {
            return Err(SourceError::TooLarge {
                name: packed.name.into(),
                limit: packed.limit,
            });
        }
        if !is_zero(&piece) {
            written += length(&piece);
            if written > room {
                return Err(SourceError::NoRoom {
                    name: packed.name.into(),
                    dir: dir.into(),
                    room,
                });
            }
            positional::write_all_at(new.file(), done, &piece).map_err(failed)?;
        }
        done += length(&piece);
        observer
            .progress
            .advance(Phase::Unpack, taken.get(), packed.file.size());
    }
    new.file().set_len(done).map_err(failed)?;
    new.file().flush().map_err(failed)?;
    new.commit(Durability::Synced).map_err(failed)?;
    Ok(Sha256Sum(hash.finalize().into()))
}

/// Why unpacking ended after `done` bytes.
fn failure(packed: &PackedFile<'_>, done: u64, error: &io::Error) -> SourceError {
    if let Some(limit) = memory_refused(error) {
        return SourceError::Memory {
            name: packed.name.into(),
            codec: packed.codec,
            limit,
        };
    }
    if is_changed(error) {
        return SourceError::Changed {
            name: packed.name.into(),
        };
    }
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".into(),
        _ => error.to_string(),
    };
    SourceError::Damaged {
        name: packed.name.into(),
        done,
        what,
    }
}

/// If `error` means that a decoder needs too much memory, the limit in bytes.
pub(crate) fn memory_refused(error: &io::Error) -> Option<u64> {
    let of_xz = error.get_ref()?.downcast_ref::<xz2::stream::Error>();
    if of_xz == Some(&xz2::stream::Error::MemLimit) {
        return Some(XZ_MEMORY);
    }
    // zstd has nothing but the text of its `ZSTD_error_frameParameter_windowTooLarge`.
    let of_zstd = error.to_string().contains("too much memory");
    of_zstd.then_some(1 << ZSTD_WINDOW)
}

/// A reader of what `packed` unpacks to. `taken` counts the packed bytes that were read.
fn decoder<'a>(packed: &PackedFile<'a>, taken: &'a Cell<u64>) -> Result<Box<dyn Read + 'a>, SourceError> {
    let file = Sequential {
        file: packed.file,
        at: taken,
    };
    let bytes = BufReader::with_capacity(256 << 10, file);
    let failed = |error: io::Error| failure(packed, 0, &error);
    Ok(match packed.codec {
        Codec::Xz => {
            let stream =
                Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(|error| failed(error.into()))?;
            Box::new(xz2::bufread::XzDecoder::new_stream(bytes, stream))
        }
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(failed)?;
            Box::new(decoder)
        }
        Codec::Gzip => Box::new(Gzip(Some(GzDecoder::new(bytes)))),
    })
}

/// gzip members, one after the other (RFC 1952, section 2.2), then perhaps zeroes, as gzip(1) allows.
struct Gzip<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.0 else { return Ok(0) };
            let read = member.read(buf)?;
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
            let Some(mut packed) = self.0.take().map(GzDecoder::into_inner) else {
                return Ok(0);
            };
            match packed.fill_buf()?.first() {
                None => return Ok(0),
                Some(0x1F) => self.0 = Some(GzDecoder::new(packed)),
                Some(0) => only_zeroes(&mut packed)?,
                Some(_) => return Err(garbage()),
            }
        }
    }
}

fn only_zeroes(packed: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = packed.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !is_zero(bytes) {
            return Err(garbage());
        }
        let len = bytes.len();
        packed.consume(len);
    }
}

fn garbage() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "something else follows the compressed data",
    )
}

/// A medium read from its beginning to its end.
struct Sequential<'a> {
    file: &'a dyn ReadAt,
    at: &'a Cell<u64>,
}

impl Read for Sequential<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let at = self.at.get();
        let left = self.file.size().saturating_sub(at);
        let take = at_most(left, buf.len());
        let (buf, _) = buf.split_at_mut(take);
        self.file.read_exact_at(at, buf)?;
        self.at.set(at + length(buf));
        Ok(take)
    }
}
