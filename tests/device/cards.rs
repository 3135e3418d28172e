//! A whole card: the built-in base with edits, written by the one pass, on loop devices and on cards that lie.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

use palmfarm::base::layout::Layout;
use palmfarm::base::mini::MINI;
use palmfarm::base::source::{BaseImage, Verified};
use palmfarm::card::{CardReport, Medium};
use palmfarm::edit::block::{Edits, Extents, Overlay, ReadAt, WriteAt};
use palmfarm::edit::fs::allocated;
use palmfarm::progress::{Cancel, Observer, Phase, Progress, Silent};
use palmfarm::write::{write_card, CardFailure, CardOptions, FreeSpace, SinkError};

use crate::burns::offset_of;
use crate::common::alone::alone;
use crate::common::disk::{can_loop, Disk};
use crate::liar::{Fault, Liar};

const MIB: u64 = 1 << 20;

/// An image, and what it is made of.
struct Stage {
    base: Verified<BaseImage>,
    edits: Edits,
    /// The bytes that the card must have.
    bytes: Vec<u8>,
    needed: Extents,
}

fn stage() -> Stage {
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &Silent,
        cancel: &cancel,
    };
    let base = BaseImage::built_in("mini", MINI, observer).unwrap();
    let layout = Layout::read(&base).unwrap();
    let overlay = Overlay::new(&base);
    // The disk's identifier, which is in the first block; free space of the root; and the very last bytes.
    for (at, bytes) in [
        (440, &b"palm"[..]),
        (layout.root.span.end() - 9000, b"edited"),
        (base.size() - 3, b"end"),
    ] {
        overlay.write_all_at(at, bytes).unwrap();
    }
    let needed = allocated(&overlay, &[layout.boot.span, layout.root.span]).unwrap();
    let mut bytes = vec![0; usize::try_from(base.size()).unwrap()];
    overlay.read_exact_at(0, &mut bytes).unwrap();
    let edits = overlay.take_edits().unwrap();
    Stage {
        base,
        edits,
        bytes,
        needed,
    }
}

impl Stage {
    fn write<M: Medium>(&self, card: M, free: FreeSpace<'_>) -> Result<CardReport<M>, CardFailure> {
        self.write_until(card, free, &Silent, &Cancel::new())
    }

    fn write_until<M: Medium>(
        &self,
        card: M,
        free: FreeSpace<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<CardReport<M>, CardFailure> {
        let options = CardOptions {
            threads: NonZeroUsize::new(2).unwrap(),
            free,
            salt: [9; 16],
        };
        write_card(
            &self.base,
            &self.edits,
            card,
            options,
            Observer { progress, cancel },
        )
    }

    /// Every range that must be on the card: the map, and what was edited.
    fn mapped(&self) -> Extents {
        let mut all = self.needed.clone();
        for (offset, bytes) in self.edits.iter() {
            all.add(offset, offset + u64::try_from(bytes.len()).unwrap());
        }
        all.aligned(4096, self.base.size())
    }
}

fn place(range: (u64, u64)) -> std::ops::Range<usize> {
    usize::try_from(range.0).unwrap()..usize::try_from(range.1).unwrap()
}

#[test]
fn a_device_gets_the_bytes_of_the_image() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let stage = stage();
        let disk = Disk::new(256 * MIB);
        // What an old card is full of.
        let old = vec![0xa5; 1 << 20];
        let file = File::options().read(true).write(true).open(disk.file()).unwrap();
        let fill = || (0..256).for_each(|nth| file.write_all_at(&old, nth * MIB).unwrap());
        let seen = || {
            let mut seen = vec![0; stage.bytes.len()];
            file.read_exact_at(&mut seen, 0).unwrap();
            seen
        };

        fill();
        let written = stage
            .write(disk.approved().open().unwrap(), FreeSpace::Written)
            .unwrap();
        assert_eq!(
            (written.size, written.written),
            (stage.base.size(), stage.base.size())
        );
        assert_eq!((written.verified, written.skipped), (written.size, 0));
        assert!(written.repaired.is_empty());
        // It can be read as the image can.
        let contents = |layout: Layout| {
            let partitions = layout.partitions.into_iter();
            partitions
                .map(|part| (part.number, part.span, part.contents))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            contents(Layout::read(&written.card).unwrap()),
            contents(Layout::read(&stage.base).unwrap())
        );
        drop(written);
        assert!(seen() == stage.bytes, "every block");

        fill();
        let card = disk.approved().open().unwrap();
        let written = stage.write(card, FreeSpace::Skipped(&stage.needed)).unwrap();
        let mapped = stage.mapped();
        assert_eq!(written.written, mapped.total());
        assert_eq!(
            (written.verified, written.skipped),
            (mapped.total(), stage.base.size() - mapped.total())
        );
        drop(written);
        let seen = seen();
        for range in mapped.iter() {
            assert!(seen[place(range)] == stage.bytes[place(range)], "{range:?}");
        }
        let mut kept = false;
        for range in mapped.complement(stage.base.size()).iter() {
            let free = &seen[place(range)];
            // What was free in the first MiB is zero, and so are the places of the probe.
            kept |= free.contains(&0xa5);
            assert!(free.iter().all(|byte| matches!(byte, 0 | 0xa5)), "{range:?}");
        }
        assert!(kept, "nothing was skipped");
    });
}

/// Whether the card was touched, where it failed, and what the first bytes are then.
fn check(fault: Fault, size: u64, touched: bool, offset: Option<u64>) {
    let stage = stage();
    let card = Liar::new(size, fault);
    card.put(0, &stage.bytes[..512]);
    let failure = stage.write(&card, FreeSpace::Skipped(&stage.needed)).unwrap_err();
    assert_eq!(
        matches!(failure, CardFailure::Spoiled(_)),
        touched,
        "{fault:?}: {failure:?}"
    );
    let at = match failure.cause() {
        SinkError::Card(error) => offset_of(error),
        SinkError::Write { offset, .. } => Some(*offset),
        _ => None,
    };
    assert_eq!(at, offset, "{fault:?}: {failure:?}");
    let left = card.bytes(0, 512);
    if touched {
        assert!(left.iter().all(|byte| *byte == 0), "{fault:?}");
    } else {
        assert!(left == stage.bytes[..512], "{fault:?}");
        assert_eq!(card.writes(), [], "{fault:?}");
    }
}

#[test]
fn what_went_wrong_says_whether_the_card_was_touched() {
    let size = 128 * MIB;
    let stage = stage();
    // A block of the image that is needed, beyond the first MiB, and where no stamp goes.
    let needed = stage.mapped();
    let at = needed
        .iter()
        .flat_map(|(start, end)| (start..end).step_by(4096))
        .find(|at| *at > MIB && at % (MIB / 2) != 0)
        .unwrap();
    check(Fault::Swapped(0), size, false, None);
    check(Fault::None, 95 * MIB, false, None);
    check(Fault::Swapped(30), size, true, None);
    check(Fault::DropsFrom(64 * MIB), size, true, Some(65 * MIB));
    check(Fault::WriteError(at), size, true, Some(at));
    check(Fault::FlipsBit(at), size, true, Some(at + 100));
    let gone = stage.write(Liar::new(size, Fault::Vanishes(40)), FreeSpace::Written);
    assert!(matches!(gone, Err(CardFailure::Spoiled(_))), "{gone:?}");
    let repaired = stage.write(
        Liar::new(size, Fault::FlipsBitOnce(at)),
        FreeSpace::Skipped(&stage.needed),
    );
    assert_eq!(repaired.unwrap().repaired, [at + 100]);
}

/// Asks to stop when a phase has got this far.
struct StopAt<'a>(Phase, u64, &'a Cancel);

impl Progress for StopAt<'_> {
    fn advance(&self, phase: Phase, done: u64, _total: u64) {
        if phase == self.0 && done >= self.1 {
            self.2.cancel();
        }
    }
}

#[test]
fn a_request_to_stop_spoils_what_was_begun() {
    let stage = stage();
    for (phase, done) in [
        (Phase::Probe, 0),
        (Phase::Write, 1),
        (Phase::Write, 50 * MIB),
        (Phase::ReadBack, 1),
    ] {
        let cancel = Cancel::new();
        let card = Liar::new(128 * MIB, Fault::None);
        card.put(0, &stage.bytes[..512]);
        let failure = stage
            .write_until(&card, FreeSpace::Written, &StopAt(phase, done, &cancel), &cancel)
            .unwrap_err();
        assert!(
            matches!(&failure, CardFailure::Spoiled(cause) if cause.is_cancelled()),
            "{phase}: {failure:?}"
        );
        assert!(card.bytes(0, 1 << 20).iter().all(|byte| *byte == 0), "{phase}");
    }
}
