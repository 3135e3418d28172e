//! Detects fake cards: it writes stamps across the whole declared size and reads them back before the image is written,
//! and again after it. That finds cards that drop writes beyond their real size, and those that map them onto lower
//! addresses.
//!
//! The first MiB is never written here: while it is zero, nothing on the card looks like an image.

use sha2::{Digest, Sha256};

use super::medium::{AlignedBuf, CardIo, Medium, TransferError, ALIGN, ALIGN_BYTES};
use crate::numbers::usize_from_u64;

/// Where the first stamp is, in bytes, and how far each of the others is from a power of two. A card of 8 GiB
/// that claims 16 maps 8 GiB + 1 MiB onto 1 MiB: the stamps of all powers of two then meet at the first.
const BASE: u64 = 1 << 20;

/// How much of a card's end must not stay as it was, in bytes: ZFS has its last labels in the last 512 KiB
/// (`vdev_impl.h`), md its oldest superblocks in the last 128 KiB (md(4)).
const END: u64 = 1 << 20;

/// [`END`] as a length in memory.
const END_LEN: usize = 1 << 20;

/// The first bytes of a stamp.
const MAGIC: &[u8; 16] = b"palmfarm probe \n";

/// The stamps that are on a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    salt: [u8; 16],
    offsets: Vec<u64>,
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

impl ProbeError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Fake { .. } => {
                Some("fake and worn-out cards do this: use another; f3probe(1) shows how large it really is")
            }
            Self::Transfer(_) => None,
        }
    }
}

/// Stamp the card at powers of two, between them, and at its end, then read every stamp back. `salt` tells these
/// stamps from those of an earlier run: any value that differs from run to run.
pub fn probe<M: Medium>(card: &CardIo<M>, salt: [u8; 16]) -> Result<Probed, ProbeError> {
    let probed = Probed {
        salt,
        offsets: offsets(card.size()),
    };
    let mut buf = AlignedBuf::new(ALIGN);
    for offset in &probed.offsets {
        probed.stamp(*offset, &mut buf);
        card.write_all(*offset, &buf)?;
    }
    card.flush()?;
    probed.read_back(card, &probed.offsets)?;
    Ok(probed)
}

impl Probed {
    /// After the image was written: read the stamps that it left (those in no range of `covers`) again, and put
    /// zeroes in their place. What a fake card kept in a cache during [`probe`] is gone by now.
    pub fn finish<M: Medium>(self, card: &CardIo<M>, covers: &dyn Fn(u64) -> bool) -> Result<(), ProbeError> {
        let left: Vec<u64> = self
            .offsets
            .iter()
            .copied()
            .filter(|offset| !covers(*offset))
            .collect();
        self.read_back(card, &left)?;
        let zeroes = AlignedBuf::new(ALIGN);
        for offset in left {
            card.write_all(offset, &zeroes)?;
        }
        forget_end(card, covers)?;
        Ok(())
    }

    /// Where the stamps are, in bytes, in order.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn read_back<M: Medium>(&self, card: &CardIo<M>, offsets: &[u64]) -> Result<(), ProbeError> {
        let mut expect = AlignedBuf::new(ALIGN);
        let mut buf = AlignedBuf::new(ALIGN);
        for offset in offsets {
            self.stamp(*offset, &mut expect);
            card.read_exact(*offset, &mut buf)?;
            if buf[..] != expect[..] {
                return Err(ProbeError::Fake {
                    size: card.size(),
                    offset: *offset,
                    fake: self.what_is(&buf, &mut expect),
                });
            }
        }
        Ok(())
    }

    /// Which of our other stamps this is, if any.
    fn what_is(&self, seen: &[u8], scratch: &mut [u8]) -> Fake {
        for other in &self.offsets {
            self.stamp(*other, scratch);
            if seen == scratch {
                return Fake::Aliased { with: *other };
            }
        }
        Fake::Dropped
    }

    /// Fill `buf` with the stamp for `offset`: no two parts of any stamps are the same, so that no block of one
    /// can stand in for another's.
    fn stamp(&self, offset: u64, buf: &mut [u8]) {
        let mut seed = Sha256::new();
        seed.update(MAGIC);
        seed.update(self.salt);
        seed.update(offset.to_le_bytes());
        let seed = seed.finalize();
        for (part, index) in buf.chunks_mut(32).zip(0_u64..) {
            let mut hash = Sha256::new();
            hash.update(seed);
            hash.update(index.to_le_bytes());
            let digest = hash.finalize();
            for (to, from) in part.iter_mut().zip(digest.iter()) {
                *to = *from;
            }
        }
        for (to, from) in buf.iter_mut().zip(MAGIC) {
            *to = *from;
        }
    }
}

/// Put zeroes over the last MiB, as far as no range of `covers` is there: RAID, ZFS and a backup GPT keep what they are
/// known by at the end of a disk, and once the root filesystem has grown to it, the old one would still be found.
fn forget_end<M: Medium>(card: &CardIo<M>, covers: &dyn Fn(u64) -> bool) -> Result<(), TransferError> {
    let size = card.size();
    let start = (size.saturating_sub(END) / ALIGN_BYTES * ALIGN_BYTES).max(BASE);
    let zeroes = AlignedBuf::new(ALIGN.saturating_mul(2).saturating_add(END_LEN));
    let mut at = start;
    while at < size {
        // One transfer for each run: a card takes a millisecond for any.
        let mut end = at;
        while end < size && !covers(end) {
            end = end.saturating_add(ALIGN_BYTES).min(size);
        }
        let len = usize_from_u64(end.saturating_sub(at));
        if let Some(zeroes) = zeroes.get(..len).filter(|_| len > 0) {
            card.write_all(at, zeroes)?;
        }
        at = end.saturating_add(ALIGN_BYTES);
    }
    Ok(())
}

/// Where to stamp a card of `size` bytes: at [`BASE`], at each power of two and half-way to the next plus
/// [`BASE`], at a few places near the end, and in the last block; in order, each once, aligned, below the end.
fn offsets(size: u64) -> Vec<u64> {
    let Some(last) = size
        .checked_sub(ALIGN_BYTES)
        .map(|last| last / ALIGN_BYTES * ALIGN_BYTES)
    else {
        return Vec::new();
    };
    let powers = (BASE.ilog2()..u64::BITS).map(|power| 1_u64 << power);
    let halves = powers.flat_map(|power| [Some(power), power.checked_add(power / 2)]);
    let mut found: Vec<u64> = halves
        .flatten()
        .filter_map(|at| at.checked_add(BASE))
        .chain([
            BASE,
            last,
            last.saturating_sub(BASE),
            size / 10 * 9 / ALIGN_BYTES * ALIGN_BYTES,
        ])
        .filter(|at| (BASE..=last).contains(at))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
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
            u64::MAX,
        ] {
            let found = offsets(size);
            assert!(found.is_sorted());
            assert!(found.len() <= 96, "{size}: {}", found.len());
            for at in &found {
                assert!(*at >= BASE && at % ALIGN_BYTES == 0, "{size}: {at}");
                assert!(
                    at.checked_add(ALIGN_BYTES).is_some_and(|end| end <= size),
                    "{size}: {at}"
                );
            }
        }
        assert_eq!(offsets(1 << 20), [0_u64; 0]);
        assert_eq!(offsets((1 << 20) + 4096), [1 << 20]);
        assert_eq!(offsets(31_914_983_424).last(), Some(&31_914_979_328));
    }
}
