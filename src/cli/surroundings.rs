//! What the command line takes from its surroundings – environment, processors, signals – so that nothing below it
//! has to.

use std::env;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Failure, OrFail, Outcome};
use crate::base::download::{Client, Limits};
use crate::base::source::CacheDir;
use crate::host::bounded_read;
use crate::host::privileges::{drop_privileges, Dropped};
use crate::pipeline::Ambient;
use crate::progress::Cancel;

/// The largest file of certificates, in bytes; Debian's has 220 KiB.
const MOST_CERTIFICATES: u64 = 8 << 20;

/// Give root up where somebody asked root to run this, and find the user's cache: before anything is looked into that
/// others made. A stranger's farm must not read what only root may. Asked again, it says the same.
///
/// # Errors
/// Failed, where root cannot be given up.
pub fn as_invoker() -> Result<CacheDir, Failure> {
    static CACHE: OnceLock<CacheDir> = OnceLock::new();
    if let Some(cache) = CACHE.get() {
        return Ok(cache.clone());
    }
    let cache = match drop_privileges().or_fail(Outcome::Failed)? {
        // The environment is root's.
        Dropped::User(user) => CacheDir::of_user(None, user.home.map(PathBuf::into_os_string)),
        Dropped::Unchanged => CacheDir::of_user(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")),
    };
    Ok(CACHE.get_or_init(|| cache).clone())
}

/// A client for downloads. `SSL_CERT_FILE` names certificates to trust in place of the ones that are built in, as
/// where a company's proxy looks into TLS.
///
/// # Errors
/// Refused, where that file cannot be read.
pub fn client() -> Result<Client, Failure> {
    let certificates = match env::var_os("SSL_CERT_FILE") {
        None => None,
        Some(path) => Some(
            bounded_read::read(Path::new(&path), MOST_CERTIFICATES)
                .with_context(|| format!("reading the certificates in {}", Path::new(&path).display()))
                .or_fail(Outcome::Refused)?,
        ),
    };
    Ok(Client::new(Limits::default(), certificates.as_deref()))
}

/// How many threads decode where nothing else is said.
#[must_use]
pub fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Values that a card may depend on, and no others.
///
/// # Errors
/// Refused, where `SOURCE_DATE_EPOCH` is set and is no time that ext4 and FAT can hold.
pub fn ambient() -> Result<Ambient<'static>, Failure> {
    let epoch = match env::var("SOURCE_DATE_EPOCH") {
        Err(_) => None,
        Ok(text) => Some(
            text.parse()
                .with_context(|| {
                    format!("SOURCE_DATE_EPOCH is {text:?}, which is no number of seconds since 1970")
                })
                .or_fail(Outcome::Refused)?,
        ),
    };
    Ok(Ambient {
        environment: &variable,
        epoch,
    })
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// A request to stop that Ctrl-C makes, or a terminal that goes away. A second Ctrl-C ends the program at once.
#[must_use]
pub fn interruptible() -> Cancel {
    let cancel = Cancel::new();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // As nohup(1) wants it. Who sends one of the others to what runs in the background means it.
        if signal == SIGHUP && ignored().contains(&signal) {
            continue;
        }
        let flag = cancel.flag();
        // Where no handler can be set, the signal ends the program, and a file without a name vanishes with it.
        drop(signal_hook::flag::register_conditional_shutdown(
            signal,
            130,
            std::sync::Arc::clone(&flag),
        ));
        drop(signal_hook::flag::register(signal, flag));
    }
    cancel
}

/// The signals that this process was started to ignore.
fn ignored() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

/// From `SigIgn:` of /proc/PID/status: a mask, where signal 1 is the lowest bit (proc(5)).
fn ignored_in(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let check = |status: &str, expect: &[i32]| assert_eq!(ignored_in(status), expect);
        check("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", &[1, 13]);
        check("SigIgn:\t8000000000000000\n", &[64]);
        check("Name:\tx\n", &[]);
    }
}
