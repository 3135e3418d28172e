//! Overlays from disk: folders and tar files with `boot/` and `root/` in them, read into nodes of the card. What they
//! hold is not trusted: every path is checked, nothing is followed, and everything has a limit.
//!
//! Who made a folder, and under which umask, does not matter: files are 0644, or 0755 where their owner may execute them,
//! new folders 0755 and all are root's, unless `overlay.toml` at the top says otherwise. An archive carries permission
//! bits of its own. A folder that the base has keeps its access unless `overlay.toml` names it.

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
use crate::edit::tree::{BadPath, CardPath, IfThere, Node, Overlay, Planned, Privacy, Volume, Warning};
use crate::farm::declared::Declared;
use crate::numbers::u64_from_usize;
use crate::text::printable;

/// The most entries of one overlay.
const ENTRIES: usize = 50_000;

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
    /// Files whose mode on this computer is more than who may execute them.
    closed: BTreeMap<String, Closed>,
    /// Files with an attribute that does not go onto the card and says who may do what.
    attributes: BTreeMap<String, &'static str>,
}

/// What the mode of a file has that does not go onto the card.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// Only its owner may read it.
    Private,
    /// It runs as its owner or group, or is sticky.
    Special,
}

impl Contents {
    fn new(overlay: &str) -> Self {
        Self {
            overlay: overlay.into(),
            found: BTreeMap::new(),
            bytes: 0,
            rules: Rules::default(),
            closed: BTreeMap::new(),
            attributes: BTreeMap::new(),
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
        self.refuse_whole(format!("{}: {why}", printable(entry)), None)
    }

    fn refuse_with(&self, entry: &str, why: impl Display, hint: &'static str) -> OverlayError {
        self.refuse_whole(format!("{}: {why}", printable(entry)), Some(hint))
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
        let mut names: Vec<&str> = Vec::new();
        let mut if_there = BTreeMap::new();
        for (entry, (thing, mode)) in &found {
            let Some((volume, path)) = self.place(entry)? else {
                continue;
            };
            let rule = rules.take(entry);
            if volume == Volume::Boot && rule.is_some() {
                let hint =
                    "keep it on the root filesystem: whoever holds the card can read its FAT partition";
                return Err(self.refuse_with(entry, "FAT has neither owners nor permissions", hint));
            }
            let planned = match thing {
                Found::File(content) => {
                    let declared = rule.unwrap_or_default();
                    self.file(entry, volume, &path, content, *mode, declared)?
                }
                Found::Symlink(target) => (self.link(entry, target, volume, rule)?, Privacy::Public),
                Found::Dir => {
                    let below = format!("{entry}/");
                    let next = found.range(below.clone()..).next();
                    let is_empty = next.is_none_or(|(next, _)| !next.starts_with(&below));
                    match self.dir(entry, volume, *mode, rule, is_empty)? {
                        Some(node) => (node, Privacy::Public),
                        None => continue,
                    }
                }
            };
            let (node, mut privacy) = planned;
            let is_named = rule.is_some_and(|rule| rule.mode.is_some() || rule.secret);
            if is_named || privacy != Privacy::Public {
                names.push(entry);
            }
            if let (Node::File { access, .. }, Volume::Root) = (&node, volume) {
                // The mode of an archive, and the one permission that a folder has, are somebody's, too.
                let kept = mode.filter(|mode| *mode == access.mode);
                let own = Declared {
                    mode: rule.and_then(|rule| rule.mode).or(kept),
                    ..rule.unwrap_or_default()
                };
                if_there.insert(path.clone(), own.if_there());
            }
            if privacy == Privacy::Public && self.closed.contains_key(entry) {
                privacy = Privacy::Undeclared;
            }
            let planned = Planned {
                privacy,
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
        let mut warnings = warnings(&self.closed, &names);
        warnings.extend(lost(&self.attributes));
        Ok(Overlay {
            nodes,
            if_there,
            warnings,
        })
    }

    fn file(
        &self,
        entry: &str,
        volume: Volume,
        path: &CardPath,
        content: &[u8],
        mode: Option<u16>,
        declared: Declared,
    ) -> Result<(Node, Privacy), OverlayError> {
        // No path of the FAT partition is one that has a mode.
        let path = if volume == Volume::Root { path.as_str() } else { "" };
        let planned = declared.of_file(path, content, mode.unwrap_or(0o644));
        let (access, privacy) = match planned {
            Ok(planned) => planned,
            Err(_) if volume == Volume::Boot => {
                let hint =
                    "keep it on the root filesystem: whoever holds the card can read its FAT partition";
                return Err(self.refuse_with(
                    entry,
                    "it holds a private key, and FAT has no permissions",
                    hint,
                ));
            }
            Err(why) => return Err(self.refuse_with(entry, why, why.hint_for_overlay())),
        };
        // Whoever packed it may have meant another owner, and a program that runs as root is a door.
        if declared.mode.is_none() && access.mode & 0o6000 != 0 {
            let why = format!(
                "its mode is {:04o}, and on the card it would belong to root",
                access.mode
            );
            let hint = "if that is meant, name it in overlay.toml with `mode` and `owner`";
            return Err(self.refuse_with(entry, why, hint));
        }
        let content = content.into();
        Ok((Node::File { content, access }, privacy))
    }

    fn link(
        &self,
        entry: &str,
        target: &str,
        volume: Volume,
        rule: Option<Declared>,
    ) -> Result<Node, OverlayError> {
        if rule.is_some() {
            return Err(self.refuse(entry, "a symbolic link has no permissions of its own"));
        }
        if volume == Volume::Boot {
            return Err(self.refuse(entry, "FAT has no symbolic links"));
        }
        if target.is_empty() || target.len() > 4095 || target.contains('\0') {
            return Err(self.refuse(entry, "a symbolic link leads to 1 to 4095 bytes without NUL"));
        }
        Ok(Node::Symlink {
            target: target.into(),
        })
    }

    /// `None`: it is only on the way to something else, and is made if the base lacks it.
    fn dir(
        &self,
        entry: &str,
        volume: Volume,
        mode: Option<u16>,
        rule: Option<Declared>,
        is_empty: bool,
    ) -> Result<Option<Node>, OverlayError> {
        /// What a folder gets that is made on the way to something else.
        const USUAL: u16 = 0o755;
        if volume == Volume::Boot {
            if is_empty {
                return Err(self.refuse(entry, "an empty folder is not made on the FAT partition"));
            }
            return Ok(None);
        }
        if rule.is_none() && !is_empty && mode.is_none_or(|mode| mode == USUAL) {
            return Ok(None);
        }
        let declared = rule.unwrap_or_default();
        if declared.secret {
            let hint = "declare each file in it";
            return Err(self.refuse_with(entry, "a folder has no content that could be secret", hint));
        }
        Ok(Some(Node::Dir {
            access: declared.access(mode.unwrap_or(USUAL)),
            if_there: match (declared.mode, declared.owner) {
                (None, None) => IfThere::Keep,
                (Some(_), None) => IfThere::SetMode,
                (None, Some(_)) => IfThere::SetOwner,
                (Some(_), Some(_)) => IfThere::Set,
            },
        }))
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
}

/// What is to be said of the files in `closed` that are not among the declared ones, in one sentence for each kind.
fn warnings(closed: &BTreeMap<String, Closed>, declared: &[&str]) -> Vec<Warning> {
    let kinds = [
        (
            Closed::Private,
            "can be read by nobody but you, and by everybody on the Pi",
            "secret = true",
        ),
        (
            Closed::Special,
            "lose the special bits of their mode",
            "mode = \"4755\"",
        ),
    ];
    let warning = |(kind, what, key): (Closed, &str, &str)| {
        let mut all = closed
            .iter()
            .filter(|(entry, closed)| **closed == kind && declared.binary_search(&entry.as_str()).is_err());
        let (first, _) = all.next()?;
        let (first, number) = (printable(first), all.count().saturating_add(1));
        Some(Warning {
            message: format!("of the files of this overlay {number} {what}; the first is {first}"),
            hint: format!(
                "write into its overlay.toml, for each that is meant so: [{first:?}] {key}; for the others, chmod"
            ),
        })
    };
    kinds.into_iter().filter_map(warning).collect()
}

/// What is to be said of the files with attributes, in one sentence.
fn lost(attributes: &BTreeMap<String, &'static str>) -> Option<Warning> {
    let (entry, attribute) = attributes.first_key_value()?;
    let (number, entry) = (attributes.len(), printable(entry));
    Some(Warning {
        message: format!(
            "of the files of this overlay {number} lose an attribute that says who may do what; the first is {entry} \
             ({attribute})"
        ),
        hint: "give capabilities on the Pi, `rc_local: [\"setcap cap_net_raw+ep FILE\"]`, and access by mode and owner in \
               overlay.toml; then `setcap -r` and `setfacl -b` here"
            .into(),
    })
}

#[cfg(test)]
mod tests;
