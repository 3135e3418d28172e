//! Buffers of one cell each, aligned for direct I/O, that go back to their pool when dropped: a pass over an image of
//! any size allocates only as many as are in flight.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::CELL_LEN;

/// Memory alignment in bytes that direct I/O asks for at most: the page size of every Pi and PC, and the largest
/// logical block size of a card.
const ALIGNMENT: usize = 4096;

/// Where the buffers wait.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// A buffer of `len` bytes, at most [`CELL_LEN`], whose content is anything.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = held.unwrap_or_else(|| vec![0; CELL_LEN + ALIGNMENT]);
        // `align_offset` may decline to say; then the buffer works, and direct I/O will say that it does not.
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Buffer {
            start: if start < ALIGNMENT { start } else { 0 },
            len: len.min(CELL_LEN),
            bytes,
            pool: self.clone(),
        }
    }

    /// A buffer of `len` zeroes.
    pub(crate) fn zeroed(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0);
        buffer
    }
}

/// One cell's bytes.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    pool: Pool,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(bytes);
    }
}
