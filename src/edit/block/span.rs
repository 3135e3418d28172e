//! A range of bytes of a medium, such as a partition.

use super::{ReadAt, Window};

/// Bytes of a medium, from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u64,
    size: u64,
}

impl Span {
    /// The `size` bytes from `start`, or `None` if their end does not fit into 64 bits.
    pub fn new(start: u64, size: u64) -> Option<Self> {
        start.checked_add(size).map(|_| Self { start, size })
    }

    pub fn start(self) -> u64 {
        self.start
    }

    pub fn size(self) -> u64 {
        self.size
    }

    /// The byte after the last one.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// These bytes of `medium` alone; `None` if the medium is too short for them.
    pub fn of<M: ReadAt>(self, medium: M) -> Option<Window<M>> {
        Window::new(medium, self.start, self.size)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}
