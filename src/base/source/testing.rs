//! Images and packings for tests.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use xz2::stream::{Check, MtStreamBuilder};

use super::{
    checked, digest, BaseImage, BufferPool, CacheDir, Chunk, ChunkContent, Expect, PassError, PassOptions,
    Sha256Sum, SourceError, Verified, CHUNK,
};
use crate::edit::block::{Extents, ReadAt};
use crate::progress::{Cancel, Observer, Silent};

/// Nobody watches, nobody stops.
pub(crate) fn unobserved<T>(work: impl FnOnce(Observer<'_>) -> T) -> T {
    work(Observer {
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
    unobserved(|observer| BaseImage::open(path, Expect::Anything, cache, observer))
}

/// The set of `ranges`, each from its start to before its end.
pub(crate) fn extents(ranges: impl IntoIterator<Item = (u64, u64)>) -> Extents {
    let mut extents = Extents::default();
    for (start, end) in ranges {
        extents.add(start, end);
    }
    extents
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn whole(base: &BaseImage) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(base.size()).unwrap()];
    base.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The image as a pass hands it over; what it leaves unread is `0xEE`.
pub(crate) fn streamed(
    base: &BaseImage,
    threads: usize,
    needed: Option<&Extents>,
) -> Result<Vec<u8>, SourceError> {
    let pool = BufferPool::default();
    let order = PassOptions {
        threads: NonZeroUsize::new(threads).unwrap(),
        needed,
        cancel: &Cancel::new(),
        pool: &pool,
    };
    let mut bytes = Vec::new();
    let passed = base.pass(order, &|chunk| chunk, |chunk: Chunk| {
        assert_eq!(chunk.offset, crate::edit::block::length(&bytes));
        assert_eq!(chunk.offset % CHUNK, 0);
        match chunk.content {
            ChunkContent::Bytes(content) => {
                assert_eq!(content.len(), chunk.len);
                bytes.extend_from_slice(&content);
            }
            ChunkContent::Zero => bytes.resize(bytes.len() + chunk.len, 0),
            ChunkContent::Unread => bytes.resize(bytes.len() + chunk.len, 0xEE),
        }
        Ok::<(), std::convert::Infallible>(())
    });
    match passed {
        Ok(()) => Ok(bytes),
        Err(PassError::Source(error)) => Err(error),
        Err(PassError::Consumer(never)) => match never {},
    }
}

/// A digest that no bytes have, with those of the pieces of `bytes`.
pub(super) fn nines(bytes: &[u8]) -> digest::Sums {
    let mut pieces = checked::PieceSums::new(crate::edit::block::length(bytes));
    pieces.add(bytes);
    digest::Sums {
        whole: Sha256Sum([9; 32]),
        pieces,
    }
}
