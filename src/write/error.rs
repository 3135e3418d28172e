//! Everything that can go wrong between a base and what is written.

use std::io;

use crate::base::source::SourceError;
use crate::card::BurnError;
use crate::edit::EditError;

/// Why an image was not written. `target` is a path, or what the sink calls itself.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The base could not be read on.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The card could not be written, or does not hold what was written.
    #[error(transparent)]
    Card(#[from] BurnError),
    /// The card holds what was written, but not as files.
    #[error("reading the files on the card")]
    Files(#[source] EditError),
    /// The edits were made for another image.
    #[error("the edits are for an image of {edits} bytes, the base image has {base}")]
    OtherBase {
        /// Size that the edits know.
        edits: u64,
        /// Size that the base has.
        base: u64,
    },
    /// The output's name is taken by something that is no file, or cannot be made.
    #[error("creating {target}")]
    Create {
        /// Which.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("writing {len} bytes at offset {offset} of {target}")]
    Write {
        /// To what.
        target: String,
        /// Where, in bytes of the image.
        offset: u64,
        /// How many.
        len: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bytes could not be made to last, or to have their name.
    #[error("finishing {target}")]
    Finish {
        /// Which.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name that says nothing about what is to be written.
    #[error("the output {target} ends in none of .img, .img.xz and .img.zst")]
    UnknownPacking {
        /// Which.
        target: String,
    },
}

impl SinkError {
    /// What the person can do about it.
    #[must_use]
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

    /// Whether this is the answer to a request to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Source(SourceError::Cancelled) | Self::Card(BurnError::Cancelled)
        )
    }
}
