//! Everything beside `farm.yaml` that goes into a card, read once for all cards of a farm. It reads and hashes; what
//! becomes of it is `plan`'s and `render`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::farm::LoadedFarm;
use crate::overlay_files::{self, OverlayError};
use crate::plan::{self, Sources};
use crate::render::Overlay;
use crate::secrets::{self, CryptHash, Environment, SecretError};

/// What was read.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Files that go onto cards whole.
    pub sources: Sources,
    /// The farm's overlays, in its order.
    pub overlays: Vec<Overlay>,
    /// Those of `sources` that only their owner may read.
    pub private: BTreeSet<String>,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A file that the farm names.
    #[error("reading {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
}

/// Read what `loaded` names.
///
/// # Errors
/// The first file that cannot be read, or is no part of a card.
pub fn gather(loaded: &LoadedFarm) -> Result<Gathered, GatherError> {
    let (mut sources, mut private) = (Sources::new(), BTreeSet::new());
    let images: BTreeSet<&str> = loaded
        .farm
        .images
        .values()
        .map(|image| image.file.as_str())
        .collect();
    for name in plan::named_files(&loaded.farm) {
        let content = if images.contains(name) {
            loaded.read_image(name)
        } else {
            loaded.read_file(name)
        };
        let content = content.map_err(|source| GatherError::Read {
            path: loaded.path(name),
            source,
        })?;
        sources.insert(name.into(), Arc::from(content));
        if is_private(&loaded.path(name)) {
            private.insert(name.into());
        }
    }
    let overlays = loaded
        .farm
        .overlays
        .iter()
        .map(|name| overlay_files::read(name, &loaded.path(name)))
        .collect::<Result<_, _>>()?;
    Ok(Gathered {
        sources,
        overlays,
        private,
    })
}

/// Whether neither group nor others may read the file.
fn is_private(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.mode().trailing_zeros() >= 6)
}

/// The hash of every password on `card`, by login name. Hashing is meant to be slow: a tenth of a second each.
///
/// # Errors
/// A password cannot be had, or is none.
pub fn hashes(
    loaded: &LoadedFarm,
    card: &str,
    environment: Environment<'_>,
) -> Result<BTreeMap<String, CryptHash>, SecretError> {
    let mut hashes = BTreeMap::new();
    for user in &loaded.farm.users {
        if let Some(hash) = secrets::hash(loaded, card, user, environment)? {
            hashes.insert(user.name.clone(), hash);
        }
    }
    Ok(hashes)
}
