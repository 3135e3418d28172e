//! Why a card cannot be planned. It holds texts and numbers, and decides nothing.

use super::images;
use crate::edit::tree::BadPath;
use crate::farm::declared::Exposed;
use crate::farm::lxd_image::ImageError;

/// What to do about a document that is too long.
const SHORTER: &str = "push what is long with `files` and run it from there, or put it into an image";

/// The agent's document is longer than the agent reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first-boot document would have {bytes} bytes, and the agent reads {most} at most")]
pub struct DocumentTooLong {
    /// Bytes that it would have.
    pub bytes: u64,
    /// The most.
    pub most: u64,
}

impl DocumentTooLong {
    /// What the person can do.
    #[must_use]
    pub fn hint(self) -> &'static str {
        SHORTER
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file was not read beforehand.
    #[error("the farm names {0:?}, which was not read")]
    NotRead(String),
    /// A script is not text.
    #[error("the script {0:?} is not UTF-8, so no shell can run it")]
    NoText(String),
    /// A host key that sshd could not use.
    #[error("{file:?} is not a host key: {why}")]
    HostKey { file: String, why: &'static str },
    /// A password was not hashed beforehand.
    #[error("the password of {0} was not hashed")]
    NotHashed(String),
    /// A path that a card cannot have.
    #[error("planning {source_path:?}")]
    Path {
        /// The path beside the farm file.
        source_path: String,
        /// What is wrong.
        #[source]
        source: BadPath,
    },
    /// More people could read a file than may.
    #[error("putting {source_path:?} at {path}: {why}")]
    Exposed {
        /// The path on the card or in a container.
        path: String,
        /// The path beside the farm file.
        source_path: String,
        /// What is wrong.
        why: Exposed,
    },
    /// A carried image cannot be read as one.
    #[error("reading {source_path:?}, the image {alias}")]
    Image {
        /// Its alias.
        alias: String,
        /// The path beside the farm file.
        source_path: String,
        /// What is wrong.
        #[source]
        source: ImageError,
    },
    /// The parts of a carried image do not go together.
    #[error("putting the image {alias} together: {what}")]
    ImageParts {
        /// Its alias.
        alias: String,
        /// What is wrong.
        what: images::Mismatch,
    },
    /// What is declared of containers is longer than the agent's document may be, however it is written.
    #[error("what the containers up to {container} run and are configured with has more than {most} bytes, and the agent reads no more")]
    Containers {
        /// The container that passed the limit.
        container: String,
        /// The limit.
        most: u64,
    },
    /// Containers whose images wait for each other.
    #[error("{} each need an image that another of them publishes", .0.join(", "))]
    Circle(Vec<String>),
}

impl PlanError {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image { source, .. } => source.hint().map(Into::into),
            Self::ImageParts { what, .. } => what.hint().map(Into::into),
            Self::Containers { .. } => Some(SHORTER.into()),
            Self::Exposed { source_path, why, .. } => Some(why.hint(source_path)),
            _ => None,
        }
    }
}
