//! The blocks in which a card differs from its base, in order. They must never be printed: they may be secret.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use super::{length, BLOCK, BLOCK_LEN};
use crate::numbers::{at_most, usize_from_u64};

/// SHA-256 over the edits: two builds that give the same digest on the same base give the same card.
pub type EditsDigest = [u8; 32];

/// The blocks in which a card differs from its base, each [`BLOCK`] bytes at a multiple of [`BLOCK`]. The last block
/// may reach beyond the end of the image; those bytes are not part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Edits {
    size: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK_LEN]>>,
}

impl fmt::Debug for Edits {
    /// Without the bytes: they may be secret, and they are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Edits({} blocks of an image of {} bytes)",
            self.blocks.len(),
            self.size
        )
    }
}

impl Edits {
    pub fn new(size: u64) -> Self {
        Self {
            size,
            blocks: BTreeMap::new(),
        }
    }

    /// The size in bytes of the image that is edited.
    pub fn image_size(&self) -> u64 {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Every edit as (offset in bytes, bytes), in order of offset. The last may be shorter than a block.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.blocks
            .iter()
            .map(|(index, block)| self.bounded(*index, block))
    }

    /// The edits that have a byte in `start..end` (bytes), in order of offset.
    pub fn range(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let first = start / BLOCK;
        let last = end.div_ceil(BLOCK).max(first);
        self.blocks
            .range(first..last)
            .map(|(index, block)| self.bounded(*index, block))
    }

    /// Apply the edits to `bytes`, which are at `offset` (bytes) of the image.
    pub fn apply(&self, offset: u64, bytes: &mut [u8]) {
        for (at, block) in self.range(offset, offset.saturating_add(length(bytes))) {
            // `range` gives only blocks that have bytes in common with `bytes`, so that neither slice starts beyond its
            // end.
            let from = &block[usize_from_u64(offset.saturating_sub(at))..];
            let to = &mut bytes[usize_from_u64(at.saturating_sub(offset))..];
            let take = from.len().min(to.len());
            to[..take].copy_from_slice(&from[..take]);
        }
    }

    /// The digest of the edits and of the image's size.
    pub fn digest(&self) -> EditsDigest {
        let mut hash = Sha256::new();
        hash.update(self.size.to_le_bytes());
        for (offset, bytes) in self.iter() {
            hash.update(offset.to_le_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    pub(super) fn insert(&mut self, index: u64, block: Box<[u8; BLOCK_LEN]>) {
        self.blocks.insert(index, block);
    }

    fn bounded<'a>(&self, index: u64, block: &'a [u8; BLOCK_LEN]) -> (u64, &'a [u8]) {
        let offset = index.saturating_mul(BLOCK);
        let take = at_most(self.size.saturating_sub(offset), BLOCK_LEN);
        (offset, &block[..take])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_gets_the_part_of_each_block_that_lies_in_it() {
        let mut edits = Edits::new(10_000);
        edits.insert(1, Box::new([9; BLOCK_LEN]));
        for (offset, len) in [
            (0, 10_000),
            (4000, 200),
            (5000, 10),
            (8191, 2),
            (8192, 8),
            (0, 4096),
        ] {
            let mut bytes = vec![0; len];
            edits.apply(u64::try_from(offset).unwrap(), &mut bytes);
            let expect: Vec<u8> = (offset..offset + len)
                .map(|at| if (4096..8192).contains(&at) { 9 } else { 0 })
                .collect();
            assert!(bytes == expect, "{len} bytes at {offset}");
        }
    }

    #[test]
    fn the_digest_knows_place_and_content() {
        let mut one = Edits::new(10_000);
        one.insert(1, Box::new([9; BLOCK_LEN]));
        let mut other = Edits::new(10_000);
        other.insert(0, Box::new([9; BLOCK_LEN]));
        assert_ne!(one.digest(), other.digest());
        assert_ne!(one.digest(), Edits::new(10_000).digest());
    }
}
