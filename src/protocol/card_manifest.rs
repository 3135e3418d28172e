//! `/etc/palmfarm/manifest.json`: what a card was made from and what was put on it. It is public: of what is secret
//! it has the path and nothing else.

use serde::{Deserialize, Serialize};

/// The version that this crate writes.
pub const VERSION: u32 = 1;

/// A card's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The version of palmfarm that made the card.
    pub tool: String,
    /// The card's name in the fleet.
    pub card: String,
    /// Its host name.
    pub hostname: String,
    /// What it was made from.
    pub base: Base,
    /// Every node that was planned, boot before root, by path; without the manifest itself.
    pub files: Vec<Entry>,
}

/// The image that a card was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// As `farm.yaml` names it: from the catalogue, a path or a URL.
    pub name: String,
    /// SHA-256 of the file as downloaded, where it is known; 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// What it calls itself: `PRETTY_NAME` of os-release.
    pub release: String,
    /// Its architecture by Debian's name.
    pub arch: String,
}

/// What kind of node a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Nothing: what the base had there is gone.
    Absent,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `boot` or `root`.
    pub volume: String,
    /// Absolute path in it.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits in octal, on the root filesystem.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<String>,
    /// Owner, on the root filesystem.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Group, on the root filesystem.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<u32>,
    /// Bytes of a file that is not secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// SHA-256 of a file that is not secret; 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// Whether its content is secret.
    pub secret: bool,
    /// Where it comes from.
    pub origin: String,
}
