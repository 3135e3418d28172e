//! Images and packings for tests.

use std::io::Write;
use std::path::Path;

use xz2::stream::{Check, MtStreamBuilder};

use super::{BaseImage, CacheDir, Expect, SourceError, Verified};
use crate::edit::block::Extents;
use crate::progress::{Cancel, Silent, Watch};

/// Nobody watches, nobody stops.
pub(crate) fn unwatched<T>(work: impl FnOnce(Watch<'_>) -> T) -> T {
    work(Watch {
        progress: &Silent,
        cancel: &Cancel::new(),
    })
}

/// `len` bytes that look like an image: text, noise and runs of zeroes, the same for the same `seed`.
pub(crate) fn image(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = usize::try_from(next() % 40_000).unwrap();
        match next() % 4 {
            0 => bytes.extend(std::iter::repeat_n(0, run * 20)),
            1 => bytes.extend((0..run / 8).flat_map(|_| next().to_le_bytes())),
            _ => bytes.extend(b"the quick brown fox ".iter().cycle().take(run)),
        }
    }
    bytes.truncate(len);
    bytes
}

/// One .xz stream in blocks of `block` bytes.
pub(crate) fn xz(bytes: &[u8], block: u64, check: Check) -> Vec<u8> {
    let stream = MtStreamBuilder::new()
        .threads(1)
        .block_size(block)
        .preset(0)
        .check(check)
        .encoder()
        .unwrap();
    let mut encoder = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A base of `bytes`, in a file in `dir`.
pub(crate) fn base(dir: &Path, bytes: &[u8]) -> Result<Verified<BaseImage>, SourceError> {
    let path = dir.join("base");
    std::fs::write(&path, bytes).unwrap();
    open(&path, &CacheDir::new(dir.join("cache")))
}

pub(crate) fn open(path: &Path, cache: &CacheDir) -> Result<Verified<BaseImage>, SourceError> {
    unwatched(|watch| BaseImage::open(path, Expect::Anything, cache, watch))
}

/// The set of `ranges`, each from its start to before its end.
pub(crate) fn extents(ranges: impl IntoIterator<Item = (u64, u64)>) -> Extents {
    let mut extents = Extents::default();
    for (start, end) in ranges {
        extents.add(start, end);
    }
    extents
}
