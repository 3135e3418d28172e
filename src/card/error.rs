//! What can go wrong when a card is opened, written and read back, and what the user can do about it. It knows nothing
//! of how any of that is done.

use std::io;

use super::medium::{Replaced, TransferError};
use super::probe::ProbeError;

/// The card was not opened; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another program has it.
    #[error("{path} is in use{}", list(by))]
    Busy {
        path: String,
        /// Who uses it, as far as can be seen.
        by: Vec<String>,
    },
    /// The user may not write it.
    #[error("no permission to write {path}")]
    Denied { path: String },
    /// The user may not read it.
    #[error("no permission to read {path}")]
    Unreadable { path: String },
    /// It was taken out after the check.
    #[error("{path} was taken out after it was checked")]
    Gone { path: String },
    /// The device refuses writes.
    #[error("{path} is read-only")]
    ReadOnly { path: String },
    /// It is not the one that was approved.
    #[error(transparent)]
    Replaced(#[from] Replaced),
    /// Anything else.
    #[error("opening {path}")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { .. } | Self::Unreadable { .. } => Some(
                "run the same command with sudo: palmfarm gives up root as soon as the card is open"
                    .to_owned(),
            ),
            Self::Busy { .. } => Some("close whatever uses it, and run the command again".to_owned()),
            Self::ReadOnly { .. } => {
                Some("check the write-protect switch of the card or of its adapter".to_owned())
            }
            Self::Gone { .. } | Self::Replaced(_) => {
                Some("leave the card in and run the command again".to_owned())
            }
            Self::Open { .. } => None,
        }
    }
}

/// Why a card was not written, or not verified. [`super::Touched`] says whether its old content is lost.
#[derive(Debug, thiserror::Error)]
pub enum BurnError {
    /// The image does not fit.
    #[error("the image has {image} bytes, but the card only {size}")]
    TooSmall {
        /// Of the card, in bytes.
        size: u64,
        /// In bytes.
        image: u64,
    },
    /// The card claims a size that it does not have, or failed while that was tested.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A transfer failed, or another card is in the reader.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The card does not hold what was written, even after a second attempt.
    #[error("the card does not hold what was written: the first difference is at offset {offset}, even after a second attempt")]
    Differs {
        /// The first wrong byte.
        offset: u64,
    },
    /// Too much of the card is wrong for a second attempt.
    #[error("the card does not hold what was written: {pieces} pieces differ, the first at offset {offset}")]
    DiffersWidely {
        /// The first wrong byte.
        offset: u64,
        /// How many pieces of at most 1 MiB differ so far.
        pieces: usize,
    },
    /// The image could not be read a second time.
    #[error("reading the image again at offset {offset}, to repair the card")]
    Again {
        /// In bytes.
        offset: u64,
        #[source]
        source: io::Error,
    },
    /// The image has other bytes than the first time.
    #[error("the image has other bytes at offset {offset} than when it was written")]
    Changed {
        /// In bytes.
        offset: u64,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// The pieces of the image did not come in order.
    #[error("the pieces of the image came out of order")]
    OutOfOrder,
}

impl BurnError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Probe(ProbeError::Fake { .. }) => {
                Some("fake and worn-out cards do this: use another; f3probe(1) shows how large it really is")
            }
            Self::Transfer(TransferError::Replaced(_)) => Some("leave the card in and run the command again"),
            Self::Transfer(_) | Self::Differs { .. } | Self::DiffersWidely { .. } => {
                Some("the card may be worn out, or its reader or cable may be loose: try another reader, then another card")
            }
            Self::Changed { .. } => Some("do not write to the image while it is flashed"),
            Self::Probe(ProbeError::Transfer(_))
            | Self::TooSmall { .. }
            | Self::Again { .. }
            | Self::Cancelled
            | Self::OutOfOrder => None,
        }
    }
}

fn list(by: &[String]) -> String {
    if by.is_empty() {
        return String::new();
    }
    format!(": {}", by.join("; "))
}
