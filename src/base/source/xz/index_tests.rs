//! The index of whole files, and of files with one thing wrong.

use xz2::stream::Check as Kind;

use super::*;
use crate::base::source::testing::{image, xz};

fn check(packed: &[u8], expect: impl Fn(&XzError) -> bool) {
    match Index::read(&packed.to_vec()) {
        Err(error) if expect(&error) => {}
        other => panic!("{other:?}"),
    }
}

/// The footer's CRC32 after a change to it.
fn resign(packed: &mut [u8]) {
    let at = packed.len() - 12;
    let crc = crc32fast::hash(&packed[at + 4..at + 10]);
    packed[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn blocks_cover_the_image_and_the_file() {
    let image = image(1_000_000, 2);
    let packed = xz(&image, 300_000, Kind::Crc32);
    let index = Index::read(&packed).unwrap();
    assert_eq!(
        (index.len(), index.size(), index.largest()),
        (4, 1_000_000, 300_000)
    );
    let mut at = 12;
    for number in 0..4 {
        let block = index.get(number).unwrap();
        assert_eq!(block.at, at);
        at += block.padded();
        assert_eq!(block.image().start, 300_000 * u64::try_from(number).unwrap());
        for offset in [block.image().start, block.image().end - 1] {
            assert_eq!(index.holding(offset), Some((number, block)));
        }
    }
    assert_eq!(index.get(4), None);
    assert_eq!(index.holding(1_000_000), None);
    assert_eq!(Index::read(&xz(&[], 4096, Kind::None)).unwrap().size(), 0);
}

#[test]
fn each_thing_that_is_wrong_has_its_name() {
    let good = xz(&image(200_000, 4), 60_000, Kind::Crc64);
    let len = good.len();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packed = good.clone();
        change(&mut packed);
        packed
    };
    for short in [0, 6, 12, 23, 30, len / 2, len - 1] {
        check(&good[..short], |error| matches!(error, XzError::Truncated { .. }));
    }
    check(&[0; 64], |error| matches!(error, XzError::Truncated { size: 64 }));
    check(&with(&|packed| packed.extend([0; 3])), |error| {
        matches!(error, XzError::Padding { len: 3 })
    });
    check(&with(&|packed| packed.extend([7; 5])), |error| {
        matches!(error, XzError::TrailingGarbage { len: 5, .. })
    });
    check(&with(&|packed| packed[len - 6] ^= 1), |error| {
        matches!(error, XzError::FlagsCrc { part: "footer", .. })
    });
    check(&with(&|packed| packed[8] ^= 1), |error| {
        matches!(
            error,
            XzError::FlagsCrc {
                part: "header",
                at: 0
            }
        )
    });
    check(&with(&|packed| packed[0] ^= 1), |error| {
        matches!(error, XzError::NoHeader { at: 0 })
    });
    check(
        &with(&|packed| {
            packed[7] = 1;
            let crc = crc32fast::hash(&packed[6..8]);
            packed[8..12].copy_from_slice(&crc.to_le_bytes());
        }),
        |error| {
            matches!(
                error,
                XzError::Flags {
                    header: [0, 1],
                    footer: [0, 4],
                    ..
                }
            )
        },
    );
    check(
        &with(&|packed| {
            packed[len - 3] = 2;
            resign(packed);
        }),
        |error| matches!(error, XzError::CheckKind(2)),
    );
    check(
        &with(&|packed| {
            packed[len - 8..len - 4].copy_from_slice(&u32::MAX.to_le_bytes());
            resign(packed);
        }),
        |error| {
            matches!(
                error,
                XzError::Index {
                    what: "it would start before the file",
                    ..
                }
            )
        },
    );
    check(&with(&|packed| packed[len - 13] ^= 1), |error| {
        matches!(
            error,
            XzError::Index {
                what: "its CRC32 does not match",
                ..
            }
        )
    });
}

#[test]
fn a_lie_about_the_number_of_blocks_allocates_nothing() {
    // Index: marker, count of 2^62, padding, CRC32.
    let mut index = vec![0];
    index.extend([0x80; 8]);
    index.push(0x40);
    index.resize(12, 0);
    index.extend(crc32fast::hash(&index).to_le_bytes());
    let mut packed = super::Check::Crc64.header().to_vec();
    packed.extend(&index);
    let mut footer = vec![0; 4];
    footer.extend((u32::try_from(index.len()).unwrap() / 4 - 1).to_le_bytes());
    footer.extend([0, 4]);
    footer.extend(b"YZ");
    packed.extend(footer);
    resign(&mut packed);
    check(&packed, |error| {
        matches!(
            error,
            XzError::Index {
                what: "it is too short for the number of blocks it gives"
                    | "the number of blocks is malformed",
                ..
            }
        )
    });
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let image = image(20_000, 6);
    for kind in [Kind::Crc32, Kind::Crc64, Kind::Sha256] {
        let good = xz(&image, 8000, kind);
        for at in 0..good.len() {
            let mut packed = good.clone();
            packed[at] ^= 1 << (at % 8);
            let Ok(index) = Index::read(&packed) else { continue };
            let file: std::sync::Arc<dyn ReadAt> = std::sync::Arc::new(packed);
            let image = super::super::XzImage::new(file, index);
            let mut bytes = vec![0; usize::try_from(image.size()).unwrap()];
            assert!(
                image.read_exact_at(0, &mut bytes).is_err(),
                "a flipped bit of byte {at}"
            );
        }
    }
}

#[test]
fn streams_without_blocks_are_counted() {
    let empty = xz(&[], 4096, Kind::None);
    let most = empty.repeat(MAX_STREAMS);
    let index = Index::read(&most).unwrap();
    assert_eq!((index.len(), index.size()), (0, 0));
    check(&[&most[..], &empty].concat(), |error| {
        matches!(error, XzError::TooManyStreams { limit: MAX_STREAMS })
    });
}
