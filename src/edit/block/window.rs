//! A partition seen as a medium of its own: the same bytes, offset and bounded.

use std::io;

use super::{check_within, ReadAt, WriteAt};

/// A range of another medium, addressed from zero; nothing outside it can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Window<M> {
    medium: M,
    start: u64,
    size: u64,
}

impl<M: ReadAt> Window<M> {
    /// The `size` bytes of `medium` from `start` (both in bytes), or `None` if they do not lie within it.
    pub fn new(medium: M, start: u64, size: u64) -> Option<Self> {
        (start.checked_add(size)? <= medium.size()).then_some(Self { medium, start, size })
    }

    fn absolute(&self, offset: u64, len: usize, kind: io::ErrorKind) -> io::Result<u64> {
        check_within(kind, offset, len, self.size)?;
        Ok(self.start + offset)
    }
}

impl<M: ReadAt> ReadAt for Window<M> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = self.absolute(offset, buf.len(), io::ErrorKind::UnexpectedEof)?;
        self.medium.read_exact_at(at, buf)
    }
}

impl<M: WriteAt> WriteAt for Window<M> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let at = self.absolute(offset, buf.len(), io::ErrorKind::WriteZero)?;
        self.medium.write_all_at(at, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reaches_its_own_bytes_and_no_others() {
        let medium: Vec<u8> = (0..32).collect();
        let window = Window::new(&medium, 8, 16).unwrap();
        let mut two = [0; 2];
        window.read_exact_at(14, &mut two).unwrap();
        assert_eq!(two, [22, 23]);
        assert_eq!(
            window.read_exact_at(15, &mut two).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            window.read_exact_at(u64::MAX, &mut two).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert!(Window::new(&medium, 30, 3).is_none());
        assert!(Window::new(&medium, u64::MAX, 2).is_none());
    }
}
