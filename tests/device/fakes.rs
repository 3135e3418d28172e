//! The probe against cards that lie about their size.

use palmfarm::card::{probe, CardIo, Fake, ProbeError};

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
    check(
        64 * GIB,
        Fault::DropsFrom(8 * GIB),
        Err((8 * GIB + (1 << 20), Fake::Dropped)),
    );
    check(
        64 * GIB,
        Fault::DropsFrom(7_948_206_080),
        Err((8 * GIB + (1 << 20), Fake::Dropped)),
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
    let card = CardIo::new(Liar::new(size, Fault::DropsBehindCache(8 * GIB, 4096)));
    let probed = probe(&card, [7; 16]).unwrap();
    // Then an image of 4 MiB goes through it.
    let image = palmfarm::card::AlignedBuf::new(4 << 20);
    card.write_all(0, &image).unwrap();
    let found = probed.finish(&card, &|offset| offset < 4 << 20).unwrap_err();
    assert!(
        matches!(found, ProbeError::Fake { offset, fake: Fake::Dropped, .. } if offset == 8 * GIB + (1 << 20)),
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
