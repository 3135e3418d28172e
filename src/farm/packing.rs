//! How the archives that a farm names are packed. Their first bytes decide, never their names.

use std::io::{self, Read};

use xz2::stream::{Stream, CONCATENATED};

use crate::base::source::{XZ_MEMORY, ZSTD_WINDOW};
use crate::edit::block::length;

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
    /// The disk of a virtual machine.
    Qcow2,
}

impl Packing {
    /// How a file is packed that begins with `head`.
    pub(super) fn of(head: &[u8]) -> Self {
        let magics: [(&[u8], Self); 6] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"BZh", Self::Bzip2),
            (b"hsqs", Self::Squashfs),
            (b"QFI\xfb", Self::Qcow2),
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
            Self::Qcow2 => Some("qcow2"),
        }
    }
}

/// What `bytes` have in them, which are packed as `packing`; `None`: this program cannot unpack them. The memory of the
/// readers has the bounds that it has for bases, since a packed file says itself how much it needs.
pub(super) fn unpacked<'a>(
    packing: Packing,
    bytes: impl Read + 'a,
) -> io::Result<Option<Box<dyn Read + 'a>>> {
    Ok(Some(match packing {
        Packing::None => Box::new(bytes),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Packing::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(xz2::read::XzDecoder::new_stream(bytes, stream))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Packing::Bzip2 | Packing::Squashfs | Packing::Qcow2 => return Ok(None),
    }))
}

/// Whether the end of `bytes` is there, as far as that can be told without unpacking them; `None`: it cannot.
pub(super) fn has_its_end(bytes: &[u8]) -> Option<bool> {
    match Packing::of(bytes) {
        // Streams end in this, and zeros may follow (.xz file format 1.2.1, sections 2.1.2.4 and 2.2).
        Packing::Xz => {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
            Some(bytes.get(..=end).is_some_and(|stream| stream.ends_with(b"YZ")))
        }
        // `bytes_used` of the superblock, which has 96 bytes (kernel, fs/squashfs/squashfs_fs.h).
        Packing::Squashfs => {
            let used = bytes.get(40..48).and_then(|field| field.try_into().ok());
            let used = used.map(u64::from_le_bytes);
            Some(used.is_some_and(|used| (96..=length(bytes)).contains(&used)))
        }
        _ => None,
    }
}
