//! Which format a base image has, by its first bytes. The name of the file does not matter.

use std::io;

use super::zip;
use crate::edit::block::ReadAt;
use crate::numbers::at_most;
use crate::text::printable;

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

/// Something that people name as a base and that is not an image of a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedFormat {
    /// Its largest member, if that can be read.
    #[error("a zip archive")]
    Zip(Option<String>),
    #[error("compressed with bzip2")]
    Bzip2,
    #[error("a 7z archive")]
    SevenZip,
    #[error("a rar archive")]
    Rar,
    #[error("compressed with lz4")]
    Lz4,
    #[error("a tar archive")]
    Tar,
    /// A download page, perhaps one that asks for a login.
    #[error("a web page")]
    Html,
    /// The pointer that git-lfs leaves in the place of a file.
    #[error("a pointer of Git LFS")]
    LfsPointer,
    #[error("a text file")]
    Text,
    #[error("a qcow2 disk")]
    Qcow2,
    #[error("a vmdk disk")]
    Vmdk,
    #[error("a disk of VirtualBox")]
    Vdi,
    #[error("a vhdx disk")]
    Vhdx,
    /// ISO 9660: an installer or a live system.
    #[error("an ISO image of a DVD")]
    Iso,
    #[error("a squashfs")]
    Squashfs,
    /// ext4 without a partition table.
    #[error("an ext4 filesystem without partitions")]
    Ext4,
}

impl UnsupportedFormat {
    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Zip(Some(member)) => {
                let member = printable(member);
                format!("unpack it (unzip), and name {member}, which is in it")
            }
            Self::Zip(None) | Self::Rar => "unpack it and name the image that is in it".into(),
            Self::SevenZip => "unpack it with `7z x` and name the image that comes out".into(),
            Self::Bzip2 => "unpack it with `bunzip2 -k` and name the .img that comes out".into(),
            Self::Lz4 => "unpack it with `lz4 -dk` and name the .img that comes out".into(),
            Self::Tar => "unpack it with `tar -xf`; if an image of a whole disk is in it, name that".into(),
            Self::Html | Self::Text => {
                "the download gave a page, not the file; fetch it again from its own link".into()
            }
            Self::LfsPointer => "`git lfs pull` fetches the file itself".into(),
            Self::Qcow2 => "convert it with `qemu-img convert -O raw`".into(),
            Self::Vmdk | Self::Vdi | Self::Vhdx => {
                "an image for a virtual machine does not start a Pi; `palmfarm base list` names those that do".into()
            }
            Self::Iso => {
                "installers and live systems cannot be customized; take a preinstalled image (`palmfarm base list`)".into()
            }
            Self::Squashfs | Self::Ext4 => {
                "a card needs the image of a whole disk, with its boot partition; `palmfarm base list` names such images".into()
            }
        }
    }
}

/// Bytes that tell one format from another: ISO 9660 has its mark in sector 16 of 2048 bytes.
const HEAD: usize = 33 << 10;

/// Look at the first bytes of `file`.
///
/// `Ok(Err(_))` names a format that is known and not supported. Anything unknown is taken as raw; reading its partition
/// table then accepts or refuses it.
pub(super) fn sniff(file: &dyn ReadAt) -> io::Result<Result<Format, UnsupportedFormat>> {
    let mut head = vec![0; HEAD];
    let there = at_most(file.size(), head.len());
    head.truncate(there);
    file.read_exact_at(0, &mut head)?;
    Ok(match head.as_slice() {
        [0xFD, b'7', b'z', b'X', b'Z', 0x00, ..] => Ok(Format::Xz),
        [0x1F, 0x8B, 0x08, ..] => Ok(Format::Gzip),
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Ok(Format::Zstd),
        [b'P', b'K', 3, 4, ..] => Err(UnsupportedFormat::Zip(zip::largest_member(file)?)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(UnsupportedFormat::Bzip2),
        head => unsupported(head).map_or(Ok(Format::Raw), Err),
    })
}

/// What a file that begins with `head` is, if it is not an image. The marks are those of libmagic.
fn unsupported(head: &[u8]) -> Option<UnsupportedFormat> {
    let marks: [(usize, &[u8], UnsupportedFormat); 10] = [
        (0, b"7z\xBC\xAF\x27\x1C", UnsupportedFormat::SevenZip),
        (0, b"Rar!\x1A\x07", UnsupportedFormat::Rar),
        (0, b"\x04\x22\x4D\x18", UnsupportedFormat::Lz4),
        (0, b"QFI\xFB", UnsupportedFormat::Qcow2),
        (0, b"KDMV", UnsupportedFormat::Vmdk),
        (64, b"\x7F\x10\xDA\xBE", UnsupportedFormat::Vdi),
        (0, b"vhdxfile", UnsupportedFormat::Vhdx),
        (0, b"hsqs", UnsupportedFormat::Squashfs),
        (257, b"ustar", UnsupportedFormat::Tar),
        // An image that is for DVDs and USB sticks has a partition table as well.
        (32_769, b"CD001", UnsupportedFormat::Iso),
    ];
    let has = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    if let Some((.., format)) = marks.into_iter().find(|(at, mark, _)| has(*at, mark)) {
        return Some(format);
    }
    // `s_magic` of the superblock at 1024 (kernel, fs/ext4/ext4.h).
    if has(1080, b"\x53\xEF") && !has(510, b"\x55\xAA") {
        return Some(UnsupportedFormat::Ext4);
    }
    let is_text = !head.is_empty()
        && head
            .iter()
            .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..));
    if !is_text {
        return None;
    }
    let text = head
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(head)
        .trim_ascii_start();
    let starts = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    if [&b"<!doctype"[..], b"<html", b"<?xml"].into_iter().any(starts) {
        Some(UnsupportedFormat::Html)
    } else if starts(b"version https://git-lfs") {
        Some(UnsupportedFormat::LfsPointer)
    } else {
        // A letter may be cut in two.
        let is_utf8 = std::str::from_utf8(head.get(..64).unwrap_or(head));
        let is_utf8 = is_utf8.map_or_else(|error| error.error_len().is_none(), |_| true);
        is_utf8.then_some(UnsupportedFormat::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "each caller makes it")]
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
        check(b"PK\x03\x04", Err(UnsupportedFormat::Zip(None)));
        check(b"BZh91AY", Err(UnsupportedFormat::Bzip2));
        check(b"7z\xBC\xAF\x27\x1C", Err(UnsupportedFormat::SevenZip));
        check(b"Rar!\x1A\x07\x01\0", Err(UnsupportedFormat::Rar));
        check(b"\x04\x22\x4D\x18", Err(UnsupportedFormat::Lz4));
        check(b"QFI\xFB", Err(UnsupportedFormat::Qcow2));
        check(b"KDMV\x01", Err(UnsupportedFormat::Vmdk));
        check(b"vhdxfile", Err(UnsupportedFormat::Vhdx));
        check(b"hsqs\x07", Err(UnsupportedFormat::Squashfs));
        for page in [
            "<!DOCTYPE html>",
            "<html>",
            "\r\n  <!doctype HTML>",
            "\u{feff}<?xml version",
        ] {
            check(page.as_bytes(), Err(UnsupportedFormat::Html));
        }
        check(
            b"version https://git-lfs.github.com/spec/v1\n",
            Err(UnsupportedFormat::LfsPointer),
        );
        check(b"{\"error\": \"not found\"}\n", Err(UnsupportedFormat::Text));
        // What is not text need not be anything.
        check(&[0xFF; 600], Ok(Format::Raw));
    }

    #[test]
    fn marks_further_on_count_too() {
        let at = |place: usize, mark: &[u8]| {
            let mut head = vec![0; 40_000];
            head[510..512].copy_from_slice(b"\x55\xAA");
            head[place..place + mark.len()].copy_from_slice(mark);
            head
        };
        check(&at(0, b""), Ok(Format::Raw));
        check(&at(64, b"\x7F\x10\xDA\xBE"), Err(UnsupportedFormat::Vdi));
        check(&at(257, b"ustar\0"), Err(UnsupportedFormat::Tar));
        check(&at(32_769, b"CD001"), Err(UnsupportedFormat::Iso));
        // The name of a GPT partition may be anything, and then the first sector has its mark.
        check(&at(1080, b"\x53\xEF"), Ok(Format::Raw));
        let mut bare = at(1080, b"\x53\xEF");
        bare[510] = 0;
        check(&bare, Err(UnsupportedFormat::Ext4));
    }
}
