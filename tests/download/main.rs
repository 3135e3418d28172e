//! Downloads against a real HTTP server on the loopback interface that fails as servers and lines fail: it cuts off, knows
//! no ranges, changes the file, lies. In every case the file with the final name has the right bytes, or does not exist.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod command;
mod hints;
mod images;
mod keys;
mod server;
mod signed;
mod slow;
mod transfer;

use std::path::Path;
use std::time::Duration;

use palmfarm::base::download::{Client, DownloadError, Limits, Url};
use palmfarm::base::source::Sha256Sum;
use palmfarm::progress::{Cancel, Observer, Silent};

/// A client that does not wait long.
fn client() -> Client {
    let limits = Limits {
        connect: Duration::from_secs(10),
        silence: Duration::from_secs(10),
        small: Duration::from_secs(10),
        pause: Duration::from_millis(1),
    };
    Client::new(limits, None)
}

/// Download `url` to `dir/image`.
fn download(url: &str, dir: &Path, expect: Option<Sha256Sum>) -> Result<Sha256Sum, DownloadError> {
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &Silent,
        cancel: &cancel,
    };
    client().download(&Url::parse(url).unwrap(), &dir.join("image"), expect, observer)
}

/// Bytes of which no part is like another.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift32 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..len).map(|_| next()).collect()
}

/// What lies in `dir`, in order.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect(),
        Err(_) => Vec::new(),
    };
    names.sort();
    names
}
