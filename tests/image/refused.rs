//! What is not edited, each with its own message and something that the person can do.

use std::sync::Arc;

use palmfarm::base::layout::Layout;
use palmfarm::base::survey::Volumes;
use palmfarm::edit::fs::FsError;
use palmfarm::edit::tree::{Node, Tree, Volume};
use palmfarm::edit::EditError;

use crate::common::make::{self, FileBase, Image, Recipe};
use crate::common::{self, oracle};
use crate::{edited, edits_of, file, link, root, TOOLS};

/// Bytes from the start of the root partition to a field of its superblock.
const STATE: u64 = 1024 + 0x3A;
const REVISION: u64 = 1024 + 0x4C;
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

pub(crate) fn check(image: &Image, nodes: &[(&str, Node)], expect: &str) {
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
fn a_filesystem_older_than_features() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    image.patch(image.root.0 + REVISION, &0_u32.to_le_bytes());
    let error = edits_of(&image, &root([("etc/file", file(b"new\n", 0o644))])).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("mke2fs")));
    check(
        &image,
        &[("etc/file", file(b"new\n", 0o644))],
        "the root partition holds no ext4 filesystem: its revision is 0, older than any ext4",
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
        let expect = format!("the root filesystem has features that palmfarm does not edit: {names}");
        let image = with(options);
        check(&image, &nodes, &expect);
        same_when_read(&image, &nodes, &expect);
        follow(&image, &nodes, names);
    }
    for (options, expect) in [
        (
            &["-O", "^extents,^64bit"][..],
            "the root filesystem lacks the ext4 features extent",
        ),
        (
            &["-O", "^filetype"],
            "the root filesystem lacks the ext4 features filetype",
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
        let image = with(options);
        check(&image, &nodes, expect);
        same_when_read(&image, &nodes, expect);
    }
}

/// Whoever only reads `image` reads it, or says what an edit with `nodes` says.
fn same_when_read(image: &Image, nodes: &[(&str, Node)], expect: &str) {
    let base = Arc::new(FileBase::open(&image.path));
    let layout = Layout::read(&*base).unwrap();
    if let Err(error) = Volumes::open(&base, &layout) {
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!((source.as_str(), error.hint()), (expect, hint(image, nodes)));
    }
}

pub(crate) fn hint(image: &Image, nodes: &[(&str, Node)]) -> Option<&'static str> {
    edits_of(image, &root(nodes.iter().cloned())).unwrap_err().hint()
}

/// Follow the hint for a filesystem that has the features `names`.
pub(crate) fn follow(image: &Image, nodes: &[(&str, Node)], names: &str) {
    let hint = hint(image, nodes).unwrap();
    image.change(image.root, |partition| {
        if hint == "run `tune2fs -O ^FEATURE PARTITION` for each of them, then `e2fsck -f PARTITION`" {
            // One that rests on another goes first.
            for name in names.split(", ").collect::<Vec<_>>().into_iter().rev() {
                common::run("tune2fs", &["-O", &format!("^{name}"), partition]);
            }
            common::attempt("e2fsck", &["-fy", partition]);
        } else {
            assert!(hint.contains("`mkfs.ext4 -L writable` makes"), "{hint}");
            common::run("mkfs.ext4", &["-q", "-F", "-L", "writable", partition]);
        }
    });
    oracle::assert_whole(&edited(image, &root(nodes.iter().cloned())));
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

/// As `resize2fs -M` leaves it: the farm is not to blame.
#[test]
fn a_base_that_was_shrunk_is_enlarged() {
    if !common::have(&[TOOLS, &["resize2fs", "sfdisk"]].concat()) {
        return;
    }
    let image = make::NOBLE.make_with(|root| std::fs::create_dir(root.join("etc")).unwrap());
    image.change(image.root, |partition| {
        common::attempt("e2fsck", &["-fy", partition]);
        common::run("resize2fs", &["-M", partition]);
        let file = std::fs::OpenOptions::new().write(true).open(partition).unwrap();
        file.set_len(image.root.1).unwrap();
    });
    let plan = root([("/etc/agent", file(&make::noise(1_500_000), 0o755))]);
    let text = refusal(&image, &plan);
    assert!(text.ends_with("bytes free, and 1523712 are needed"), "{text}");
    let hint = edits_of(&image, &plan).unwrap_err().hint().unwrap();
    assert!(hint.starts_with("the base was shrunk to what it holds"), "{hint}");
    // As the hint says, with less than 1G.
    let name = image.path.to_str().unwrap();
    common::run("truncate", &["-s", "+16M", name]);
    common::run("sh", &["-c", &format!("echo ,+ | sfdisk -q -N 2 {name}")]);
    let layout = Layout::read(&FileBase::open(&image.path)).unwrap();
    let span = layout.root.span;
    assert!(span.size() > image.root.1);
    let image = Image {
        root: (span.start(), span.size()),
        ..image
    };
    image.change(image.root, |partition| {
        common::attempt("e2fsck", &["-fy", partition]);
        common::run("resize2fs", &[partition]);
    });
    oracle::assert_whole(&edited(&image, &plan));
}

#[test]
fn who_has_too_much_to_carry_is_told_so() {
    let no_room = |volume, needed| FsError::NoRoom {
        volume,
        free: 0,
        needed,
    };
    for (error, expect) in [
        (no_room(Volume::Root, 100 << 20), "carry fewer or smaller images"),
        (
            no_room(Volume::Boot, 1 << 20),
            "put fewer or smaller files onto the boot partition",
        ),
        (FsError::NoInodes { free: 1, needed: 100 }, "the base was shrunk"),
        (
            FsError::NoInodes {
                free: 1,
                needed: 10_000,
            },
            "pack small files",
        ),
    ] {
        assert!(error.hint().unwrap().starts_with(expect), "{error}");
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

#[test]
fn a_directory_that_does_not_match_its_checksum_is_not_written() {
    if !common::have(TOOLS) {
        return;
    }
    let nodes = [("/etc/hostname", file(b"palm\n", 0o644))];
    // Another name, and no checksum at all.
    for (at, bytes) in [(12 + 12 + 8, &b"x"[..]), (4096 - 12, &[0; 12])] {
        let image = make::NOBLE.make_with(|root| {
            std::fs::create_dir(root.join("etc")).unwrap();
            std::fs::write(root.join("etc/file"), "file\n").unwrap();
        });
        let (start, _) = image.root;
        let block = common::run(
            "debugfs",
            &[
                "-R",
                "bmap /etc 0",
                &format!("{}?offset={start}", image.path.display()),
            ],
        );
        let block: u64 = block.trim().parse().unwrap();
        image.patch(start + block * 4096 + at, bytes);
        let text = refusal(&image, &root(nodes.clone()));
        assert!(
            text.starts_with("reading the directory of root:/etc/hostname: "),
            "{text}"
        );
    }
}

#[test]
fn a_bitmap_that_contradicts_its_group_is_not_allocated_by() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    // Nobody counts these blocks as free, and the journal or a table may be on them.
    image.debugfs("freeb 500 20");
    check(
        &image,
        &[("/etc/hostname", file(b"palm\n", 0o644))],
        "the root filesystem is damaged: its bitmaps of free blocks and inodes do not agree with its block groups",
    );
}
