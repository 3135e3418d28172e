//! A file whose bytes are compared with what was hashed each time they are read. So it does not matter who changes the file
//! in between, and how: through a mapping, which no time of the file may show, or by a write that sets the times back. No
//! byte may leave here that is not one of those that were hashed.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::file::FileAt;
use crate::edit::block::{check_within, length, ReadAt};
use crate::numbers::{at_most, u64_from_usize, usize_from_u64};

/// SHA-256 of every piece of a file, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PieceSums {
    sums: Vec<[u8; 32]>,
    /// Bytes of a piece; the last one may be shorter.
    piece: u64,
}

/// Bytes of a digest.
const SUM: usize = 32;

/// Files up to this size have small pieces, which cost little where a few bytes are read at random; larger ones have large
/// pieces, so that the digests fit into memory.
const SMALL_FILE: u64 = 64 << 30;

impl PieceSums {
    /// None yet, of a file of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        Self {
            sums: Vec::new(),
            piece: if size <= SMALL_FILE { 64 << 10 } else { 1 << 20 },
        }
    }

    /// Add those of the next `bytes`: whole pieces, but for the end of the file.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let pieces = bytes.chunks(usize_from_u64(self.piece));
        self.sums
            .extend(pieces.map(|piece| <[u8; SUM]>::from(Sha256::digest(piece))));
    }

    /// Bytes that the digests of a file of `size` bytes have.
    pub(super) fn stored_len(size: u64) -> u64 {
        size.div_ceil(Self::new(size).piece)
            .saturating_mul(u64_from_usize(SUM))
    }

    /// All of them, one after the other.
    pub(super) fn stored(&self) -> &[u8] {
        self.sums.as_flattened()
    }

    /// Read back what [`PieceSums::stored`] gave for a file of `size` bytes.
    pub(super) fn parse(stored: &[u8], size: u64) -> Option<Self> {
        let (sums, rest) = stored.as_chunks::<SUM>();
        let is_whole = rest.is_empty() && length(stored) == Self::stored_len(size);
        is_whole.then(|| Self {
            sums: sums.to_vec(),
            ..Self::new(size)
        })
    }
}

/// A file that reads as the bytes that were hashed, or not at all.
#[derive(Debug)]
pub(super) struct CheckedFile {
    file: Arc<FileAt>,
    pieces: PieceSums,
    /// Pieces that were read for a few of their bytes, by number, the latest at the back.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
    /// Where the digests are remembered.
    remembered: Option<PathBuf>,
}

/// How many pieces random access keeps: 4 MiB of small ones.
const KEPT: usize = 64;

/// Bytes of a file are not those that were hashed.
#[derive(Debug, thiserror::Error)]
#[error("the file was changed after its SHA-256 was computed: other bytes follow offset {at}")]
struct ChangedBytes {
    at: u64,
}

impl CheckedFile {
    pub(super) fn new(file: Arc<FileAt>, pieces: PieceSums, remembered: Option<PathBuf>) -> Self {
        Self {
            file,
            pieces,
            kept: Mutex::default(),
            remembered,
        }
    }

    /// Fill `bytes`, which is a whole piece, with piece `number`.
    fn read_piece(&self, number: u64, bytes: &mut [u8]) -> io::Result<()> {
        let at = number.saturating_mul(self.pieces.piece);
        let changed = || {
            // Otherwise the next run would believe the same digests.
            drop(self.remembered.as_ref().map(std::fs::remove_file));
            io::Error::new(io::ErrorKind::InvalidData, ChangedBytes { at })
        };
        match self.file.read_exact_at(at, bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
            read => read?,
        }
        let expect = self.pieces.sums.get(usize_from_u64(number));
        if expect.is_none_or(|expect| Sha256::digest(&*bytes)[..] != expect[..]) {
            return Err(changed());
        }
        Ok(())
    }

    /// Piece `number`, read now or a moment ago.
    fn piece(&self, number: u64) -> io::Result<Arc<[u8]>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept().iter().rev().find(|(its, _)| *its == number) {
            return Ok(Arc::clone(bytes));
        }
        let mut bytes = vec![0; self.len_of(number)];
        self.read_piece(number, &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut kept = kept();
        kept.push_back((number, Arc::clone(&bytes)));
        while kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(bytes)
    }

    fn len_of(&self, number: u64) -> usize {
        let start = number.saturating_mul(self.pieces.piece);
        at_most(
            self.size().saturating_sub(start),
            usize_from_u64(self.pieces.piece),
        )
    }
}

impl ReadAt for CheckedFile {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_within(io::ErrorKind::UnexpectedEof, offset, buf.len(), self.size())?;
        let piece = self.pieces.piece;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let number = at / piece;
            let (skip, whole) = (usize_from_u64(at % piece), self.len_of(number));
            let take = whole.saturating_sub(skip).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            if take == whole {
                self.read_piece(number, now)?;
            } else {
                let bytes = self.piece(number)?;
                now.copy_from_slice(bytes.get(skip..skip.saturating_add(take)).unwrap_or_default());
            }
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}

/// Whether `error`, or what caused it, is that the file has other bytes than those that were hashed.
pub(super) fn is_changed(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<ChangedBytes>() {
            return true;
        }
        // An `io::Error` does not give what it was made of as its source, but that one's source.
        let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match made_of {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
