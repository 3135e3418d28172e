//! Bases with more partitions than Ubuntu's: from which one a Pi starts, and how far the root filesystem can grow.

use std::fs;

use super::{accepted, base, can_run, plan, put_boot, refused};
use crate::common::make::Image;
use crate::{common, told};

#[test]
fn the_firmware_must_read_what_is_edited() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    put_boot(
        &image,
        "autoboot.txt",
        "[all]\nboot_partition=3\n[tryboot]\nboot_partition=1\n",
    );
    refused(
        &plan(&image, ""),
        "its autoboot.txt lets a Pi start from partition 3, and not from 1",
        "remove autoboot.txt",
    );
    put_boot(
        &image,
        "autoboot.txt",
        "[all]\nboot_partition=1\n[tryboot]\nboot_partition=3\n",
    );
    accepted(&plan(&image, ""));
}

#[test]
fn the_first_fat_is_the_one_that_the_firmware_reads() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let end = add_behind(&image, &["type=c", "type=c,bootable", "type=83"], [2, 0, 1]);
    let fat = image.dir.path().join("other.fat");
    fs::File::create(&fat).unwrap().set_len(MORE).unwrap();
    common::run("mkfs.vfat", &["-n", "OTHER", fat.to_str().unwrap()]);
    image.patch(end, &fs::read(&fat).unwrap());
    refused(
        &plan(&image, ""),
        "its first FAT partition is 1, from which a Pi starts, and not 2",
        "`sfdisk --delete IMAGE 1`",
    );
    common::run("sfdisk", &["-q", "--delete", image.path.to_str().unwrap(), "1"]);
    accepted(&plan(&image, ""));
}

#[test]
fn a_root_that_cannot_grow_is_said() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let note = "note: partition 3 of the base lies behind its root filesystem";
    let out = plan(&image, "");
    assert!(!told(&out).contains(note), "{}", told(&out));
    add_behind(&image, &["type=c,bootable", "type=83", "type=83"], [0, 1, 2]);
    let out = plan(&image, "");
    accepted(&out);
    assert!(told(&out).contains(note), "{}", told(&out));
}

/// The size of what is added, in bytes.
const MORE: u64 = 4 << 20;

/// Give `image` another partition table, with some room behind its root: `order` says for each new partition whether it is the boot
/// partition (0), the root (1) or the new one (2). Returns where the new one starts.
fn add_behind(image: &Image, kinds: &[&str; 3], order: [usize; 3]) -> u64 {
    let new = (image.root.0 + image.root.1, MORE);
    let file = fs::File::options().write(true).open(&image.path).unwrap();
    file.set_len(new.0 + MORE).unwrap();
    let spans = [image.boot, image.root, new];
    let line = |(kind, which): (&&str, usize)| {
        let (start, size) = spans[which];
        format!("start={},size={},{kind}\n", start / 512, size / 512)
    };
    let lines: String = kinds.iter().zip(order).map(line).collect();
    let script = image.dir.path().join("table");
    fs::write(&script, format!("label: dos\n{lines}")).unwrap();
    let path = image.path.to_str().unwrap();
    let command = "sfdisk -q --wipe never --no-reread \"$0\" < \"$1\"";
    common::run("sh", &["-c", command, path, script.to_str().unwrap()]);
    new.0
}
