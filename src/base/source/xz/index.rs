//! The index of an .xz file: the place of every block, read from the end of the file without decoding any.
//!
//! The file is untrusted. Every length is checked against what is left of the file before it is used, the index is
//! read piece by piece, and what is kept is bounded by [`MAX_BLOCKS`] and [`MAX_STREAMS`].

use std::ops::Range;

use super::XzError;
use crate::base::source::MAX_IMAGE;
use crate::edit::block::ReadAt;
use crate::numbers::{at_most, u64_from_usize};

/// The most blocks that are kept, 24 bytes each. An image of 64 GiB in Ubuntu's 1 MiB blocks has 65 536.
pub(super) const MAX_BLOCKS: usize = 1 << 20;

/// The most streams that are kept; an empty one takes 32 bytes of the file. An image of 64 GiB that was packed into one
/// stream for each MiB has this many.
const MAX_STREAMS: usize = 1 << 16;

/// Stream header and stream footer are 12 bytes each (sections 2.1.1 and 2.1.2).
const HEADER: u64 = 12;
const HEADER_MAGIC: [u8; 6] = [0xFD, b'7', b'z', b'X', b'Z', 0];
const FOOTER_MAGIC: [u8; 2] = *b"YZ";

/// How far back to search for a footer if the file does not end in one.
const GARBAGE: u64 = 64 << 10;

/// The check that a stream's blocks end in (section 2.1.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    None,
    Crc32,
    Crc64,
    Sha256,
}

impl Check {
    fn from_flags(flags: [u8; 2]) -> Result<Self, XzError> {
        [Self::None, Self::Crc32, Self::Crc64, Self::Sha256]
            .into_iter()
            .find(|check| [0, check.facts().0] == flags)
            .ok_or(XzError::CheckKind(flags[1]))
    }

    /// Its number, the length of its field in bytes, and its name.
    const fn facts(self) -> (u8, usize, &'static str) {
        match self {
            Self::None => (0x00, 0, "check"),
            Self::Crc32 => (0x01, 4, "CRC32"),
            Self::Crc64 => (0x04, 8, "CRC64"),
            Self::Sha256 => (0x0A, 32, "SHA-256"),
        }
    }

    /// The stream header that announces this check.
    pub(super) fn header(self) -> [u8; 12] {
        let flags = [0, self.facts().0];
        let mut header = [0; 12];
        let (magic, rest) = header.split_at_mut(6);
        magic.copy_from_slice(&HEADER_MAGIC);
        let (to, crc) = rest.split_at_mut(2);
        to.copy_from_slice(&flags);
        crc.copy_from_slice(&crc32fast::hash(&flags).to_le_bytes());
        header
    }

    /// Length of the check field in bytes.
    pub(super) const fn len(self) -> usize {
        self.facts().1
    }

    pub(super) const fn name(self) -> &'static str {
        self.facts().2
    }
}

/// One block: where it is and what it holds, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) at: u64,
    /// Bytes in the file, check included, without the padding to a multiple of four ("Unpadded Size", section 4.3).
    pub(crate) packed: u64,
    image: u64,
    /// Bytes of the image that it holds.
    pub(crate) unpacked: u64,
    pub(crate) check: Check,
}

impl Block {
    /// Bytes in the file, padding included.
    pub(crate) fn padded(&self) -> u64 {
        self.packed.saturating_add(3) & !3
    }

    /// The bytes of the image that it holds.
    pub(crate) fn image(&self) -> Range<u64> {
        self.image..self.image.saturating_add(self.unpacked)
    }
}

/// Every block of every stream of a file, in order, without empty ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Index {
    blocks: Vec<Record>,
    streams: Vec<Stream>,
    size: u64,
}

/// As in [`Block`]; the rest follows from the neighbours and the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    at: u64,
    packed: u64,
    image: u64,
}

/// The first block of a stream, and the check of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stream {
    first: usize,
    check: Check,
}

/// A stream as its own index describes it, before its place in the image is known.
struct FoundStream {
    start: u64,
    check: Check,
    /// (unpadded size, uncompressed size)
    records: Vec<(u64, u64)>,
}

impl Index {
    /// Read the index of each stream of `file`, from the last to the first.
    pub(crate) fn read(file: &dyn ReadAt) -> Result<Self, XzError> {
        let mut found = Vec::new();
        let mut blocks = 0;
        let mut end = file.size();
        while end > 0 || found.is_empty() {
            let stream_end = strip_padding(file, end)?;
            let stream = read_stream(file, stream_end, MAX_BLOCKS - blocks)?;
            if found.len() >= MAX_STREAMS {
                return Err(XzError::TooManyStreams { limit: MAX_STREAMS });
            }
            let padding = end.saturating_sub(stream_end);
            if !padding.is_multiple_of(4) {
                return Err(XzError::Padding { len: padding });
            }
            blocks += stream.records.len();
            end = stream.start;
            found.push(stream);
        }
        found.reverse();
        let mut index = Self {
            blocks: Vec::with_capacity(blocks),
            streams: Vec::with_capacity(found.len()),
            size: 0,
        };
        for stream in found {
            index.streams.push(Stream {
                first: index.blocks.len(),
                check: stream.check,
            });
            let mut at = stream.start.saturating_add(HEADER);
            for (packed, unpacked) in stream.records {
                if unpacked > 0 {
                    index.blocks.push(Record {
                        at,
                        packed,
                        image: index.size,
                    });
                }
                at = at.saturating_add(packed.saturating_add(3) & !3);
                index.size = index.size.saturating_add(unpacked);
                if index.size > MAX_IMAGE {
                    return Err(XzError::TooLarge { limit: MAX_IMAGE });
                }
            }
        }
        Ok(index)
    }

    /// Bytes that the file unpacks to.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<Block> {
        let record = self.blocks.get(number)?;
        let next = self
            .blocks
            .get(number.checked_add(1)?)
            .map_or(self.size, |next| next.image);
        let stream = self.streams.partition_point(|stream| stream.first <= number);
        Some(Block {
            at: record.at,
            packed: record.packed,
            image: record.image,
            unpacked: next.saturating_sub(record.image),
            check: self.streams.get(stream.checked_sub(1)?)?.check,
        })
    }

    /// The block that holds byte `offset` of the image, and its number.
    pub(crate) fn holding(&self, offset: u64) -> Option<(usize, Block)> {
        let after = self.blocks.partition_point(|block| block.image <= offset);
        let number = after.checked_sub(1)?;
        let block = self.get(number)?;
        block.image().contains(&offset).then_some((number, block))
    }

    /// Bytes of image in the largest block.
    pub(crate) fn largest(&self) -> u64 {
        (0..self.len())
            .filter_map(|number| self.get(number))
            .map(|block| block.unpacked)
            .max()
            .unwrap_or_default()
    }
}

/// The end of the last stream that ends at or before `end`: zeroes after it are stream padding (section 2.2).
fn strip_padding(file: &dyn ReadAt, end: u64) -> Result<u64, XzError> {
    let mut at = end;
    let mut page = [0; 4096];
    while at > 0 {
        let len = at_most(at, page.len());
        let (piece, take) = (&mut page[..len], u64_from_usize(len));
        read(file, at - take, piece)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            let kept = u64_from_usize(last) + 1;
            // A footer ends in `YZ`, so that a zero is never part of it.
            return Ok(at - take + kept);
        }
        at -= take;
    }
    Err(XzError::Truncated { size: file.size() })
}

/// The stream that ends at `end`.
fn read_stream(file: &dyn ReadAt, end: u64, room: usize) -> Result<FoundStream, XzError> {
    let Some((backward, flags)) = read_footer(file, end)? else {
        return Err(without_footer(file, end));
    };
    let check = Check::from_flags(flags)?;
    let footer = end.saturating_sub(HEADER);
    let bad = |at, what| XzError::Index { at, what };
    let at = footer
        .checked_sub(backward)
        .filter(|at| *at >= HEADER)
        .ok_or_else(|| bad(footer, "it would start before the file"))?;
    let records = read_records(file, at, backward, room)?;
    let blocks = records
        .iter()
        .try_fold(0_u64, |sum, (packed, _)| {
            sum.checked_add(packed.checked_add(3)? & !3)
        })
        .ok_or_else(|| bad(at, "its blocks are longer than any file"))?;
    let start = at
        .checked_sub(blocks)
        .and_then(|blocks| blocks.checked_sub(HEADER))
        .ok_or_else(|| bad(at, "its blocks would start before the file"))?;
    let mut header = [0; 12];
    read(file, start, &mut header)?;
    let [f, z7, z, x, zz, nul, reserved, kind, crc @ ..] = header;
    if [f, z7, z, x, zz, nul] != HEADER_MAGIC {
        return Err(XzError::NoHeader { at: start });
    }
    let header_flags = [reserved, kind];
    if crc32fast::hash(&header_flags).to_le_bytes() != crc {
        return Err(XzError::FlagsCrc {
            part: "header",
            at: start,
        });
    }
    if header_flags != flags {
        return Err(XzError::Flags {
            at: end,
            footer: flags,
            header: header_flags,
        });
    }
    Ok(FoundStream {
        start,
        check,
        records,
    })
}

/// The footer that ends at `end`, as (length of the index, stream flags); `None` if there is none.
fn read_footer(file: &dyn ReadAt, end: u64) -> Result<Option<(u64, [u8; 2])>, XzError> {
    let Some(at) = end.checked_sub(HEADER).filter(|at| *at >= HEADER) else {
        return Ok(None);
    };
    let mut footer = [0; 12];
    read(file, at, &mut footer)?;
    let [c0, c1, c2, c3, b0, b1, b2, b3, reserved, kind, y, z] = footer;
    if [y, z] != FOOTER_MAGIC {
        return Ok(None);
    }
    if crc32fast::hash(&[b0, b1, b2, b3, reserved, kind]).to_le_bytes() != [c0, c1, c2, c3] {
        return Err(XzError::FlagsCrc { part: "footer", at });
    }
    let backward = (u64::from(u32::from_le_bytes([b0, b1, b2, b3])) + 1) * 4;
    Ok(Some((backward, [reserved, kind])))
}

/// Whether the file was cut off or something was appended.
fn without_footer(file: &dyn ReadAt, end: u64) -> XzError {
    for step in 1..=GARBAGE {
        match end.checked_sub(step).map(|end| read_footer(file, end)) {
            Some(Ok(Some(_))) => {
                return XzError::TrailingGarbage {
                    at: end - step,
                    len: file.size().saturating_sub(end - step),
                }
            }
            Some(Ok(None) | Err(XzError::FlagsCrc { .. })) => {}
            Some(Err(error)) => return error,
            None => break,
        }
    }
    XzError::Truncated { size: file.size() }
}

/// The records of the index of `len` bytes at `at` (section 4).
fn read_records(file: &dyn ReadAt, at: u64, len: u64, room: usize) -> Result<Vec<(u64, u64)>, XzError> {
    let bad = |what| XzError::Index { at, what };
    let mut bytes = Bytes::new(file, at, len);
    if bytes.next()? != 0 {
        return Err(bad("it does not begin with the byte that marks an index"));
    }
    let count = bytes.number()?.ok_or(bad("the number of blocks is malformed"))?;
    // Each block takes at least two bytes: a false count ends here and not in an allocation.
    if count > len / 2 {
        return Err(bad("it is too short for the number of blocks it gives"));
    }
    let limit = MAX_BLOCKS;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= room)
        .ok_or(XzError::TooManyBlocks { limit })?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let packed = bytes.number()?.ok_or(bad("a block's packed size is malformed"))?;
        let unpacked = bytes
            .number()?
            .ok_or(bad("a block's unpacked size is malformed"))?;
        // A block header is at least 8 bytes (section 3.1); 5 is what the format's own minimum for the field says.
        if packed < 5 || packed > file.size() {
            return Err(bad("a block's packed size is impossible"));
        }
        records.push((packed, unpacked));
    }
    while !bytes.taken.is_multiple_of(4) {
        if bytes.next()? != 0 {
            return Err(bad("its padding is not zero"));
        }
    }
    let crc = bytes.crc.clone().finalize().to_le_bytes();
    for expect in crc {
        if bytes.next()? != expect {
            return Err(bad("its CRC32 does not match"));
        }
    }
    if bytes.taken != len {
        return Err(bad("it is shorter than the stream's footer says"));
    }
    Ok(records)
}

/// The bytes of an index, one at a time, with their CRC32, a page in memory.
struct Bytes<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    len: u64,
    taken: u64,
    page: Vec<u8>,
    next: usize,
    crc: crc32fast::Hasher,
}

impl<'a> Bytes<'a> {
    fn new(file: &'a dyn ReadAt, at: u64, len: u64) -> Self {
        Self {
            file,
            at,
            len,
            taken: 0,
            page: Vec::new(),
            next: 0,
            crc: crc32fast::Hasher::new(),
        }
    }

    fn next(&mut self) -> Result<u8, XzError> {
        if self.page.get(self.next).is_none() {
            let left = self.len.saturating_sub(self.taken);
            self.page.resize(at_most(left, 64 << 10), 0);
            self.next = 0;
            read(self.file, self.at.saturating_add(self.taken), &mut self.page)?;
        }
        let byte = *self.page.get(self.next).ok_or(XzError::Index {
            at: self.at,
            what: "it ends in the middle",
        })?;
        self.crc.update(&[byte]);
        self.next += 1;
        self.taken += 1;
        Ok(byte)
    }

    /// A multibyte integer (section 1.2): seven bits a byte, lowest first, at most nine bytes, no superfluous ones.
    fn number(&mut self) -> Result<Option<u64>, XzError> {
        let mut number = 0;
        for place in 0..9 {
            let byte = self.next()?;
            number |= u64::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok((byte != 0 || place == 0).then_some(number));
            }
        }
        Ok(None)
    }
}

fn read(file: &dyn ReadAt, at: u64, buf: &mut [u8]) -> Result<(), XzError> {
    file.read_exact_at(at, buf).map_err(|source| XzError::Read {
        at,
        len: crate::edit::block::length(buf),
        source,
    })
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
