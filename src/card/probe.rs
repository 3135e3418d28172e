//! Detects fake cards: it writes stamps across the whole declared size and reads them back before the image is written,
//! and again after it. That finds cards that drop writes beyond their real size, and those that map them onto lower
//! addresses.
//!
//! A card of `real` bytes that wraps maps the address `a` onto `a % real`. Single stamps find that only if two of them
//! meet by chance, so there are two kinds. Low stamps are single blocks, one for each step of the low region. Runs are
//! as long as a step, one at each multiple of the low region's length, and the last of two steps at the card's end.
//! Whatever `real` is, a run lies less than the low region's length above it, so its wrapped image begins in the low
//! region and meets a low stamp.
//!
//! The first MiB is never written here: while it is zero, nothing on the card looks like an image.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::medium::{AlignedBuf, CardIo, Medium, TransferError, ALIGN, ALIGN_BYTES};
use crate::numbers::usize_from_u64;

/// Where the first stamp is, in bytes, and how far each low stamp is above a multiple of the step.
const BASE: u64 = 1 << 20;

/// The least length of the low region, in bytes.
const LOW: u64 = 8 << 30;

/// Into how many parts, at most, the runs divide a card: large cards have a larger low region and not more runs.
const RUNS: u64 = 8;

/// How many low stamps there are at most.
const LOW_STAMPS: u64 = 2048;

/// The most that is transferred at once, in bytes.
const TRANSFER: u64 = 1 << 20;

/// [`TRANSFER`] as a length in memory.
const TRANSFER_LEN: usize = 1 << 20;

/// How much of a card's end must not stay as it was, in bytes: ZFS has its last labels in the last 512 KiB
/// (`vdev_impl.h`), md its oldest superblocks in the last 128 KiB (md(4)).
const END: u64 = 1 << 20;

/// The stamps that are on a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    key: u64,
    ranges: Vec<Range<u64>>,
}

/// What a fake card did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fake {
    /// What was written there is lost.
    Dropped,
    /// It holds what was written elsewhere.
    Aliased {
        /// Where that was written, in bytes.
        with: u64,
    },
}

/// The card does not have the size it claims, or cannot be written at all.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// What was written is not what is read.
    #[error("the card claims {size} bytes, but {}", explain(*offset, *fake))]
    Fake {
        /// What it claims, in bytes.
        size: u64,
        /// Where the first wrong stamp is, in bytes.
        offset: u64,
        fake: Fake,
    },
    /// A transfer failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// Stamp the card, then read every stamp back. `salt` tells these stamps from those of an earlier run: any value that
/// differs from run to run.
pub fn probe<M: Medium>(card: &CardIo<M>, salt: [u8; 16]) -> Result<Probed, ProbeError> {
    let probed = Probed {
        key: key(salt),
        ranges: ranges(card.size()),
    };
    let mut buf = AlignedBuf::new(TRANSFER_LEN);
    for transfer in transfers(&probed.ranges) {
        let stamps = probed.stamps(&transfer, &mut buf);
        card.write_all(transfer.start, stamps)?;
    }
    card.flush()?;
    probed.read_back(card, &probed.ranges)?;
    probed.check_start(card)?;
    Ok(probed)
}

impl Probed {
    /// After the image was written: read the stamps that it left (those in no range of `covers`) again, and put
    /// zeroes in their place. What a fake card kept in a cache during [`probe`] is gone by now.
    pub fn finish<M: Medium>(self, card: &CardIo<M>, covers: &dyn Fn(u64) -> bool) -> Result<(), ProbeError> {
        let left = uncovered(&self.ranges, covers);
        self.read_back(card, &left)?;
        // RAID, ZFS and a backup GPT keep what they are known by at the end of a disk, and once the root filesystem
        // has grown to it, the old one would still be found.
        let size = card.size();
        let end = (size.saturating_sub(END) / ALIGN_BYTES * ALIGN_BYTES).max(BASE)..size;
        let zeroes = AlignedBuf::new(TRANSFER_LEN);
        for transfer in transfers(&left).chain(transfers(&uncovered(&[end], covers))) {
            let len = usize_from_u64(transfer.end.saturating_sub(transfer.start));
            card.write_all(transfer.start, zeroes.get(..len).unwrap_or(&zeroes))?;
        }
        Ok(())
    }

    /// Where the stamps are, in bytes, in order.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn read_back<M: Medium>(&self, card: &CardIo<M>, ranges: &[Range<u64>]) -> Result<(), ProbeError> {
        let (mut expect, mut seen) = (AlignedBuf::new(TRANSFER_LEN), AlignedBuf::new(TRANSFER_LEN));
        for transfer in transfers(ranges) {
            let expect = self.stamps(&transfer, &mut expect);
            let seen = seen.get_mut(..expect.len()).unwrap_or_default();
            card.read_exact(transfer.start, seen)?;
            if seen != expect {
                let mut blocks = (0_u64..).zip(expect.chunks(ALIGN).zip(seen.chunks(ALIGN)));
                let wrong = blocks.find(|(_, (expect, seen))| expect != seen);
                let (nth, seen) = wrong.map_or((0, &seen[..]), |(nth, (_, seen))| (nth, seen));
                return Err(self.fake(card, transfer.start, nth, seen));
            }
        }
        Ok(())
    }

    /// Fail if a stamp is in the first MiB, where none was written: a card that is up to a MiB too small puts its end
    /// there.
    fn check_start<M: Medium>(&self, card: &CardIo<M>) -> Result<(), ProbeError> {
        let mut start = AlignedBuf::new(usize_from_u64(card.size().min(BASE)));
        card.read_exact(0, &mut start)?;
        for (block, nth) in start.chunks(ALIGN).zip(0_u64..) {
            if self.what_is(block) != Fake::Dropped {
                return Err(self.fake(card, 0, nth, block));
            }
        }
        Ok(())
    }

    /// The error that the `nth` block from `start` is `seen`.
    fn fake<M: Medium>(&self, card: &CardIo<M>, start: u64, nth: u64, seen: &[u8]) -> ProbeError {
        ProbeError::Fake {
            size: card.size(),
            offset: start.saturating_add(nth.saturating_mul(ALIGN_BYTES)),
            fake: self.what_is(seen),
        }
    }

    /// Whether the block `seen` is the stamp of another place.
    fn what_is(&self, seen: &[u8]) -> Fake {
        let (words, _) = seen.as_chunks();
        let with = words
            .first()
            .map_or(0, |word| unmixed(u64::from_le_bytes(*word)) ^ self.key);
        let mut stamp = vec![0; seen.len()];
        self.stamp(with, &mut stamp);
        if !seen.is_empty() && stamp == seen && self.ranges.iter().any(|range| range.contains(&with)) {
            Fake::Aliased { with }
        } else {
            Fake::Dropped
        }
    }

    /// The stamps of `transfer`, in `buf`.
    fn stamps<'a>(&self, transfer: &Range<u64>, buf: &'a mut [u8]) -> &'a [u8] {
        let len = usize_from_u64(transfer.end.saturating_sub(transfer.start));
        let stamps = buf.get_mut(..len).unwrap_or_default();
        self.stamp(transfer.start, stamps);
        stamps
    }

    /// Fill `buf` with the stamp for `offset`. Each word is made from its own address by a function that never gives
    /// the same for two, so no part of a stamp can stand in for another.
    fn stamp(&self, offset: u64, buf: &mut [u8]) {
        let (words, _) = buf.as_chunks_mut();
        for (word, nth) in words.iter_mut().zip(0_u64..) {
            let address = offset.wrapping_add(nth.wrapping_mul(8));
            *word = mixed(address ^ self.key).to_le_bytes();
        }
    }
}

/// What tells the stamps of one run from those of another.
fn key(salt: [u8; 16]) -> u64 {
    let digest = Sha256::digest([&b"palmfarm probe"[..], &salt].concat());
    let first = digest.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first)
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014): a
/// permutation of the 64-bit numbers.
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The inverse of [`mixed`]; its factors are the inverses of the others modulo 2^64.
fn unmixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    z ^ (z >> 30) ^ (z >> 60)
}

/// Where to stamp a card of `size` bytes, in order, each block once, aligned, between [`BASE`] and the end.
fn ranges(size: u64) -> Vec<Range<u64>> {
    let end = size / ALIGN_BYTES * ALIGN_BYTES;
    let low = LOW.max((size / RUNS).next_multiple_of(LOW));
    let step = low / LOW_STAMPS;
    let block = |at: u64| at..at.saturating_add(ALIGN_BYTES);
    let low_stamps = (0..=LOW_STAMPS).map(|nth| block(BASE.saturating_add(nth.saturating_mul(step))));
    let runs = (1..=size / low).map(|nth| {
        let start = nth.saturating_mul(low);
        start..start.saturating_add(step)
    });
    let last = end.saturating_sub(step.saturating_mul(2))..end;
    let mut found: Vec<Range<u64>> = low_stamps.chain(runs).chain([last]).collect();
    found.sort_unstable_by_key(|range| (range.start, range.end));
    // Small cards have their last run over low stamps, and large ones a low stamp in their first.
    let mut at = BASE;
    found.retain_mut(|range| {
        *range = range.start.max(at)..range.end.min(end);
        at = at.max(range.end);
        range.start < range.end
    });
    found
}

/// The parts of `ranges` that no range of `covers` has.
fn uncovered(ranges: &[Range<u64>], covers: &dyn Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let blocks = (range.start..range.end).step_by(ALIGN);
        for at in blocks.filter(|at| !covers(*at)) {
            let end = at.saturating_add(ALIGN_BYTES).min(range.end);
            match found.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => found.push(at..end),
            }
        }
    }
    found
}

/// `ranges` in pieces of at most [`TRANSFER`] bytes: a card takes a millisecond for any.
fn transfers(ranges: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> + '_ {
    ranges.iter().flat_map(|range| {
        let starts = (range.start..range.end).step_by(TRANSFER_LEN);
        starts.map(|start| start..start.saturating_add(TRANSFER).min(range.end))
    })
}

fn explain(offset: u64, fake: Fake) -> String {
    match fake {
        Fake::Dropped => format!("what was written at offset {offset} is not there"),
        Fake::Aliased { with } => format!("what was written at offset {with} is also at offset {offset}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_lie_within_the_card_and_beyond_its_first_mib() {
        for size in [
            0,
            4095,
            4096,
            1 << 20,
            (1 << 20) + 4096,
            5_000_000,
            7_948_206_080,
            31_914_983_424,
            512_110_190_592,
            4 << 40,
        ] {
            let found = ranges(size);
            let bytes: u64 = found.iter().map(|range| range.end - range.start).sum();
            assert!(bytes <= (size / 500).max(24 << 20), "{size}: {bytes}");
            let mut at = BASE;
            for range in &found {
                assert!(
                    at <= range.start && range.start < range.end && range.end <= size,
                    "{size}: {range:?}"
                );
                assert!(
                    range.start % ALIGN_BYTES == 0 && range.end % ALIGN_BYTES == 0,
                    "{size}: {range:?}"
                );
                at = range.end;
            }
        }
        assert_eq!(ranges(1 << 20), [0..0; 0]);
        assert_eq!(ranges((1 << 20) + 4096), vec![1 << 20..(1 << 20) + 4096; 1]);
        assert_eq!(
            ranges(31_914_983_424).last().map(|range| range.end),
            Some(31_914_983_424)
        );
    }

    #[test]
    fn a_stamp_says_where_it_was_written() {
        for z in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(unmixed(mixed(z)), z);
        }
    }
}
