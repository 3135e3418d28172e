//! Every packing gives the same image; every damage is found and named.

use std::error::Error;
use std::num::NonZeroUsize;

use proptest::prelude::*;
use xz2::stream::Check;

use super::testing::{base, extents, gzip, image, nines, open, streamed, unobserved, whole, xz};
use super::*;
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::progress::Cancel;

const CHECKS: [Check; 4] = [Check::None, Check::Crc32, Check::Crc64, Check::Sha256];

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

#[test]
fn every_packing_is_the_same_image() {
    let image = image(3_333_333, 1);
    let (front, back) = image.split_at(1_500_001);
    let mut packed = vec![image.clone(), gzip(&image), zstd(&image)];
    packed.push([gzip(front), gzip(back)].concat());
    packed.push([gzip(&image), vec![0; 700]].concat());
    packed.push([zstd(front), zstd(back)].concat());
    for block in [5000, 100_000, 1 << 20, 1 << 22] {
        packed.push(xz(&image, block, Check::Crc64));
    }
    for check in CHECKS {
        packed.push(xz(&image, 1 << 20, check));
    }
    // Streams of different checks, with stream padding between and after them.
    packed.push(
        [
            xz(front, 1 << 18, Check::Crc32),
            vec![0; 8],
            xz(&[], 1 << 18, Check::Crc64),
            xz(back, 1 << 19, Check::Sha256),
            vec![0; 4],
        ]
        .concat(),
    );
    for (nth, packed) in packed.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path(), packed).unwrap();
        assert_eq!(base.provenance().sha256, Sha256Sum::of(packed));
        assert!(whole(&base).unwrap() == image, "packing {nth}, at random");
        for threads in [1, 2, 7] {
            assert!(
                streamed(&base, threads, None).unwrap() == image,
                "packing {nth}, {threads} threads"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_range_can_be_read_and_any_part_left_out(
        len in 1..4_000_000_usize,
        block in prop_oneof![Just(1_u64 << 20), 60_000..3_000_000_u64],
        threads in 1..5_usize,
        reads in prop::collection::vec((0.0..1.0_f64, 0..70_000_usize), 8),
        needed in prop::collection::vec((0..4_000_000_u64, 1..300_000_u64), 0..4),
    ) {
        let image = image(len, 3);
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path(), &xz(&image, block, Check::Crc64)).unwrap();
        for (place, want) in reads {
            #[expect(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a test picks a place")]
            let at = (place * len as f64) as usize;
            let mut bytes = vec![1; want.min(len - at)];
            base.read_exact_at(u64::try_from(at).unwrap(), &mut bytes).unwrap();
            prop_assert!(bytes == image[at..at + bytes.len()]);
        }
        let needed = extents(needed.into_iter().map(|(at, len)| (at, at + len)));
        let streamed = streamed(&base, threads, Some(&needed)).unwrap();
        prop_assert_eq!(streamed.len(), len);
        for (start, end) in needed.within(0, u64::try_from(len).unwrap()) {
            let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
            prop_assert!(streamed[range.clone()] == image[range]);
        }
    }
}

#[test]
fn blocks_that_nobody_needs_are_not_decoded() {
    let image = image(4 << 20, 5);
    let mut packed = xz(&image, 1 << 20, Check::Crc64);
    let dir = tempfile::tempdir().unwrap();
    let index = Index::read(&packed).unwrap();
    let second = index.get(1).unwrap();
    packed[usize::try_from(second.at + second.packed / 2).unwrap()] ^= 1;
    let base = base(dir.path(), &packed).unwrap();
    assert!(matches!(streamed(&base, 2, None), Err(SourceError::Xz { .. })));
    let needed = extents([(0, 1 << 20), (2 << 20, 4 << 20)]);
    let bytes = streamed(&base, 2, Some(&needed)).unwrap();
    assert!(bytes[..1 << 20] == image[..1 << 20] && bytes[2 << 20..] == image[2 << 20..]);
}

#[test]
fn the_digest_is_compared_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.img");
    std::fs::write(&path, [1; 5000]).unwrap();
    let cache = CacheDir::new(dir.path().join("cache"));
    let right = Sha256Sum::of(&[1; 5000]);
    let open = |expect| unobserved(|observer| BaseImage::open(&path, expect, &cache, observer));
    let base = open(Expect::Sha256(right)).unwrap();
    assert_eq!(base.provenance().trust, Trust::Matched);
    assert_eq!(
        open(Expect::Anything).unwrap().provenance().trust,
        Trust::Unchecked
    );
    let wrong = Sha256Sum([0; 32]);
    match open(Expect::Sha256(wrong)) {
        Err(SourceError::Sha256 { expected, found, .. }) => assert_eq!((expected, found), (wrong, right)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_remembered_digest_counts_for_that_file_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.img");
    std::fs::write(&path, [1; 5000]).unwrap();
    let cache = CacheDir::new(dir.path().join("cache"));
    let file = FileAt::new(File::open(&path).unwrap()).unwrap();
    let identity = file.identity("file").unwrap();
    let nines = nines(&[1; 5000]);
    // Too young to be remembered: it could change again within the clock's granularity.
    digest::remember(&cache, &identity, &nines);
    assert_eq!(digest::recall(&cache, &identity), None);
    let old = Identity {
        ctime: (1_000_000_000, 5),
        ..identity
    };
    digest::remember(&cache, &old, &nines);
    assert_eq!(digest::recall(&cache, &old), Some(nines.clone()));
    for other in [
        Identity {
            size: 4999,
            ..old.clone()
        },
        Identity {
            mtime: (1, 1),
            ..old.clone()
        },
        Identity {
            ctime: (1_000_000_000, 6),
            ..old.clone()
        },
        Identity {
            inode: 1,
            ..old.clone()
        },
    ] {
        assert_eq!(digest::recall(&cache, &other), None, "{other:?}");
    }
    let stored = std::fs::read(cache.hash_of(&old).unwrap()).unwrap();
    for damaged in [
        &b"nonsense"[..],
        &stored[..stored.len() - 1],
        &[&stored[..], b"1"].concat(),
    ] {
        std::fs::write(cache.hash_of(&old).unwrap(), damaged).unwrap();
        assert_eq!(digest::recall(&cache, &old), None);
    }
}

/// A medium that was changed elsewhere can come back with the same times.
#[test]
fn who_names_a_digest_has_the_file_read() {
    let dir = tempfile::tempdir().unwrap();
    let cache = CacheDir::new(dir.path().join("cache"));
    let (outside, inside) = (dir.path().join("base.img"), dir.path().join("cache/base.img"));
    std::fs::create_dir_all(dir.path().join("cache")).unwrap();
    for (path, is_ours) in [(&outside, false), (&inside, true)] {
        std::fs::write(path, [1; 5000]).unwrap();
        let file = FileAt::new(File::open(path).unwrap()).unwrap();
        assert_eq!(cache.holds(path), is_ours);
        let identity = file.identity("file").unwrap();
        let keeps_times = file.keeps_times();
        let nines = nines(&[1; 5000]);
        let line = format!("{} {}\n", digest::fingerprint(&identity), nines.whole);
        let note = [line.as_bytes(), nines.pieces.stored()].concat();
        AtomicFile::write_cached(&cache.hash_of(&identity).unwrap(), Readers::Owner, &note).unwrap();
        let digest = |policy| {
            let file = FileAt::new(File::open(path).unwrap()).unwrap();
            unobserved(|observer| cache.hashed(file, "base.img", policy, observer))
                .unwrap()
                .sha256
        };
        if keeps_times {
            assert_eq!(digest(HashCachePolicy::Trusted), Sha256Sum([9; 32]));
        }
        assert_eq!(digest(HashCachePolicy::Ignored), Sha256Sum::of(&[1; 5000]));
    }
}

#[test]
fn an_unpacked_base_is_used_again_while_it_is_what_it_was() {
    let image = image(2_000_000, 7);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.img.gz");
    let packed = gzip(&image);
    std::fs::write(&path, &packed).unwrap();
    let cache = CacheDir::new(dir.path().join("cache"));
    let unpacked = dir
        .path()
        .join(format!("cache/bases/{}.img", Sha256Sum::of(&packed)));
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&unpacked).unwrap());
    assert!(whole(&open(&path, &cache).unwrap()).unwrap() == image);
    let first = inode();
    assert!(whole(&open(&path, &cache).unwrap()).unwrap() == image);
    assert_eq!(inode(), first);
    std::fs::write(&unpacked, b"somebody else's").unwrap();
    assert!(whole(&open(&path, &cache).unwrap()).unwrap() == image);
    assert_eq!(
        std::fs::read_dir(dir.path().join("cache/bases")).unwrap().count(),
        2
    );
}

#[test]
fn without_a_cache_some_packings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.img.gz");
    std::fs::write(&path, gzip(&[1; 5000])).unwrap();
    assert!(matches!(
        open(&path, &CacheDir::none()),
        Err(SourceError::Cache { .. })
    ));
}

/// Each damaged file, and the message with the messages beneath it.
fn check_damage(packed: &[u8], expect: &str) {
    let dir = tempfile::tempdir().unwrap();
    let error = base(dir.path(), packed).unwrap_err();
    let mut text = error
        .to_string()
        .replace(&dir.path().display().to_string(), "DIR");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    assert_eq!(text, expect);
    assert!(error.hint().is_some());
    let bases = dir.path().join("cache/bases");
    assert!(
        bases.read_dir().map_or(0, Iterator::count) == 0,
        "something was left in the cache"
    );
}

#[test]
fn damaged_packings_are_named() {
    let image = image(300_000, 9);
    let cut = |packed: Vec<u8>| packed[..packed.len() - 9].to_vec();
    let garbage = |packed: Vec<u8>| [packed, b"garbage!".to_vec()].concat();
    check_damage(
        &cut(gzip(&image)),
        "unpacking the base image DIR/base after 0 bytes: it is cut off",
    );
    check_damage(
        &garbage(gzip(&image)),
        "unpacking the base image DIR/base after 0 bytes: something else follows the compressed data",
    );
    check_damage(
        &cut(zstd(&image)),
        "unpacking the base image DIR/base after 0 bytes: it is cut off",
    );
    check_damage(
        &garbage(zstd(&image)),
        "unpacking the base image DIR/base after 0 bytes: Unknown frame descriptor",
    );
    check_damage(
        &garbage(xz(&image, 100_000, Check::Crc64)),
        &format!(
            "reading the base image DIR/base: 8 bytes that are not part of an .xz stream follow the stream that ends at {}",
            xz(&image, 100_000, Check::Crc64).len()
        ),
    );
    check_damage(
        b"PK\x03\x04",
        "the base image DIR/base is a zip archive, not an image that palmfarm can read",
    );
}

#[test]
fn a_bomb_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let packed = gzip(&vec![0; 5_000_000]);
    let file = PackedFile {
        file: &packed,
        codec: Codec::Gzip,
        name: "bomb",
        limit: 4_999_999,
    };
    let image = dir.path().join("image");
    let refused = unobserved(|observer| unpack::unpack(&file, &image, observer));
    assert!(matches!(
        refused,
        Err(SourceError::TooLarge { limit: 4_999_999, .. })
    ));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_packing_that_wants_too_much_memory_is_not_called_damaged() {
    let image = image(100_000, 15);
    let mut packed = xz(&image, 1 << 20, Check::Crc32);
    // The size of the dictionary in the first block's header, whose CRC32 stands at its end (.xz file format 1.2.1,
    // sections 3.1 and 5.3.1): over 2 GiB.
    let end = 12 + (usize::from(packed[12]) + 1) * 4;
    let lzma2 = packed[12..end].windows(2).position(|pair| pair == [0x21, 1]);
    packed[12 + lzma2.unwrap() + 2] = 39;
    let crc = crc32fast::hash(&packed[12..end - 4]).to_le_bytes();
    packed[end - 4..end].copy_from_slice(&crc);
    // A frame with a window of 1 GiB and a raw block of nothing (RFC 8878, sections 3.1.1.1.2 and 3.1.1.2).
    let zstd = b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00".to_vec();
    for (packed, codec, most, tool) in [
        (packed, Codec::Xz, 72, "xz -dk"),
        (zstd, Codec::Zstd, 128, "--long=31"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = PackedFile {
            file: &packed,
            codec,
            name: "large",
            limit: MAX_IMAGE,
        };
        let path = dir.path().join("image");
        let refused = unobserved(|observer| unpack::unpack(&file, &path, observer)).unwrap_err();
        let said = format!(
            "unpacking the base image large needs over {} bytes of memory",
            most << 20
        );
        assert_eq!(refused.to_string(), said);
        assert!(refused.hint().unwrap().contains(tool));
    }
}

#[test]
fn a_raw_image_is_never_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    // Neither does it matter what its name says, nor is there a cache to unpack it into.
    let image = image(1_000_000, 13);
    std::fs::write(&path, &image).unwrap();
    let base = open(&path, &CacheDir::none()).unwrap();
    assert_eq!(base.provenance().format, Format::Raw);
    assert!(whole(&base).unwrap() == image);
}

#[test]
fn a_built_in_base_needs_no_file() {
    let image = image(1_000_000, 11);
    let packed: &'static [u8] = xz(&image, 1 << 20, Check::Crc64).leak();
    let base = unobserved(|observer| BaseImage::built_in("mini", packed, observer)).unwrap();
    assert!(whole(&base).unwrap() == image);
    assert_eq!(base.provenance().trust, Trust::BuiltIn);
    base.unchanged().unwrap();
}

#[test]
fn a_request_to_stop_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), &xz(&image(3 << 20, 13), 100_000, Check::Crc64)).unwrap();
    let pool = BufferPool::default();
    let cancel = Cancel::new();
    let order = PassOptions {
        threads: NonZeroUsize::new(3).unwrap(),
        needed: None,
        cancel: &cancel,
        pool: &pool,
    };
    let mut chunks = 0;
    let stopped = base.pass(order, &|chunk| chunk, |_| {
        chunks += 1;
        cancel.cancel();
        Ok::<(), ()>(())
    });
    assert!(matches!(stopped, Err(PassError::Source(SourceError::Cancelled))));
    assert_eq!(chunks, 1);
    let cancelled = Observer {
        progress: &crate::progress::Silent,
        cancel: &cancel,
    };
    let path = dir.path().join("base");
    let refused = BaseImage::open(&path, Expect::Anything, &CacheDir::none(), cancelled);
    assert!(matches!(refused, Err(SourceError::Cancelled)));
}
