//! Writing an image to a card and proving that it is there. The first MiB, which holds the partition table, is
//! destroyed first and written last, when everything else has been read back: at no moment in between does a card
//! look like more than it is.
//!
//! Each step is a type that only the one before it gives: [`CardWriter`], [`Unverified`], [`CardReport`].

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::error::BurnError;
use super::medium::{AlignedBuf, CardIo, Medium, TransferError};
use super::probe::{probe, Probed};
use super::readback::{self, ProgressFn, WrongRange};
use crate::edit::block::{length, ReadAt};
use crate::numbers::{at_most, usize_from_u32, usize_from_u64};

/// How much of an image is written last, in bytes. It holds the partition table and any boot code beside it. In Ubuntu's
/// images every partition starts behind it.
pub const FIRST_MIB: u64 = 1 << 20;

/// [`FIRST_MIB`] as a length in memory.
pub(super) const FIRST_MIB_LEN: usize = 1 << 20;

/// Whether anything was written to a card yet. Clones share the answer, so that it outlives the writer.
#[derive(Clone, Debug, Default)]
pub struct Touched(Arc<AtomicBool>);

impl Touched {
    /// Whether the card has lost its old content.
    pub fn is_touched(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A card that takes an image, in order.
#[derive(Debug)]
pub struct CardWriter<M> {
    io: CardIo<M>,
    head: AlignedBuf,
    size: u64,
    written: u64,
    probed: Probed,
    probe: Duration,
}

/// A card to which everything but the first MiB was written, not yet read back.
#[derive(Debug)]
pub struct Unverified<M>(CardWriter<M>);

/// A card that holds the whole image, as reading it back proved.
#[derive(Debug)]
pub struct CardReport<M> {
    /// The card, which can still be read. The caller must release it.
    pub card: CardIo<M>,
    /// Bytes of the image.
    pub size: u64,
    /// Bytes written, each counted once.
    pub written: u64,
    /// Bytes of free space that were skipped.
    pub skipped: u64,
    /// Bytes read back and found right.
    pub verified: u64,
    /// Files, directories and links that were found as planned through the filesystems on the card.
    pub files: usize,
    /// Where something had to be written again, in bytes: a card with such places will fail soon.
    pub repaired: Vec<u64>,
    /// How long it took to find out whether the card has the size it claims.
    pub probe: Duration,
}

impl<M: Medium> CardWriter<M> {
    /// Take the card for an image of `size` bytes: make sure that it is the one that was approved, destroy its
    /// first MiB, and find out whether it has the size it claims. `salt` is any value that differs from run to run.
    pub fn begin(card: M, size: u64, salt: [u8; 16], touched: &Touched) -> Result<Self, BurnError> {
        let started = Instant::now();
        let io = CardIo::new(card);
        if size > io.size() {
            return Err(BurnError::TooSmall {
                size: io.size(),
                image: size,
            });
        }
        io.verify_identity()?;
        touched.touch();
        let head = AlignedBuf::new(at_most(io.size(), FIRST_MIB_LEN));
        // Sector 0 by itself and before anything else: it cannot be torn, and without it a card that is pulled out in
        // the middle does not look like its old self.
        let sector = usize_from_u32(io.medium().sector());
        let (first, rest) = head.split_at(sector.min(head.len()));
        io.write_all(0, first)?;
        let flushed = io.flush();
        // Even if that failed, the rest goes: a GPT begins in sector 1.
        io.write_all(length(first), rest)?;
        flushed.and_then(|()| io.flush())?;
        let probed = probe(&io, salt)?;
        Ok(Self {
            io,
            head,
            size,
            written: 0,
            probed,
            probe: started.elapsed(),
        })
    }

    /// Write `bytes` at `offset`, a multiple of the card's sector. Ranges that are never written keep their old content.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let below = at_most(FIRST_MIB.saturating_sub(offset), bytes.len());
        let (first, rest) = bytes.split_at(below);
        let at = at_most(offset, self.head.len());
        for (to, from) in self.head.iter_mut().skip(at).zip(first) {
            *to = *from;
        }
        self.written = self.written.saturating_add(length(bytes));
        if rest.is_empty() {
            return Ok(());
        }
        self.io.write_padded(offset.max(FIRST_MIB), rest)
    }

    /// Wait until everything that was written is on the card.
    pub fn finish(self) -> Result<Unverified<M>, TransferError> {
        self.io.flush()?;
        Ok(Unverified(self))
    }
}

impl<M: Medium> Unverified<M> {
    /// Read back each range of `expect` past every cache and compare it with its SHA-256; write what differs once
    /// more, from `image`, which gives the bytes that were written. Then write the first MiB, and read that back.
    ///
    /// `expect` is in order, and no range crosses a multiple of 1 MiB.
    pub fn read_back(
        self,
        expect: &[(Range<u64>, [u8; 32])],
        image: &dyn ReadAt,
        step: ProgressFn<'_>,
    ) -> Result<CardReport<M>, BurnError> {
        let CardWriter {
            io,
            head,
            size,
            written,
            probed,
            probe,
        } = self.0;
        io.verify_identity()?;
        let total = expect
            .iter()
            .map(|(range, _)| range.end.saturating_sub(range.start))
            .sum();
        let first = expect.partition_point(|(range, _)| range.start < FIRST_MIB);
        let (in_head, beyond) = expect.split_at(first);
        let wrong = readback::compare(&io, beyond, total, step)?;
        if let Some(first) = wrong.first().filter(|_| wrong.len() > readback::MOST_WRONG) {
            let start = first.range.start;
            return Err(BurnError::DiffersWidely {
                offset: difference(&io, start, &read_again(first, image)?).unwrap_or(start),
                pieces: wrong.len(),
            });
        }
        let mut repaired = Vec::new();
        for wrong in wrong {
            let right = read_again(&wrong, image)?;
            repaired.push(repair(&io, wrong.range.start, &right)?);
        }
        let covers = |offset: u64| {
            let next = expect.partition_point(|(range, _)| range.end <= offset);
            expect.get(next).is_some_and(|(range, _)| range.start <= offset)
        };
        probed.finish(&io, &covers)?;
        io.flush()?;
        if step(total, total).is_break() {
            return Err(BurnError::Cancelled);
        }

        // After these last bytes it is a card with an image.
        check_head(&head, in_head)?;
        io.verify_identity()?;
        if let Some(offset) = write_head(&io, &head)? {
            repaired.insert(0, offset);
        }
        Ok(CardReport {
            card: io,
            size,
            written,
            skipped: size.saturating_sub(written),
            verified: total,
            files: 0,
            repaired,
            probe,
        })
    }
}

/// Check that memory still holds the head as it came, since the head stays in memory until the end.
fn check_head(head: &[u8], expect: &[(Range<u64>, [u8; 32])]) -> Result<(), BurnError> {
    for (range, sha256) in expect {
        let place = usize_from_u64(range.start)..usize_from_u64(range.end);
        let bytes = head.get(place).unwrap_or_default();
        if Sha256::digest(bytes)[..] != sha256[..] {
            return Err(BurnError::Changed { offset: range.start });
        }
    }
    Ok(())
}

/// Write the first MiB and read it back. Returns where it differed at first, if it did. Sector 0 comes last and by itself:
/// without it there is no partition table, and a card writes one sector whole or not at all. So a power cut never leaves a
/// table with half its entries. If something stays wrong, the card is left without a table.
fn write_head<M: Medium>(io: &CardIo<M>, head: &[u8]) -> Result<Option<u64>, BurnError> {
    let sector = io.medium().sector();
    let (table, rest) = head.split_at(at_most(sector.into(), head.len()));
    let done = write_part(io, sector.into(), rest).and_then(|wrong| {
        let wrong_table = write_part(io, 0, table)?;
        Ok(wrong_table.or(wrong))
    });
    if done.is_err() {
        wipe_partition_table(io);
    }
    done
}

/// Write `bytes` at `offset` and read them back; if they differ, do it once more. Returns where they differed at first.
fn write_part<M: Medium>(io: &CardIo<M>, offset: u64, bytes: &[u8]) -> Result<Option<u64>, BurnError> {
    let mut first_wrong = None;
    for _ in 0..2 {
        io.write_all(offset, bytes)?;
        io.flush()?;
        let Some(wrong) = difference(io, offset, bytes) else {
            return Ok(first_wrong);
        };
        first_wrong = Some(wrong);
    }
    Err(BurnError::Differs {
        offset: first_wrong.unwrap_or(offset),
    })
}

/// Zero the first MiB so that a bad card has no partition table. Best effort: the card is unusable either way.
pub fn wipe_partition_table<M: Medium>(io: &CardIo<M>) {
    let len = at_most(io.size(), FIRST_MIB_LEN);
    let _ = io.write_all(0, &AlignedBuf::new(len)).and_then(|()| io.flush());
}

/// Read from the image again what should be on the card. It must be what was written.
fn read_again(wrong: &WrongRange, image: &dyn ReadAt) -> Result<Vec<u8>, BurnError> {
    let offset = wrong.range.start;
    let mut right = vec![0; usize_from_u64(wrong.range.end.saturating_sub(offset))];
    image
        .read_exact_at(offset, &mut right)
        .map_err(|source| BurnError::Again { offset, source })?;
    if Sha256::digest(&right)[..] != wrong.sha256[..] {
        return Err(BurnError::Changed { offset });
    }
    Ok(right)
}

/// Write `right` at `start` once more and read it back. Returns where the card differed before.
fn repair<M: Medium>(io: &CardIo<M>, start: u64, right: &[u8]) -> Result<u64, BurnError> {
    let before = difference(io, start, right).unwrap_or(start);
    io.write_padded(start, right)?;
    io.flush()?;
    match difference(io, start, right) {
        None => Ok(before),
        Some(offset) => Err(BurnError::Differs { offset }),
    }
}

/// The first offset at which the card differs from `right`, which should be at `start`.
fn difference<M: Medium>(io: &CardIo<M>, start: u64, right: &[u8]) -> Option<u64> {
    let mut seen = vec![0; right.len()];
    let at = match io.read_exact_at(start, &mut seen) {
        Ok(()) => readback::first_difference(right, &seen)?,
        // A piece that cannot be read is wrong from its first byte.
        Err(_) => 0,
    };
    Some(start.saturating_add(at))
}
