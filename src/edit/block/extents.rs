//! Sets of byte ranges. They do not know what the bytes are.

use std::collections::BTreeMap;

/// Ranges of bytes, disjoint and never adjacent, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
}

impl Extents {
    pub fn whole(size: u64) -> Self {
        let mut all = Self::default();
        all.add(0, size);
        all
    }

    /// Add the bytes from `start` to before `end`.
    pub fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut from, mut to) = (start, end);
        // A range that begins before this one may touch it; ranges that begin within it are merged into it.
        if let Some((&before, &its_end)) = self.ranges.range(..=start).next_back() {
            if its_end >= start {
                from = before;
                to = to.max(its_end);
            }
        }
        while let Some((&next, &its_end)) = self.ranges.range(from..=to).next() {
            to = to.max(its_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(from, to);
    }

    /// Remove every range of fewer than `least` bytes.
    pub(crate) fn drop_shorter(&mut self, least: u64) {
        self.ranges
            .retain(|start, end| end.saturating_sub(*start) >= least);
    }

    /// The ranges as (start, end), in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many bytes are in it.
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |sum, (start, end)| {
            sum.saturating_add(end.saturating_sub(start))
        })
    }

    /// Whether any byte from `start` to before `end` is in it.
    pub fn touches(&self, start: u64, end: u64) -> bool {
        start < end
            && self
                .ranges
                .range(..end)
                .next_back()
                .is_some_and(|(_, its_end)| *its_end > start)
    }

    /// The parts of it from `start` to before `end`, in order.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = self
            .ranges
            .range(..=start)
            .next_back()
            .map_or(start, |(first, _)| *first);
        let inside = self.ranges.range(first..end.max(first));
        inside
            .map(move |(from, to)| ((*from).max(start), (*to).min(end)))
            .filter(|(from, to)| from < to)
    }

    /// The bytes from 0 to `size` that are not in it.
    #[must_use]
    pub fn complement(&self, size: u64) -> Self {
        let mut rest = Self::default();
        let mut at = 0;
        for (start, end) in self.iter() {
            rest.add(at, start.min(size));
            at = end;
        }
        rest.add(at, size);
        rest
    }

    /// The same bytes, with each range grown to multiples of `block` bytes and cut at `size`.
    #[must_use]
    pub fn aligned(&self, block: u64, size: u64) -> Self {
        let mut grown = Self::default();
        for (start, end) in self.iter() {
            let down = start.saturating_sub(start.checked_rem(block).unwrap_or(0));
            grown.add(
                down,
                end.checked_next_multiple_of(block).unwrap_or(size).min(size),
            );
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(bytes: &[bool]) -> Extents {
        let mut extents = Extents::default();
        for at in (0_u64..).zip(bytes).filter(|(_, held)| **held).map(|(at, _)| at) {
            extents.add(at, at + 1);
        }
        extents
    }

    fn held(extents: &Extents, at: u64) -> bool {
        extents.touches(at, at + 1)
    }

    proptest! {
        #[test]
        fn they_are_the_set_of_the_bytes_added(adds in prop::collection::vec((0_u64..60, 0_u64..20), 0..12)) {
            let mut model = [false; 80];
            let mut extents = Extents::default();
            for (start, len) in adds {
                extents.add(start, start + len);
                for at in start..start + len {
                    model[usize::try_from(at).unwrap()] = true;
                }
            }
            prop_assert_eq!(&extents, &set(&model));
            let ranges: Vec<_> = extents.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let rest = extents.complement(80);
            let grown = extents.aligned(8, 80);
            for at in 0..80 {
                prop_assert_eq!(held(&extents, at), model[usize::try_from(at).unwrap()]);
                prop_assert_eq!(held(&rest, at), !held(&extents, at));
                prop_assert_eq!(held(&grown, at), extents.touches(at / 8 * 8, at / 8 * 8 + 8));
            }
            let mut inside = Extents::default();
            extents.within(10, 33).for_each(|(start, end)| inside.add(start, end));
            for at in 0..80 {
                prop_assert_eq!(held(&inside, at), (10..33).contains(&at) && held(&extents, at));
            }
        }
    }
}
