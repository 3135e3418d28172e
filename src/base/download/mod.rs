//! Bases from the network: the catalogue of Ubuntu's images, downloads that can be resumed, and the proof that a file is
//! what Ubuntu published.
//!
//! Nothing that is downloaded is trusted: sizes are limited, lists are signed, and a file gets its name only if its
//! digest is the expected one. Nothing here knows what is in an image. Downloads can be removed again.

mod answer;
pub mod boards;
pub mod catalogue;
mod clean;
mod client;
mod error;
mod openpgp;
mod partial;
pub mod proxy;
pub mod rootfs;
mod sums;
mod ubuntu;
mod url;

pub use clean::{clean, CleanScope, Cleaned};
pub use client::{Client, Limits, MOST_BYTES};
pub use error::DownloadError;
pub use openpgp::{SignatureError, TrustedKey};
pub use sums::{Sums, MOST_SUMS};
pub use ubuntu::{fetch, is_there, listed, remembered, signed_sums, ubuntu_keys, MOST_SIGNATURE};
pub use url::{cached_name, Url};
