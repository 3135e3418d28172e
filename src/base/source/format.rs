//! Which format a base image has, by its first bytes. The name of the file does not matter.

use std::io;

use crate::edit::block::ReadAt;
use crate::numbers::at_most;

/// How the bytes of a base are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    /// The .xz file format, magic `FD 37 7A 58 5A 00` (version 1.2.1, section 2.1.1.1).
    Xz,
    /// gzip, magic `1F 8B`, deflate `08` (RFC 1952, section 2.3.1).
    Gzip,
    /// Zstandard, magic `28 B5 2F FD`, or a skippable frame `5? 2A 4D 18` (RFC 8878, section 3.1).
    Zstd,
}

/// A known format that is not a base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedFormat {
    /// `PK\x03\x04`.
    #[error("a zip archive")]
    Zip,
    /// `BZh`.
    #[error("compressed with bzip2")]
    Bzip2,
    /// `<!DOCTYPE` or `<html`: a download page saved in place of the image.
    #[error("a web page")]
    Html,
    /// `QFI\xFB`.
    #[error("a qcow2 disk")]
    Qcow2,
}

/// Look at the first bytes of `file`.
///
/// `Ok(Err(_))` names a format that is known and not supported. Anything unknown is taken as raw; reading its partition
/// table then accepts or refuses it.
pub(super) fn sniff(file: &dyn ReadAt) -> io::Result<Result<Format, UnsupportedFormat>> {
    let mut head = [0; 16];
    let there = at_most(file.size(), head.len());
    let (head, _) = head.split_at_mut(there);
    file.read_exact_at(0, head)?;
    Ok(match head {
        [0xFD, b'7', b'z', b'X', b'Z', 0x00, ..] => Ok(Format::Xz),
        [0x1F, 0x8B, 0x08, ..] => Ok(Format::Gzip),
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Ok(Format::Zstd),
        [b'P', b'K', 3, 4, ..] => Err(UnsupportedFormat::Zip),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(UnsupportedFormat::Bzip2),
        [b'Q', b'F', b'I', 0xFB, ..] => Err(UnsupportedFormat::Qcow2),
        head if starts_like(head, b"<!doctype") || starts_like(head, b"<html") => {
            Err(UnsupportedFormat::Html)
        }
        _ => Ok(Format::Raw),
    })
}

fn starts_like(head: &[u8], word: &[u8]) -> bool {
    head.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expect: Result<Format, UnsupportedFormat>) {
        let file = head.to_vec();
        assert_eq!(sniff(&file).unwrap(), expect, "{head:02x?}");
    }

    #[test]
    fn the_first_bytes_decide() {
        check(b"", Ok(Format::Raw));
        check(&[0; 512], Ok(Format::Raw));
        check(b"\xFD7zXZ\0\0\x04", Ok(Format::Xz));
        check(b"\xFD7zX", Ok(Format::Raw));
        check(b"\x1F\x8B\x08\0", Ok(Format::Gzip));
        check(b"\x28\xB5\x2F\xFD", Ok(Format::Zstd));
        check(b"\x5A\x2A\x4D\x18", Ok(Format::Zstd));
        check(b"PK\x03\x04", Err(UnsupportedFormat::Zip));
        check(b"BZh91AY", Err(UnsupportedFormat::Bzip2));
        check(b"<!DOCTYPE html>", Err(UnsupportedFormat::Html));
        check(b"<html>", Err(UnsupportedFormat::Html));
        check(b"QFI\xFB", Err(UnsupportedFormat::Qcow2));
    }
}
