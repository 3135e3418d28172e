//! `Read`, `Write` and `Seek` over a medium, for libraries that know nothing of offsets. One cursor, one position;
//! the medium beneath stays shared.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::{length, ReadAt, WriteAt, BLOCK, BLOCK_LEN};
use crate::numbers::{at_most, u64_from_usize, usize_from_u64};

/// A position in a medium. Such libraries read tables a few bytes at a time, so these reads are served from the block
/// that was read last.
#[derive(Debug)]
pub struct Cursor<M> {
    medium: M,
    at: u64,
    /// The block that was read last, and its offset.
    held: Option<(u64, Vec<u8>)>,
}

impl<M: ReadAt> Cursor<M> {
    pub fn new(medium: M) -> Self {
        Self {
            medium,
            at: 0,
            held: None,
        }
    }

    /// The bytes from the position to the end of its block or of the medium.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.medium.size() <= self.at {
            return Ok(&[]);
        }
        let start = self.at - self.at % BLOCK;
        if self.held.as_ref().is_none_or(|(at, _)| *at != start) {
            let mut block = vec![0; at_most(self.medium.size() - start, BLOCK_LEN)];
            self.medium.read_exact_at(start, &mut block)?;
            self.held = Some((start, block));
        }
        let inside = usize_from_u64(self.at - start);
        let held = self.held.as_ref().map(|(_, block)| &block[inside..]);
        Ok(held.unwrap_or_default())
    }
}

impl<M: ReadAt> Read for Cursor<M> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let take = self.fill()?.read(buf)?;
        self.at = self.at.saturating_add(u64_from_usize(take));
        Ok(take)
    }
}

impl<M: WriteAt> Write for Cursor<M> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.medium.write_all_at(self.at, buf)?;
        self.held = None;
        self.at = self.at.saturating_add(length(buf));
        Ok(buf.len())
    }

    /// Nothing is buffered for writing.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<M: ReadAt> Seek for Cursor<M> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.medium.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a seek before the first byte");
        self.at = at.ok_or_else(outside)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::block::Overlay;

    #[test]
    fn it_reads_writes_and_seeks_as_a_file_does() {
        let medium: Vec<u8> = (0..10_000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let overlay = Overlay::new(&medium);
        let mut cursor = Cursor::new(&overlay);
        let mut model = io::Cursor::new(medium.clone());
        for (at, len) in [
            (0, 3),
            (4095, 2),
            (4090, 4096),
            (9990, 20),
            (10_000, 1),
            (20_000, 1),
            (3, 9_000),
        ] {
            let (mut got, mut expect) = (Vec::new(), Vec::new());
            cursor.seek(SeekFrom::Start(at)).unwrap();
            model.seek(SeekFrom::Start(at)).unwrap();
            (&mut cursor).take(len).read_to_end(&mut got).unwrap();
            (&mut model).take(len).read_to_end(&mut expect).unwrap();
            assert!(got == expect, "{len} bytes at {at}");
        }
        cursor.seek(SeekFrom::End(-2)).unwrap();
        cursor.write_all(&[1, 2]).unwrap();
        assert_eq!(cursor.write(&[3]).unwrap_err().kind(), io::ErrorKind::WriteZero);
        cursor.seek(SeekFrom::Current(-1)).unwrap();
        let mut last = Vec::new();
        cursor.read_to_end(&mut last).unwrap();
        assert_eq!(last, [2]);
        assert!(cursor.seek(SeekFrom::Current(-20_000)).is_err());
    }
}
