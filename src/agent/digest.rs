//! Two digests: the SHA-256 of a file, as the document has it, and a short name for a text, to tell one document or
//! network from another. The short name does not protect against anybody who wants two texts to have the same name.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// A reader that knows the SHA-256 of all that was read through it.
pub(crate) struct Hashed<'a> {
    inner: &'a mut dyn Read,
    hash: Sha256,
}

impl<'a> Hashed<'a> {
    pub(crate) fn new(inner: &'a mut dyn Read) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    /// 64 hexadecimal digits.
    pub(crate) fn sha256(self) -> String {
        let bytes = self.hash.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// The SHA-256 of all that `reader` has, as 64 hexadecimal digits.
pub(crate) fn sha256(reader: &mut dyn Read) -> io::Result<String> {
    let mut hashed = Hashed::new(reader);
    io::copy(&mut hashed, &mut io::sink())?;
    Ok(hashed.sha256())
}

/// The CRC-32 of `text` (IEEE 802.3: polynomial 0x04c11db7, reflected) and its length in bytes.
pub(crate) fn of(text: &str) -> String {
    let crc = !text.bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    format!("{crc:08x}-{}", text.len())
}

#[cfg(test)]
mod tests {
    /// FIPS 180-2, appendix B.1.
    #[test]
    fn the_sha256_is_the_published_one() {
        assert_eq!(
            super::sha256(&mut b"abc".as_slice()).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    /// The check value of the catalogue of parametrised CRC algorithms, CRC-32/ISO-HDLC.
    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(super::of("123456789"), "cbf43926-9");
        assert_eq!(super::of(""), "00000000-0");
    }
}
