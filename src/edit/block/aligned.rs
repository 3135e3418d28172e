//! Memory for direct transfers, which must start at a multiple of a page.

use std::ops::{Deref, DerefMut};

/// Alignment in bytes: the page size of every Pi and PC, and the largest logical sector of a card or disk.
pub const ALIGN: usize = 4096;

/// [`ALIGN`] in the type that offsets have.
pub const ALIGN_BYTES: u64 = 4096;

/// Bytes that start at a multiple of [`ALIGN`] in memory.
#[derive(Debug)]
pub struct AlignedBuf {
    raw: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// `len` bytes of zero.
    pub fn new(len: usize) -> Self {
        let raw = vec![0; len.saturating_add(ALIGN)];
        // `align_offset` may decline to answer. Then the buffer works, and direct transfers from it fail visibly.
        let start = raw.as_ptr().align_offset(ALIGN);
        let start = if start < ALIGN { start } else { 0 };
        Self { raw, start, len }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_memory_is_aligned() {
        for len in [0, 1, 512, 4096, 1 << 20] {
            let mut buf = AlignedBuf::new(len);
            assert_eq!(buf.as_ptr().align_offset(ALIGN), 0);
            assert_eq!(buf.len(), len);
            buf.fill(7);
            let moved = buf;
            assert_eq!(moved.as_ptr().align_offset(ALIGN), 0);
            assert!(moved.iter().all(|byte| *byte == 7));
        }
    }
}
