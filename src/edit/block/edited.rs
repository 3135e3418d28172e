//! A base with a card's edits applied, for reading. It never changes either.

use std::io;

use super::{Edits, ReadAt};

/// The card as it will be.
#[derive(Clone, Copy)]
pub struct Edited<'e, M> {
    beneath: M,
    edits: &'e Edits,
}

impl<'e, M: ReadAt> Edited<'e, M> {
    /// `beneath` as `edits` change it.
    pub fn new(beneath: M, edits: &'e Edits) -> Self {
        Self { beneath, edits }
    }
}

impl<M: ReadAt> ReadAt for Edited<'_, M> {
    fn size(&self) -> u64 {
        self.beneath.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.beneath.read_exact_at(offset, buf)?;
        self.edits.apply(offset, buf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::block::{Overlay, WriteAt};

    #[test]
    fn it_reads_as_the_overlay_did() {
        let base: Vec<u8> = (0..30_000_u32)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let overlay = Overlay::new(&base);
        overlay.write_all_at(4090, &[1; 5000]).unwrap();
        overlay.write_all_at(29_999, &[2]).unwrap();
        let mut expect = vec![0; 30_000];
        overlay.read_exact_at(0, &mut expect).unwrap();
        let edits = overlay.take_edits().unwrap();
        let edited = Edited::new(&base, &edits);
        let mut seen = vec![0; 30_000];
        edited.read_exact_at(0, &mut seen).unwrap();
        assert!(seen == expect);
        let mut part = vec![0; 777];
        edited.read_exact_at(8000, &mut part).unwrap();
        assert!(part == expect[8000..8777]);
    }
}
