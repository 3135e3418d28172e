//! What `base:` names: the built-in image, a file, or an image of Ubuntu's by name.

use std::path::{Path, PathBuf};

use palmfarm_spec::farm::BaseRef;

use crate::farm::LoadedFarm;
use crate::source::{BadSha256, BaseImage, CacheDir, Expect, Sha256Sum, SourceError, Verified};
use crate::watch::Watch;

/// An image of Ubuntu's that a farm can name.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The name in `base:`.
    pub name: &'static str,
    /// The file as Ubuntu publishes it.
    pub file: &'static str,
    /// SHA-256 of that file, from the release's `SHA256SUMS`.
    pub sha256: &'static str,
}

/// The images whose digests are known. An image that is not among them is named by its path.
pub const KNOWN: &[Known] = &[
    Known {
        name: "ubuntu-20.04-armhf",
        file: "ubuntu-20.04.3-preinstalled-server-armhf+raspi.img.xz",
        sha256: "1984c349d5d6b74279402325b6985587d1d32c01695f2946819ce25b638baa0e",
    },
    Known {
        name: "ubuntu-22.04-armhf",
        file: "ubuntu-22.04.5-preinstalled-server-armhf+raspi.img.xz",
        sha256: "37002f7878411c1a9359b2734ab257459ac5785c7dfdd42ac4d8c1060ddd0a76",
    },
    Known {
        name: "ubuntu-26.04-arm64",
        file: "ubuntu-26.04-preinstalled-server-arm64+raspi.img.xz",
        sha256: "10604098a0c4eeb7359e58e12b01badbce8c74b0d53b414e633ba0b047b512cd",
    },
];

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// No such name.
    #[error("there is no base called {name:?}; there are mini, {}", names())]
    Unknown {
        /// As asked.
        name: String,
    },
    /// It is known, but not here.
    #[error("{file}, the base {name}, is neither beside the farm file nor in {}", cache.display())]
    NotHere {
        /// The base.
        name: &'static str,
        /// Its file.
        file: &'static str,
        /// Where else it was looked for.
        cache: PathBuf,
    },
    /// A URL.
    #[error("{url} would have to be downloaded, which this version does not do")]
    Remote {
        /// The URL.
        url: String,
    },
    /// The farm's digest is none.
    #[error(transparent)]
    Digest(#[from] BadSha256),
    /// It cannot be opened, or is not what it should be.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl BaseError {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => {
                Some("name the file of an image, with a slash or ending in .img.xz".into())
            }
            Self::NotHere { file, .. } => Some(format!(
                "download {file} from Ubuntu's release page for the Raspberry Pi and put it there"
            )),
            Self::Remote { .. } => Some("download it and name the file".into()),
            Self::Digest(_) => None,
            Self::Source(error) => error.hint(),
        }
    }
}

/// Open the base that `farm` names, and verify it where a digest is known.
///
/// # Errors
/// [`BaseError`].
pub fn open_base(
    farm: &LoadedFarm,
    cache: &CacheDir,
    watch: Watch<'_>,
) -> Result<Verified<BaseImage>, BaseError> {
    let given = farm
        .farm
        .sha256
        .as_deref()
        .map(str::parse::<Sha256Sum>)
        .transpose()?;
    let expect = |known: Option<Sha256Sum>| given.or(known).map_or(Expect::Anything, Expect::Sha256);
    match BaseRef::new(&farm.farm.base) {
        BaseRef::Path(path) => Ok(BaseImage::open(&farm.path(path), expect(None), cache, watch)?),
        BaseRef::Url(url) => Err(BaseError::Remote { url: url.into() }),
        BaseRef::Name("mini") => Ok(BaseImage::built_in("mini", crate::mini::MINI, watch)?),
        BaseRef::Name(name) => {
            let known = KNOWN.iter().find(|known| known.name == name);
            let known = known.ok_or_else(|| BaseError::Unknown { name: name.into() })?;
            let bases = cache.path().unwrap_or(Path::new(".")).join("bases");
            let places = [farm.path(known.file), bases.join(known.file)];
            let Some(found) = places.iter().find(|place| place.is_file()) else {
                return Err(BaseError::NotHere {
                    name: known.name,
                    file: known.file,
                    cache: bases,
                });
            };
            Ok(BaseImage::open(
                found,
                expect(Some(known.sha256.parse()?)),
                cache,
                watch,
            )?)
        }
    }
}

fn names() -> String {
    KNOWN
        .iter()
        .map(|known| known.name)
        .collect::<Vec<_>>()
        .join(", ")
}
