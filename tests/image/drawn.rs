//! Random filesystems and random plans for them, each made from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{chown, symlink, PermissionsExt};
use std::path::{Path, PathBuf};

use palmfarm::edit::tree::{Access, CardPath, IfThere, Node, Planned, Privacy, Tree, Volume};

use crate::common::oracle::{SeenKind, Walk};

/// xorshift64* (Vigna 2016).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next()).unwrap() % most.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// Mostly short; sometimes as long as names can be.
    fn name(&mut self) -> String {
        let most = *self.of(&[3, 8, 8, 12, 40, 120, 255]);
        let len = 1 + self.below(most);
        let mut name = String::new();
        while name.len() < len {
            let c = *self.of(&['a', 'b', 'c', 'd', 'z', '0', '9', '-', '_', '.', ' ', 'é', '漢']);
            if name.len() + c.len_utf8() > len.max(3) {
                break;
            }
            name.push(c);
        }
        match name.as_str() {
            "" | "." | ".." => "x".into(),
            _ => name,
        }
    }

    /// Around the sizes that matter: nothing, a block, an extent.
    fn content(&mut self) -> Vec<u8> {
        let len = match self.below(12) {
            0 => 0,
            1 => 1 + self.below(60),
            2 => 1023 + self.below(3),
            3 => 4095 + self.below(3),
            4 => 8192 + self.below(4096 * 12),
            5 => 100_000 + self.below(900_000),
            6 if self.one_in(4) => (2 << 20) + self.below(6 << 20),
            _ => self.below(3000),
        };
        let first = u8::try_from(self.below(250)).unwrap();
        (0..len)
            .map(|at| first.wrapping_add(u8::try_from(at % 251).unwrap()))
            .collect()
    }

    fn access(&mut self) -> Access {
        let mode = *self.of(&[0o644, 0o600, 0o755, 0o4755, 0o2750, 0o1777, 0, 0o7777]);
        let (uid, gid) = *self.of(&[(0, 0), (0, 0), (1000, 1000), (0, 70_000), (65_534, 4_000_000_000)]);
        Access { mode, uid, gid }
    }

    /// Around the 60 bytes that fit into an inode.
    fn target(&mut self, block: usize) -> String {
        let len = *self.of(&[1, 5, 57, 58, 59, 60, 61, 62, 200, 900]);
        "../t/".repeat(200)[..len.min(block - 1)].to_owned()
    }
}

/// Fill a filesystem as years of use would: deep and wide directories, gaps between files, links of both kinds.
pub(crate) fn fill(top: &Path, random: &mut Random, crowded: bool) {
    let mut dirs = vec![top.to_owned()];
    for _ in 0..30 {
        let dir = random.of(&dirs).join(random.name());
        if dir
            .strip_prefix(top)
            .is_ok_and(|path| path.as_os_str().len() < 900)
            && fs::create_dir(&dir).is_ok()
        {
            dirs.push(dir);
        }
    }
    let mut files = Vec::new();
    for _ in 0..120 {
        let path = random.of(&dirs).join(random.name());
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match random.below(10) {
            0 => drop(symlink(random.target(1024), &path)),
            1 => drop(symlink(
                random
                    .of(&dirs)
                    .strip_prefix(top)
                    .map(|dir| Path::new("/").join(dir))
                    .unwrap(),
                &path,
            )),
            2 if !files.is_empty() => drop(fs::hard_link(random.of::<PathBuf>(&files), &path)),
            _ => {
                if fs::write(&path, random.content()).is_ok() {
                    let access = random.access();
                    drop(chown(&path, Some(access.uid), Some(access.gid)));
                    drop(fs::set_permissions(
                        &path,
                        Permissions::from_mode(access.mode.into()),
                    ));
                    files.push(path);
                }
            }
        }
    }
    // A directory with an index, and gaps of one block all over.
    let wide = top.join("wide");
    fs::create_dir(&wide).unwrap();
    for nth in 0..600 + random.below(1200) {
        let path = wide.join(format!("{}-{nth}", "n".repeat(nth % 90)));
        fs::write(&path, vec![1; nth % 9000]).unwrap();
    }
    for (nth, entry) in fs::read_dir(&wide).unwrap().enumerate() {
        if nth % 2 == 0 {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    if crowded {
        // Until nothing fits, then a little less.
        let mut big = File::create(top.join("big")).unwrap();
        let piece = vec![3; 65_536];
        while big.write_all(&piece).is_ok() {}
        let len = big.metadata().unwrap().len();
        drop(big.set_len(len.saturating_sub(300_000)));
    }
}

/// A plan that changes what is there and adds to it.
pub(crate) fn draw(before: &Walk, random: &mut Random, block: usize) -> Tree {
    let of_kind = |dir: bool| -> Vec<&String> {
        let kinds = before.iter().filter(|(name, _)| !name.starts_with("/lost+found"));
        kinds
            .filter(|(_, seen)| (seen.kind == SeenKind::Dir) == dir)
            .map(|(name, _)| name)
            .collect()
    };
    let (dirs, others) = (of_kind(true), of_kind(false));
    let mut tree = Tree::default();
    for _ in 0..=random.below(40) {
        let below =
            |random: &mut Random, dir: &str| format!("{}/{}", dir.trim_end_matches('/'), random.name());
        let mut path = match random.below(10) {
            0..=2 => (*random.of(&others)).clone(),
            3 => (*random.of(&dirs)).clone(),
            // Through whatever is there, a symlink to a directory perhaps.
            4 => {
                let there = (*random.of(&others)).clone();
                below(random, &there)
            }
            _ => {
                let dir = (*random.of(&dirs)).clone();
                below(random, &dir)
            }
        };
        if random.one_in(4) {
            for _ in 0..random.below(12) {
                path = below(random, &path);
            }
        }
        let node = match random.below(12) {
            0 | 1 => Node::Absent,
            2 => Node::Symlink {
                target: random.target(block),
            },
            3 | 4 => Node::Dir {
                access: random.access(),
                if_there: IfThere::Set,
            },
            _ => Node::File {
                content: random.content().into(),
                access: random.access(),
            },
        };
        let Ok(path) = CardPath::new(&path) else {
            continue;
        };
        let planned = Planned {
            node,
            origin: "drawn".into(),
            privacy: Privacy::Public,
        };
        drop(tree.add(Volume::Root, path, planned));
    }
    // Now and then as it was drawn, with whatever cannot be in it; mostly without that.
    if random.one_in(5) {
        tree
    } else {
        possible(before, &tree)
    }
}

/// What is at a path, as far as it matters to what may be planned there.
enum Light {
    Dir,
    File,
    Link(String),
}

/// `tree` without the nodes that cannot be: below a file, in place of a directory, in one place twice.
fn possible(before: &Walk, tree: &Tree) -> Tree {
    let mut there: BTreeMap<String, Light> = before
        .iter()
        .map(|(name, seen)| {
            let light = match &seen.kind {
                SeenKind::Dir => Light::Dir,
                SeenKind::Symlink(target) => Light::Link(target.clone()),
                _ => Light::File,
            };
            (name.clone(), light)
        })
        .collect();
    let mut places = BTreeSet::new();
    let mut kept = Tree::default();
    for (volume, path, planned) in tree.iter() {
        let below = format!("{}/", path.as_str());
        let contradicts = planned.node == Node::Absent
            && tree
                .iter()
                .any(|(_, other, _)| other.as_str().starts_with(&below));
        let Some(dir) = leads(&there, path.parent().as_ref().map_or("/", CardPath::as_str)) else {
            continue;
        };
        let place = format!("{}/{}", dir.trim_end_matches('/'), path.name());
        let fits = match (there.get(&place), &planned.node) {
            (None | Some(Light::Dir), Node::Dir { .. })
            | (
                None | Some(Light::File | Light::Link(_)),
                Node::File { .. } | Node::Symlink { .. } | Node::Absent,
            ) => true,
            (Some(Light::Link(_)), Node::Dir { .. }) => {
                leads(&there, &place).is_some_and(|dir| matches!(there.get(&dir), Some(Light::Dir)))
            }
            _ => false,
        };
        if contradicts || !fits || !places.insert(place.clone()) {
            continue;
        }
        let mut made = dir.as_str();
        while planned.node != Node::Absent && !made.is_empty() {
            there.entry(made.to_owned()).or_insert(Light::Dir);
            made = made.rsplit_once('/').map_or("", |(above, _)| above);
        }
        match &planned.node {
            Node::Absent => drop(there.remove(&place)),
            Node::Symlink { target } => drop(there.insert(place, Light::Link(target.clone()))),
            Node::File { .. } => drop(there.insert(place, Light::File)),
            Node::Dir { .. } => drop(there.entry(place).or_insert(Light::Dir)),
        }
        kept.add(volume, path.clone(), planned.clone()).unwrap();
    }
    kept
}

/// Where the directory `path` is once every symlink is followed, be it there or made; `None`: it cannot be one.
fn leads(there: &BTreeMap<String, Light>, path: &str) -> Option<String> {
    let parts = |text: &str| -> Vec<String> {
        let parts = text
            .split('/')
            .rev()
            .filter(|part| !part.is_empty() && *part != ".");
        parts.map(Into::into).collect()
    };
    // How many of the parts that are left are of symlinks: what those lead to must be there.
    let (mut left, mut at, mut links) = (parts(path), String::new(), 0);
    let mut of_links = 0_usize;
    while let Some(part) = left.pop() {
        let must = of_links > 0;
        of_links = of_links.saturating_sub(1);
        if part == ".." {
            at = at
                .rsplit_once('/')
                .map_or(String::new(), |(above, _)| above.to_owned());
            continue;
        }
        let here = format!("{at}/{part}");
        match there.get(&here) {
            Some(Light::File) => return None,
            None if must => return None,
            Some(Light::Link(target)) => {
                links += 1;
                if links > 20 {
                    return None;
                }
                if target.starts_with('/') {
                    at.clear();
                }
                let more = parts(target);
                of_links += more.len();
                left.extend(more);
            }
            _ => at = here,
        }
    }
    Some(if at.is_empty() { "/".into() } else { at })
}
