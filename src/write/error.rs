//! Everything that can go wrong between a base and the output.

use std::io;

use crate::base::source::SourceError;
use crate::card::BurnError;
use crate::edit::block::length;
use crate::edit::EditError;

/// A reason why an image was not written. `target` is a path.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Card(#[from] BurnError),
    #[error("reading the files on the card")]
    Files(#[source] EditError),
    #[error("the edits are for an image of {edits} bytes, the base image has {base}")]
    OtherBase { edits: u64, base: u64 },
    #[error("creating {target}")]
    Create {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("writing {len} bytes at offset {offset} of {target}")]
    Write {
        target: String,
        /// Where, in bytes of the image.
        offset: u64,
        len: u64,
        #[source]
        source: io::Error,
    },
    #[error("finishing {target}")]
    Finish {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("the name of the output {target} must end in .img, .img.xz or .img.zst")]
    UnknownPacking { target: String },
}

impl SinkError {
    pub(super) fn create(target: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Create {
            target: target.to_owned(),
            source,
        }
    }

    pub(super) fn write<'a>(
        target: &'a str,
        offset: u64,
        bytes: &'a [u8],
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Write {
            target: target.to_owned(),
            offset,
            len: length(bytes),
            source,
        }
    }

    pub(super) fn finish(target: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Finish {
            target: target.to_owned(),
            source,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(source) => source.hint(),
            Self::Card(error) => error.hint().map(str::to_owned),
            Self::Files(_) => Some("try another reader, then another card".into()),
            Self::OtherBase { .. } => None,
            Self::Create { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("give the name of a file; a card is written with `palmfarm flash`".into())
            }
            Self::Create { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("make the directory first".into())
            }
            Self::Write { source, .. } | Self::Finish { source, .. } | Self::Create { source, .. } => {
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        Some("make room there, or write elsewhere with `-o`".into())
                    }
                    io::ErrorKind::FileTooLarge => {
                        Some("the file system there cannot hold a file of that size: write elsewhere".into())
                    }
                    io::ErrorKind::PermissionDenied => Some("check that you may write there".into()),
                    io::ErrorKind::ReadOnlyFilesystem => {
                        Some("that file system is read-only: write elsewhere".into())
                    }
                    _ => None,
                }
            }
            Self::UnknownPacking { .. } => {
                Some(
                    "name it after what it shall be: palm.img, palm.img.xz, palm.img.zst, a folder for the images of a \
                     fleet, or palm.tar for `palmfarm-agent apply`"
                        .into(),
                )
            }
        }
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Source(SourceError::Cancelled) | Self::Card(BurnError::Cancelled)
        )
    }
}
