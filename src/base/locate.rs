//! Finds what `base:` names: the built-in image, a file, a URL, or one of Ubuntu's images by name. If it is not on this
//! machine, it is downloaded, provided that the caller passes a client.

use std::path::PathBuf;

use crate::base::download::catalogue::{self, Known, KNOWN, RELEASES};
use crate::base::download::{self, cached_name, Client, DownloadError, SignatureError, Url};
use crate::base::source::{BadSha256, BaseImage, CacheDir, Expect, Sha256Sum, SourceError, Verified};
use crate::host::folder::Folder;
use crate::progress::Observer;

/// What `base:` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseRef<'a> {
    /// A name from the catalogue; `mini` is built in.
    Name(&'a str),
    /// A file; a relative path starts at the farm file.
    Path(&'a str),
    /// An `http` or `https` URL.
    Url(&'a str),
}

impl<'a> BaseRef<'a> {
    /// What `text` names: a URL has a scheme, a path has a slash or ends as files do (`.img.xz`, `.wic`, `.7z`), and all
    /// else is a name. A file without such an end is found by its name if no base is called so.
    pub fn new(text: &'a str) -> Self {
        let is_end = |end: &str| {
            let fine = end.len() <= 8 && end.bytes().all(|byte| byte.is_ascii_alphanumeric());
            fine && end.bytes().any(|byte| byte.is_ascii_alphabetic())
        };
        if text.contains("://") {
            Self::Url(text)
        } else if text.contains('/') || text.rsplit_once('.').is_some_and(|(_, end)| is_end(end)) {
            Self::Path(text)
        } else {
            Self::Name(text)
        }
    }

    /// Whether it is built in or one of Ubuntu's images, so that what is in it is known by its name.
    pub fn is_known(self) -> bool {
        matches!(self, Self::Name(name) if name == "mini" || catalogue::find(name).is_some())
    }

    /// What it is by the look of its name, written as in the catalogue (`ubuntu-22.04-armhf`): a name is taken as it is,
    /// and a file or URL is one of Ubuntu's images if it is called as Ubuntu calls them.
    pub fn looks_like(self) -> Option<String> {
        let file = match self {
            Self::Name(name) => return Some(name.into()),
            Self::Path(file) | Self::Url(file) => file.rsplit('/').next()?,
        };
        let (release, board) = file
            .strip_prefix("ubuntu-")?
            .split_once("-preinstalled-server-")?;
        let (arch, _) = board.split_once("+raspi")?;
        stock_name(release, arch)
    }
}

/// The name in the catalogue of Ubuntu's image with that release (`22.04.5`) and that of Debian's architectures.
pub fn stock_name(release: &str, arch: &str) -> Option<String> {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    match release.as_bytes() {
        [a, b, b'.', c, d, rest @ ..]
            if [a, b, c, d].into_iter().all(is_digit) && matches!(rest, [] | [b'.', ..]) =>
        {
            Some(format!("ubuntu-{}-{arch}", release.get(..5)?))
        }
        _ => None,
    }
}

/// The base that a farm asks for.
#[derive(Clone, Copy, Debug)]
pub struct BaseRequest<'a> {
    /// What `base:` says.
    pub base: BaseRef<'a>,
    /// The digest of its file as downloaded, if the farm gives one.
    pub sha256: Option<&'a str>,
    /// The folder that relative paths start from.
    pub dir: &'a Folder,
}

/// Why a base cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The name is not known.
    #[error("there is no base called {name:?}; the bases are mini, {}", names())]
    Unknown {
        /// As asked.
        name: String,
    },
    /// It is known, but not here.
    #[error("{file}, the base {name}, is neither beside the farm file nor in {}", cache.display())]
    NotHere {
        name: &'static str,
        file: &'static str,
        /// The cache, which does not have it either.
        cache: PathBuf,
    },
    /// The file behind a URL was not downloaded yet.
    #[error("{url} is not in {}", cache.display())]
    Remote {
        url: String,
        /// Where it would be.
        cache: PathBuf,
    },
    /// It is here, but its digest is not known.
    #[error("the digest of {} is not known: its list of digests was not downloaded", path.display())]
    Unlisted { path: PathBuf, name: &'static str },
    /// It cannot be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// One of Ubuntu's images cannot be downloaded.
    #[error("downloading the base {name}")]
    Ubuntu {
        name: &'static str,
        file: &'static str,
        source: Box<DownloadError>,
    },
    /// The key in this program is not Ubuntu's.
    #[error("reading Ubuntu's key")]
    Key(#[from] SignatureError),
    /// The digest in the farm is not one.
    #[error(transparent)]
    Digest(#[from] BadSha256),
    /// It cannot be opened, or is not the expected file.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl BaseError {
    /// Whether trying again would end in the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Download(error) => error.is_refusal(),
            Self::Ubuntu { source, .. } => source.is_refusal(),
            _ => true,
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => {
                Some("`palmfarm base list` lists them; a file is named by its path".into())
            }
            Self::NotHere { name, .. } | Self::Unlisted { name, .. } => {
                Some(format!("`palmfarm base fetch {name}` downloads it"))
            }
            Self::Remote { url, .. } if url.ends_with("?…") => {
                Some("`palmfarm base fetch URL` downloads it; write its whole URL".into())
            }
            Self::Remote { url, .. } => Some(format!("`palmfarm base fetch {url}` downloads it")),
            Self::Download(error) => error.hint(),
            Self::Ubuntu { file, source, .. } => {
                let elsewhere = format!(
                    "put {file}, downloaded elsewhere, beside the farm file; or name an image that you have: `base: ./FILE`"
                );
                Some(match source.hint() {
                    Some(hint) if source.is_refusal() => hint,
                    Some(hint) => format!("{hint}; or {elsewhere}"),
                    None => elsewhere,
                })
            }
            Self::Digest(_) | Self::Key(_) => None,
            Self::Source(error) => error.hint(),
        }
    }
}

/// Open the base that `request` names, and verify it if its digest is known. If it is not here, `client` downloads it;
/// without a client that is an error.
pub fn open_base(
    request: &BaseRequest<'_>,
    cache: &CacheDir,
    client: Option<&Client>,
    observer: Observer<'_>,
) -> Result<Verified<BaseImage>, BaseError> {
    let given = request.sha256.map(str::parse::<Sha256Sum>).transpose()?;
    let expect = given.map_or(Expect::Anything, Expect::Sha256);
    match request.base {
        BaseRef::Path(path) => Ok(BaseImage::open(&request.dir.join(path), expect, cache, observer)?),
        BaseRef::Url(url) => {
            let path = url_here(url, given, cache, client, observer)?;
            Ok(BaseImage::open(&path, expect, cache, observer)?)
        }
        BaseRef::Name("mini") => Ok(BaseImage::built_in("mini", crate::base::mini::MINI, observer)?),
        BaseRef::Name(name) if !request.base.is_known() && request.dir.join(name).is_file() => {
            Ok(BaseImage::open(&request.dir.join(name), expect, cache, observer)?)
        }
        BaseRef::Name(name) => {
            let known = catalogue::find(name).ok_or_else(|| BaseError::Unknown { name: name.into() })?;
            let (path, digest) = known_here(request, known, given, cache, client, observer)?;
            Ok(BaseImage::open(&path, Expect::Sha256(digest), cache, observer)?)
        }
    }
}

/// Where `known` is, beside the farm file or in the cache, and its digest.
fn known_here(
    request: &BaseRequest<'_>,
    known: &'static Known,
    given: Option<Sha256Sum>,
    cache: &CacheDir,
    client: Option<&Client>,
    observer: Observer<'_>,
) -> Result<(PathBuf, Sha256Sum), BaseError> {
    let keys = download::ubuntu_keys()?;
    let bases = bases(cache);
    let digest = given
        .or_else(|| known.pinned())
        .or_else(|| download::remembered(known, &keys, bases.as_ref().ok()?));
    let mut places = vec![request.dir.join(known.file)];
    places.extend(bases.iter().map(|bases| bases.join(known.file)));
    if let Some(path) = places.into_iter().find(|place| place.is_file()) {
        let digest = match (digest, client) {
            (Some(digest), _) => digest,
            (None, Some(client)) => download::listed(client, known, RELEASES, &keys, &bases?, observer)?,
            (None, None) => {
                return Err(BaseError::Unlisted {
                    path,
                    name: known.name,
                })
            }
        };
        return Ok((path, digest));
    }
    let bases = bases?;
    let Some(client) = client else {
        return Err(BaseError::NotHere {
            name: known.name,
            file: known.file,
            cache: bases,
        });
    };
    let digest = download::fetch(client, known, RELEASES, &keys, &bases, observer);
    let digest = digest.map_err(|source| BaseError::Ubuntu {
        name: known.name,
        file: known.file,
        source: Box::new(source),
    })?;
    Ok((bases.join(known.file), given.unwrap_or(digest)))
}

/// Where the file behind `url` is in the cache. A file that is there is used even if the server has another one by now;
/// `palmfarm base fetch` downloads it again.
fn url_here(
    url: &str,
    given: Option<Sha256Sum>,
    cache: &CacheDir,
    client: Option<&Client>,
    observer: Observer<'_>,
) -> Result<PathBuf, BaseError> {
    let parsed = Url::parse(url)?;
    let bases = bases(cache)?;
    let path = bases.join(cached_name(&parsed));
    if path.is_file() {
        return Ok(path);
    }
    let client = client.ok_or_else(|| BaseError::Remote {
        url: parsed.to_string(),
        cache: bases,
    })?;
    client.download(&parsed, &path, given, observer)?;
    Ok(path)
}

/// Where downloads are kept.
pub fn bases(cache: &CacheDir) -> Result<PathBuf, DownloadError> {
    Ok(cache.path().ok_or(DownloadError::NoCache)?.join("bases"))
}

fn names() -> String {
    KNOWN
        .iter()
        .map(|known| known.name)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ubuntus_own_files_are_known_by_their_names() {
        fn looks(text: &str) -> Option<String> {
            BaseRef::new(text).looks_like()
        }
        for known in KNOWN {
            assert_eq!(looks(known.file).as_deref(), Some(known.name));
            let url = format!("{RELEASES}/{}/{}", known.folder, known.file);
            assert_eq!(looks(&url).as_deref(), Some(known.name));
        }
        assert_eq!(looks("mini").as_deref(), Some("mini"));
        for other in [
            "ubuntu-22.04-mine.img",
            "ubuntu-x-preinstalled-server-armhf+raspi.img",
            "./image.wic",
        ] {
            assert_eq!(looks(other), None, "{other}");
        }
    }
}
