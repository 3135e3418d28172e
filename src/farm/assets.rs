//! Everything beside `farm.yaml` that goes into a card, read once for all cards of a farm. It reads and hashes; what
//! becomes of it is `plan`'s and `render`'s.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::edit::block::length;
use crate::edit::tree::Node;
use crate::edit::tree::Overlay;
use crate::farm::cluster_keys::{ClusterKeys, KeysError};
use crate::farm::overlay::{self, OverlayError};
use crate::farm::passwords::{self, CryptHash, Environment, SecretError};
use crate::farm::{CarriedSnap, Farm, LoadedFarm, RunWhat, LARGEST_FILE, LARGEST_IMAGE};
use crate::host::folder::Folder;
use crate::host::{bounded_read, files};

/// The most that is read for one farm, in bytes: it is all held while its cards are made, once more as part of a card,
/// and a workstation has 8 GiB. That is four of the largest images, or some twenty of Ubuntu's.
const MOST: u64 = 4 * LARGEST_IMAGE;

/// About what a file or folder of an overlay takes in memory beside its content and path, in bytes.
const NODE: u64 = 256;

/// What was read beforehand: the files that [`named_files`] lists, by the path that the farm gives.
pub type Sources = BTreeMap<String, Arc<[u8]>>;

/// What was read.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Files that go onto cards whole.
    pub sources: Sources,
    /// The farm's overlays, in its order.
    pub overlays: Vec<Overlay>,
    /// Those of `sources` that only their owner may read here.
    pub private: BTreeSet<String>,
    /// The keys of the farm's cluster, if it has one.
    pub keys: Option<ClusterKeys>,
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
    /// The keys of the cluster.
    #[error("using {path}", path = path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeysError,
    },
    /// All of it together is too much.
    #[error(
        "reading {path}: with it the files, images and overlays of the farm have {total} bytes, {over} more than the \
         {most} that are held while cards are made",
        path = path.display(),
        over = total.saturating_sub(*most)
    )]
    TooMuch {
        /// What passed the limit.
        path: PathBuf,
        /// Bytes with it.
        total: u64,
        /// The limit.
        most: u64,
    },
}

impl GatherError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Overlay(error) => error.hint(),
            Self::Keys { source, .. } => source.hint(),
            Self::TooMuch { .. } => Some(
                "name an image server in place of images on the card, or let a container fetch what is large",
            ),
        }
    }
}

/// The files beside the farm file that go onto its cards whole: host files, what is pushed into containers,
/// scripts, images, packages, snaps. Overlays are not among them.
pub fn named_files(farm: &Farm) -> BTreeSet<Cow<'_, str>> {
    let mut named: BTreeSet<&str> = farm.files.values().map(|source| source.file.as_str()).collect();
    for image in farm.images.values() {
        named.insert(&image.file);
        named.extend(image.metadata.as_deref());
    }
    named.extend(farm.carry.packages().map(|carried| carried.file.as_str()));
    named.extend(farm.carry.lxd.iter().map(|snap| snap.file.as_str()));
    for container in &farm.containers {
        named.extend(container.files.values().map(|source| source.file.as_str()));
        named.extend(container.run.iter().filter_map(|run| match &run.what {
            RunWhat::Script(path) => Some(path.as_str()),
            RunWhat::Command(_) => None,
        }));
    }
    let cards = farm.resolved_cards();
    let keys = cards.iter().filter_map(|card| farm.ssh.host_key(&card.hostname));
    let assertions = farm.carry.lxd.iter().filter_map(CarriedSnap::assertions);
    named
        .into_iter()
        .map(Cow::Borrowed)
        .chain(keys.chain(assertions).map(Cow::Owned))
        .collect()
}

/// Those of the [`named_files`] that may be as large as an image.
pub(crate) fn large_files(farm: &Farm) -> BTreeSet<&str> {
    let images = farm.images.values().map(|image| &image.file);
    let packages = farm.carry.packages().map(|carried| &carried.file);
    let snaps = farm.carry.lxd.iter().map(|snap| &snap.file);
    images.chain(packages).chain(snaps).map(String::as_str).collect()
}

/// Read what `loaded` names.
///
/// # Errors
/// The first file that cannot be read, or is no part of a card, or is too much with those before it.
pub fn gather(loaded: &LoadedFarm) -> Result<Gathered, GatherError> {
    gather_within(loaded, MOST)
}

/// The same, where all of it may have `most` bytes.
fn gather_within(loaded: &LoadedFarm, most: u64) -> Result<Gathered, GatherError> {
    let mut reader = Reader::new(&loaded.dir, most);
    let (mut sources, mut private) = (Sources::new(), BTreeSet::new());
    let large = large_files(&loaded.farm);
    for name in &named_files(&loaded.farm) {
        let name = name.as_ref();
        let content = reader.file(name, large.contains(name))?;
        if std::fs::metadata(loaded.path(name)).is_ok_and(|facts| files::is_private(&facts)) {
            private.insert(name.into());
        }
        sources.insert(name.into(), content);
    }
    let overlays = loaded.farm.overlays.iter();
    let overlays = overlays.map(|name| reader.overlay(name));
    Ok(Gathered {
        sources,
        overlays: overlays.collect::<Result<_, _>>()?,
        private,
        keys: keys(&loaded.farm, &loaded.dir)?,
    })
}

/// The keys of `farm`'s cluster, one pair for each of its cards at least; `None`: it has no cluster.
///
/// # Errors
/// They cannot be used.
pub(crate) fn keys(farm: &Farm, dir: &Folder) -> Result<Option<ClusterKeys>, GatherError> {
    let Some(cluster) = &farm.cluster else {
        return Ok(None);
    };
    let path = dir.join(&cluster.keys);
    let keys = ClusterKeys::read(&path).and_then(|keys| keys.has_all(farm.cards.keys()).map(|()| keys));
    keys.map(Some)
        .map_err(|source| GatherError::Keys { path, source })
}

/// What reads the files of one farm.
pub(crate) struct Reader<'d> {
    dir: &'d Folder,
    /// Bytes that are held, and the most that may be.
    total: u64,
    most: u64,
    /// `./a` and `a` are one file, and paths are compared part by part. What is read as an image or a package may be larger.
    read: BTreeMap<(PathBuf, bool), Arc<[u8]>>,
}

impl<'d> Reader<'d> {
    /// For a farm in `dir` of whose files `most` bytes are held.
    fn new(dir: &'d Folder, most: u64) -> Self {
        Self {
            dir,
            total: 0,
            most,
            read: BTreeMap::new(),
        }
    }

    /// For a farm in `dir`.
    pub(crate) fn for_farm_in(dir: &'d Folder) -> Self {
        Self::new(dir, MOST)
    }

    /// What the farm's paths are relative to.
    pub(crate) fn dir(&self) -> &'d Folder {
        self.dir
    }

    /// The total with the `bytes` of `path`, if that is not too much.
    fn total_with(&self, path: &Path, bytes: u64) -> Result<u64, GatherError> {
        let total = self.total.saturating_add(bytes);
        if total <= self.most {
            return Ok(total);
        }
        Err(GatherError::TooMuch {
            path: path.into(),
            total,
            most: self.most,
        })
    }

    /// All of the file that the farm calls `name`. It is held once, even if the farm has several names for it.
    pub(crate) fn file(&mut self, name: &str, may_be_large: bool) -> Result<Arc<[u8]>, GatherError> {
        let key = (self.dir.join(name), may_be_large);
        if let Some(content) = self.read.get(&key) {
            return Ok(Arc::clone(content));
        }
        let path = &key.0;
        let failed = |source| GatherError::Read {
            path: path.clone(),
            source,
        };
        // Check the length before reading.
        let announced = bounded_read::open(path).and_then(|file| file.metadata());
        let announced = announced.map_err(failed)?.len();
        let largest = if may_be_large { LARGEST_IMAGE } else { LARGEST_FILE };
        if announced <= largest {
            self.total_with(path, announced)?;
        }
        let content = bounded_read::read(path, largest).map_err(failed)?;
        self.total = self.total_with(path, length(&content))?;
        let content: Arc<[u8]> = content.into();
        self.read.insert(key, Arc::clone(&content));
        Ok(content)
    }

    /// The overlay that the farm calls `name`.
    pub(crate) fn overlay(&mut self, name: &str) -> Result<Overlay, GatherError> {
        let path = self.dir.join(name);
        let overlay = overlay::read(name, &path)?;
        self.total = self.total_with(&path, held(&overlay))?;
        Ok(overlay)
    }
}

/// The bytes that `overlay` takes in memory.
fn held(overlay: &Overlay) -> u64 {
    let bytes = overlay.nodes.iter().map(|(_, path, planned)| {
        let content = match &planned.node {
            Node::File { content, .. } => length(content),
            _ => 0,
        };
        content
            .saturating_add(length(path.as_str().as_bytes()))
            .saturating_add(NODE)
    });
    bytes.fold(0, u64::saturating_add)
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
        if let Some(hash) = passwords::hash(&loaded.dir, card, user, environment)? {
            hashes.insert(user.name.clone(), hash);
        }
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is gathered for the farm with `lines`, in `dir`, and the bytes for which there was room.
    fn check(dir: &Path, lines: &str, most: u64) -> Result<Gathered, GatherError> {
        let text = format!("farm: 1\nbase: mini\nhostname: palm\n{lines}\n");
        let loaded = crate::farm::parse("farm.yaml", text.as_bytes(), dir, &|_| None, None)
            .unwrap_or_else(|refused| panic!("{}", refused.text().render(refused.problems())));
        gather_within(&loaded, most)
    }

    #[test]
    fn a_file_of_many_names_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/big"), [b'x'; 1000]).unwrap();
        let lines = "files: {/a: d/big, /b: ./d/big, /c: ././d//big, /d: d/./big}";
        let gathered = check(dir.path(), lines, 1000).unwrap();
        let held: Vec<_> = gathered.sources.values().collect();
        assert_eq!(held.len(), 4);
        assert!(held.iter().all(|content| Arc::ptr_eq(content, held[0])));
    }

    #[test]
    fn all_that_is_gathered_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for name in ["a", "b", "c"] {
            fs::write(dir.join(name), [b'x'; 1000]).unwrap();
        }
        fs::create_dir_all(dir.join("site/root")).unwrap();
        fs::write(dir.join("site/root/x"), [b'x'; 1000]).unwrap();
        let lines = "files: {/a: a, /b: b, /c: c}\noverlays: [site]";
        assert!(check(dir, lines, 5000).is_ok());
        let over = |most| check(dir, lines, most).unwrap_err().to_string();
        let expect = format!(
            "reading {}/c: with it the files, images and overlays of the farm have 3000 bytes, 100 more than the 2900",
            dir.display()
        );
        assert!(over(2900).starts_with(&expect), "{}", over(2900));
        assert!(over(4000).contains("/site: with it"), "{}", over(4000));
    }

    #[test]
    fn what_is_too_much_by_its_own_account_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // Sparse, and with the magic number of a squashfs.
        let file = fs::File::create(dir.join("i")).unwrap();
        std::io::Write::write_all(&mut &file, b"hsqs").unwrap();
        file.set_len(LARGEST_IMAGE).unwrap();
        let error = check(dir, "images: {i: {file: i}}", LARGEST_IMAGE - 1).unwrap_err();
        assert!(
            matches!(
                error,
                GatherError::TooMuch {
                    total: LARGEST_IMAGE,
                    ..
                }
            ),
            "{error}"
        );
    }
}
