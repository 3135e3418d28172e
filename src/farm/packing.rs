//! How the archives that a farm names are packed. Their first bytes decide, never their names.

use std::io::{self, Read};

use xz2::stream::{Stream, CONCATENATED};

use crate::base::source::{XZ_MEMORY, ZSTD_WINDOW};

/// A packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    /// A packed filesystem.
    Squashfs,
}

impl Packing {
    /// How a file is packed that begins with `head`.
    pub(super) fn of(head: &[u8]) -> Self {
        let magics: [(&[u8], Self); 5] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"BZh", Self::Bzip2),
            (b"hsqs", Self::Squashfs),
        ];
        let found = magics.iter().find(|(magic, _)| head.starts_with(magic));
        found.map_or(Self::None, |(_, packing)| *packing)
    }

    /// Its name; `None`: the file is not packed.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Xz => Some("xz"),
            Self::Zstd => Some("zstd"),
            Self::Bzip2 => Some("bzip2"),
            Self::Squashfs => Some("squashfs"),
        }
    }
}

/// `bytes` unpacked; `None`: this program cannot unpack them. The memory of the readers has the bounds that it has for
/// bases, since a packed file says itself how much it needs.
pub(super) fn unpacked<'a>(bytes: &'a [u8]) -> io::Result<Option<Box<dyn Read + 'a>>> {
    Ok(Some(match Packing::of(bytes) {
        Packing::None => Box::new(bytes),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Packing::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(xz2::read::XzDecoder::new_stream(bytes, stream))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Packing::Bzip2 | Packing::Squashfs => return Ok(None),
    }))
}
