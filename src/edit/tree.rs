//! What the card must hold beyond its base: paths, nodes and where each came from. Pure; it does no I/O and
//! knows nothing of filesystems.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Which of the card's two filesystems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Volume {
    /// The FAT partition labelled `system-boot`, mounted at `/boot/firmware`.
    Boot,
    /// The ext4 root filesystem.
    Root,
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::Root => "root",
        })
    }
}

/// An absolute, normal path inside a volume: no empty, `.` or `..` part, no NUL, each part at most 255 bytes.
/// Symlinks of the base are not resolved here; the editor does that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardPath(String);

/// Why a path cannot be one of the card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path of a card: {why}")]
pub struct BadPath {
    /// The path as given.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl CardPath {
    /// Check `path`; a leading `/` may be left out.
    ///
    /// # Errors
    /// [`BadPath`], with what is wrong.
    pub fn new(path: &str) -> Result<Self, BadPath> {
        let bad = |why| BadPath {
            path: path.into(),
            why,
        };
        let relative = path.strip_prefix('/').unwrap_or(path);
        if relative.is_empty() {
            return Err(bad("it names no file"));
        }
        if relative.len() > 4095 {
            return Err(bad("it is longer than 4095 bytes"));
        }
        for part in relative.split('/') {
            match part {
                "" => return Err(bad("a part of it is empty")),
                "." | ".." => return Err(bad("`.` and `..` are not resolved")),
                part if part.len() > 255 => return Err(bad("a part of it is longer than 255 bytes")),
                part if part.contains('\0') => return Err(bad("it holds a NUL byte")),
                _ => {}
            }
        }
        Ok(Self(format!("/{relative}")))
    }

    /// The path with its leading `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts, outermost first.
    #[must_use]
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.trim_start_matches('/').split('/')
    }

    /// The last part.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The directory it lies in; `None` for what lies in the root of the volume.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .filter(|(parent, _)| !parent.is_empty())
            .map(|(parent, _)| Self(parent.into()))
    }
}

impl fmt::Display for CardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns a node, and what they and others may do: the low twelve bits of `st_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, at most `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Access {
    /// `mode`, owned by root.
    #[must_use]
    pub const fn root(mode: u16) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// What a path of the card must be afterwards.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file with this content; it replaces a file or symlink of the base.
    File {
        /// All of it.
        content: Arc<[u8]>,
        /// On FAT ignored.
        access: Access,
    },
    /// A directory; one that the base has keeps what is in it and takes this access. Parents that no node names
    /// are made 0755 root:root.
    Dir {
        /// On FAT ignored.
        access: Access,
    },
    /// A symlink with this target, as written. Not on FAT.
    Symlink {
        /// At most 4095 bytes, not empty.
        target: String,
    },
    /// Nothing: a file or symlink of the base goes; no error where the base has none.
    Absent,
}

impl fmt::Debug for Node {
    /// Without contents: they may be secret, and they may be long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { content, access } => write!(f, "File({} bytes, {:04o})", content.len(), access.mode),
            Self::Dir { access } => write!(f, "Dir({:04o})", access.mode),
            Self::Symlink { target } => write!(f, "Symlink({target:?})"),
            Self::Absent => f.write_str("Absent"),
        }
    }
}

/// Whether a node's content may be shown, hashed and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Plans show it, the manifest lists its SHA-256.
    Public,
    /// Password hashes and the like: never shown, its hash is published nowhere.
    Secret,
}

/// One planned node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it must be.
    pub node: Node,
    /// Where it comes from, for people: `templates/networkd/bridge.network`, `overlays/site`, `farm.yaml files`.
    pub origin: String,
    /// Whether it may be shown.
    pub privacy: Privacy,
}

/// Two different nodes for one path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{volume}:{path} is wanted by {first} and, with another content, by {second}")]
pub struct Clash {
    /// The volume.
    pub volume: Volume,
    /// The path.
    pub path: CardPath,
    /// The origin that came first.
    pub first: String,
    /// The origin that came second.
    pub second: String,
}

/// Everything that is planned for a card, in the order of volume and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<(Volume, CardPath), Planned>);

impl Tree {
    /// Plan `node` at `path`. Planning the same node twice is fine.
    ///
    /// # Errors
    /// [`Clash`], where the path has another node already.
    pub fn add(&mut self, volume: Volume, path: CardPath, planned: Planned) -> Result<(), Clash> {
        match self.0.get(&(volume, path.clone())) {
            Some(there) if there.node != planned.node => Err(Clash {
                volume,
                path,
                first: there.origin.clone(),
                second: planned.origin,
            }),
            Some(_) => Ok(()),
            None => {
                self.0.insert((volume, path), planned);
                Ok(())
            }
        }
    }

    /// Plan `planned` at `path` in place of whatever was planned there: overlays win over templates.
    pub fn replace(&mut self, volume: Volume, path: CardPath, planned: Planned) -> Option<Planned> {
        self.0.insert((volume, path), planned)
    }

    /// What is planned at `path`.
    #[must_use]
    pub fn get(&self, volume: Volume, path: &CardPath) -> Option<&Planned> {
        self.0.get(&(volume, path.clone()))
    }

    /// Every node, boot before root, by path: a directory comes before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (Volume, &CardPath, &Planned)> {
        self.0
            .iter()
            .map(|((volume, path), planned)| (*volume, path, planned))
    }

    /// How many nodes are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is planned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An overlay: nodes that win over whatever is planned at their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// What the farm calls it.
    pub name: String,
    /// Its nodes by path.
    pub nodes: Vec<(Volume, CardPath, Planned)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> Planned {
        let node = Node::File {
            content: content.as_bytes().into(),
            access: Access::root(0o644),
        };
        Planned {
            node,
            origin: format!("test {content}"),
            privacy: Privacy::Public,
        }
    }

    #[test]
    fn paths_are_normal_or_refused() {
        assert_eq!(CardPath::new("etc/motd").unwrap().as_str(), "/etc/motd");
        assert_eq!(
            CardPath::new("/etc/motd").unwrap().parent().unwrap().as_str(),
            "/etc"
        );
        assert_eq!(CardPath::new("/motd").unwrap().parent(), None);
        assert_eq!(CardPath::new("/etc/motd").unwrap().name(), "motd");
        for bad in ["", "/", "//etc", "/etc/", "/etc/../shadow", "./x", "/a\0b"] {
            assert!(CardPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(CardPath::new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_path_is_planned_once() {
        let mut tree = Tree::default();
        let path = CardPath::new("/etc/motd").unwrap();
        tree.add(Volume::Root, path.clone(), file("a")).unwrap();
        tree.add(Volume::Root, path.clone(), file("a")).unwrap();
        let clash = tree.add(Volume::Root, path.clone(), file("b")).unwrap_err();
        assert_eq!(
            clash.to_string(),
            "root:/etc/motd is wanted by test a and, with another content, by test b"
        );
        tree.add(Volume::Boot, path, file("b")).unwrap();
        assert_eq!(tree.len(), 2);
    }
}
