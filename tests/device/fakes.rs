//! The probe against cards that lie about their size.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;

use palmfarm::card::{probe, CardIo, Fake, Medium, ProbeError, Replaced};

use crate::liar::{Fault, Liar};

const GIB: u64 = 1 << 30;

/// What the probe of a card that claims `size` bytes finds: where, and what.
fn check(size: u64, fault: Fault, expect: Result<(), (u64, Fake)>) {
    let card = CardIo::new(Liar::new(size, fault));
    let found = match probe(&card, [7; 16]) {
        Ok(_) => Ok(()),
        Err(ProbeError::Fake { offset, fake, .. }) => Err((offset, fake)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(found, expect, "{size} bytes, {fault:?}");
    for (offset, _) in card.medium().writes() {
        assert!(offset >= 1 << 20, "the first MiB was written");
    }
}

#[test]
fn an_honest_card_passes() {
    for size in [
        1 << 20,
        5_000_000 / 512 * 512,
        7_948_206_080,
        31_914_983_424,
        256 * GIB,
        2048 * GIB,
    ] {
        check(size, Fault::None, Ok(()));
    }
    check(31_914_983_424, Fault::ShortTransfers, Ok(()));
}

#[test]
fn a_card_that_drops_writes_is_found() {
    check(64 * GIB, Fault::DropsFrom(8 * GIB), Err((8 * GIB, Fake::Dropped)));
    check(
        64 * GIB,
        Fault::DropsFrom(7_948_206_080),
        Err((
            7_948_206_080_u64.next_multiple_of(4 << 20) + (1 << 20),
            Fake::Dropped,
        )),
    );
    // One that cannot keep what is written is as bad.
    check(
        64 * GIB,
        Fault::FlipsBit(8 * GIB + (1 << 20)),
        Err((8 * GIB + (1 << 20), Fake::Dropped)),
    );
    // Only the very last block is missing.
    check(
        64 * GIB,
        Fault::DropsFrom(64 * GIB - 512),
        Err((64 * GIB - 4096, Fake::Dropped)),
    );
}

#[test]
fn a_card_that_wraps_is_found() {
    let base = 1 << 20;
    for (size, real, with) in [
        (16 * GIB, 8 * GIB, 12 * GIB),
        (64 * GIB, 8 * GIB, 48 * GIB),
        (32 * GIB, 24 * GIB, 24 * GIB),
        (128 * GIB, 32 * GIB, 96 * GIB),
    ] {
        let card = CardIo::new(Liar::new(size, Fault::Wraps(real)));
        let found = probe(&card, [7; 16]);
        assert!(
            matches!(found, Err(ProbeError::Fake { fake: Fake::Aliased { .. }, offset, .. }) if offset >= base),
            "{size} over {real}, expected {with}: {found:?}"
        );
    }
}

#[test]
fn a_cache_hides_nothing_for_long() {
    // Everything the probe wrote is still in the card's cache when it reads it back.
    let size = 64 * GIB;
    let card = CardIo::new(Liar::new(size, Fault::DropsBehindCache(8 * GIB, 200_000)));
    let probed = probe(&card, [7; 16]).unwrap();
    // Then an image of 128 MiB goes through it.
    let image = palmfarm::card::AlignedBuf::new(4 << 20);
    for nth in 0..32 {
        card.write_all(nth * (4 << 20), &image).unwrap();
    }
    let found = probed.finish(&card, &|offset| offset < 128 << 20).unwrap_err();
    assert!(
        matches!(found, ProbeError::Fake { offset, fake: Fake::Dropped, .. } if offset == 8 * GIB),
        "{found}"
    );
}

#[test]
fn a_device_that_fails_is_an_error_and_not_a_fake() {
    let at = 8 * GIB + (1 << 20);
    for fault in [
        Fault::WriteError(at),
        Fault::ReadError(at),
        Fault::Vanishes(3),
        Fault::HalfSectors,
        Fault::FlushError(1),
    ] {
        let card = CardIo::new(Liar::new(64 * GIB, fault));
        assert!(
            matches!(probe(&card, [7; 16]), Err(ProbeError::Transfer(_))),
            "{fault:?}"
        );
    }
}

#[test]
fn old_stamps_are_not_taken_for_new_ones() {
    let liar = Liar::new(64 * GIB, Fault::None);
    probe(&CardIo::new(&liar), [1; 16]).unwrap();
    // The same card, which now forgets what is written high up but still has the stamps of the first probe.
    let at = 32 * GIB + (1 << 20);
    let old = liar.bytes(at, 4096);
    let forgetful = Liar::new(64 * GIB, Fault::DropsFrom(at));
    forgetful.put(at, &old);
    let found = probe(&CardIo::new(&forgetful), [2; 16]).unwrap_err();
    assert!(
        matches!(found, ProbeError::Fake { offset, .. } if offset == at),
        "{found}"
    );
}

/// A card of `real` bytes that claims `size`: addresses from `real` to `drops_from` wrap, what is written beyond is lost.
struct Alias {
    size: u64,
    real: u64,
    drops_from: u64,
    sectors: Mutex<HashMap<u64, [u8; 512]>>,
}

impl Alias {
    fn real(&self, at: u64) -> Option<u64> {
        (at < self.drops_from).then_some(at % self.real)
    }
}

impl Medium for Alias {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        512
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut sectors = self.sectors.lock().unwrap();
        for (at, sector) in (offset..).step_by(512).zip(bytes.as_chunks().0) {
            if let Some(real) = self.real(at) {
                sectors.insert(real, *sector);
            }
        }
        Ok(bytes.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let sectors = self.sectors.lock().unwrap();
        for (at, sector) in (offset..).step_by(512).zip(buf.as_chunks_mut().0) {
            let stored = self.real(at).and_then(|real| sectors.get(&real));
            *sector = stored.copied().unwrap_or([0; 512]);
        }
        Ok(buf.len())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn verify_identity(&self) -> Result<(), Replaced> {
        Ok(())
    }
}

/// `PALMFARM_ALIASES` says how many sizes are drawn: `PALMFARM_ALIASES=10000 cargo test --release --test device
/// fakes::no_alias -- --nocapture`.
#[test]
fn no_alias_is_called_proved() {
    let cases: u32 = std::env::var("PALMFARM_ALIASES").map_or(12, |cases| cases.parse().unwrap());
    // A linear congruential generator: the sizes are the same in each run.
    let mut state = 0x5eed_u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 16) % below
    };
    let mut proved = Vec::new();
    for case in 0..cases {
        let sector = |bytes: u64| bytes / 512 * 512;
        let size = sector((4 << 30) + draw(252 * GIB));
        // Half of the cards are too small by less than a low region, every tenth by next to nothing.
        let missing = match case % 10 {
            0 => 512 + draw(16 << 20),
            1..5 => 512 + draw(8 * GIB),
            _ => 512 + draw(size - (1 << 20)),
        };
        let real = sector(size.saturating_sub(missing).max(1 << 20));
        let drops_from = if case % 3 == 0 {
            real + draw(size - real)
        } else {
            size
        };
        let card = CardIo::new(Alias {
            size,
            real,
            drops_from: sector(drops_from),
            sectors: Mutex::default(),
        });
        if probe(&card, [7; 16]).is_ok() {
            proved.push((size, real, drops_from));
        }
    }
    println!("{cases} random aliasing sizes, {} called proved", proved.len());
    assert_eq!(proved, []);
}
