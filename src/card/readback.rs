//! The second pass: read what was written and compare its digests, one thread reading and one hashing. Memory is
//! bounded by a few pieces of 1 MiB whatever the size of the image. Writes nothing.

use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};

use sha2::{Digest, Sha256};

use super::error::BurnError;
use super::medium::{AlignedBuf, CardIo, Medium, TransferError};
use crate::numbers::{u64_from_usize, usize_from_u64};

/// The most that is read at once, in bytes. No range crosses a multiple of it.
const PIECE: u64 = 1 << 20;

/// [`PIECE`] as a length in memory.
const PIECE_LEN: usize = 1 << 20;

/// Ranges of the same piece that are at most this far apart are read in one transfer, in bytes: at a card's 90 MB/s,
/// reading this much takes as long as another transfer.
const GAP: u64 = 128 << 10;

/// Pieces that are read before they are hashed.
const AHEAD: usize = 3;

/// With more wrong pieces than this, a card is not worth a second attempt.
pub(super) const MOST_WRONG: usize = 64;

/// A function that is called before each piece with the bytes done and the total. Its answer can end the work.
pub type ProgressFn<'a> = &'a (dyn Fn(u64, u64) -> ControlFlow<()> + Sync);

/// A range that does not have its digest.
#[derive(Clone, Debug)]
pub(super) struct WrongRange {
    /// In bytes.
    pub(super) range: Range<u64>,
    /// The digest that it should have.
    pub(super) sha256: [u8; 32],
}

/// Some ranges that are read in one transfer.
struct Piece<'a> {
    start: u64,
    /// `None` if it could not be read.
    bytes: Option<AlignedBuf>,
    ranges: &'a [(Range<u64>, [u8; 32])],
}

/// The ranges of `expect` that the card does not hold; the search ends soon after [`MOST_WRONG`].
pub(super) fn compare<M: Medium>(
    io: &CardIo<M>,
    expect: &[(Range<u64>, [u8; 32])],
    total: u64,
    step: ProgressFn<'_>,
) -> Result<Vec<WrongRange>, BurnError> {
    std::thread::scope(|scope| {
        let (pieces, to_hash) = sync_channel(AHEAD);
        let (used, unused) = sync_channel(AHEAD + 2);
        let hasher = scope.spawn(move || hash(&to_hash, &used));
        let mut done = total.saturating_sub(expect.iter().map(|(range, _)| span(range)).sum());
        let mut result = Ok(());
        for ranges in grouped(expect) {
            if step(done, total).is_break() {
                result = Err(BurnError::Cancelled);
                break;
            }
            let (Some((first, _)), Some((last, _))) = (ranges.first(), ranges.last()) else {
                continue;
            };
            let (start, end) = (first.start, last.end);
            let buf = unused.try_recv().unwrap_or_else(|_| AlignedBuf::new(PIECE_LEN));
            let bytes = match read(io, start, end, buf) {
                Ok(bytes) => Some(bytes),
                Err(error) if is_bad_place(&error) => None,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            };
            done = done.saturating_add(ranges.iter().map(|(range, _)| span(range)).sum());
            // The hasher ends early if too much is wrong.
            if pieces.send(Piece { start, bytes, ranges }).is_err() {
                break;
            }
        }
        drop(pieces);
        // It panics only if SHA-256 does; then nothing counts as verified.
        let wrong = hasher.join().map_err(|_| BurnError::Cancelled)?;
        result.map(|()| wrong)
    })
}

/// The first place where `seen` differs from `right`, in bytes from their start.
pub(super) fn first_difference(right: &[u8], seen: &[u8]) -> Option<u64> {
    let at = right.iter().zip(seen).position(|(right, seen)| right != seen)?;
    Some(u64_from_usize(at))
}

/// Whether the device works but fails at one place. If that place is written again, the drive may replace it.
fn is_bad_place(error: &TransferError) -> bool {
    let TransferError::Read { source, .. } = error else {
        return false;
    };
    matches!(
        source.raw_os_error(),
        Some(libc::EIO | libc::EILSEQ | libc::ETIMEDOUT | libc::ENODATA | libc::EREMOTEIO)
    )
}

/// The ranges of `pieces` that do not have their digests. Buffers that are no longer needed go to `used`.
fn hash(pieces: &Receiver<Piece<'_>>, used: &SyncSender<AlignedBuf>) -> Vec<WrongRange> {
    let mut wrong = Vec::new();
    for piece in pieces {
        for (range, sha256) in piece.ranges {
            let place = |at: u64| usize_from_u64(at.saturating_sub(piece.start));
            let bytes = piece
                .bytes
                .as_deref()
                .and_then(|bytes| bytes.get(place(range.start)..place(range.end)));
            if bytes.is_none_or(|bytes| Sha256::digest(bytes)[..] != sha256[..]) {
                wrong.push(WrongRange {
                    range: range.clone(),
                    sha256: *sha256,
                });
            }
        }
        if wrong.len() > MOST_WRONG {
            break;
        }
        if let Some(bytes) = piece.bytes {
            let _full = used.try_send(bytes);
        }
    }
    wrong
}

fn read<M: Medium>(
    io: &CardIo<M>,
    start: u64,
    end: u64,
    mut buf: AlignedBuf,
) -> Result<AlignedBuf, TransferError> {
    let sector = u64::from(io.medium().sector()).max(1);
    let len = usize_from_u64(end.next_multiple_of(sector).saturating_sub(start));
    if buf.len() < len {
        buf = AlignedBuf::new(len);
    }
    if let Some(part) = buf.get_mut(..len) {
        io.read_exact(start, part)?;
    }
    Ok(buf)
}

/// Split the ranges into groups that are read together: those of one MiB with small gaps.
fn grouped(expect: &[(Range<u64>, [u8; 32])]) -> impl Iterator<Item = &[(Range<u64>, [u8; 32])]> {
    expect.chunk_by(|(one, _), (next, _)| {
        one.start / PIECE == next.start / PIECE && next.start.saturating_sub(one.end) <= GAP
    })
}

fn span(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[Range<u64>], expect: &[usize]) {
        let ranges: Vec<(Range<u64>, [u8; 32])> =
            ranges.iter().map(|range| (range.clone(), [0; 32])).collect();
        let groups: Vec<usize> = grouped(&ranges).map(<[_]>::len).collect();
        assert_eq!(groups, expect);
    }

    #[test]
    fn what_lies_close_together_is_read_together() {
        check(&[], &[]);
        check(&[0..4096, 8192..12_288], &[2]);
        check(&[0..4096, 4096 + GAP..8192 + GAP], &[2]);
        check(&[0..4096, 8192 + GAP..12_288 + GAP], &[1, 1]);
        // Not across a multiple of 1 MiB, or pieces would grow without bound.
        check(&[0..PIECE, PIECE..2 * PIECE], &[1, 1]);
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"axx"), Some(1));
        assert_eq!(first_difference(b"", b""), None);
    }
}
