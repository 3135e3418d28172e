//! Overlays from disk: folders and tar files with `boot/` and `root/` in them, read into nodes of the card. What they
//! hold is not trusted: every path is checked, nothing is followed, and everything has a limit.
//!
//! Who made a folder or an archive, and under which umask, does not matter: files are 0644, or 0755 where their owner may
//! execute them, folders 0755 and all are root's, unless `overlay.toml` at the top says otherwise. An archive carries
//! permission bits of its own.

mod access;
mod archive;
mod folder;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use access::Rules;

use crate::edit::block::length;
use crate::edit::fs::fat::acceptable_name;
use crate::edit::tree::Overlay;
use crate::edit::tree::{Access, BadPath, CardPath, Node, Planned, Privacy, Volume};
use crate::numbers::u64_from_usize;

/// The most entries of one overlay.
const ENTRIES: usize = 20_000;

/// The most bytes of all files of one overlay: they are held in memory.
const BYTES: u64 = 128 << 20;

/// The file that says what is not 0644 or 0755 and root's.
const RULES: &str = "overlay.toml";

/// The largest `overlay.toml`, in bytes.
const RULES_BYTES: u64 = 1 << 20;

/// Why an overlay cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// It, or something in it, cannot be read.
    #[error("reading {path}", path = path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in it cannot go onto a card, or it is too large.
    #[error("overlay {overlay}: {why}")]
    Refused {
        overlay: String,
        why: String,
        hint: Option<&'static str>,
    },
}

impl OverlayError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { hint, .. } => *hint,
            Self::Read { .. } => None,
        }
    }
}

/// For `map_err`: `path` cannot be read.
fn unreadable(path: &Path) -> impl Fn(io::Error) -> OverlayError + '_ {
    |source| OverlayError::Read {
        path: path.into(),
        source,
    }
}

/// Read the overlay at `path`, a folder or a tar file, which the farm calls `name`.
///
/// # Errors
/// It cannot be read, or holds what cannot go onto a card; the first such thing is named.
pub fn read(name: &str, path: &Path) -> Result<Overlay, OverlayError> {
    let mut contents = Contents::new(name);
    if std::fs::metadata(path).map_err(unreadable(path))?.is_dir() {
        folder::read(path, &mut contents)?;
    } else {
        archive::read(path, &mut contents)?;
    }
    contents.finish()
}

/// One thing found.
enum Found {
    File(Vec<u8>),
    Symlink(String),
    Dir,
}

/// What has been found so far, by path in the overlay: `root/etc/motd`.
struct Contents {
    overlay: String,
    found: BTreeMap<String, (Found, Option<u16>)>,
    bytes: u64,
    rules: Rules,
}

impl Contents {
    fn new(overlay: &str) -> Self {
        Self {
            overlay: overlay.into(),
            found: BTreeMap::new(),
            bytes: 0,
            rules: Rules::default(),
        }
    }

    /// Whether there is room for a file of `bytes` bytes.
    fn room_for(&self, bytes: u64) -> Result<(), OverlayError> {
        if self.bytes.saturating_add(bytes) <= BYTES {
            return Ok(());
        }
        Err(self.too_large(BYTES, "bytes"))
    }

    fn too_large(&self, most: u64, of: &str) -> OverlayError {
        let hint = "put large things into a package or a container image";
        self.refuse_whole(format!("it has more than {most} {of}"), Some(hint))
    }

    fn refuse(&self, entry: &str, why: impl Display) -> OverlayError {
        self.refuse_whole(format!("{entry}: {why}"), None)
    }

    fn refuse_whole(&self, why: String, hint: Option<&'static str>) -> OverlayError {
        OverlayError::Refused {
            overlay: self.overlay.clone(),
            why,
            hint,
        }
    }

    /// Take up `found` at `entry`; `mode` where it has one of its own.
    fn add(&mut self, entry: &str, found: Found, mode: Option<u16>) -> Result<(), OverlayError> {
        if let Found::File(content) = &found {
            self.room_for(length(content))?;
            self.bytes = self.bytes.saturating_add(length(content));
        }
        if entry == RULES {
            return match found {
                Found::File(content) => {
                    self.rules = Rules::parse(&content).map_err(|why| self.refuse(RULES, why))?;
                    Ok(())
                }
                _ => Err(self.refuse(entry, "it is not a file")),
            };
        }
        if ENTRIES <= self.found.len() {
            return Err(self.too_large(u64_from_usize(ENTRIES), "entries"));
        }
        // In an archive a folder may come twice, and a file twice is somebody's mistake.
        let twice = self.found.insert(entry.into(), (found, mode));
        match (twice, self.found.get(entry)) {
            (Some((Found::Dir, _)), Some((Found::Dir, _))) | (None, _) => Ok(()),
            _ => Err(self.refuse(entry, "it is there twice")),
        }
    }

    /// Everything as nodes of the card.
    fn finish(mut self) -> Result<Overlay, OverlayError> {
        let found = std::mem::take(&mut self.found);
        let mut nodes = Vec::new();
        let mut rules = std::mem::take(&mut self.rules);
        for (entry, (thing, mode)) in &found {
            let Some((volume, path)) = self.place(entry)? else {
                continue;
            };
            let rule = rules.take(entry);
            let file_mode = mode.unwrap_or(0o644);
            let node = match thing {
                Found::File(content) => Node::File {
                    content: content.as_slice().into(),
                    access: access(rule, file_mode),
                },
                Found::Symlink(_) if rule.is_some() => {
                    return Err(self.refuse(entry, "a symbolic link has no permissions of its own"))
                }
                Found::Symlink(_) if volume == Volume::Boot => {
                    return Err(self.refuse(entry, "FAT has no symbolic links"))
                }
                Found::Symlink(target) => Node::Symlink {
                    target: self.target(entry, target)?,
                },
                Found::Dir => {
                    let below = format!("{entry}/");
                    let empty = found
                        .range(below.clone()..)
                        .next()
                        .is_none_or(|(next, _)| !next.starts_with(&below));
                    // A folder on the way to something else keeps the access that the base gives it.
                    if rule.is_none() && !empty {
                        continue;
                    }
                    if volume == Volume::Boot {
                        return Err(self.refuse(entry, "an empty folder is not made on the FAT partition"));
                    }
                    Node::Dir {
                        access: access(rule, mode.unwrap_or(0o755)),
                    }
                }
            };
            let planned = Planned {
                privacy: privacy(&node),
                node,
                origin: format!("overlay {}", self.overlay),
            };
            nodes.push((volume, path, planned));
        }
        if let Some(unused) = rules.first() {
            let why = format!("it names {unused:?}, which is not in the overlay");
            return Err(self.refuse(RULES, why));
        }
        nodes.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Ok(Overlay { nodes })
    }

    /// Where `entry` goes; `None` for `boot` and `root` themselves.
    fn place(&self, entry: &str) -> Result<Option<(Volume, CardPath)>, OverlayError> {
        let (top, below) = entry.split_once('/').unwrap_or((entry, ""));
        let volume = match top {
            "boot" => Volume::Boot,
            "root" => Volume::Root,
            _ => return Err(self.refuse(
                entry,
                "an overlay has `boot/`, `root/` and `overlay.toml`; what belongs at / goes below `root/`",
            )),
        };
        if below.is_empty() {
            return Ok(None);
        }
        let path =
            CardPath::new(&format!("/{below}")).map_err(|BadPath { why, .. }| self.refuse(entry, why))?;
        if volume == Volume::Boot {
            acceptable_name(&path).map_err(|why| self.refuse(entry, why))?;
        }
        Ok(Some((volume, path)))
    }

    fn target(&self, entry: &str, target: &str) -> Result<String, OverlayError> {
        if target.is_empty() || target.len() > 4095 || target.contains('\0') {
            return Err(self.refuse(entry, "a symbolic link leads to 1 to 4095 bytes without NUL"));
        }
        Ok(target.into())
    }
}

fn access(rule: Option<access::Rule>, mode: u16) -> Access {
    let rule = rule.unwrap_or_default();
    Access {
        mode: rule.mode.unwrap_or(mode),
        uid: rule.uid,
        gid: rule.gid,
    }
}

/// What only its owner may read is nobody else's to see in a plan or a manifest.
fn privacy(node: &Node) -> Privacy {
    match node {
        Node::File { access, .. } if access.mode & 0o777 == access.mode & 0o700 => Privacy::Secret,
        _ => Privacy::Public,
    }
}

#[cfg(test)]
mod tests;
