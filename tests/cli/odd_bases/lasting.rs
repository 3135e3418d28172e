//! What must be the same at each boot: where the Pi keeps what it makes, its root filesystem, its address, and what a farm
//! brings that cloud-init would overwrite.

use std::fs;

use palmfarm::edit::fs::FileKind;
use palmfarm::edit::tree::Volume;

use super::{accepted, base, can_run, card, kinds, plan, put_boot, refused, text};
use crate::common::base::put;

const FSTAB: &str =
    "LABEL=writable / ext4 defaults 0 1\nLABEL=system-boot /boot/firmware vfat defaults 0 1\n";

#[test]
fn what_is_in_memory_is_lost_at_each_boot() {
    if !can_run() {
        return;
    }
    let with = |line: &str| base(|root| put(root, "etc/fstab", &format!("{FSTAB}{line}\n")));
    for folder in ["/home", "/var/snap", "/var/lib/cloud/instances"] {
        refused(
            &plan(&with(&format!("tmpfs {folder} tmpfs defaults 0 0")), ""),
            &format!("its fstab keeps {folder} in memory"),
            "remove that line of the base's fstab",
        );
    }
    accepted(&plan(&with("tmpfs /tmp tmpfs defaults 0 0"), ""));
    accepted(&plan(&with("tmpfs /home/craig/.cache tmpfs defaults 0 0"), ""));
}

#[test]
fn the_kernel_is_told_its_root() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    put_boot(&image, "cmdline.txt", "console=tty1 rootwait\n");
    refused(
        &plan(&image, ""),
        "the kernel command line has no root=, and the root filesystem is LABEL=writable",
        "write `boot: {cmdline: [\"root=LABEL=writable\"]}` in farm.yaml",
    );
    accepted(&plan(&image, "boot: {cmdline: [\"root=LABEL=writable\"]}\n"));
}

#[test]
fn the_uplink_keeps_its_name_and_address() {
    if !can_run() {
        return;
    }
    let gone = [
        "etc/systemd/network/10-address.link",
        "etc/systemd/network/10-policy.link",
        "etc/systemd/network/10-random.link",
        "etc/systemd/system/ssh.service.d/files.conf",
    ];
    let stays = [
        "etc/systemd/network/10-other.link",
        "etc/systemd/network/20-wake.link",
        "etc/systemd/system/ssh.service.d/nice.conf",
    ];
    let image = base(|root| {
        let link = |of: &str, line: &str| format!("[Match]\nOriginalName={of}\n[Link]\n{line}\n");
        put(
            root,
            gone[0],
            &link("eth0 en*", "Name=eth0\nMACAddress=02:11:22:33:44:55"),
        );
        put(root, gone[1], "[Match]\nType=ether\n[Link]\nNamePolicy=path\n");
        put(root, gone[2], &link("*", "Name=eth0\nMACAddressPolicy=random"));
        put(root, gone[3], "[Service]\nEnvironmentFile=/nowhere\n");
        put(root, stays[0], &link("usb0", "MACAddress=02:11:22:33:44:55"));
        put(root, stays[1], &link("eth0", "WakeOnLan=magic"));
        put(
            root,
            stays[2],
            "[Service]\nEnvironment=A=1\nOOMScoreAdjust=-900\n",
        );
    });
    let card = card(&image, "");
    assert_eq!(kinds(&card, &gone), gone.map(|path| (path, None)));
    assert_eq!(
        kinds(&card, &stays),
        stays.map(|path| (path, Some(FileKind::File)))
    );
}

#[test]
fn archives_that_the_farm_names_stay() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    fs::write(
        image.dir.path().join("sources"),
        "deb http://cache.lan/ubuntu jammy main\n",
    )
    .unwrap();
    let seed = |card| text(card, Volume::Root, "var/lib/cloud/seed/nocloud-net/user-data");
    let kept = card(&image, "files: {/etc/apt/sources.list: sources}\n");
    assert!(seed(&kept).contains("preserve_sources_list"), "{}", seed(&kept));
    let plain = card(&image, "");
    assert!(
        !seed(&plain).contains("preserve_sources_list"),
        "{}",
        seed(&plain)
    );
}
