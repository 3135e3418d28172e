//! Chunks put together from parts, if units do not begin and end with them. It decodes nothing.

use super::{chunk_len, Chunk, ChunkContent};
use crate::base::source::BufferPool;

pub(super) struct ChunkAssembler<'a> {
    pub(super) size: u64,
    pub(super) pool: &'a BufferPool,
    pub(super) open: Option<Chunk>,
}

impl ChunkAssembler<'_> {
    /// Add the next part. Returns the chunk once it is whole.
    pub(super) fn add(&mut self, part: &Chunk) -> Option<Chunk> {
        let mut chunk = self.open.take().unwrap_or(Chunk {
            offset: part.offset,
            len: 0,
            content: ChunkContent::Unread,
        });
        let whole = chunk_len(chunk.offset, self.size);
        match &part.content {
            ChunkContent::Unread => {}
            ChunkContent::Zero if matches!(chunk.content, ChunkContent::Zero) || chunk.len == 0 => {
                chunk.content = ChunkContent::Zero;
            }
            content => {
                if !matches!(chunk.content, ChunkContent::Bytes(_)) {
                    chunk.content = ChunkContent::Bytes(self.pool.zeroed(whole));
                }
                if let (ChunkContent::Bytes(to), ChunkContent::Bytes(from)) = (&mut chunk.content, content) {
                    if let Some(to) = to.get_mut(chunk.len..chunk.len.saturating_add(part.len)) {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
        chunk.len = chunk.len.saturating_add(part.len);
        if chunk.len < whole {
            self.open = Some(chunk);
            return None;
        }
        Some(chunk)
    }
}
