//! What a farm lays over the root filesystem of its base, looked at with the same rules as the base itself. It knows
//! nothing of the base: what is only odd beside a file of the base is not found.

use std::collections::BTreeMap;

use super::{hindrances, units, View};
use crate::base::Hindrances;
use crate::edit::fs::{FileKind, FsError, Stat, VolumeReader};
use crate::edit::tree::{Access, CardPath, Node};

/// What of `nodes`, by path of the root filesystem, may keep a card from its work. Every unit in them counts as one in the
/// place of a package's.
pub fn laid(nodes: &BTreeMap<&CardPath, &Node>) -> Hindrances {
    let root = Laid(nodes);
    let boot = Laid(&BTreeMap::new());
    let view = View {
        boot: &boot,
        root: &root,
    };
    // Nothing here is read from a disk, and every path is one of `nodes`.
    let masked = units::masked(&view);
    masked
        .and_then(|masked| hindrances(&view, masked, &|_| true))
        .unwrap_or_default()
}

/// Nodes as a filesystem.
struct Laid<'n>(&'n BTreeMap<&'n CardPath, &'n Node>);

impl Laid<'_> {
    /// The names in the folder `path`, as often as there is something in them.
    fn below<'p>(&'p self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let inside = move |there: &&'p CardPath| there.as_str().strip_prefix(path)?.strip_prefix('/');
        self.0
            .keys()
            .filter_map(inside)
            .filter_map(|rest| rest.split('/').next())
    }
}

impl VolumeReader for Laid<'_> {
    fn stat(&self, path: &CardPath) -> Result<Option<Stat>, FsError> {
        let (kind, size, access) = match self.0.get(path) {
            Some(Node::File { content, access }) => (FileKind::File, content.len(), *access),
            Some(Node::Symlink { target }) => {
                let kind = FileKind::Symlink(target.clone().into_bytes());
                (kind, target.len(), Access::root(0o777))
            }
            Some(Node::Dir { access, .. }) => (FileKind::Dir, 0, *access),
            None if self.below(path.as_str()).next().is_some() => (FileKind::Dir, 0, Access::root(0o755)),
            Some(Node::Absent) | None => return Ok(None),
        };
        Ok(Some(Stat {
            kind,
            size: size.try_into().unwrap_or(u64::MAX),
            access: Some(access),
            modified: 0,
        }))
    }

    fn stat_through(&self, path: &CardPath) -> Result<Option<Stat>, FsError> {
        self.stat(path)
    }

    /// Where a link leads is not known.
    fn read(&self, path: &CardPath, limit: u64) -> Result<Option<Vec<u8>>, FsError> {
        let Some(Node::File { content, .. }) = self.0.get(path) else {
            return Ok(None);
        };
        let is_short = u64::try_from(content.len()).is_ok_and(|bytes| bytes <= limit);
        Ok(is_short.then(|| content.to_vec()))
    }

    fn links(&self, path: &CardPath) -> Result<Vec<String>, FsError> {
        let nodes = self.0.iter();
        let links = nodes.filter(|(_, node)| matches!(node, Node::Symlink { .. }));
        let within = links.filter(|(link, _)| link.parent().as_ref() == Some(path));
        Ok(within.map(|(link, _)| link.name().to_owned()).collect())
    }

    fn names(&self, path: Option<&CardPath>) -> Result<Vec<String>, FsError> {
        let mut names: Vec<String> = self
            .below(path.map_or("", CardPath::as_str))
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}
