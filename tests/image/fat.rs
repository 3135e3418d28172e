//! What FAT cannot hold, which FATs are not written, and root directories that are filled to their ends.

use palmfarm::base::layout::Layout;
use palmfarm::base::survey;
use palmfarm::edit::fs::VolumeReader;
use palmfarm::edit::tree::{Node, Volume};

use crate::common::make::{self, FileBase, Image, Recipe};
use crate::common::{self, oracle};
use crate::refused::{refusal, small};
use crate::{directory, edited, edits_of, file, link, path, tree, TOOLS};

fn check_boot(image: &Image, nodes: &[(&str, Node)], expect: &str) {
    let nodes = nodes
        .iter()
        .map(|(name, node)| (Volume::Boot, *name, node.clone()));
    assert_eq!(refusal(image, &tree(nodes)), expect);
}

#[test]
fn what_fat_cannot_hold() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let any = || file(b"x", 0o644);
    check_boot(
        &image,
        &[("/link", link("x"))],
        "boot:/link cannot be a symlink: FAT has no symlinks",
    );
    check_boot(
        &image,
        &[("/cmdline.txt", link("x"))],
        "boot:/cmdline.txt cannot be a symlink: FAT has no symlinks",
    );
    let no_dir = |path, missing| {
        format!("boot:{path} needs the directory {missing}, which the base does not have, and palmfarm does not create directories on FAT")
    };
    check_boot(&image, &[("/new", directory(0o755))], &no_dir("/new", "/new"));
    check_boot(&image, &[("/new/x", any())], &no_dir("/new/x", "/new"));
    check_boot(
        &image,
        &[("/config.txt/x", any())],
        "/config.txt/x is not possible: in the boot filesystem, /config.txt is not a directory",
    );
    check_boot(
        &image,
        &[("/OVERLAYS", any())],
        "boot:/OVERLAYS is a directory in the base, but the plan has a file there",
    );
    check_boot(
        &image,
        &[("/config.txt", directory(0o755))],
        "boot:/config.txt is not a directory in the base, but the plan has one there",
    );
    check_boot(
        &image,
        &[("/A.txt", any()), ("/a.TXT", any())],
        "/A.txt and /a.TXT are the same place in the boot filesystem, but the plan has different nodes there",
    );
    let bad = |path, why| format!("boot:{path} cannot be on FAT: {why}");
    let character = "a part of it has a character that FAT does not allow";
    let ends = "a part of it begins with a space, or ends with one or with a dot";
    check_boot(&image, &[("/a:b", any())], &bad("/a:b", character));
    check_boot(&image, &[("/a\tb", any())], &bad("/a\tb", character));
    check_boot(&image, &[("/dot.", any())], &bad("/dot.", ends));
    check_boot(&image, &[("/ space", any())], &bad("/ space", ends));
    let wide = "a part of it has a character beyond U+FFFF";
    check_boot(&image, &[("/\u{1F600}.txt", any())], &bad("/\u{1F600}.txt", wide));
    let short = "a part of it looks like the short name that FAT gives to a longer one";
    for path in ["/NETWOR~1", "/a~12.txt"] {
        check_boot(&image, &[(path, any())], &bad(path, short));
    }
    let text = refusal(
        &image,
        &tree([(Volume::Boot, "/huge", file(&vec![1; 50 << 20], 0o644))]),
    );
    assert!(
        text.starts_with("the boot filesystem has ") && text.ends_with(" are needed"),
        "{text}"
    );
}

#[test]
fn a_fat_whose_tables_differ_is_not_written() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let reserved = u64::from(image.read(image.boot.0 + 14, 1)[0]);
    // The entry of cluster 100 in the first table alone.
    let entry = image.boot.0 + reserved * 512 + 400;
    image.patch(entry, &[0xAA, 0xBB]);
    check_boot(
        &image,
        &[("/x", file(b"", 0o644))],
        "the boot filesystem is damaged: its two file allocation tables differ, or do not begin as they should",
    );
}

#[test]
fn files_with_a_common_cluster_are_not_written() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let boot = image.read(image.boot.0, usize::try_from(image.boot.1).unwrap());
    let entry = |name: &[u8]| {
        let at = boot.windows(11).position(|found| found == name).unwrap();
        image.boot.0 + u64::try_from(at).unwrap()
    };
    let (first, second) = (entry(b"CMDLINE TXT"), entry(b"CONFIG  TXT"));
    let cluster = image.read(first + 26, 2);
    image.patch(second + 26, &cluster);
    let text = refusal(&image, &tree([(Volume::Boot, "/x", file(b"", 0o644))]));
    assert!(
        text.contains("damaged: /") && text.contains("in common"),
        "{text}"
    );
    let hint = edits_of(&image, &tree([(Volume::Boot, "/x", file(b"", 0o644))])).unwrap_err();
    assert!(hint.hint().unwrap().contains("fsck.vfat -a"));
}

#[test]
fn a_wrong_count_of_free_clusters_is_corrected() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    // FSI_Free_Count of the second sector (Microsoft's specification 1.03).
    image.patch(image.boot.0 + 512 + 488, &[10, 0, 0, 0]);
    let large = file(&vec![1; 100 << 10], 0o644);
    oracle::assert_whole(&edited(&image, &tree([(Volume::Boot, "/x", large)])));
}

#[test]
fn fats_that_are_not_written() {
    if !common::have(TOOLS) {
        return;
    }
    let nodes = [("/x", file(b"", 0o644))];
    let image = small();
    image.patch(image.boot.0 + 65, &[1]);
    check_boot(
        &image,
        &nodes,
        "the boot filesystem is marked dirty: it was not cleanly unmounted",
    );
    let image = small();
    image.patch(image.boot.0 + 35, &[0x7F]);
    let text = refusal(&image, &tree([(Volume::Boot, "/x", file(b"", 0o644))]));
    assert!(text.ends_with("bytes, its partition only 40960000"), "{text}");
    let fat12 = Recipe {
        boot: (2048, 4096),
        mkfs_fat: &["-F", "12"],
        ..make::JAMMY
    };
    let text = refusal(
        &fat12.make_with(|_| {}),
        &tree([(Volume::Boot, "/x", file(b"", 0o644))]),
    );
    assert!(text.starts_with("the boot filesystem is FAT12 ("), "{text}");
}

/// Where the label is, in bytes from the start of a FAT32 and of the copy of its boot sector.
const LABELS: [u64; 2] = [71, 6 * 512 + 71];

/// What `blkid` and our reading of the partitions call the boot partition of `image`.
fn labels(image: &Image) -> (String, Result<Layout, String>) {
    let part = oracle::extract(image, image.boot);
    let name = part.path().to_str().unwrap();
    let (_, blkid) = common::attempt("blkid", &["-p", "-s", "LABEL", "-o", "value", name]);
    let layout = Layout::read(&FileBase::open(&image.path));
    (blkid.trim().to_owned(), layout.map_err(|error| error.to_string()))
}

#[test]
fn a_label_is_read_where_linux_reads_it() {
    if !common::have(TOOLS) || !common::have(&["blkid", "fatlabel"]) {
        return;
    }
    // As Windows leaves it, and mlabel.
    let in_directory = small();
    for at in LABELS {
        in_directory.patch(in_directory.boot.0 + at, b"NO NAME    ");
    }
    let (blkid, layout) = labels(&in_directory);
    assert_eq!(blkid, "system-boot");
    assert_eq!(layout.unwrap().boot.number, 1);
    // fsck.vfat wants the label in both places, so mtools is the judge.
    let after = edited(&in_directory, &tree([(Volume::Boot, "/x", file(b"x", 0o644))]));
    assert_eq!(oracle::mtools_walk(&after).get("/x").unwrap(), b"x");

    let in_sector = small();
    // The label is the first entry of the root directory, whose cluster is the first one.
    let boot = in_sector.read(in_sector.boot.0, 512);
    let field = |at: usize| u64::from(u32::from_le_bytes(boot[at..at + 4].try_into().unwrap()));
    let root = (u64::from(boot[14]) + 2 * field(36)) * 512;
    assert_eq!(in_sector.read(in_sector.boot.0 + root, 11), b"system-boot");
    in_sector.patch(in_sector.boot.0 + root, &[0xE5]);
    let (blkid, layout) = labels(&in_sector);
    assert_eq!(blkid, "");
    assert_eq!(
        layout.unwrap_err(),
        "partition 1 is called system-boot in its boot sector alone; Linux looks for the label in the root directory, \
         so it would not be mounted"
    );
    let error = Layout::read(&FileBase::open(&in_sector.path)).unwrap_err();
    assert_eq!(error.hint(), "run `fatlabel PARTITION system-boot`");
    in_sector.change(in_sector.boot, |partition| {
        common::run("fatlabel", &[partition, "system-boot"]);
    });
    let (blkid, layout) = labels(&in_sector);
    assert_eq!(blkid, "system-boot");
    layout.unwrap();
}

/// Linux reads them, but the specification counts clusters: the library would write the table of a FAT16.
#[test]
fn a_fat32_with_few_clusters_is_read_and_not_written() {
    if !common::have(TOOLS) {
        return;
    }
    let make_again =
        "copy the files of the partition away, run `mkfs.vfat -F 16 -n system-boot PARTITION`, and copy \
                      them back; or use an image as Ubuntu publishes it";
    let small_fat32 = small();
    let fat12 = Recipe {
        boot: (2048, 60_000),
        mkfs_fat: &["-F", "12", "-s", "16"],
        ..make::JAMMY
    };
    let fat12 = fat12.make_with(|_| {});
    let files = oracle::mtools_walk(&small_fat32);
    // mtools does not fill such a FAT32, so this one is shortened.
    for sector in [0, 6 * 512] {
        small_fat32.patch(small_fat32.boot.0 + sector + 32, &60_000_u32.to_le_bytes());
    }
    let layout = Layout::read(&FileBase::open(&small_fat32.path)).unwrap();
    let base = std::sync::Arc::new(FileBase::open(&small_fat32.path));
    let boot = survey::boot(&base, &layout).unwrap();
    for (name, content) in &files {
        let read = boot.read(&path(name), 1 << 20).unwrap().unwrap();
        assert!(read == *content, "{name}");
    }
    for (image, expect) in [
        (
            small_fat32,
            "the boot filesystem is a FAT32 with 58736 clusters, and by the specification a FAT32 has 65525 or more",
        ),
        (
            fat12,
            "the boot filesystem is FAT12 (3745 clusters); a Pi's is FAT16 or FAT32",
        ),
    ] {
        let plan = tree([(Volume::Boot, "/config.txt", file(b"[all]\n", 0o644))]);
        let error = edits_of(&image, &plan).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.hint()), (expect, Some(make_again)));
        // As the hint says.
        image.change(image.boot, |partition| {
            common::run("mkfs.vfat", &["-F", "16", "-n", "system-boot", partition]);
            common::run("mmd", &["-i", partition, "::overlays"]);
            for (name, content) in &files {
                let copy = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(copy.path(), content).unwrap();
                let copy = copy.path().to_str().unwrap();
                common::run("mcopy", &["-i", partition, copy, &format!("::{name}")]);
            }
        });
        oracle::assert_whole(&edited(&image, &plan));
    }
}

/// The root directory of FAT16 has 512 entries and never more.
#[test]
fn the_root_of_fat16_is_filled_to_the_last_entry() {
    if !common::have(TOOLS) {
        return;
    }
    let image = make::BIONIC.make_with(|_| {});
    let names: Vec<String> = (0..300).map(|nth| format!("/file-{nth}")).collect();
    let plan = |count: usize| {
        let nodes = names.iter().take(count);
        tree(nodes.map(|name| (Volume::Boot, name.as_str(), file(name.as_bytes(), 0o644))))
    };
    let text = refusal(&image, &plan(300));
    let free: usize = text
        .strip_prefix("the root directory of the boot filesystem has ")
        .and_then(|rest| rest.strip_suffix(" free entries, and 600 are needed"))
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .unwrap();
    let after = edited(&image, &plan(free / 2));
    oracle::assert_whole(&after);
    assert!(edits_of(&image, &plan(free / 2 + 1)).is_err());
}

/// A cluster that the root directory of FAT32 grows by must not keep its old bytes: they would be entries.
#[test]
fn the_root_of_fat32_grows_into_used_clusters() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    // What a file that was there once has left: all free clusters are full of letters.
    let used = oracle::mtools_walk(&image);
    let garbage = image.dir.path().join("garbage");
    std::fs::write(&garbage, vec![b'G'; 30 << 20]).unwrap();
    let drive = format!("{}@@{}", image.path.display(), image.boot.0);
    common::run("mcopy", &["-i", &drive, garbage.to_str().unwrap(), "::garbage"]);
    common::run("mdel", &["-i", &drive, "::garbage"]);
    // And the next free cluster is the first one after what is in use, as after mkfs.
    image.patch(image.boot.0 + 512 + 492, &[2, 0, 0, 0]);
    assert!(oracle::mtools_walk(&image) == used);
    let names: Vec<String> = (0..100).map(|nth| format!("/a-file-of-the-plan-{nth}")).collect();
    let mut nodes: Vec<(Volume, &str, Node)> = names
        .iter()
        .map(|name| (Volume::Boot, name.as_str(), file(name.as_bytes(), 0o644)))
        .collect();
    nodes.push((Volume::Boot, "/vmlinuz", file(&make::noise(700_000), 0o644)));
    nodes.push((Volume::Boot, "/config.txt", Node::Absent));
    let after = edited(&image, &tree(nodes));
    oracle::assert_whole(&after);
    let mut expected = used;
    for name in &names {
        expected.insert(name.clone(), name.clone().into_bytes());
    }
    expected.insert("/vmlinuz".into(), make::noise(700_000));
    expected.remove("/config.txt");
    assert!(oracle::mtools_walk(&after) == expected);
}
