//! What can be wrong with a download.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::SignatureError;
use crate::base::source::Sha256Sum;

/// Why there is no file. Nothing half-written has its name.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No URL.
    #[error("{url:?} is no URL to download from: {why}")]
    Url {
        /// As given, without a password.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A redirect from https to http.
    #[error("{from} leads to {to}, where whoever is on the way can change what comes")]
    Downgrade {
        /// Where it was asked for.
        from: String,
        /// Where it should be fetched.
        to: String,
    },
    /// Redirects without end.
    #[error("{url} leads on more than {most} times")]
    Redirects {
        /// The first one.
        url: String,
        /// How often is followed.
        most: u32,
    },
    /// The server has no such file, or does not give it away.
    #[error("asking for {url}: the server answers {status}")]
    Status { url: String, status: u16 },
    /// The server cannot be reached, or its certificate is not trusted.
    #[error("asking for {url}")]
    Ask {
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    /// The connection broke, or nothing came for too long.
    #[error("downloading {url} broke off after {done} bytes")]
    Broken {
        url: String,
        /// Bytes that are kept to go on from.
        done: u64,
        #[source]
        source: io::Error,
    },
    /// The server ended early.
    #[error("downloading {url} ended after {done} of {total} bytes")]
    Short {
        url: String,
        /// Bytes that are kept to go on from.
        done: u64,
        /// Bytes that the server promised.
        total: u64,
    },
    /// A small file that comes too slowly.
    #[error("{url} has {done} bytes after {} s and no end, and {} s is the longest that a list may take", most.as_secs(), most.as_secs())]
    Slow {
        url: String,
        /// Bytes that came.
        done: u64,
        /// The most time.
        most: Duration,
    },
    /// The server's answer does not fit what was asked.
    #[error("the server's answer for {url} makes no sense: {what}")]
    Answer {
        url: String,
        /// In which way.
        what: String,
    },
    /// More than there may be.
    #[error("{url} has more than {most} bytes")]
    TooLarge {
        url: String,
        /// The most.
        most: u64,
    },
    /// The disk is too full.
    #[error("{url} has {need} more bytes, and {} has room for {room}", dir.display())]
    NoRoom {
        url: String,
        /// Where to.
        dir: PathBuf,
        /// Bytes that are missing.
        need: u64,
        /// Bytes that are free.
        room: u64,
    },
    /// The file cannot be written.
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Somebody else is at it.
    #[error("another palmfarm is downloading {}", path.display())]
    Busy { path: PathBuf },
    /// There is nowhere to keep it.
    #[error("there is no cache to download into: neither XDG_CACHE_HOME nor HOME names a folder")]
    NoCache,
    /// It came whole, and is not what it should be.
    #[error("{url} has SHA-256 {found}, expected {expected}")]
    Sha256 {
        url: String,
        expected: Sha256Sum,
        found: Sha256Sum,
    },
    /// The list is not signed by Ubuntu.
    #[error("the signature {url} is not good")]
    Signature {
        url: String,
        #[source]
        source: SignatureError,
    },
    /// The signed list does not name the file.
    #[error("the list {url} names no {file}")]
    NotListed { url: String, file: String },
    /// The signed list and the catalogue do not agree.
    #[error("for {file} the list {url} gives SHA-256 {listed}, and palmfarm knows {known}")]
    Disagree {
        url: String,
        file: String,
        /// What the list says.
        listed: Sha256Sum,
        /// What the catalogue says.
        known: Sha256Sum,
    },
    /// Asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl DownloadError {
    /// Whether what was offered is refused, as against a download that did not come about.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Url { .. }
                | Self::Downgrade { .. }
                | Self::TooLarge { .. }
                | Self::Sha256 { .. }
                | Self::Signature { .. }
                | Self::NotListed { .. }
                | Self::Disagree { .. }
        )
    }

    /// Whether the same again may end well.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Short { .. } => true,
            // Too many requests, and what gateways say while a server is away.
            Self::Status { status, .. } => matches!(status, 429 | 500 | 502..=504),
            _ => false,
        }
    }

    /// What the person can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Url { .. } => "write an https:// URL of an .img, .img.xz, .img.gz or .img.zst".into(),
            Self::Downgrade { .. } => "use the address that it leads to only if you have its SHA-256".into(),
            Self::Status {
                status: 404 | 410, ..
            } => "it may have moved: look at the server with a browser, or give another with --mirror".into(),
            Self::Status { .. } | Self::Answer { .. } | Self::Redirects { .. } | Self::Slow { .. } => {
                "try again later, or another server with --mirror".into()
            }
            Self::Ask { .. } => {
                "check the network; HTTPS_PROXY names a proxy, SSL_CERT_FILE the certificates to trust".into()
            }
            Self::Broken { .. } | Self::Short { .. } => {
                "start again: it goes on where it stopped, unless the server knows no way to".into()
            }
            Self::NoRoom { .. } | Self::Write { .. } | Self::NoCache => {
                "make room, or set XDG_CACHE_HOME to a place that has it".into()
            }
            Self::Busy { .. } => "wait for it".into(),
            Self::Sha256 { .. } => {
                "what came was thrown away; start again, and if it stays so, trust neither server nor way"
                    .into()
            }
            Self::Signature { .. } | Self::Disagree { .. } => {
                "do not use what this server offers; try https://cdimage.ubuntu.com/releases itself".into()
            }
            Self::NotListed { .. } => "a newer palmfarm may know the release that has taken its place".into(),
            Self::TooLarge { .. } => "this is not the file you meant".into(),
            Self::Cancelled => return None,
        })
    }
}
