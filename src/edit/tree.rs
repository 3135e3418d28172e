//! What the card must hold beyond its base: paths, nodes, and the origin of each. It must do no I/O and knows nothing
//! about filesystems.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One of the card's two filesystems.
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

/// Why a path cannot be on a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not a path of a card: {why}")]
pub struct BadPath {
    pub path: String,
    pub why: &'static str,
}

impl CardPath {
    /// Check `path`; a leading `/` may be left out.
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
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts, outermost first.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.trim_start_matches('/').split('/')
    }

    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The directory that it is in; `None` for the root of the volume.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        (!parent.is_empty()).then(|| Self(parent.into()))
    }
}

impl fmt::Display for CardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Owner and permissions of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, at most `0o7777`.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

impl Access {
    /// `mode`, owned by root.
    pub const fn root(mode: u16) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {}:{}", self.mode, self.uid, self.gid)
    }
}

/// What becomes of the mode and the owner of a directory that the base has, or of a file that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfThere {
    /// Both stay: the plan needs the directory, and nobody asked for another access.
    Keep,
    /// Both become those of the plan.
    Set,
    /// The mode becomes that of the plan, and the owner stays.
    SetMode,
    /// The owner becomes that of the plan, and the mode stays.
    SetOwner,
}

impl IfThere {
    /// What a node with the access `there` gets, if the plan has `planned` for it.
    pub fn access(self, planned: Access, there: Access) -> Access {
        let (mode, owner) = match self {
            Self::Keep => (there, there),
            Self::Set => (planned, planned),
            Self::SetMode => (planned, there),
            Self::SetOwner => (there, planned),
        };
        Access {
            mode: mode.mode,
            ..owner
        }
    }
}

/// What must be at a path of the finished card.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file. It replaces a file or symlink of the base. FAT ignores `access`.
    File { content: Arc<[u8]>, access: Access },
    /// A directory. If the base has it, its files stay, and `if_there` says whether its access does. Parents that no
    /// node names are created with 0755 root:root. FAT ignores `access`.
    Dir { access: Access, if_there: IfThere },
    /// A symlink with this target, at most 4095 bytes and not empty. FAT has no symlinks.
    Symlink { target: String },
    /// Nothing: a file or symlink of the base is removed, if there is one.
    Absent,
}

impl fmt::Debug for Node {
    /// Without contents: they may be secret, and they may be long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { content, access } => write!(f, "File({} bytes, {:04o})", content.len(), access.mode),
            Self::Dir { access, .. } => write!(f, "Dir({:04o})", access.mode),
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
    /// As public, but plans do not show it: nobody has declared it secret, and yet only its owner can read it on the
    /// computer where the card is made. What the card holds must not depend on that.
    Undeclared,
    /// Password hashes and the like: plans do not show it, and no manifest lists its hash.
    Secret,
}

impl Privacy {
    pub fn secret_if(is_secret: bool) -> Self {
        if is_secret {
            Self::Secret
        } else {
            Self::Public
        }
    }
}

/// One planned node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub node: Node,
    /// Where it comes from, for people: `templates/networkd/bridge.network`, `overlays/site`, `farm.yaml files`.
    pub origin: String,
    pub privacy: Privacy,
}

/// Two different nodes for one path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{volume}:{path} is wanted by {first} and, with another content, by {second}")]
pub struct Clash {
    pub volume: Volume,
    pub path: CardPath,
    /// The two origins.
    pub first: String,
    pub second: String,
}

/// A folder of the card over which the running Pi has a filesystem, so that nobody sees what the card has below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where, without symlinks.
    pub folder: CardPath,
    /// What is there, for people: "the FAT partition".
    pub what: String,
}

impl Mount {
    /// What a person can do who wants something below one.
    pub const HINT: &'static str =
        "leave it out; the FAT partition is the folder `boot` of an overlay, and tmpfiles.d(5) makes files at each boot";
}

/// Everything that is planned for a card, in the order of volume and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<(Volume, CardPath), Planned>,
    mounts: Vec<Mount>,
}

impl Tree {
    /// Plan a node at `path`. Planning the same node twice is fine.
    ///
    /// # Errors
    /// [`Clash`] if another node is planned at that path.
    pub fn add(&mut self, volume: Volume, path: CardPath, planned: Planned) -> Result<(), Clash> {
        if let Some(there) = self.get(volume, &path) {
            if there.node == planned.node {
                return Ok(());
            }
            return Err(Clash {
                volume,
                path,
                first: there.origin.clone(),
                second: planned.origin,
            });
        }
        self.replace(volume, path, planned);
        Ok(())
    }

    /// Plan a node at `path` in place of the one that is planned there, if any: overlays win over templates.
    pub fn replace(&mut self, volume: Volume, path: CardPath, planned: Planned) {
        self.nodes.insert((volume, path), planned);
    }

    pub fn get(&self, volume: Volume, path: &CardPath) -> Option<&Planned> {
        self.nodes.get(&(volume, path.clone()))
    }

    /// Every node, boot before root, by path: a directory comes before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (Volume, &CardPath, &Planned)> {
        self.nodes
            .iter()
            .map(|((volume, path), planned)| (*volume, path, planned))
    }

    /// Let nothing be put below the folders of `mounts`, whichever way a path leads there.
    pub fn cover(&mut self, mounts: Vec<Mount>) {
        self.mounts = mounts;
    }

    /// The folders below which nothing may be.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }
}

/// An overlay: nodes that win over whatever is planned at their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its nodes by path.
    pub nodes: Vec<(Volume, CardPath, Planned)>,
    /// What of its access a file of the base at the same path keeps, for each file of the root filesystem.
    pub if_there: BTreeMap<CardPath, IfThere>,
    /// What its owner may not have meant.
    pub warnings: Vec<Warning>,
}

/// Something that prevents no card, and what the person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    pub hint: String,
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
        assert_eq!(tree.iter().count(), 2);
    }
}
