//! The packings of image files, told by their first bytes, never by their names.

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
    /// Not a packing but a filesystem, which is packed.
    Squashfs,
}

/// How `bytes` are packed.
pub(super) fn packing(bytes: &[u8]) -> Packing {
    let magics: [(&[u8], Packing); 5] = [
        (b"\x1f\x8b", Packing::Gzip),
        (b"\xfd7zXZ\0", Packing::Xz),
        (b"\x28\xb5\x2f\xfd", Packing::Zstd),
        (b"BZh", Packing::Bzip2),
        (b"hsqs", Packing::Squashfs),
    ];
    let found = magics.iter().find(|(magic, _)| bytes.starts_with(magic));
    found.map_or(Packing::None, |(_, packing)| *packing)
}

/// `bytes` unpacked; `None`, where this program has no reader for them. The memory of the readers is bounded as it is
/// for bases: a packed file says itself how much it needs.
pub(super) fn unpacked<'a>(bytes: &'a [u8]) -> io::Result<Option<Box<dyn Read + 'a>>> {
    Ok(Some(match packing(bytes) {
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
