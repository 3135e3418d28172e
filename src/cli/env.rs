//! What the command line takes from its environment – variables, processors, who started it – so that nothing below it
//! has to.

use std::env;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context};

use super::{Failure, Outcome, OutcomeExt};
use crate::base::download::{proxy, Client, Limits};
use crate::base::source::CacheDir;
use crate::host::privileges::{self, Dropped};
use crate::host::{bounded_read, host_names};
use crate::pipeline::HostInputs;
use crate::text_file;

/// The largest file of certificates, in bytes; Debian's has 220 KiB.
const MOST_CERTIFICATES: u64 = 8 << 20;

/// If root was asked by somebody else to run this, become that user; then find the user's cache. Called once, before
/// the program reads anything that others made: a stranger's farm must not read what only root may.
pub(super) fn drop_privileges() -> Result<CacheDir, Failure> {
    Ok(match privileges::drop_privileges().or_fail(Outcome::Failed)? {
        // The environment is root's.
        Dropped::User(user) => CacheDir::of_user(None, user.home.map(PathBuf::into_os_string)),
        Dropped::Unchanged => CacheDir::of_user(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")),
    })
}

/// A variable of the environment as a farm sees it: `HOME` is the home folder of the user who runs palmfarm, also through
/// sudo.
pub(super) fn variable(name: &str) -> Option<OsString> {
    match name {
        "HOME" => privileges::home().map(PathBuf::into_os_string),
        name => env::var_os(name),
    }
}

/// The locale of the person who runs palmfarm, with its codeset written as Ubuntu writes it. What no card needs is `None`.
pub(super) fn locale() -> Option<String> {
    let found = ["LC_ALL", "LANG"].into_iter().find_map(|name| {
        let value = env::var(name).ok()?;
        (!value.is_empty()).then_some(value)
    })?;
    let is_plain = ["C", "POSIX"].contains(&found.split('.').next().unwrap_or_default());
    (!is_plain).then(|| found.replace(".utf8", ".UTF-8"))
}

/// A client for downloads. `SSL_CERT_FILE` names certificates to trust instead of the built-in ones, for example if a
/// company's proxy inspects TLS.
pub(super) fn client() -> Result<Client, Failure> {
    let set = |variable: &&str| env::var_os(variable).filter(|value| !value.is_empty());
    let proxy = proxy::VARIABLES
        .iter()
        .find_map(|variable| Some((variable, set(variable)?)));
    if let Some((variable, value)) = proxy {
        proxy::usable(variable, &value)
            .map_err(|error| Failure::with_hint(Outcome::Refused, error, |error| Some(error.hint())))?;
    }
    let certificates = match env::var_os("SSL_CERT_FILE") {
        None => None,
        Some(path) => {
            let path = Path::new(&path);
            let doing = || format!("reading the certificates in {}", path.display());
            let read = certificates(path).with_context(doing);
            Some(read.map_err(|error| {
                let hint = "let SSL_CERT_FILE name a file of certificates in PEM, or unset it to trust the built-in ones";
                Failure::refused(error, hint)
            })?)
        }
    };
    host_names::use_what_is_linked_in()
        .context("choosing how host names are found")
        .or_fail(Outcome::Failed)?;
    Ok(Client::new(Limits::default(), certificates.as_deref()))
}

/// The text of a file of certificates in PEM, at least one of them.
fn certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = bounded_read::read(path, MOST_CERTIFICATES)?;
    let text = text_file::decode(&bytes).map_err(|error| anyhow!("it {error}"))?;
    if !text.lines().any(|line| line == "-----BEGIN CERTIFICATE-----") {
        return Err(anyhow!("it has no line that reads -----BEGIN CERTIFICATE-----"));
    }
    Ok(text.into_bytes())
}

/// How many threads decode unless the command line says otherwise.
pub(super) fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The latest time, in seconds since 1970, that every inode of ext4 holds: in 2038 (kernel, `ext4/inodes.rst`).
const LATEST: u32 = i32::MAX.unsigned_abs();

/// The values of this computer that a card may depend on, and no others.
pub(super) fn host_inputs() -> Result<HostInputs<'static>, Failure> {
    let epoch = match env::var("SOURCE_DATE_EPOCH") {
        Err(_) => None,
        Ok(text) => Some(
            text.parse()
                .ok()
                .filter(|epoch| *epoch <= LATEST)
                .with_context(|| {
                    format!(
                        "SOURCE_DATE_EPOCH is {text:?}, which is not a number of seconds since 1970 up to {LATEST}"
                    )
                })
                .or_fail(Outcome::Refused)?,
        ),
    };
    Ok(HostInputs {
        environment: &variable,
        epoch,
    })
}
