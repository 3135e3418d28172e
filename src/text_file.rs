//! Text files as editors leave them. The rule, once: of a file that is read as text, a byte order mark is taken off, UTF-16
//! with a mark is read as what it is, and line ends of Windows count as line ends. A file that goes onto the card as it is
//! is never changed; [`Leftover`] says what of its bytes the Pi would stumble over.

use crate::text::shell_path;

/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    #[error("is not UTF-8 (from byte {at} on)")]
    Utf8 { at: usize },
    #[error("is UTF-16 that breaks off or has half a character")]
    BrokenUtf16,
    #[error("is UTF-16 without a byte order mark, or is not text at all")]
    Unmarked,
}

impl NotText {
    /// What the person can do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Utf8 { .. } => {
                "save it as UTF-8 in your editor, or: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
            }
            Self::BrokenUtf16 => "save it as UTF-8 in your editor",
            Self::Unmarked => "save it as UTF-8 in your editor, or: iconv -f UTF-16LE -t UTF-8 FILE > NEW",
        }
    }
}

/// `bytes` as text, without a byte order mark, each line ended by `\n`.
///
/// # Errors
/// [`NotText`].
pub fn decode(bytes: &[u8]) -> Result<String, NotText> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [0, first, ..] | [first, 0, ..] if *first != 0 => return Err(NotText::Unmarked),
        _ => {
            let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
            let text = std::str::from_utf8(bytes);
            let text = text.map_err(|error| NotText::Utf8 {
                at: error.valid_up_to(),
            })?;
            text.to_owned()
        }
    };
    // Old Macs ended lines by a carriage return alone.
    if text.contains('\n') {
        return Ok(text.replace("\r\n", "\n"));
    }
    Ok(text.replace('\r', "\n"))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok().filter(|_| rest.is_empty()).ok_or(NotText::BrokenUtf16)
}

/// What an editor has left in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    Mark,
    CarriageReturns,
    Utf16,
}

impl Leftover {
    /// The first thing that whoever reads `bytes` line by line would stumble over.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let has_pair = || bytes.windows(2).any(|pair| pair == b"\r\n");
        match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Self::Utf16),
            _ if bytes.starts_with(MARK) => Some(Self::Mark),
            _ if !bytes.contains(&0) && has_pair() => Some(Self::CarriageReturns),
            _ => None,
        }
    }

    /// Whether the file with `bytes` is read line by line: a script, or what lies at `path` among settings.
    pub fn matters(path: &str, bytes: &[u8]) -> bool {
        const SETTINGS: [&str; 4] = ["/etc/", "/usr/lib/systemd/", "/lib/systemd/", "/cmdline.txt"];
        let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
        bytes.starts_with(b"#!") || SETTINGS.iter().any(|start| path.starts_with(start))
    }

    /// What is the matter.
    pub fn message(self) -> &'static str {
        match self {
            Self::Mark => "it begins with a byte order mark, which is taken for a part of its first word",
            Self::CarriageReturns => {
                "it has the line ends of Windows, and the carriage return is taken for a part of the line"
            }
            Self::Utf16 => "it is UTF-16, which neither a shell nor systemd reads",
        }
    }

    /// What takes it out of the file that the farm calls `file`.
    pub fn hint(self, file: &str) -> String {
        let file = shell_path(file);
        match self {
            Self::Mark | Self::CarriageReturns => {
                format!(r"sed -i '1s/^\xEF\xBB\xBF//; s/\r$//' {file}")
            }
            Self::Utf16 => format!("iconv -f UTF-16 -t UTF-8 {file} > NEW, and then mv NEW {file}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(bytes)
            .collect()
    }

    #[test]
    fn what_editors_write_is_one_text() {
        let text = "ä: 🦀\nb\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [MARK, text.as_bytes()].concat(),
            [MARK, text.replace('\n', "\r\n").as_bytes()].concat(),
            text.replace('\n', "\r").into_bytes(),
            units(text, u16::to_le_bytes),
            units(&text.replace('\n', "\r\n"), u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:?}");
        }
        assert_eq!(decode(b"").as_deref(), Ok(""));
        assert_eq!(decode(b"a\xe4"), Err(NotText::Utf8 { at: 1 }));
        assert_eq!(decode(b"\xff\xfea"), Err(NotText::BrokenUtf16));
        assert_eq!(decode(b"\xff\xfe\x00\xd8a\x00"), Err(NotText::BrokenUtf16));
        assert_eq!(decode(b"a\0b\0"), Err(NotText::Unmarked));
        assert_eq!(decode(b"\0a\0b"), Err(NotText::Unmarked));
    }

    #[test]
    fn leftovers_are_told_and_their_cure_cures() {
        assert_eq!(Leftover::of(b"#!/bin/sh\n"), None);
        assert_eq!(Leftover::of(b"\0\r\n"), None);
        assert_eq!(Leftover::of(b"\xff\xfea\0"), Some(Leftover::Utf16));
        assert!(Leftover::matters("/srv/x", b"\xef\xbb\xbf#!/bin/sh\n"));
        assert!(Leftover::matters("/etc/x", b"x") && !Leftover::matters("/var/www/x.html", b"x"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my script");
        for (bytes, left) in [
            (&b"\xef\xbb\xbf#!/bin/sh\r\necho\r\n"[..], Leftover::Mark),
            (b"#!/bin/sh\r\necho\r\n", Leftover::CarriageReturns),
        ] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(Leftover::of(bytes), Some(left));
            let cure = left.hint(file.to_str().unwrap());
            let status = std::process::Command::new("sh")
                .args(["-c", &cure])
                .status()
                .unwrap();
            assert!(status.success(), "{cure}");
            assert_eq!(std::fs::read(&file).unwrap(), b"#!/bin/sh\necho\n");
        }
    }
}
