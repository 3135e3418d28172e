//! A short name for a text, to tell one document or network from another. It does not protect against anybody who
//! wants two texts to have the same name.

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
    /// The check value of the catalogue of parametrised CRC algorithms, CRC-32/ISO-HDLC.
    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(super::of("123456789"), "cbf43926-9");
        assert_eq!(super::of(""), "00000000-0");
    }
}
