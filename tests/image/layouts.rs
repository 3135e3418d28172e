//! One plan with something of every kind, on every layout and every shape of ext4 that is edited.

use std::collections::BTreeMap;

use palmfarm::edit::block::{ReadAt, Span, Window};
use palmfarm::edit::fs::allocated;
use palmfarm::edit::fs::ext4::Superblock;
use palmfarm::edit::tree::{Access, IfThere, Node, Tree, Volume};

use crate::common;
use crate::common::make::{self, FileBase, Image, Recipe};
use crate::common::oracle::{self, Seen, SeenKind, Walk};
use crate::{directory, edited, edits_of, file, link, root, tree, TIME, TOOLS};

/// A plan with something of every kind.
fn plan() -> Tree {
    let owned = Access {
        mode: 0o2750,
        uid: 1000,
        gid: 70_000,
    };
    let mut nodes = vec![
        (
            Volume::Boot,
            "/cmdline.txt",
            file(b"console=tty1 cgroup_enable=memory\n", 0o644),
        ),
        (Volume::Boot, "/user-data", file(b"#cloud-config\n{}\n", 0o644)),
        (Volume::Boot, "/network-config", Node::Absent),
        (Volume::Boot, "/not-there", Node::Absent),
        (Volume::Boot, "/overlays", directory(0o755)),
        (
            Volume::Boot,
            "/overlays/palmfarm-own-overlay.dtbo",
            file(&[1; 5000], 0o644),
        ),
        (Volume::Boot, "/palmfarm.txt", file(&make::noise(50_000), 0o644)),
        (Volume::Boot, "/VMLINUZ", file(b"", 0o644)),
        (Volume::Root, "/etc/hostname", file(b"palm\n", 0o644)),
        (Volume::Root, "/etc/resolv.conf", file(b"nameserver ::1\n", 0o644)),
        (Volume::Root, "/etc/netplan/50-cloud-init.yaml", Node::Absent),
        (Volume::Root, "/etc/not/there", Node::Absent),
        (Volume::Root, "/etc/empty", file(b"full\n", 0o4711)),
        (Volume::Root, "/home/me/one", file(b"no longer linked\n", 0o600)),
        (Volume::Root, "/home/me/two", link("one")),
        (
            Volume::Root,
            "/home/new/deep/er",
            Node::Dir {
                access: owned,
                if_there: IfThere::Set,
            },
        ),
        (
            Volume::Root,
            "/home/new/deep/er/file",
            Node::File {
                content: (*b"mine").into(),
                access: owned,
            },
        ),
        (
            Volume::Root,
            "/lib/palmfarm/agent",
            file(&make::noise(1_500_000), 0o755),
        ),
        (
            Volume::Root,
            "/lib/systemd/system/palmfarm.service",
            file(b"[Unit]\n", 0o644),
        ),
        (Volume::Root, "/etc/absolute/through", file(b"absolute\n", 0o644)),
        (Volume::Root, "/etc/up/through", file(b"up\n", 0o644)),
        (Volume::Root, "/bin", directory(0o711)),
        (Volume::Root, "/var/log/big", file(b"", 0o644)),
        (
            Volume::Root,
            "/var/log/blocks",
            file(&make::noise(4096 * 3), 0o644),
        ),
    ];
    let long = "n".repeat(255);
    let names: Vec<String> = (0..300)
        .map(|nth| format!("/many/new-{nth:04}-{}", "z".repeat(nth % 200)))
        .collect();
    let longest = format!("/etc/{long}");
    nodes.push((Volume::Root, &longest, file(b"long name\n", 0o644)));
    nodes.extend(
        names
            .iter()
            .map(|name| (Volume::Root, name.as_str(), file(name.as_bytes(), 0o644))),
    );
    for length in [1, 58, 59, 60, 61, 255, 1000] {
        let name = format!("/etc/new-link-{length}");
        nodes.push((
            Volume::Root,
            name.clone().leak(),
            link(&"target/and/".repeat(100)[..length]),
        ));
    }
    tree(nodes)
}

/// The directory that `name` is in, as the walk's own symlinks have it, and its last part.
fn resolve(walk: &Walk, name: &str) -> String {
    let (parent, last) = name.rsplit_once('/').unwrap();
    if parent.is_empty() {
        return name.into();
    }
    let parent = resolve(walk, parent);
    let real = match walk.get(&parent).map(|seen| &seen.kind) {
        Some(SeenKind::Symlink(target)) => {
            let joined = if target.starts_with('/') {
                target.clone()
            } else {
                format!("{}/{target}", parent.rsplit_once('/').unwrap().0)
            };
            let mut parts: Vec<&str> = Vec::new();
            for part in joined.split('/') {
                match part {
                    "" | "." => {}
                    ".." => {
                        parts.pop();
                    }
                    part => parts.push(part),
                }
            }
            format!("/{}", parts.join("/"))
        }
        _ => parent,
    };
    // Links lead to the root of the tree, too.
    format!("{}/{last}", real.trim_end_matches('/'))
}

/// What the kernel must find after `tree` was applied to what it found before.
pub(crate) fn expected(before: &Walk, tree: &Tree) -> Walk {
    let mut walk = before.clone();
    let time = i64::from(TIME);
    for (volume, name, planned) in tree.iter() {
        if volume != Volume::Root {
            continue;
        }
        let place = resolve(&walk, name.as_str());
        let there = walk.get(&place).cloned();
        let seen = |kind, mode: u16, access: Option<Access>| Seen {
            kind,
            mode: mode.into(),
            uid: access.map_or(0, |access| access.uid),
            gid: access.map_or(0, |access| access.gid),
            mtime: time,
            xattrs: BTreeMap::new(),
        };
        let new = match &planned.node {
            Node::Absent => None,
            Node::File { content, access } => {
                Some(seen(SeenKind::File(content.to_vec()), access.mode, Some(*access)))
            }
            Node::Symlink { target } => Some(seen(SeenKind::Symlink(target.clone()), 0o777, None)),
            Node::Dir { access, .. } => {
                let mut place = place.clone();
                while let Some(SeenKind::Symlink(_)) = walk.get(&place).map(|seen| &seen.kind) {
                    place = resolve(&walk, &format!("{place}/x"))
                        .trim_end_matches("/x")
                        .into();
                }
                if let Some(dir) = walk.get_mut(&place) {
                    (dir.mode, dir.uid, dir.gid) = (access.mode.into(), access.uid, access.gid);
                    continue;
                }
                Some(seen(SeenKind::Dir, access.mode, Some(*access)))
            }
        };
        if new.is_none() && there.is_none() {
            continue;
        }
        // Parents that are made, and the one whose names change.
        let mut parent = place.rsplit_once('/').unwrap().0.to_owned();
        let mut changed = true;
        loop {
            let key = if parent.is_empty() { "/" } else { &parent };
            let made = !walk.contains_key(key);
            if made {
                walk.insert(key.into(), seen(SeenKind::Dir, 0o755, None));
            } else if changed {
                walk.get_mut(key).unwrap().mtime = time;
            }
            changed = made;
            match parent.rsplit_once('/') {
                Some((above, _)) if !parent.is_empty() => parent = above.to_owned(),
                _ => break,
            }
        }
        match new {
            Some(new) => walk.insert(place, new),
            None => walk.remove(&place),
        };
    }
    walk
}

pub(crate) fn assert_same(found: &Walk, expected: &Walk) {
    for (name, seen) in expected {
        assert_eq!(found.get(name), Some(seen), "{name}");
    }
    for name in found.keys() {
        assert!(expected.contains_key(name), "{name} is there and was not planned");
    }
}

/// Apply `tree` to an image of `recipe` and ask every judge.
fn check(recipe: &Recipe, tree: &Tree) {
    let image = recipe.make();
    image.debugfs("ea_set /usr/bin/sudo user.kept yes");
    image.debugfs("ea_set /etc user.kept yes");
    oracle::assert_whole(&image);
    let after = edited(&image, tree);
    oracle::assert_whole(&after);
    assert_mapped(&after);
    assert_boot(&image, &after, tree);
    if !common::is_root() {
        common::skipped_in_part("what the kernel sees: it needs root");
        return;
    }
    let before = oracle::kernel_walk(&image);
    let found = oracle::kernel_walk(&after);
    assert_same(&found, &expected(&before, tree));
}

/// What was written left state and checksums as they must be for the map of free blocks to rely on them.
fn assert_mapped(image: &Image) {
    let base = FileBase::open(&image.path);
    let free = |(start, size): (u64, u64)| {
        let used = allocated(&base, &[Span::new(start, size).unwrap()]).unwrap();
        base.size() - used.total()
    };
    assert!(free(image.boot) > 1 << 20, "the FAT counts as used");
    let window = Window::new(&base, image.root.0, image.root.1).unwrap();
    let superblock = Superblock::read(&window).unwrap();
    let counted = superblock.free_blocks * u64::from(superblock.block_size);
    let found = free(image.root);
    // With small blocks, not every free one is part of a free 4 KiB.
    assert!(
        found <= counted && found > counted / 10 * 9,
        "{found} bytes are free in the map, {counted} in the superblock"
    );
}

/// What is on the FAT now is what was there, but for the plan.
fn assert_boot(before: &Image, after: &Image, tree: &Tree) {
    let mut expected = oracle::mtools_walk(before);
    for (volume, name, planned) in tree.iter() {
        if volume != Volume::Boot {
            continue;
        }
        let name = name.as_str();
        let there = expected
            .keys()
            .find(|there| there.eq_ignore_ascii_case(name))
            .cloned();
        let name = there.unwrap_or_else(|| name.into());
        match &planned.node {
            Node::File { content, .. } => expected.insert(name, content.to_vec()),
            Node::Absent => expected.remove(&name),
            _ => None,
        };
    }
    let found = oracle::mtools_walk(after);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, content) in expected {
        assert!(found[&name] == content, "{name}");
    }
}

macro_rules! layouts {
    ($($test:ident: $recipe:ident,)*) => {$(
        #[test]
        fn $test() {
            if common::have(TOOLS) {
                check(&make::$recipe, &plan());
            }
        }
    )*};
}

layouts! {
    the_plan_lands_on_bionic: BIONIC,
    the_plan_lands_on_jammy: JAMMY,
    the_plan_lands_on_noble: NOBLE,
    the_plan_lands_on_resolute: RESOLUTE,
    the_plan_lands_on_blocks_of_1_kib: SMALL_BLOCKS,
    the_plan_lands_on_blocks_of_1_kib_without_checksums: SMALL_BLOCKS_PLAIN,
    the_plan_lands_on_blocks_of_2_kib: MIDDLE_BLOCKS,
    the_plan_lands_on_inodes_of_128_bytes: SMALL_INODES,
}

#[test]
fn an_empty_plan_edits_nothing() {
    if !common::have(TOOLS) {
        return;
    }
    let image = make::JAMMY.make_with(|_| {});
    assert!(edits_of(&image, &root([])).unwrap().is_empty());
    let absent = root([("/etc/not/there", Node::Absent)]);
    assert!(edits_of(&image, &absent).unwrap().is_empty());
}

/// Groups that mkfs never wrote, files of many MiB, and how long it takes.
#[test]
fn a_large_filesystem_takes_large_files() {
    if !common::have(TOOLS) {
        return;
    }
    let image = make::LARGE.make_with(|_| {});
    let large = make::noise(64 << 20);
    let nodes = (0..3).map(|nth| format!("/var/large/{nth}"));
    let names: Vec<String> = nodes.collect();
    let tree = root(names.iter().map(|name| (name.as_str(), file(&large, 0o644))));
    let edits = edits_of(&image, &tree).unwrap();
    assert!(
        edits.len() < 3 * (64 << 20) / 4096 + 200,
        "{} blocks",
        edits.len()
    );
    let after = image.copy();
    after.apply(&edits);
    oracle::assert_whole(&after);
    assert_mapped(&after);
    let small = edits_of(&image, &plan_of_a_card()).unwrap();
    println!("a plan of a card is {} blocks", small.len());
}

/// About what a real card gets.
fn plan_of_a_card() -> Tree {
    let names: Vec<String> = (0..60)
        .map(|nth| format!("/etc/systemd/system/palmfarm-{nth}.service"))
        .collect();
    let mut nodes: Vec<(&str, Node)> = names
        .iter()
        .map(|name| (name.as_str(), file(name.as_bytes(), 0o644)))
        .collect();
    nodes.push((
        "/usr/lib/palmfarm/palmfarm-agent",
        file(&make::noise(1 << 20), 0o755),
    ));
    root(nodes)
}
