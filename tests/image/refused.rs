//! What is not edited, each with its own message and something that the person can do.

use palmfarm::edit::fs::FsError;
use palmfarm::edit::tree::{Access, Node, Tree};
use palmfarm::edit::EditError;

use crate::common::make::{self, Image, Recipe};
use crate::common::{self, oracle};
use crate::{directory, edited, edits_of, file, link, root, TOOLS};

/// Bytes from the start of the root partition to a field of its superblock.
const STATE: u64 = 1024 + 0x3A;
const INCOMPAT: u64 = 1024 + 0x60;
const RO_COMPAT: u64 = 1024 + 0x64;
const FREE_BLOCKS: u64 = 1024 + 0xC;
const LAST_ORPHAN: u64 = 1024 + 0xE8;

/// A root filesystem with little in it.
pub(crate) fn small() -> Image {
    make::JAMMY.make_with(|root| {
        for dir in ["etc", "usr/lib"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(root.join("etc/file"), "file\n").unwrap();
        for (link, target) in [
            ("lib", "usr/lib"),
            ("circle", "circle"),
            ("ping", "pong"),
            ("pong", "ping"),
            ("nowhere", "not/there"),
            ("to-file", "etc/file"),
            ("out", "../../../../../../etc"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
    })
}

/// What is said of `tree` on `image`; there must be a hint.
pub(crate) fn refusal(image: &Image, tree: &Tree) -> String {
    let error = edits_of(image, tree).unwrap_err();
    assert!(
        error.hint().is_some_and(|hint| !hint.is_empty()),
        "{error}: no hint"
    );
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn check(image: &Image, nodes: &[(&str, Node)], expect: &str) {
    assert_eq!(refusal(image, &root(nodes.iter().cloned())), expect);
}

#[test]
fn filesystems_that_are_not_clean() {
    if !common::have(TOOLS) {
        return;
    }
    let nodes = [("/etc/new", file(b"", 0o644))];
    for (field, bytes, expect) in [
        (
            STATE,
            vec![0, 0],
            "the root filesystem is not marked clean (state 0x0)",
        ),
        (
            STATE,
            vec![3, 0],
            "the root filesystem is marked as having errors (0 recorded)",
        ),
        (
            LAST_ORPHAN,
            vec![12, 0, 0, 0],
            "the root filesystem has deleted files that are not gone yet (orphan_present)",
        ),
        (
            RO_COMPAT + 2,
            vec![1],
            "the root filesystem has deleted files that are not gone yet (orphan_present)",
        ),
    ] {
        let image = small();
        image.patch(image.root.0 + field, &bytes);
        check(&image, &nodes, expect);
    }
    let image = small();
    let flags = image.read(image.root.0 + INCOMPAT, 1)[0];
    image.patch(image.root.0 + INCOMPAT, &[flags | 4]);
    check(
        &image,
        &nodes,
        "the root filesystem was not cleanly unmounted, its journal must be replayed (needs_recovery)",
    );
}

#[test]
fn features_that_are_not_written() {
    if !common::have(TOOLS) {
        return;
    }
    let with = |mkfs_ext4| {
        let recipe = Recipe {
            mkfs_ext4,
            root_size: 8 << 20,
            ..make::NOBLE
        };
        recipe.make_with(|_| {})
    };
    let nodes = [("/new", file(b"", 0o644))];
    for (options, names) in [
        (&["-O", "quota"][..], "quota"),
        (&["-O", "quota,project"], "quota, project"),
        (&["-O", "bigalloc"], "bigalloc"),
        (&["-O", "inline_data"], "inline_data"),
        (&["-O", "casefold"], "casefold"),
        (&["-O", "encrypt"], "encrypt"),
        (&["-O", "verity"], "verity"),
        (&["-O", "mmp"], "mmp"),
        (&["-O", "ea_inode"], "ea_inode"),
        (&["-O", "large_dir"], "large_dir"),
        (&["-O", "meta_bg,^resize_inode"], "meta_bg"),
        (&["-O", "fast_commit"], "fast_commit"),
        (&["-O", "stable_inodes"], "stable_inodes"),
    ] {
        let expect = format!("the root filesystem has features that palmfarm does not write: {names}");
        check(&with(options), &nodes, &expect);
    }
    for (options, expect) in [
        (
            &["-O", "^extents,^64bit"][..],
            "the root filesystem lacks the ext4 features extent",
        ),
        (
            &["-b", "2048", "-O", "metadata_csum"],
            "the root filesystem has blocks of 2048 bytes and metadata_csum, which palmfarm does not write",
        ),
        (
            &["-I", "128", "-O", "metadata_csum,^extra_isize"],
            "the root filesystem has inodes of 128 bytes and metadata_csum, which palmfarm does not write",
        ),
        (
            &["-I", "1024"],
            "the root filesystem has inodes of 1024 bytes and metadata_csum, which palmfarm does not write",
        ),
    ] {
        check(&with(options), &nodes, expect);
    }
}

#[test]
fn plans_that_do_not_fit() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let huge = file(&vec![1; 80 << 20], 0o644);
    let text = refusal(&image, &root([("/huge", huge)]));
    assert!(
        text.starts_with("the root filesystem has ") && text.ends_with(" are needed"),
        "{text}"
    );
    let few = Recipe {
        mkfs_ext4: &["-N", "32", "-O", "^metadata_csum"],
        ..make::NOBLE
    };
    let names: Vec<String> = (0..400).map(|nth| format!("/{nth}")).collect();
    let many = root(names.iter().map(|name| (name.as_str(), file(b"", 0o644))));
    let text = refusal(&few.make_with(|_| {}), &many);
    assert!(text.ends_with(" free inodes, and 400 are needed"), "{text}");
    // A superblock that promises more than the groups have.
    let image = small();
    image.patch(image.root.0 + FREE_BLOCKS, &[0xFF, 0xFF, 0xFF, 0]);
    let huge = file(&vec![1; 80 << 20], 0o644);
    check(
        &image,
        &[("/huge", huge)],
        "the root filesystem was full when /huge was being written",
    );
}

/// Up to the last block that the count allows, and not one more; and what a nearly full filesystem takes is whole.
#[test]
fn plans_that_just_fit() {
    if !common::have(TOOLS) {
        return;
    }
    let image = Recipe {
        root_size: 16 << 20,
        ..make::JAMMY
    }
    .make_with(|_| {});
    let fits = |len: usize| edits_of(&image, &root([("/large", file(&vec![1; len], 0o644))])).is_ok();
    let (mut low, mut high) = (1 << 20, 16 << 20);
    while high - low > 4096 {
        let middle = usize::midpoint(low, high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let after = edited(&image, &root([("/large", file(&vec![1; low], 0o644))]));
    oracle::assert_whole(&after);
    let error = edits_of(&image, &root([("/large", file(&vec![1; high], 0o644))])).unwrap_err();
    assert!(matches!(error, EditError::Fs(FsError::NoRoom { .. })), "{error}");
    // The check does not count on the room of replaced files, but that room is used if there is some.
    let again = root([
        ("/large", file(&vec![2; 1 << 20], 0o644)),
        ("/more", file(&[3; 9], 0o644)),
    ]);
    let error = edits_of(&after, &again).unwrap_err();
    assert!(matches!(error, EditError::Fs(FsError::NoRoom { .. })), "{error}");
    let less = edited(&after, &root([("/large", Node::Absent)]));
    oracle::assert_whole(&less);
    oracle::assert_whole(&edited(&less, &again));
}

#[test]
fn paths_that_cannot_be() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let any = || file(b"x", 0o644);
    check(
        &image,
        &[("/circle/x", any())],
        "/circle leads through more than 40 symlinks",
    );
    check(
        &image,
        &[("/ping/x", any())],
        "/ping leads through more than 40 symlinks",
    );
    check(
        &image,
        &[("/nowhere/x", any())],
        "/nowhere/x leads through a symlink to \"not/there\", which does not exist",
    );
    check(
        &image,
        &[("/etc/file/x", any())],
        "/etc/file/x is not possible: in the root filesystem, file is not a directory",
    );
    check(
        &image,
        &[("/to-file/x", any())],
        "/to-file/x is not possible: in the root filesystem, file is not a directory",
    );
    let in_the_way =
        |wanted| format!("root:/etc is a directory in the base, but the plan has {wanted} there");
    check(&image, &[("/etc", any())], &in_the_way("a file"));
    check(&image, &[("/etc", link("x"))], &in_the_way("a symlink"));
    check(&image, &[("/etc", Node::Absent)], &in_the_way("nothing"));
    let no_directory =
        |path| format!("root:{path} is not a directory in the base, but the plan has one there");
    for path in ["/etc/file", "/to-file", "/nowhere"] {
        check(&image, &[(path, directory(0o755))], &no_directory(path));
    }
    check(
        &image,
        &[("/lib/x", any()), ("/usr/lib/x", file(b"y", 0o644))],
        "/lib/x and /usr/lib/x are the same place in the root filesystem, but the plan has different nodes \
         there",
    );
    check(
        &image,
        &[("/etc/file", Node::Absent), ("/etc/file/now/below", any())],
        "the plan removes root:/etc/file, but puts /etc/file/now/below below it",
    );
    check(
        &image,
        &[("/x", file(b"", 0o10_000))],
        "the mode 0o10000 of /x has more than the twelve bits of a mode",
    );
    let nobody = Access {
        mode: 0o644,
        uid: u32::MAX,
        gid: 0,
    };
    check(
        &image,
        &[("/x", Node::Dir { access: nobody })],
        "the owner or group of /x is 4294967295, which means \"none\"",
    );
    check(
        &image,
        &[("/x", link(&"a/".repeat(2048)))],
        "the target of the symlink /x has 4096 bytes, and this filesystem takes 4095",
    );
    check(
        &image,
        &[("/x", link(""))],
        "the target of the symlink /x has 0 bytes, and this filesystem takes 4095",
    );
    check(
        &image,
        &[("/x", link(&"a".repeat(256)))],
        "the target of the symlink /x has a part of more than 255 bytes",
    );
}

#[test]
fn paths_that_look_odd_and_can_be() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let any = || file(b"x", 0o644);
    let after = edited(
        &image,
        &root([
            ("/circle", any()),
            ("/lib/x", any()),
            ("/usr/lib/x", any()),
            ("/out/x", any()),
            ("/to-file/x/y", Node::Absent),
            ("/nowhere/x", Node::Absent),
            ("/etc/longest", link(&"a/".repeat(2047))),
            ("/etc/file", Node::Absent),
        ]),
    );
    oracle::assert_whole(&after);
    if common::is_root() {
        let walk = oracle::kernel_walk(&after);
        for name in ["/circle", "/usr/lib/x", "/etc/x"] {
            assert_eq!(
                walk.get(name).map(|seen| &seen.kind),
                Some(&oracle::SeenKind::File(b"x".to_vec())),
                "{name}"
            );
        }
    } else {
        common::skipped_in_part("what the kernel sees: it needs root");
    }
}

/// A tree that was converted from ext3 has block-mapped files and directories: the files are replaced, never written
/// into.
#[test]
fn block_mapped_files_are_replaced() {
    if !common::have(&[TOOLS, &["tune2fs"]].concat()) {
        return;
    }
    let recipe = Recipe {
        mkfs_ext4: &["-O", "^extents,^64bit,^metadata_csum"],
        ..make::NOBLE
    };
    let image = recipe.make();
    let part = oracle::extract(&image, image.root);
    common::run("tune2fs", &["-O", "extents", part.path().to_str().unwrap()]);
    image.patch(image.root.0, &std::fs::read(part.path()).unwrap());
    oracle::assert_whole(&image);
    let plan = root([
        ("/var/log/big", file(&make::noise(2_000_000), 0o644)),
        ("/etc/hostname", file(b"palm\n", 0o644)),
        ("/usr/bin/sudo", Node::Absent),
        ("/etc/link-1000", link("short")),
        ("/new/file", file(b"new\n", 0o644)),
    ]);
    let after = edited(&image, &plan);
    oracle::assert_whole(&after);
}
