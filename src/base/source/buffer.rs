//! Buffers of one chunk each, aligned for direct I/O, that go back to their pool when dropped: a pass over an image of
//! any size allocates only as many as are in flight.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::CHUNK_LEN;
use crate::edit::block::AlignedBuf;

/// The buffers that are not in use.
#[derive(Clone, Default)]
pub(crate) struct BufferPool(Arc<Mutex<Vec<AlignedBuf>>>);

impl BufferPool {
    /// A buffer of `len` bytes, at most [`CHUNK_LEN`], of unspecified content.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let unused = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer {
            bytes: Some(unused.unwrap_or_else(|| AlignedBuf::new(CHUNK_LEN))),
            len,
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

/// The bytes of one chunk.
pub(crate) struct Buffer {
    /// `None` only while it is dropped.
    bytes: Option<AlignedBuf>,
    len: usize,
    pool: BufferPool,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().map_or(&[], |bytes| &bytes[..self.len])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
            .as_deref_mut()
            .map_or(&mut [], |bytes| &mut bytes[..self.len])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut unused = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        unused.extend(self.bytes.take());
    }
}
