//! What mounts the filesystems of a card: the base's fstab, mended or refused, and one that the farm brings.

use std::fs;

use palmfarm::edit::tree::Volume;

use super::{accepted, base, can_run, card, plan, refused, run, text};
use crate::common::base::put;
use crate::common::make::Image;
use crate::told;

const ROOT: &str = "LABEL=writable / ext4 defaults 0 1\n";
const BOOT: &str = "LABEL=system-boot /boot/firmware vfat defaults 0 1\n";

fn with(fstab: &str) -> Image {
    base(|root| put(root, "etc/fstab", fstab))
}

#[test]
fn both_filesystems_are_mounted_for_writing() {
    if !can_run() {
        return;
    }
    for (base, expect) in [
        (ROOT.to_owned(), format!("{ROOT}{BOOT}")),
        (format!("# mine\n{BOOT}"), format!("# mine\n{BOOT}{ROOT}")),
        (
            format!("{ROOT}LABEL=system-boot\t/boot/firmware\tvfat\tro,noauto,umask=0077\t0 1\n"),
            format!("{ROOT}LABEL=system-boot /boot/firmware vfat umask=0077 0 1\n"),
        ),
    ] {
        let image = with(&base);
        let made = card(&image, "");
        assert_eq!(text(&made, Volume::Root, "/etc/fstab"), expect);
        let said = told(&plan(&image, ""));
        assert!(said.contains("(undone: the base's does not mount"), "{said}");
    }
}

#[test]
fn options_with_which_no_card_works_are_refused() {
    if !can_run() {
        return;
    }
    for (options, option, why) in [
        ("noatime,noexec", "noexec", "no program would start"),
        ("nosuid", "nosuid", "nobody could become root"),
        (
            "data=journal",
            "data=journal",
            "ext4 takes that one only when it is mounted first",
        ),
    ] {
        let image = with(&format!("LABEL=writable / ext4 {options} 0 1\n{BOOT}"));
        refused(
            &plan(&image, ""),
            &format!("its fstab mounts the root filesystem with the options {options}: {why}"),
            &format!("remove `{option}` from the line for `/` of the base's fstab"),
        );
    }
    accepted(&plan(
        &with(&format!(
            "LABEL=writable / ext4 discard,errors=remount-ro 0 1\n{BOOT}"
        )),
        "",
    ));
}

#[test]
fn a_fstab_of_the_farm_takes_the_place_of_the_bases() {
    if !can_run() {
        return;
    }
    let bad = format!("{ROOT}{BOOT}LABEL=data /srv ext4 defaults 0 2\n");
    let image = with(&bad);
    let dir = image.dir.path();
    fs::create_dir_all(dir.join("site/root/etc")).unwrap();
    let lay = |text: &str| fs::write(dir.join("site/root/etc/fstab"), text).unwrap();
    lay(&format!("{ROOT}{BOOT}"));
    let laid = "overlays: [site]\n";
    accepted(&plan(&image, laid));
    // It is judged as the base's is.
    lay(&bad);
    refused(
        &plan(&image, laid),
        "the fstab of overlay site mounts LABEL=data at /srv, and the image has no such filesystem",
        "add `nofail` to that line of that fstab, or remove the line",
    );
    fs::write(dir.join("own"), &bad).unwrap();
    refused(
        &plan(&image, "files: {/etc/fstab: own}\n"),
        "the fstab of farm.yaml files: own mounts LABEL=data at /srv",
        "add `nofail` to that line",
    );
    // What is wrong on every base is told before there is one.
    let check = |line: &str| {
        lay(line);
        run(&image, "craig", laid, &["check", "farm.yaml"])
    };
    for (lines, what) in [
        (
            format!("LABEL=writable / ext4 ro 0 1\n{BOOT}"),
            "it mounts the root filesystem with the options ro: read-only",
        ),
        (
            format!("{ROOT}{BOOT}tmpfs /home tmpfs defaults\n"),
            "it keeps /home in memory",
        ),
    ] {
        let out = check(&lines);
        let said = told(&out);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(
            said.contains("error: root/etc/fstab of this overlay is in the way") && said.contains(what),
            "{said}"
        );
    }
    let out = check(ROOT);
    accepted(&out);
    let said = told(&out);
    assert!(
        said.contains("it does not mount the FAT partition for writing"),
        "{said}"
    );
}
