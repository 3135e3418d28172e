//! What can be wrong with a download.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::SignatureError;
use crate::base::source::Sha256Sum;

/// Why a download failed. No incomplete file has the final name.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// It is not a URL.
    #[error("{url:?} is not a URL to download from: {why}")]
    Url {
        /// As given, without a password.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A redirect from https to http.
    #[error("{from} leads to {to}, and over http anybody on the way can change the file")]
    Downgrade {
        /// The URL that was requested.
        from: String,
        /// Where the server sends us.
        to: String,
    },
    /// A redirect of a file that may not be elsewhere.
    #[error("{from} leads to {to}, and it may not be elsewhere")]
    Moved {
        /// The URL that was requested.
        from: String,
        /// Where the server sends us.
        to: String,
    },
    /// Too many redirects.
    #[error("{url} redirects more than {most} times")]
    Redirects {
        /// The first one.
        url: String,
        /// The limit.
        most: u32,
    },
    /// The server does not have the file, or does not allow access to it.
    #[error("requesting {url}: the server answers {status}")]
    Status { url: String, status: u16 },
    /// The server cannot be reached, or its certificate is not trusted.
    #[error("requesting {url}")]
    Ask {
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    /// The connection broke, or the server was silent for too long.
    #[error("the download of {url} broke off after {done} bytes")]
    Broken {
        url: String,
        /// Bytes that are kept for the next run.
        done: u64,
        #[source]
        source: io::Error,
    },
    /// The server stopped early.
    #[error("the download of {url} ended after {done} of {total} bytes")]
    Short {
        url: String,
        /// Bytes that are kept for the next run.
        done: u64,
        /// Bytes that the server promised.
        total: u64,
    },
    /// A small file comes too slowly.
    #[error("{url} is not complete after {} s and {done} bytes, and a list must not take longer", most.as_secs())]
    Slow {
        url: String,
        /// Bytes that came.
        done: u64,
        /// The most time.
        most: Duration,
    },
    /// The server's answer does not fit the request.
    #[error("the server's answer for {url} makes no sense: {what}")]
    Answer {
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// It is larger than allowed.
    #[error("{url} has more than {most} bytes")]
    TooLarge {
        url: String,
        /// The most.
        most: u64,
    },
    /// The disk is too full.
    #[error("{url} needs {need} more bytes, but {} has space for only {room}", dir.display())]
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
    /// Another process is downloading it.
    #[error("another palmfarm is downloading {}", path.display())]
    Busy { path: PathBuf },
    /// There is no folder for it.
    #[error("there is no cache to download into: neither XDG_CACHE_HOME nor HOME is set to a folder")]
    NoCache,
    /// It is complete, but not the expected file.
    #[error("{url} has SHA-256 {found}, expected {expected}")]
    Sha256 {
        url: String,
        expected: Sha256Sum,
        found: Sha256Sum,
    },
    /// The list is not signed by Ubuntu.
    #[error("the signature {url} is not valid")]
    Signature {
        url: String,
        #[source]
        source: SignatureError,
    },
    /// The signed list does not name the file.
    #[error("the list {url} does not contain {file}")]
    NotListed { url: String, file: String },
    /// The signed list and the catalogue do not agree.
    #[error("the list {url} gives SHA-256 {listed} for {file}, but palmfarm expects {known}")]
    Disagree {
        url: String,
        file: String,
        /// What the list says.
        listed: Sha256Sum,
        /// What the catalogue says.
        known: Sha256Sum,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl DownloadError {
    /// Whether the file was refused, as opposed to a download that failed.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Url { .. }
                | Self::Downgrade { .. }
                | Self::Moved { .. }
                | Self::TooLarge { .. }
                | Self::Sha256 { .. }
                | Self::Signature { .. }
                | Self::NotListed { .. }
                | Self::Disagree { .. }
        )
    }

    /// Whether a retry may succeed.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Short { .. } => true,
            // Too many requests, and what gateways answer while a server is down.
            Self::Status { status, .. } => matches!(status, 429 | 500 | 502..=504),
            _ => false,
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Url { .. } => "write an https:// URL of an .img, .img.xz, .img.gz or .img.zst".into(),
            Self::Downgrade { .. } => "use the second address only if you know the file's SHA-256".into(),
            Self::Status {
                status: 404 | 410, ..
            } => "it may have moved: look at the server with a browser, or choose another with --mirror".into(),
            Self::Status { .. } | Self::Answer { .. } | Self::Redirects { .. } | Self::Slow { .. } => {
                "try again later, or choose another server with --mirror".into()
            }
            Self::Ask { .. } => {
                "check the network; set HTTPS_PROXY to use a proxy, SSL_CERT_FILE to trust other certificates".into()
            }
            Self::Broken { .. } | Self::Short { .. } => {
                "run the command again: it resumes the download if the server can".into()
            }
            Self::NoRoom { .. } | Self::Write { .. } | Self::NoCache => {
                "free some space, or set XDG_CACHE_HOME to a folder that has it".into()
            }
            Self::Busy { .. } => "wait until it is done".into(),
            Self::Sha256 { .. } => {
                "the file was deleted; run the command again, and if this happens again, do not trust the server or the network"
                    .into()
            }
            Self::Signature { .. } | Self::Disagree { .. } => {
                "do not use files from this server; try https://cdimage.ubuntu.com/releases itself".into()
            }
            Self::NotListed { .. } => "a newer palmfarm may know the release that replaced it".into(),
            Self::TooLarge { .. } => "this is not the file you meant".into(),
            Self::Moved { .. } | Self::Cancelled => return None,
        })
    }
}
