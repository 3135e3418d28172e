//! What can go wrong with a card – opened, written and read back –, where, and what the person can do. Knows nothing of
//! how it is done.

use std::io;

use super::medium::{Replaced, TransferError};
use super::probe::ProbeError;

/// The card was not opened; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error("{path} is in use{}", list(by))]
    Busy {
        /// The path.
        path: String,
        /// By whom, as far as can be seen.
        by: Vec<String>,
    },
    /// The user may not write it.
    #[error("no permission to write {path}")]
    Denied {
        /// The path.
        path: String,
    },
    /// The user may not read it.
    #[error("no permission to read {path}")]
    Unreadable {
        /// The path.
        path: String,
    },
    /// It was taken out after the check.
    #[error("{path} was taken out after it was checked")]
    Gone {
        /// The path.
        path: String,
    },
    /// The device refuses writes.
    #[error("{path} is read-only")]
    ReadOnly {
        /// The path.
        path: String,
    },
    /// It is not the one that was approved.
    #[error(transparent)]
    Replaced(#[from] Replaced),
    /// Anything else.
    #[error("opening {path}")]
    Open {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { .. } | Self::Unreadable { .. } => Some(
                "start the same command with sudo: root is given up as soon as the card is open".to_owned(),
            ),
            Self::Busy { .. } => {
                Some("close what uses it; nothing is unmounted or stopped for you".to_owned())
            }
            Self::ReadOnly { .. } => {
                Some("is the write-protect tab of the card or of its adapter in the way?".to_owned())
            }
            Self::Gone { .. } | Self::Replaced(_) => Some("leave the card in and start again".to_owned()),
            Self::Open { .. } => None,
        }
    }
}

/// Why a card was not written, or not proved. Whether it is spoiled, [`super::Touched`] knows.
#[derive(Debug, thiserror::Error)]
pub enum BurnError {
    /// The image does not fit.
    #[error("the image has {image} bytes, the card {size}")]
    TooSmall {
        /// Of the card, in bytes.
        size: u64,
        /// In bytes.
        image: u64,
    },
    /// The card claims what it does not have, or failed while it was asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A transfer failed, or the card was changed for another.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The card does not hold what was written, also after it was written again.
    #[error("the card does not hold what was written: the first difference is at offset {offset}, also after writing it again")]
    Differs {
        /// The first wrong byte.
        offset: u64,
    },
    /// Too much of the card is wrong for writing it again.
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
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image gives other bytes than the first time.
    #[error("the image has other bytes at offset {offset} than when it was written")]
    Changed {
        /// In bytes.
        offset: u64,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// The image did not come as an image does.
    #[error("the image came out of order")]
    OutOfOrder,
}

impl BurnError {
    /// Where on the card, in bytes, where there is one place.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Differs { offset }
            | Self::DiffersWidely { offset, .. }
            | Self::Again { offset, .. }
            | Self::Changed { offset }
            | Self::Probe(ProbeError::Fake { offset, .. }) => Some(*offset),
            Self::Transfer(error) | Self::Probe(ProbeError::Transfer(error)) => error.offset(),
            Self::TooSmall { .. } | Self::Cancelled | Self::OutOfOrder => None,
        }
    }

    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Probe(error) => error.hint(),
            Self::Transfer(TransferError::Replaced(_)) => Some("leave the card in and start again"),
            Self::Transfer(_) | Self::Differs { .. } | Self::DiffersWidely { .. } => {
                Some("the card may be worn out, or its reader or cable loose: try another reader, then another card")
            }
            Self::Changed { .. } => Some("do not write to the image while it is flashed"),
            Self::TooSmall { .. } | Self::Again { .. } | Self::Cancelled | Self::OutOfOrder => None,
        }
    }
}

fn list(by: &[String]) -> String {
    if by.is_empty() {
        return String::new();
    }
    format!(": {}", by.join("; "))
}
