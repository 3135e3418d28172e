//! Everything that can be wrong with a base image as a file; what is in it is not looked at here.

use std::io;
use std::path::PathBuf;

use super::format::UnsupportedFormat;
use super::unpack::Codec;
use super::{Sha256Sum, XzError};

/// Why a base image cannot be used. `name` is its path, or what it is called where it has none.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file, or it may not be read.
    #[error("opening the base image {name}")]
    Open {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("the base image {name} is no regular file")]
    NotAFile {
        /// Which.
        name: String,
    },
    /// A format that palmfarm does not read.
    #[error("the base image {name} is {what}, not an image that palmfarm can read")]
    UnsupportedFormat {
        /// Which.
        name: String,
        /// What it is instead.
        what: UnsupportedFormat,
    },
    /// The file is not the one that was expected.
    #[error("the base image {name} has SHA-256 {found}, expected {expected}")]
    Sha256 {
        /// Which.
        name: String,
        /// What farm file or catalogue give.
        expected: Sha256Sum,
        /// What it is.
        found: Sha256Sum,
    },
    /// The file cannot be read to its end.
    #[error("reading the base image {name}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The .xz format is violated.
    #[error("reading the base image {name}")]
    Xz {
        /// Which.
        name: String,
        /// How.
        #[source]
        source: XzError,
    },
    /// The compressed data is damaged, cut off, or followed by something else.
    #[error("unpacking the base image {name} after {done} bytes: {what}")]
    Damaged {
        /// Which.
        name: String,
        /// Bytes that could be unpacked.
        done: u64,
        /// What is wrong.
        what: String,
    },
    /// The decoder would take more memory than it may.
    #[error("unpacking the base image {name} needs over {limit} bytes of memory")]
    Memory {
        /// Which.
        name: String,
        codec: Codec,
        /// What a decoder may take.
        limit: u64,
    },
    /// More bytes than any card has.
    #[error("the base image {name} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        name: String,
        /// How many there may be.
        limit: u64,
    },
    /// The cache's file system is too small for what the image unpacks to.
    #[error("the base image {name} unpacks to over {room} bytes, which is all the room in {}", dir.display())]
    NoRoom {
        /// Which.
        name: String,
        /// Where it would go.
        dir: PathBuf,
        /// Bytes that may be used there.
        room: u64,
    },
    /// The cache cannot be used, and the format needs it.
    #[error("unpacking the base image {name} into the cache {}", path.display())]
    Cache {
        /// Which.
        name: String,
        /// Where it would go.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody wrote to the file while it was read.
    #[error("the base image {name} changed while it was read")]
    Changed {
        /// Which.
        name: String,
    },
    /// Asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl SourceError {
    /// What the person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; one in a farm file is relative to that file".into()
            }
            Self::Open { .. } => "check that you may read it".into(),
            Self::NotAFile { .. } => "name the .img, .img.xz, .img.gz or .img.zst file itself".into(),
            Self::UnsupportedFormat { what, .. } => match what {
                UnsupportedFormat::Zip => "unpack it and name the image that is in it".into(),
                UnsupportedFormat::Bzip2 => "unpack it with `bunzip2 -k` and name the .img that comes out".into(),
                UnsupportedFormat::Html => {
                    "the download gave a page, not the file; fetch it again from its own link".into()
                }
                UnsupportedFormat::Qcow2 => "convert it with `qemu-img convert -O raw`".into(),
            },
            Self::Sha256 { .. } => {
                "fetch the file again; if it is the right one, correct what it was compared with: `sha256:` in the farm \
                 file, or --sha256"
                    .into()
            }
            Self::Read { .. } => "check the disk that the file is on".into(),
            Self::Xz { source, .. } => source.hint().into(),
            Self::Damaged { .. } => {
                "compare the file's SHA-256 with the publisher's and fetch it again".into()
            }
            Self::Memory { codec, .. } => match codec {
                Codec::Zstd => "unpack it with `zstd -d --long=31` and name the .img that comes out".into(),
                Codec::Xz | Codec::Gzip => "unpack it with `xz -dk` and name the .img that comes out".into(),
            },
            Self::TooLarge { .. } => "no card is that large: this is not the image you meant".into(),
            Self::NoRoom { .. } | Self::Cache { .. } => {
                "make room there, or set XDG_CACHE_HOME to a place that has it".into()
            }
            Self::Changed { .. } => "wait until the download is finished, then start again".into(),
            Self::Cancelled => return None,
        })
    }
}
