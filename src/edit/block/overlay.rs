//! Copy on write over a medium. It must never change the medium: the edits of a card are collected here before any
//! output exists.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::io;
use std::sync::{PoisonError, RwLock};

use super::{check_within, length, Edits, ReadAt, WriteAt, BLOCK, BLOCK_LEN};
use crate::numbers::{at_most, usize_from_u64};

/// Writes go into memory, block by block; reads see them over the medium beneath.
pub struct Overlay<M> {
    beneath: M,
    blocks: RwLock<BTreeMap<u64, Box<[u8; BLOCK_LEN]>>>,
}

impl<M: ReadAt> Overlay<M> {
    pub fn new(beneath: M) -> Self {
        Self {
            beneath,
            blocks: RwLock::default(),
        }
    }

    /// End editing: the blocks whose bytes now differ from the medium beneath, in order. A block that was written with
    /// the bytes that it had before is not an edit. Afterwards the overlay has no edits.
    pub fn take_edits(&self) -> io::Result<Edits> {
        let size = self.beneath.size();
        let mut edits = Edits::new(size);
        let mut old = [0; BLOCK_LEN];
        let blocks = std::mem::take(&mut *self.blocks.write().unwrap_or_else(PoisonError::into_inner));
        for (index, block) in blocks {
            let length = block_length(index, size);
            self.beneath
                .read_exact_at(index.saturating_mul(BLOCK), &mut old[..length])?;
            if old[..length] != block[..length] {
                edits.insert(index, block);
            }
        }
        Ok(edits)
    }
}

impl<M: ReadAt> ReadAt for Overlay<M> {
    fn size(&self) -> u64 {
        self.beneath.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_within(io::ErrorKind::UnexpectedEof, offset, buf.len(), self.size())?;
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            // One run is either a part of an edited block, or everything up to the next edited block.
            let (index, inside) = position(at);
            let edited = blocks.get(&index).map(|block| &block[inside..]);
            let run = match edited {
                Some(block) => length(block),
                None => blocks
                    .range(index..)
                    .next()
                    .map_or(u64::MAX, |(next, _)| next.saturating_mul(BLOCK) - at),
            };
            let (now, later) = rest.split_at_mut(at_most(run, rest.len()));
            match edited {
                Some(block) => now.copy_from_slice(&block[..now.len()]),
                None => self.beneath.read_exact_at(at, now)?,
            }
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}

impl<M: ReadAt> WriteAt for Overlay<M> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let size = self.size();
        check_within(io::ErrorKind::WriteZero, offset, buf.len(), size)?;
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let (index, inside) = position(at);
            let take = rest.len().min(BLOCK_LEN.saturating_sub(inside));
            let (now, later) = rest.split_at(take);
            let block = match blocks.entry(index) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(gap) => {
                    let mut fresh = Box::new([0; BLOCK_LEN]);
                    let length = block_length(index, size);
                    // A block that is overwritten whole need not be read, which spares decoding a compressed base.
                    if take < length {
                        self.beneath
                            .read_exact_at(index.saturating_mul(BLOCK), &mut fresh[..length])?;
                    }
                    gap.insert(fresh)
                }
            };
            block[inside..inside + take].copy_from_slice(now);
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}

/// The block that holds byte `offset`, and the offset within the block.
fn position(offset: u64) -> (u64, usize) {
    (offset / BLOCK, usize_from_u64(offset % BLOCK))
}

/// Bytes of block `index` on a medium of `size` bytes. The last block may be short, because the size of Ubuntu's images
/// is not a multiple of 4096 bytes.
fn block_length(index: u64, size: u64) -> usize {
    at_most(size.saturating_sub(index.saturating_mul(BLOCK)), BLOCK_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A medium, the writes made over it, and the blocks that must then be edits.
    fn check(size: usize, writes: &[(usize, usize)], edited: &[u64]) {
        let medium: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut model = medium.clone();
        let overlay = Overlay::new(&medium);
        for (nth, &(at, len)) in writes.iter().enumerate() {
            let bytes = vec![u8::try_from(nth + 252).unwrap(); len];
            overlay.write_all_at(u64::try_from(at).unwrap(), &bytes).unwrap();
            model[at..at + len].copy_from_slice(&bytes);
        }
        let mut seen = vec![0; size];
        overlay.read_exact_at(0, &mut seen).unwrap();
        assert!(seen == model, "a whole read");
        for at in (0..size.saturating_sub(5000)).step_by(977) {
            let mut seen = vec![0; 5000];
            overlay
                .read_exact_at(u64::try_from(at).unwrap(), &mut seen)
                .unwrap();
            assert!(seen == model[at..at + 5000], "5000 bytes at {at}");
        }
        let edits = overlay.take_edits().unwrap();
        assert_eq!(
            edits.iter().map(|(offset, _)| offset / BLOCK).collect::<Vec<_>>(),
            edited
        );
        let mut applied = medium.clone();
        edits.apply(0, &mut applied);
        assert!(applied == model, "the edits give the same bytes");
    }

    #[test]
    fn writes_are_seen_by_reads_and_become_edits() {
        check(20_000, &[], &[]);
        check(20_000, &[(0, 1)], &[0]);
        check(20_000, &[(4095, 2)], &[0, 1]);
        check(20_000, &[(4096, 4096), (5000, 10)], &[1]);
        check(20_000, &[(19_999, 1)], &[4]);
        check(20_000, &[(0, 20_000)], &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn writing_what_is_there_is_no_edit() {
        let medium = vec![7; 9000];
        let overlay = Overlay::new(&medium);
        overlay.write_all_at(4000, &[7; 500]).unwrap();
        assert!(overlay.take_edits().unwrap().is_empty());
    }

    #[test]
    fn nothing_is_written_beyond_the_end() {
        let medium = vec![0; 5000];
        let overlay = Overlay::new(&medium);
        assert_eq!(
            overlay.write_all_at(4999, &[1, 1]).unwrap_err().kind(),
            io::ErrorKind::WriteZero
        );
        assert!(overlay.take_edits().unwrap().is_empty());
    }
}
