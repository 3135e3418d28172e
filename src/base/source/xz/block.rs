//! One block after the other, in any order, through one long-lived liblzma decoder per thread.
//!
//! A stream decoder that was given a stream header takes any block of such a stream next: neither the order nor the
//! index matters to it until the footer, which it never sees. It does not verify the checks, because liblzma as its
//! crate builds it does not use carry-less multiplication (1.2 GB/s for CRC64 instead of over 15): they are verified
//! here.

use sha2::{Digest, Sha256};
use xz2::stream::{Action, Error, Status, Stream, IGNORE_CHECK};

use super::index::{Block, Check};
use super::{XzError, ZeroBlocks};
use crate::base::source::is_zero;
use crate::edit::block::{length, ReadAt};
use crate::numbers::{at_most, u64_from_usize, usize_from_u64};

/// Memory that one decoder may take, in bytes: the 64 MiB dictionary of `xz -9` and a little more.
const MEMORY: u64 = 72 << 20;

/// Packed bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Decodes blocks of one file: [`begin`](Self::begin), then [`fill`](Self::fill) until all of the block is taken,
/// then [`end`](Self::end).
pub(crate) struct BlockDecoder<'a> {
    zeroes: &'a ZeroBlocks,
    decoder: Option<Decoder>,
    input: Input<'a>,
    current: Option<Current>,
}

/// The block that is being decoded.
struct Current {
    block: Block,
    filled: u64,
    digest: Running,
    /// Whether the block may hold nothing but zeroes, so that its packing is worth remembering.
    may_be_zero: bool,
}

impl<'a> BlockDecoder<'a> {
    pub(super) fn new(file: &'a dyn ReadAt, zeroes: &'a ZeroBlocks) -> Self {
        Self {
            zeroes,
            decoder: None,
            input: Input {
                file,
                at: 0,
                left: 0,
                held: Vec::new(),
                used: 0,
            },
            current: None,
        }
    }

    /// Turn to `block`; `true` if it is known to hold nothing but zeroes, and need not be decoded.
    pub(crate) fn begin(&mut self, block: &Block) -> Result<bool, XzError> {
        if self.current.take().is_some() {
            self.forget();
        }
        self.input.turn_to(block)?;
        let plausible = ZeroBlocks::plausible(block);
        if plausible && self.input.left == 0 && self.zeroes.has(block, &self.input.held) {
            return Ok(true);
        }
        self.current = Some(Current {
            block: *block,
            filled: 0,
            digest: Running::new(block.check),
            may_be_zero: plausible,
        });
        Ok(false)
    }

    /// The next bytes of the block, exactly `out.len()` of them.
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> Result<(), XzError> {
        self.decode(out).inspect_err(|_| self.forget())
    }

    /// Read what follows the last byte, and compare the block's check.
    pub(crate) fn end(&mut self) -> Result<(), XzError> {
        let ended = self.verify().inspect_err(|_| self.forget());
        self.current = None;
        ended
    }

    /// Drop the block and the decoder, which stopped in the middle of it and cannot decode another one.
    fn forget(&mut self) {
        self.current = None;
        self.decoder = None;
    }

    fn decode(&mut self, out: &mut [u8]) -> Result<(), XzError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let decoder = Decoder::for_block(&mut self.decoder, &current.block)?;
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            if self.input.rest()?.is_empty() {
                return Err(current.wrong_length());
            }
            let left = self.input.len();
            let made = decoder.step(current, &mut self.input, rest)?;
            // No progress now means no progress ever: stop.
            if made == 0 && self.input.len() == left {
                return Err(current.wrong_length());
            }
            done += made;
        }
        current.take(out);
        Ok(())
    }

    fn verify(&mut self) -> Result<(), XzError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let decoder = Decoder::for_block(&mut self.decoder, &current.block)?;
        // The end marker, the padding and the check are still to come, and not one more byte of image.
        let mut beyond = [0; 1];
        while !self.input.rest()?.is_empty() {
            let left = self.input.len();
            if decoder.step(current, &mut self.input, &mut beyond)? > 0 || self.input.len() == left {
                return Err(current.wrong_length());
            }
        }
        if current.filled != current.block.unpacked {
            return Err(current.wrong_length());
        }
        let mut stored = [0; 32];
        let (stored, _) = stored.split_at_mut(current.block.check.len());
        // Block padding is before the check (section 3).
        let end = current.block.at.saturating_add(current.block.padded());
        let at = end.saturating_sub(length(stored));
        self.input.read(at, stored)?;
        if !current.digest.equals(stored) {
            return Err(XzError::BlockCheck {
                at: current.block.at,
                image: current.block.image().start,
                check: current.block.check.name(),
            });
        }
        if current.may_be_zero {
            self.input.turn_to(&current.block)?;
            if self.input.left == 0 {
                self.zeroes.learn(&current.block, &self.input.held);
            }
        }
        Ok(())
    }
}

impl Current {
    fn take(&mut self, bytes: &[u8]) {
        self.filled = self.filled.saturating_add(length(bytes));
        self.digest.update(bytes);
        self.may_be_zero = self.may_be_zero && is_zero(bytes);
    }

    fn wrong_length(&self) -> XzError {
        XzError::BlockLength {
            at: self.block.at,
            image: self.block.image().start,
        }
    }
}

/// The packed bytes of one block, padding included, a piece at a time.
struct Input<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    /// Bytes that are not read yet.
    left: u64,
    held: Vec<u8>,
    used: usize,
}

impl Input<'_> {
    fn turn_to(&mut self, block: &Block) -> Result<(), XzError> {
        self.at = block.at;
        self.left = block.padded();
        self.next_piece()
    }

    fn next_piece(&mut self) -> Result<(), XzError> {
        let take = at_most(self.left, PIECE);
        self.held.resize(take, 0);
        self.used = 0;
        let mut held = std::mem::take(&mut self.held);
        let read = self.read(self.at, &mut held);
        self.held = held;
        let taken = u64_from_usize(take);
        self.at = self.at.saturating_add(taken);
        self.left = self.left.saturating_sub(taken);
        read
    }

    /// The next bytes; empty only at the end of the block.
    fn rest(&mut self) -> Result<&[u8], XzError> {
        if self.used == self.held.len() && self.left > 0 {
            self.next_piece()?;
        }
        Ok(self.held.get(self.used..).unwrap_or_default())
    }

    /// Bytes that are left.
    fn len(&self) -> u64 {
        self.left
            .saturating_add(length(self.held.get(self.used..).unwrap_or_default()))
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), XzError> {
        self.file.read_exact_at(at, buf).map_err(|source| XzError::Read {
            at,
            len: length(buf),
            source,
        })
    }
}

/// A liblzma decoder at the beginning of a block, or within one.
struct Decoder {
    check: Check,
    stream: Stream,
}

impl Decoder {
    /// The decoder in `held` if it was made for the same check, else a new one.
    fn for_block<'d>(held: &'d mut Option<Self>, block: &Block) -> Result<&'d mut Self, XzError> {
        let fits = held.as_ref().is_some_and(|held| held.check == block.check);
        if !fits {
            *held = None;
        }
        match held {
            Some(held) => Ok(held),
            None => Ok(held.insert(Self::new(block)?)),
        }
    }

    fn new(block: &Block) -> Result<Self, XzError> {
        let failed = |error| failure(block, error);
        let mut stream = Stream::new_stream_decoder(MEMORY, IGNORE_CHECK).map_err(failed)?;
        stream
            .process(&block.check.header(), &mut [], Action::Run)
            .map_err(failed)?;
        Ok(Self {
            check: block.check,
            stream,
        })
    }

    /// Decode from `input` into `out` as far as either reaches; how many bytes were decoded.
    fn step(&mut self, current: &Current, input: &mut Input<'_>, out: &mut [u8]) -> Result<usize, XzError> {
        let (read, wrote) = (self.stream.total_in(), self.stream.total_out());
        let rest = input.held.get(input.used..).unwrap_or_default();
        let status = self
            .stream
            .process(rest, out, Action::Run)
            .map_err(|error| failure(&current.block, error))?;
        // It is given blocks only: an index and a footer can only be in the middle of a block.
        if status == Status::StreamEnd {
            return Err(current.wrong_length());
        }
        // liblzma moves at most the bytes that it was given.
        let moved = |now: u64, before: u64| usize_from_u64(now.saturating_sub(before));
        input.used = input.used.saturating_add(moved(self.stream.total_in(), read));
        Ok(moved(self.stream.total_out(), wrote))
    }
}

fn failure(block: &Block, error: Error) -> XzError {
    if error == Error::MemLimit {
        return XzError::Memory {
            at: block.at,
            limit: MEMORY,
        };
    }
    XzError::Block {
        at: block.at,
        image: block.image().start,
        why: match error {
            Error::Data => "its data is corrupt",
            Error::Options => "it uses filters or options that are not supported",
            Error::Format => "it is not a block",
            Error::Mem => "there is no memory left",
            _ => "the decoder failed",
        },
    }
}

/// The check over a block, so far.
enum Running {
    None,
    Crc32(crc32fast::Hasher),
    Crc64(Box<crc64fast::Digest>),
    Sha256(Box<Sha256>),
}

impl Running {
    fn new(check: Check) -> Self {
        match check {
            Check::None => Self::None,
            Check::Crc32 => Self::Crc32(crc32fast::Hasher::new()),
            Check::Crc64 => Self::Crc64(Box::default()),
            Check::Sha256 => Self::Sha256(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Crc32(crc) => crc.update(bytes),
            Self::Crc64(crc) => crc.write(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    /// Whether the check field `stored` (section 3.4; CRCs are little endian) is that of the bytes.
    fn equals(&mut self, stored: &[u8]) -> bool {
        match self {
            Self::None => stored.is_empty(),
            Self::Crc32(crc) => stored == crc.clone().finalize().to_le_bytes(),
            Self::Crc64(crc) => stored == crc.sum64().to_le_bytes(),
            Self::Sha256(hash) => stored == hash.clone().finalize().as_slice(),
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
