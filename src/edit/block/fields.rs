//! The one reader of little-endian fields in a structure that is whole in memory. It knows no structure.

/// The bytes of a structure. A field that does not lie within them reads as `None`.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    /// Text of at most `len` bytes, which ends before the first zero byte.
    pub(crate) fn text(self, at: usize, len: usize) -> Option<String> {
        let field = self.0.get(at..)?.get(..len)?;
        let text = field.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    pub(crate) fn has(self, at: usize, magic: &[u8]) -> bool {
        self.0.get(at..).is_some_and(|rest| rest.starts_with(magic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_outside_reads_as_none() {
        let fields = Fields(b"\x01\x02\x03\x04ab\0cd");
        assert_eq!(fields.u8(1), Some(2));
        assert_eq!(fields.u16(1), Some(0x302));
        assert_eq!(fields.u32(0), Some(0x0403_0201));
        assert_eq!(fields.text(4, 5).as_deref(), Some("ab"));
        assert_eq!(fields.text(4, 2).as_deref(), Some("ab"));
        assert_eq!(
            (fields.u16(8), fields.u32(6), fields.u8(usize::MAX)),
            (None, None, None)
        );
        assert_eq!(fields.text(4, 6), None);
        assert!(fields.has(4, b"ab") && !fields.has(8, b"de"));
    }
}
