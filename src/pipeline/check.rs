//! What `check` says beyond the farm file itself: everything that the farm names is read as for a card, and each card is
//! planned, so that what would stop a build later is told here, at its place in the farm file. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::declared;
use crate::base::download::catalogue;
use crate::base::locate::BaseRef;
use crate::base::mounts;
use crate::base::Arch;
use crate::edit::fs::fat;
use crate::edit::tree::{self, Mount, Overlay, Volume};
use crate::farm::assets::{self, GatherError, Reader, Sources};
use crate::farm::lxd_image::Shape;
use crate::farm::node::{Node, Span, Step};
use crate::farm::passwords::Environment;
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::{self, CarriedImage, Farm, FileSource, LoadError, LoadedFarm, RunWhat};
use crate::host::folder::Folder;
use crate::plan::content_cache::ContentCache;
use crate::plan::images::{Found, Mismatch};
use crate::plan::{self, packages, PlanError};
use crate::text::chain;
use crate::text_file::Leftover;

/// Read the farm in `path`, and everything that it names as if its cards were made. Passwords may come from
/// `environment`, and `~` is its `HOME`.
///
/// # Errors
/// The file cannot be read, or there are errors in it.
pub fn check(path: &Path, environment: Environment<'_>) -> Result<LoadedFarm, LoadError> {
    farm::load(path, environment, Some(&judge))
}

/// Judge all that `farm`, read from `document`, names below `dir`.
pub fn judge(farm: &Farm, document: &Node, dir: &Folder, p: &mut Problems) {
    let mut judge = Judge {
        document,
        reader: Reader::for_farm_in(dir),
        large: assets::large_files(farm),
        sources: Sources::new(),
        seen: ContentCache::default(),
        p,
    };
    for (alias, image) in &farm.images {
        judge.image(alias, image, known_arch(&farm.base));
    }
    judge.packages(farm, known_arch(&farm.base));
    for (index, snap) in farm.carry.lxd.iter().enumerate() {
        let place: [Step<'_>; 3] = ["carry".into(), "lxd".into(), index.into()];
        judge.file(&place, &snap.file);
        if let Some(assertions) = snap.assertions() {
            judge.file(&place, &assertions);
        }
    }
    for container in &farm.containers {
        let place: [Step<'_>; 2] = ["containers".into(), (&container.name).into()];
        judge.files(&[&place[..], &["files".into()]].concat(), &container.files);
        for (index, run) in container.run.iter().enumerate() {
            if let RunWhat::Script(path) = &run.what {
                let step: [Step<'_>; 3] = ["run".into(), index.into(), "script".into()];
                judge.file(&[&place[..], &step].concat(), path);
            }
        }
    }
    judge.files(&["files".into()], &farm.files);
    let mut overlays = Vec::new();
    for (index, name) in farm.overlays.iter().enumerate() {
        match judge.reader.overlay(name) {
            Ok(overlay) => {
                judge.overlay(index, name, &overlay);
                overlays.push((index, overlay));
            }
            Err(error) => judge.unreadable(&["overlays".into(), index.into()], &error),
        }
    }
    judge.layers(farm, &overlays);
    judge.homes(farm, &overlays);
    // Of a farm with errors there is no plan.
    if judge.p.errors() == 0 {
        judge.cards(farm, &overlays);
    }
}

struct Judge<'a> {
    document: &'a Node,
    reader: Reader<'a>,
    /// Files that may be larger than others.
    large: BTreeSet<&'a str>,
    sources: Sources,
    seen: ContentCache,
    p: &'a mut Problems,
}

impl Judge<'_> {
    fn tell(&mut self, at: Span, message: String, hint: Option<impl Into<String>>) {
        self.p.error(at, message).maybe_hint(hint);
    }

    /// Tell why a file cannot be had, unless something was told of its place already.
    fn unreadable(&mut self, place: &[Step<'_>], error: &GatherError) {
        let at = self.document.locate(place);
        if !self.p.has_error_at(at) {
            self.tell(at, chain(error), error.hint());
        }
    }

    fn files(&mut self, place: &[Step<'_>], files: &BTreeMap<String, FileSource>) {
        for (target, source) in files {
            let place = [place, &[target.into()]].concat();
            let Some(content) = self.file(&place, &source.file) else {
                continue;
            };
            self.leftover(&place, target, &source.file, &content);
            if let Err(why) = source.declared.of_file(target, &content, plan::MODE) {
                let at = self.document.locate(&place);
                let message = format!("{} cannot be {target}: {why}", quoted(&source.file));
                self.tell(at, message, Some(why.hint(&source.file)));
            }
        }
    }

    /// Warn of what an editor has left in a file that is read line by line at `target`.
    fn leftover(&mut self, place: &[Step<'_>], target: &str, file: &str, content: &[u8]) {
        let left = Leftover::of(content).filter(|_| Leftover::matters(target, content));
        if let Some(left) = left {
            let message = format!("of {}: {}", quoted(file), left.message());
            let at = self.document.locate(place);
            self.p.warning(at, message).hint(left.hint(file));
        }
    }

    fn file(&mut self, place: &[Step<'_>], path: &str) -> Option<Arc<[u8]>> {
        match self.reader.file(path, self.large.contains(path)) {
            Ok(content) => {
                self.sources.insert(path.into(), Arc::clone(&content));
                Some(content)
            }
            Err(error) => {
                self.unreadable(place, &error);
                None
            }
        }
    }

    /// Judge an overlay by itself.
    fn overlay(&mut self, index: usize, name: &str, overlay: &Overlay) {
        let place = ["overlays".into(), index.into()];
        let at = self.document.locate(&place);
        declared::warnings(overlay, at, self.p);
        for (volume, path, planned) in &overlay.nodes {
            let covered = mounts::always_covered(path.as_str()).filter(|_| *volume == Volume::Root);
            if let Some((folder, what)) = covered {
                let message =
                    format!("nobody would see {volume}:{path} on the Pi: {folder} is covered by {what}");
                self.tell(at, message, Some(Mount::HINT));
            }
            if let tree::Node::File { content, .. } = &planned.node {
                let inside = format!("{}/{volume}{path}", packed_from(self.reader.dir(), name));
                self.leftover(&place, path.as_str(), &inside, content);
            }
        }
    }

    /// Judge the files of a carried image one by one, together, and beside the base.
    fn image(&mut self, alias: &str, image: &CarriedImage, arch: Option<Arch>) {
        let key = |key: &'static str| -> [Step<'_>; 3] { ["images".into(), alias.into(), key.into()] };
        let file = self.shape(&key("file"), &image.file);
        let metadata = image.metadata.as_ref();
        let metadata = metadata.map(|path| self.shape(&key("metadata"), path));
        // A part that cannot be had is told of already.
        let (Some(file), None | Some(Some(_))) = (file, &metadata) else {
            return;
        };
        let found = match Found::new(alias, image, file, metadata.flatten()) {
            Ok(found) => found,
            Err(what) => {
                let at = match what {
                    Mismatch::NotMetadata | Mismatch::MetadataTwice => key("metadata"),
                    Mismatch::OnlyMetadata | Mismatch::OnlySquashfs => key("file"),
                };
                let at = self.document.locate(&at);
                return self.tell(at, format!("the image {alias}: {what}"), what.hint());
            }
        };
        if let Err(error) = found.fits(arch) {
            let at = self.document.locate(&key("file"));
            self.tell(at, chain(&error), error.hint());
        }
    }

    fn shape(&mut self, place: &[Step<'_>], path: &str) -> Option<Shape> {
        let content = self.file(place, path)?;
        let at = self.document.locate(place);
        // A file that has not even the first bytes of an archive was refused for that.
        if self.p.has_error_at(at) {
            return None;
        }
        match self.seen.shape(&content) {
            Ok(shape) => Some(shape),
            Err(error) => {
                let message = format!("{} is not an image: {}", quoted(path), chain(&error));
                self.tell(at, message, error.hint());
                None
            }
        }
    }

    /// Judge the packages that cards carry, one by one and beside each other.
    fn packages(&mut self, farm: &Farm, arch: Option<Arch>) {
        let mut names = BTreeMap::new();
        for (index, named) in farm.carry.packages.iter().enumerate() {
            let place = ["carry".into(), "packages".into(), index.into()];
            for carried in &named.found {
                if self.file(&place, &carried.file).is_none() {
                    continue;
                }
                let at = self.document.locate(&place);
                if let Err(error) = packages::fits(carried, arch) {
                    self.tell(at, error.to_string(), error.hint());
                }
                if let Some(other) = names.insert(carried.name_on_card(), carried) {
                    let message = format!(
                        "{} and {} are one package, {}",
                        quoted(&other.file),
                        quoted(&carried.file),
                        carried.package.name
                    );
                    self.tell(at, message, Some("keep the one that cards should have"));
                }
            }
        }
    }

    /// Judge what overlays put in the way of each other and of `files`: the base decides about the rest.
    fn layers(&mut self, farm: &Farm, overlays: &[(usize, Overlay)]) {
        let files = farm
            .files
            .keys()
            .map(|path| ((Volume::Root, path.as_str()), (true, None)));
        let nodes = overlays.iter().flat_map(|(index, overlay)| {
            overlay.nodes.iter().map(|(volume, path, planned)| {
                let is_leaf = !matches!(planned.node, tree::Node::Dir { .. });
                ((*volume, path.as_str()), (is_leaf, Some(*index)))
            })
        });
        // Of one path the last wins.
        let all: BTreeMap<_, _> = files.chain(nodes).collect();
        let mut folded = BTreeMap::new();
        for ((volume, path), (_, index)) in &all {
            let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            let leaf = parents
                .filter_map(|parent| Some((parent, all.get(&(*volume, parent))?)))
                .find(|(_, (is_leaf, _))| *is_leaf);
            let first = (*volume == Volume::Boot)
                .then(|| folded.insert(fat::folded(path), *path))
                .flatten();
            let (index, message) = match (leaf, first) {
                (Some((parent, (_, other))), _) => (
                    index.or(*other),
                    format!("{volume}:{path} cannot be: {parent} is a file in what the farm names"),
                ),
                (None, Some(first)) => (
                    *index,
                    format!("{volume}:{path} and {volume}:{first} are one name on FAT"),
                ),
                (None, None) => continue,
            };
            let at = match index {
                Some(index) => self.document.locate(&["overlays".into(), index.into()]),
                None => self.document.locate(&["files".into(), (*path).into()]),
            };
            self.tell(at, message, Some("leave one of the two out"));
        }
    }

    /// Refuse what would make the home of a declared user root's: the account does not exist before the first boot, and
    /// useradd(8) leaves a home that is there as it is.
    fn homes(&mut self, farm: &Farm, overlays: &[(usize, Overlay)]) {
        let files = farm.files.iter().map(|(path, source)| {
            let owner = source.declared.owner.unwrap_or_default();
            (path.as_str(), (Some(owner.0), None))
        });
        let nodes = overlays.iter().flat_map(|(index, overlay)| {
            let of_root = overlay
                .nodes
                .iter()
                .filter(|(volume, ..)| *volume == Volume::Root);
            of_root.map(|(_, path, planned)| {
                let uid = match &planned.node {
                    tree::Node::File { access, .. } | tree::Node::Dir { access, .. } => Some(access.uid),
                    // Nobody writes into a link.
                    tree::Node::Symlink { .. } | tree::Node::Absent => None,
                };
                (path.as_str(), (uid, Some(*index)))
            })
        });
        let all: BTreeMap<&str, (Option<u32>, Option<usize>)> = files.chain(nodes).collect();
        for user in &farm.users {
            let home = format!("/home/{}", user.name);
            let below = format!("{home}/");
            let found = all
                .iter()
                .filter(|(path, _)| **path == home || path.starts_with(&below));
            let roots = |path: &str| all.get(path).is_none_or(|(uid, _)| *uid == Some(0));
            let mut wrong = found.filter_map(|(path, (_, index))| {
                let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
                let mut there = parents.chain([*path]).filter(|part| part.len() >= home.len());
                there.find(|part| roots(part)).map(|part| (*path, part, *index))
            });
            let Some((path, part, index)) = wrong.next() else {
                continue;
            };
            let at = match index {
                Some(index) => self.document.locate(&["overlays".into(), index.into()]),
                None => self.document.locate(&["files".into(), path.into()]),
            };
            let message = format!(
                "{path} would make {part} root's, and {} could not write there: the account is made at the first boot",
                user.name
            );
            let hint = format!(
                "put it below /etc/skel, which is copied into each new home; or give {home} and all that is in it an owner \
                 in the overlay.toml of an overlay"
            );
            self.tell(at, message, Some(hint));
        }
    }

    /// Plan every card; passwords are hashed where cards are made.
    fn cards(&mut self, farm: &Farm, overlays: &[(usize, Overlay)]) {
        let mut farm = farm.clone();
        for user in &mut farm.users {
            user.password = None;
        }
        // What is wrong with them was told where they are named.
        let Ok(keys) = assets::keys(&farm, self.reader.dir()) else {
            return;
        };
        for card in farm.resolved_cards() {
            let hashes = BTreeMap::new();
            let keys = keys.as_ref();
            let planned = plan::card(&farm, card, &self.sources, &hashes, &[], keys, &mut self.seen);
            let (at, message, hint) = match planned {
                Ok(plan) => match plan::document(&plan.firstboot) {
                    Ok(_) => {
                        let overlays = overlays.iter().map(|(index, overlay)| (*index, overlay));
                        let document = self.document;
                        let locate = |place: &[Step<'_>]| document.locate(place);
                        declared::tell(&farm, overlays, &plan, &locate, self.p);
                        continue;
                    }
                    Err(error) => (
                        self.document.locate(&["containers".into()]),
                        error.to_string(),
                        Some(error.hint().to_owned()),
                    ),
                },
                Err(error) => {
                    let at = match &error {
                        PlanError::Containers { container, .. } => {
                            self.document.locate(&["containers".into(), container.into()])
                        }
                        _ => self.document.locate(&[]),
                    };
                    (at, chain(&error), error.hint())
                }
            };
            self.tell(at, message, hint);
            // What one card says the others say, too.
            return;
        }
    }
}

/// The folder that a person has of the overlay `name`: what an archive was packed from is not known.
fn packed_from<'n>(dir: &Folder, name: &'n str) -> &'n str {
    if dir.join(name).is_dir() {
        name
    } else {
        "FOLDER"
    }
}

/// The architecture of a base by its name; of one that is a file or a URL it is not known before it is opened.
fn known_arch(base: &str) -> Option<Arch> {
    let BaseRef::Name(name) = BaseRef::new(base) else {
        return None;
    };
    if name == "mini" {
        return Some(Arch::Armhf);
    }
    let known = catalogue::find(name)?.name;
    [Arch::Armhf, Arch::Arm64]
        .into_iter()
        .find(|arch| known.ends_with(arch.debian()))
}
