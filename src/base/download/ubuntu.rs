//! Fetches an image of the catalogue, its list of digests and the list's signature into the cache.
//!
//! The list and its signature stay beside the image, so that a later build can check them without the network.

use std::path::{Path, PathBuf};

use super::catalogue::Known;
use super::openpgp;
use super::{Client, DownloadError, SignatureError, Sums, TrustedKey, Url, MOST_SUMS};
use crate::base::source::{file_digest, Sha256Sum, SourceError};
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::host::bounded_read;
use crate::progress::Observer;

/// "Ubuntu CD Image Automatic Signing Key (2012)", rsa4096. It is in Debian's package ubuntu-archive-keyring, from
/// which `ubuntu-cdimage.asc` beside this file was taken:
/// `gpg --import /usr/share/keyrings/ubuntu-archive-keyring.gpg` and
/// `gpg --armor --export-options export-minimal --export 843938DF228D22F7B3742BC0D94AA3F0EFE21092`.
const FINGERPRINT: &str = "843938DF228D22F7B3742BC0D94AA3F0EFE21092";

/// The largest signature that is read, in bytes; Ubuntu's has 833.
pub const MOST_SIGNATURE: u64 = 64 << 10;

/// The keys whose signature of a list is trusted.
pub fn ubuntu_keys() -> Result<Vec<TrustedKey>, SignatureError> {
    Ok(vec![TrustedKey::pinned(
        include_str!("ubuntu-cdimage.asc"),
        FINGERPRINT,
    )?])
}

/// Parse `list`, which `signature` must be valid for.
pub fn signed_sums(list: &[u8], signature: &[u8], keys: &[TrustedKey]) -> Result<Sums, SignatureError> {
    let armoured = std::str::from_utf8(signature).map_err(|_| SignatureError::NoArmour("PGP SIGNATURE"))?;
    openpgp::verify(list, armoured, keys)?;
    Ok(Sums::parse(&String::from_utf8_lossy(list)))
}

/// The digest that the signed list on `mirror` gives for `known`; list and signature are kept in `bases`.
pub fn listed(
    client: &Client,
    known: &Known,
    mirror: &str,
    keys: &[TrustedKey],
    bases: &Path,
    observer: Observer<'_>,
) -> Result<Sha256Sum, DownloadError> {
    let list_url = Url::parse(&known.beside(mirror, "SHA256SUMS"))?;
    let signature_url = Url::parse(&known.beside(mirror, "SHA256SUMS.gpg"))?;
    let list = client.small(&list_url, MOST_SUMS, observer.cancel)?;
    let signature = client.small(&signature_url, MOST_SIGNATURE, observer.cancel)?;
    let sums = signed_sums(&list, &signature, keys).map_err(|source| DownloadError::Signature {
        url: signature_url.to_string(),
        source,
    })?;
    let listed = sums.find(known.file).ok_or_else(|| DownloadError::NotListed {
        url: list_url.to_string(),
        file: known.file.into(),
    })?;
    if let Some(pinned) = known.pinned().filter(|sum| *sum != listed) {
        return Err(DownloadError::Disagree {
            url: list_url.to_string(),
            file: known.file.into(),
            listed,
            known: pinned,
        });
    }
    for (end, bytes) in [(".SHA256SUMS", &list), (".SHA256SUMS.gpg", &signature)] {
        let path = beside(bases, known, end);
        AtomicFile::write_cached(&path, Readers::All, bytes)
            .map_err(|source| DownloadError::Write { path, source })?;
    }
    Ok(listed)
}

/// Download `known` from `mirror` into `bases`, unless it is there with the digest that the signed list gives. Returns
/// the digest.
pub fn fetch(
    client: &Client,
    known: &Known,
    mirror: &str,
    keys: &[TrustedKey],
    bases: &Path,
    observer: Observer<'_>,
) -> Result<Sha256Sum, DownloadError> {
    let listed = listed(client, known, mirror, keys, bases, observer)?;
    let (url, path) = (Url::parse(&known.url(mirror))?, bases.join(known.file));
    if is_there(&path, &listed, observer)? {
        return Ok(listed);
    }
    client.download(&url, &path, Some(listed), observer)
}

/// Whether the file at `path` is there and has `digest`.
pub fn is_there(path: &Path, digest: &Sha256Sum, observer: Observer<'_>) -> Result<bool, DownloadError> {
    match file_digest(path, observer) {
        Ok(found) => Ok(found == *digest),
        Err(SourceError::Cancelled) => Err(DownloadError::Cancelled),
        // A file that cannot be read is downloaded again.
        Err(_) => Ok(false),
    }
}

/// The digest of `known` in the signed list that an earlier download left in `bases`.
pub fn remembered(known: &Known, keys: &[TrustedKey], bases: &Path) -> Option<Sha256Sum> {
    let list = bounded_read::read(&beside(bases, known, ".SHA256SUMS"), MOST_SUMS).ok()?;
    let signature = bounded_read::read(&beside(bases, known, ".SHA256SUMS.gpg"), MOST_SIGNATURE).ok()?;
    signed_sums(&list, &signature, keys).ok()?.find(known.file)
}

fn beside(bases: &Path, known: &Known, end: &str) -> PathBuf {
    bases.join(format!("{}{end}", known.file))
}
