//! Free runs of a filesystem as they are found, in bounded memory.
//!
//! Cards are written in whole blocks, so that only whole blocks of the image count as free, and a shorter last block.
//! A filesystem can have more free runs than fit into memory; then the shortest count as used. It must never call
//! anything free that it was not given.

use crate::edit::block::{Extents, BLOCK};

/// The most runs that are kept, some 32 bytes each. A card that was in use for years has some ten thousand.
const MOST: usize = 1 << 16;

/// Free runs, collected in any order. A run that begins where the one before it ended extends it.
pub(super) struct FreeRuns {
    /// Bytes of the image.
    image: u64,
    /// The start of the partition, in bytes of the image.
    base: u64,
    runs: Extents,
    /// The last run, which the next one may extend.
    open: (u64, u64),
    /// Shorter runs are left out; bytes.
    least: u64,
}

impl FreeRuns {
    /// Those of a partition that starts at byte `base` of an image of `image` bytes.
    pub(super) fn within(image: u64, base: u64) -> Self {
        Self {
            image,
            base,
            runs: Extents::default(),
            open: (0, 0),
            least: BLOCK,
        }
    }

    /// Add the bytes of the partition from `start` to before `end`.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (start, end) = (self.base.saturating_add(start), self.base.saturating_add(end));
        if self.open.1 == start {
            self.open.1 = end;
        } else {
            self.close();
            self.open = (start, end);
        }
    }

    /// Every run, in bytes of the image.
    pub(super) fn runs(mut self) -> Extents {
        self.close();
        self.runs
    }

    fn close(&mut self) {
        let (start, end) = std::mem::take(&mut self.open);
        let start = start.checked_next_multiple_of(BLOCK).unwrap_or(end);
        let end = if end == self.image {
            end
        } else {
            end.saturating_sub(end % BLOCK)
        };
        // A shorter last block counts as a whole one.
        let blocks = end.checked_next_multiple_of(BLOCK).unwrap_or(end);
        if blocks.saturating_sub(start) < self.least {
            return;
        }
        self.runs.add(start, end);
        while self.runs.len() > MOST {
            self.least = self.least.saturating_mul(2);
            self.runs.drop_shorter(self.least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_of_the_image_are_free() {
        let mut free = FreeRuns::within(1 << 20, 512);
        // Neighbours are one run, and its ends are those of blocks of the image, not of the partition.
        (0..32).for_each(|nth| free.add(nth * 512, (nth + 1) * 512));
        free.add(20_000, 24_000);
        free.add(40_000, 40_000);
        free.add(28_160, 32_256);
        let runs: Vec<_> = free.runs().iter().collect();
        assert_eq!(runs, [(4096, 16_384), (28_672, 32_768)]);
        // But for the last block of an image.
        for (from, expect) in [
            (8000, vec![(8192, 8200)]),
            (8193, vec![]),
            (100, vec![(4096, 8200)]),
        ] {
            let mut free = FreeRuns::within(8200, 0);
            free.add(from, 8200);
            assert_eq!(free.runs().iter().collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn the_shortest_runs_give_way_where_there_are_too_many() {
        let runs_of = |groups: &[(usize, u64)]| {
            let mut free = FreeRuns::within(1 << 40, 0);
            let mut start = 0;
            for (count, blocks) in groups {
                for _ in 0..*count {
                    free.add(start, start + blocks * BLOCK);
                    start += (blocks + 1) * BLOCK;
                }
            }
            let runs = free.runs();
            (runs.len(), runs.total() / BLOCK)
        };
        let all = u64::try_from(MOST - 100).unwrap() + 100 * 8;
        assert_eq!(runs_of(&[(MOST - 100, 1), (100, 8)]), (MOST, all));
        // One more than there may be: those of one block go, and none comes back.
        assert_eq!(runs_of(&[(MOST - 100, 1), (101, 8), (4 * MOST, 1)]), (101, 808));
        assert_eq!(runs_of(&[(8 * MOST, 1)]), (0, 0));
    }
}
