//! Writing an image to cards with the faults of real cards: which fault is found, where, and what is left on the card.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use palmfarm::card::{AlignedBuf, Allow, BurnError, CardWriter, Medium, ProbeError, Touched, TransferError};
use palmfarm::edit::block::ReadAt;
use sha2::{Digest, Sha256};

use crate::common::alone::again;
use crate::common::disk::{can_loop, Disk};
use crate::liar::{Fault, Liar};

const MIB: u64 = 1 << 20;
const CARD: u64 = 64 * MIB;
/// A part of what the image leaves free.
const FREE: Range<u64> = 2 * MIB + 65_536..2 * MIB + 131_072;

/// An image of `size` bytes that looks like one to a kernel (a valid MBR), of which `free` is not needed.
struct Image {
    bytes: Vec<u8>,
    free: Range<u64>,
}

impl Image {
    fn new(size: usize, free: Range<u64>) -> Self {
        let mut state = 1_u64;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(size)
        .collect();
        bytes[510] = 0x55;
        bytes[511] = 0xaa;
        Self { bytes, free }
    }

    /// What must be on the card, in ranges that do not cross a multiple of `piece`.
    fn needed_by(&self, piece: u64) -> Vec<(Range<u64>, [u8; 32])> {
        let size = self.bytes.as_slice().size();
        let mut found = Vec::new();
        for start in (0..size).step_by(usize::try_from(piece).unwrap()) {
            let end = (start + piece).min(size);
            let free = self.free.start.clamp(start, end)..self.free.end.clamp(start, end);
            let ranges = if free.is_empty() {
                [start..end, end..end]
            } else {
                [start..free.start, free.end..end]
            };
            for range in ranges.into_iter().filter(|range| !range.is_empty()) {
                let sha256 = Sha256::digest(self.part(&range)).into();
                found.push((range, sha256));
            }
        }
        found
    }

    fn needed(&self) -> Vec<(Range<u64>, [u8; 32])> {
        self.needed_by(MIB)
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        let place = |at: u64| usize::try_from(at).unwrap();
        &self.bytes[place(range.start)..place(range.end)]
    }

    fn burn<M: Medium>(&self, card: M, touched: &Touched) -> Result<Vec<u64>, BurnError> {
        self.burn_until(card, touched, &|_, _| ControlFlow::Continue(()))
    }

    fn burn_until<M: Medium>(
        &self,
        card: M,
        touched: &Touched,
        step: &(dyn Fn(u64, u64) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<u64>, BurnError> {
        self.burn_pieces(card, touched, step, &self.needed())
    }

    fn burn_pieces<M: Medium>(
        &self,
        card: M,
        touched: &Touched,
        step: &(dyn Fn(u64, u64) -> ControlFlow<()> + Sync),
        needed: &[(Range<u64>, [u8; 32])],
    ) -> Result<Vec<u64>, BurnError> {
        let mut writer = CardWriter::begin(card, self.bytes.as_slice().size(), [3; 16], touched)?;
        let mut aligned = AlignedBuf::new(1 << 20);
        for (range, _) in needed {
            let part = self.part(range);
            aligned[..part.len()].copy_from_slice(part);
            writer.write(range.start, &aligned[..part.len()])?;
        }
        let burnt = writer.finish()?.read_back(needed, &self.bytes.as_slice(), step)?;
        let bytes: u64 = needed.iter().map(|(range, _)| range.end - range.start).sum();
        assert_eq!((burnt.written, burnt.verified), (bytes, bytes));
        Ok(burnt.repaired)
    }
}

/// A usual image: neither a whole number of MiB nor of sectors of 4096 bytes, with a hole.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| Image::new((6 << 20) + 1536, 2 * MIB + 8192..3 * MIB + 4096))
}

/// A place in the image where the probe puts no stamp.
const BAD: u64 = 4 * MIB + 65_536;
/// Another, in the last, incomplete 4096 bytes.
const LAST: u64 = 6 * MIB + 1024;

/// What becomes of the image on a card with this fault.
fn burn(fault: Fault) -> (Liar, Result<Vec<u64>, BurnError>, bool) {
    let card = Liar::new(CARD, fault);
    // What the card held before: another image, and old data everywhere.
    card.put(0, &image().bytes[..1 << 20]);
    card.put(FREE.start, &vec![0x77; 64 << 10]);
    card.put(CARD - 8 * MIB - 8192, &vec![0x77; (8 << 20) + 8192]);
    let touched = Touched::default();
    let result = image().burn(&card, &touched);
    (card, result, touched.is_touched())
}

/// Where on the card, in bytes, if `error` is about one place.
pub(crate) fn offset_of(error: &BurnError) -> Option<u64> {
    match error {
        BurnError::Differs { offset }
        | BurnError::DiffersWidely { offset, .. }
        | BurnError::Again { offset, .. }
        | BurnError::Changed { offset }
        | BurnError::Probe(ProbeError::Fake { offset, .. }) => Some(*offset),
        BurnError::Transfer(error) | BurnError::Probe(ProbeError::Transfer(error)) => match error {
            TransferError::Write { offset, .. } | TransferError::Read { offset, .. } => Some(*offset),
            TransferError::Flush(_) | TransferError::Replaced(_) => None,
        },
        BurnError::TooSmall { .. } | BurnError::Cancelled | BurnError::OutOfOrder => None,
    }
}

/// The fault is found, at this offset, and the card is left without a partition table.
fn check(fault: Fault, offset: Option<u64>, is_it: fn(&BurnError) -> bool) {
    let (card, result, touched) = burn(fault);
    let Err(error) = result else {
        panic!("{fault:?} was not found");
    };
    assert!(is_it(&error), "{fault:?}: {error:?}");
    assert_eq!(offset_of(&error), offset, "{fault:?}: {error}");
    assert!(touched);
    let head = card.bytes(0, 1 << 20);
    assert!(
        head.iter().all(|byte| *byte == 0),
        "{fault:?}: something is left that looks like an image"
    );
}

fn holds_image(card: &Liar) -> bool {
    image().needed().iter().all(|(range, _)| {
        let part = image().part(range);
        card.bytes(range.start, part.len().next_multiple_of(512))[..part.len()] == *part
    })
}

#[test]
fn a_good_card_holds_the_image() {
    for fault in [Fault::None, Fault::ShortTransfers] {
        let (card, result, _) = burn(fault);
        assert_eq!(result.unwrap(), [0_u64; 0]);
        assert!(holds_image(&card));
        // What is free keeps what the card held.
        assert!(card.bytes(FREE.start, 64 << 10).iter().all(|byte| *byte == 0x77));
        // Nothing of the probe is left behind the image.
        assert!(card.bytes(CARD - 8 * MIB, 8 << 20).iter().all(|byte| *byte == 0));
        assert!(card
            .bytes(CARD - 8 * MIB - 8192, 4096)
            .iter()
            .all(|byte| *byte == 0x77));
        assert!(card.bytes(17 * MIB, 4096).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_first_mib_is_destroyed_first_and_written_last() {
    let (card, _, _) = burn(Fault::None);
    let writes = card.writes();
    let touching: Vec<usize> = (0..writes.len()).filter(|nth| writes[*nth].0 < MIB).collect();
    assert_eq!(touching, [0, 1, writes.len() - 2, writes.len() - 1]);
    // Sector 0 by itself: it cannot be torn, and without it nothing behind it is a table.
    assert_eq!(writes[..2], [(0, 512), (512, (1 << 20) - 512)]);
    assert_eq!(writes[writes.len() - 2..], [(512, (1 << 20) - 512), (0, 512)]);
}

#[test]
fn what_goes_wrong_once_is_repaired() {
    for (bad, at) in [(BAD, BAD + 100), (LAST, LAST + 100)] {
        let (card, result, _) = burn(Fault::FlipsBitOnce(bad));
        assert_eq!(result.unwrap(), [at]);
        let image = image();
        assert!(card.bytes(bad, 512) == *image.part(&(bad..bad + 512)));
    }
    // The first MiB was written twice when it is read for the first time: destroyed, and written.
    let (_, result, _) = burn(Fault::FlipsBitOnce(512));
    assert_eq!(result.unwrap(), [0_u64; 0]);
}

#[test]
fn what_stays_wrong_spoils_the_card() {
    let differs = |error: &BurnError| matches!(error, BurnError::Differs { .. });
    check(Fault::FlipsBit(BAD), Some(BAD + 100), differs);
    check(Fault::FlipsBit(LAST), Some(LAST + 100), differs);
    check(Fault::Forgets(BAD), Some(BAD), differs);
    // What cannot be read may be wrong from the start of the piece.
    check(Fault::ReadError(BAD), Some(4 * MIB), differs);
    // The last bytes of all.
    let (card, result, _) = burn(Fault::FlipsBit(1024));
    assert!(
        matches!(result, Err(BurnError::Differs { offset: 1124 })),
        "{result:?}"
    );
    assert!(card.bytes(0, 512).iter().all(|byte| *byte == 0));
}

#[test]
fn a_card_that_forgets_all_is_given_up_soon() {
    let image = Image::new(24 << 20, 0..0);
    // Its cache is just large enough for the stamps of the probe: 8 MiB and a few.
    let card = Liar::new(CARD, Fault::DropsBehindCache(2 * MIB, 17_000));
    let go_on = |_: u64, _: u64| ControlFlow::Continue(());
    let result = image.burn_pieces(&card, &Touched::default(), &go_on, &image.needed_by(MIB / 16));
    assert!(
        matches!(result, Err(BurnError::DiffersWidely { offset, pieces }) if offset == 2 * MIB && pieces > 64),
        "{result:?}"
    );
}

#[test]
fn a_fake_is_found_before_the_image_is_written() {
    let probe = |error: &BurnError| matches!(error, BurnError::Probe(_));
    check(Fault::DropsFrom(32 * MIB), Some(33 * MIB), probe);
    let (_, result, touched) = burn(Fault::Wraps(32 * MIB));
    assert!(matches!(result, Err(BurnError::Probe(_))), "{result:?}");
    assert!(touched);
}

#[test]
fn a_failing_device_is_named_with_its_place() {
    let transfer = |error: &BurnError| matches!(error, BurnError::Transfer(_));
    check(Fault::WriteError(BAD), Some(BAD), transfer);
    check(Fault::WriteError(6 * MIB), Some(6 * MIB), transfer);
    // The first two flushes come after sector 0 and after the first MiB were destroyed, the fourth after the image.
    for flush in [1, 2, 4] {
        check(Fault::FlushError(flush), None, transfer);
    }
    // The last two come after the first MiB without its table, and after the table.
    for flush in [6, 7] {
        check(Fault::FlushError(flush), None, transfer);
    }
    let all = burn(Fault::None).0.writes().len();
    for writes in 1..=all {
        let (card, result, touched) = burn(Fault::Vanishes(writes));
        assert!(touched);
        assert!(
            matches!(result, Err(BurnError::Transfer(_) | BurnError::Probe(_))),
            "{writes}: {result:?}"
        );
        // Gone after the very last write, it cannot be asked any more, but it holds everything.
        assert_eq!(
            card.bytes(0, 512)[510..] == [0x55, 0xaa],
            writes == all,
            "{writes}"
        );
    }
    assert!(holds_image(&burn(Fault::Vanishes(all)).0));
}

#[test]
fn a_card_changed_for_another_is_not_written() {
    let touched = Touched::default();
    let card = Liar::new(CARD, Fault::Swapped(0));
    let result = image().burn(&card, &touched);
    assert!(matches!(result, Err(BurnError::Transfer(_))), "{result:?}");
    assert!(!touched.is_touched());
    assert_eq!(card.writes(), []);
    // Replaced while the image was written: the other card gets no first MiB.
    check(Fault::Swapped(20), None, |error| {
        matches!(error, BurnError::Transfer(_))
    });
}

#[test]
fn an_image_that_does_not_fit_touches_nothing() {
    let touched = Touched::default();
    let card = Liar::new(6 * MIB, Fault::None);
    let result = image().burn(&card, &touched);
    assert!(matches!(result, Err(BurnError::TooSmall { .. })), "{result:?}");
    assert!(!touched.is_touched());
    assert_eq!(card.writes(), []);
    // An image that fills the card to its last sector fits.
    let card = Liar::new(6 * MIB + 1536, Fault::None);
    assert_eq!(image().burn(&card, &touched).unwrap(), [0_u64; 0]);
}

#[test]
fn a_request_to_stop_leaves_no_partition_table() {
    let calls = AtomicU64::new(0);
    let total = AtomicU64::new(0);
    let count = |_: u64, of: u64| {
        calls.fetch_add(1, Ordering::Relaxed);
        total.store(of, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    image()
        .burn_until(Liar::new(CARD, Fault::None), &Touched::default(), &count)
        .unwrap();
    for stop in 0..calls.load(Ordering::Relaxed) {
        let card = Liar::new(CARD, Fault::None);
        let left = AtomicU64::new(stop);
        let result = image().burn_until(&card, &Touched::default(), &|done, of| {
            assert!(done <= of && of == total.load(Ordering::Relaxed));
            match left.load(Ordering::Relaxed) {
                0 => ControlFlow::Break(()),
                more => {
                    left.store(more - 1, Ordering::Relaxed);
                    ControlFlow::Continue(())
                }
            }
        });
        assert!(matches!(result, Err(BurnError::Cancelled)), "{result:?}");
        assert!(card.bytes(0, 1 << 20).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn an_image_that_changed_repairs_nothing() {
    let card = Liar::new(CARD, Fault::FlipsBitOnce(BAD));
    let image = image();
    let needed = image.needed();
    let mut writer =
        CardWriter::begin(&card, image.bytes.as_slice().size(), [3; 16], &Touched::default()).unwrap();
    for (range, _) in &needed {
        writer.write(range.start, image.part(range)).unwrap();
    }
    let other = vec![0_u8; image.bytes.len()];
    let result = writer
        .finish()
        .unwrap()
        .read_back(&needed, &other, &|_, _| ControlFlow::Continue(()));
    assert!(matches!(result, Err(BurnError::Changed { offset }) if offset == 4 * MIB));
}

/// What [`killed_at_any_moment_no_card_looks_whole`] does in the process that is killed.
fn burn_to(node: &str) {
    let image = image();
    let card = Disk::judge(node, None, 0, &[Allow::Loop])
        .unwrap()
        .open()
        .unwrap();
    println!("begin");
    image.burn(card, &Touched::default()).unwrap();
}

#[test]
fn killed_at_any_moment_no_card_looks_whole() {
    const NODE: &str = "PALMFARM_TEST_BURN";
    if let Ok(node) = std::env::var(NODE) {
        return burn_to(&node);
    }
    if !can_loop() {
        return;
    }
    let disk = Disk::new(CARD);
    let file = File::open(disk.file()).unwrap();
    let read = |range: &Range<u64>| {
        let mut seen = vec![0; usize::try_from(range.end - range.start).unwrap()];
        file.read_exact_at(&mut seen, range.start).unwrap();
        seen
    };
    // What the card holds before: another image.
    let mut old: Vec<u8> = Image::new(7 << 20, 0..0)
        .bytes
        .iter()
        .map(|byte| byte ^ 1)
        .collect();
    old[510..512].copy_from_slice(&[0x55, 0xaa]);
    let begun = || {
        // Open for a moment only: a card is not written while somebody else has its file open for writing.
        let writable = File::options().write(true).open(disk.file()).unwrap();
        writable.write_all_at(&old, 0).unwrap();
        drop(writable);
        let mut child = again(&killed_at_any_moment_no_card_looks_whole)
            .env(NODE, disk.node())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("begin\n") {
            assert!(said.read_line(&mut line).unwrap() > 0, "{line}");
        }
        (child, said)
    };
    let is_whole = || {
        image()
            .needed()
            .iter()
            .all(|(range, _)| read(range) == image().part(range))
    };
    let (mut child, said) = begun();
    let started = Instant::now();
    child.wait().unwrap();
    drop(said);
    let whole_run = started.elapsed();
    assert!(is_whole());

    let (mut before, mut without, mut after) = (0, 0, 0);
    let kills = 50_u32;
    for nth in 0..kills {
        let (mut child, _said) = begun();
        // Spread over the whole run.
        thread::sleep(whole_run.mul_f64(f64::from(nth) / f64::from(kills)));
        child.kill().unwrap();
        child.wait().unwrap();
        if read(&(510..512)) != [0x55, 0xaa] {
            without += 1;
        } else if read(&(0..510)) == old[..510] {
            assert!(
                read(&(0..7 * MIB)) == old,
                "the old partition table over other content, kill {nth}"
            );
            before += 1;
        } else {
            assert!(is_whole(), "a partition table over half an image, kill {nth}");
            after += 1;
        }
    }
    println!("{kills} kills: {before} before the first write, {without} without a table, {after} whole");
    assert!(without > 0, "no kill fell into the writing");
}
