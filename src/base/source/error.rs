//! Everything that can be wrong with a base image as a file. What is in the image does not matter here.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::checked::is_changed;
use super::format::UnsupportedFormat;
use super::unpack::Codec;
use super::{Sha256Sum, XzError};

/// A reason why a base image cannot be used. `name` is its path, or another name if it has no path.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("opening the base image {name}")]
    Open {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the base image {name} is not a regular file")]
    NotAFile { name: String },
    #[error("the base image {name} is {what}, not an image that palmfarm can read")]
    UnsupportedFormat { name: String, what: UnsupportedFormat },
    #[error("the base image {name} has SHA-256 {found}, expected {expected}")]
    Sha256 {
        name: String,
        expected: Sha256Sum,
        found: Sha256Sum,
    },
    #[error("reading the base image {name}")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("reading the base image {name}")]
    Xz {
        name: String,
        #[source]
        source: XzError,
    },
    #[error("unpacking the base image {name} after {done} bytes: {what}")]
    Damaged { name: String, done: u64, what: String },
    #[error("unpacking the base image {name} needs over {limit} bytes of memory")]
    Memory { name: String, codec: Codec, limit: u64 },
    #[error("the base image {name} is larger than {limit} bytes")]
    TooLarge { name: String, limit: u64 },
    #[error("the base image {name} unpacks to over {room} bytes, which is all the room in {}", dir.display())]
    NoRoom { name: String, dir: PathBuf, room: u64 },
    #[error("unpacking the base image {name} into the cache {}", path.display())]
    Cache {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the base image {name} changed while it was read")]
    Changed { name: String },
    #[error("interrupted")]
    Cancelled,
}

/// What the user can do about an error of reading that comes from the packing of the base, whatever was being read: then
/// what is said of the contents is beside the point.
pub fn hint_within(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error leaves its own cause out of the chain.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let packed = inner.and_then(|inner| inner.downcast_ref::<XzError>());
        if let Some(packed) = packed.or_else(|| error.downcast_ref()) {
            return Some(packed.hint());
        }
        next = error.source();
    }
    None
}

impl SourceError {
    /// Reading `name` failed.
    pub(super) fn read(name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        if is_changed(&source) {
            return Self::Changed { name };
        }
        Self::Read { name, source }
    }

    /// Reading the .xz file `name` failed.
    pub(super) fn xz(name: &str, source: XzError) -> Self {
        let name = name.to_owned();
        if is_changed(&source) {
            return Self::Changed { name };
        }
        Self::Xz { name, source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; one in a farm file is relative to that file".into()
            }
            Self::Open { .. } => "check that you may read it".into(),
            Self::NotAFile { .. } => "name the .img, .img.xz, .img.gz or .img.zst file itself".into(),
            Self::UnsupportedFormat { what, .. } => what.hint(),
            Self::Sha256 { .. } => {
                "fetch the file again; if it is the right one, correct what it was compared with (`sha256:` in the farm file, \
                 or `flash --sha256`), or, if it only has the name of one of Ubuntu's, write `base: ./FILE`"
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
