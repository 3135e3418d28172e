//! What the head of an HTTP answer says: whether the whole file comes, or the part that was asked for, and of which
//! version of it. It waits for nothing and believes nothing of the body.

use ureq::http::HeaderMap;

use super::url::Url;
use super::DownloadError;

/// An answer that is the whole file.
pub(super) fn whole(url: &Url, status: u16) -> Result<(), DownloadError> {
    if status == 200 {
        return Ok(());
    }
    Err(DownloadError::Status {
        url: url.to_string(),
        status,
    })
}

/// The size of the whole file, if the part that comes is the one that was asked for: `bytes 100-199/200`
/// (RFC 9110, section 14.4).
pub(super) fn resumed(headers: &HeaderMap, start: u64, total: u64) -> Option<u64> {
    let range = text(headers, "content-range")?.strip_prefix("bytes ")?;
    let (span, size) = range.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    let fits =
        first == start && last.checked_add(1)? == size && start < size && (total == 0 || size == total);
    fits.then_some(size)
}

/// What identifies this version of the file; empty if the server does not say.
pub(super) fn validator(headers: &HeaderMap) -> String {
    let strong = text(headers, "etag").filter(|tag| tag.starts_with('"'));
    strong
        .or_else(|| text(headers, "last-modified"))
        .unwrap_or_default()
        .to_owned()
}

/// A header that is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// A header that is a number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}
