//! Facts of bases as the survey gathers them: one of each generation.

use std::collections::BTreeSet;

use palmfarm::base::{Accounts, Arch, BaseFacts, BaseText, CloudInit, Hindrances, VolumeNames};
use palmfarm::edit::tree::CardPath;

/// Units that matter to rendering and that every base has.
const COMMON: [&str; 9] = [
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-config.service",
    "cloud-final.service",
    "ssh.service",
];

/// 18.04: systemd 237, the seed on ext4, an rc.local of its own.
pub(crate) fn bionic() -> BaseFacts {
    BaseFacts {
        arch: Arch::Armhf,
        release: "Ubuntu 18.04.1 LTS".into(),
        systemd: Some(237),
        fat_seed: Vec::new(),
        cmdline: Some(text(
            "/cmdline.txt",
            "net.ifnames=0 dwc_otg.lpm_enable=0 console=ttyAMA0,115200 console=tty1 root=/dev/mmcblk0p2 \
             rootfstype=ext4 elevator=deadline rootwait\n",
        )),
        config: Some(text(
            "/config.txt",
            "kernel=uboot.bin\ndevice_tree_address=0x02000000\n",
        )),
        runs_rc_local: true,
        netplan: Vec::new(),
        units: units(&["rc-local.service"]),
        hindrances: Hindrances::default(),
        starts_ssh: true,
        cloud_init: CloudInit::default(),
        accounts: Accounts::default(),
        remains: Vec::new(),
        names: names("cloudimg-rootfs"),
        refusals: Vec::new(),
        boot_mount: "/boot/firmware".into(),
        fstab: fstab("cloudimg-rootfs"),
        customized: false,
        newest: 1_532_000_000,
    }
}

/// 22.04: systemd 249, the seed on FAT.
pub(crate) fn jammy() -> BaseFacts {
    let user_data =
        "#cloud-config\nchpasswd:\n  expire: true\n  list:\n  - ubuntu:ubuntu\nssh_pwauth: true\n";
    BaseFacts {
        release: "Ubuntu 22.04.5 LTS".into(),
        systemd: Some(249),
        fat_seed: vec![
            text("/meta-data", "instance_id: cloud-image\n"),
            text("/network-config", "version: 2\nethernets:\n  eth0:\n    dhcp4: true\n"),
            text("/user-data", user_data),
        ],
        cmdline: Some(text(
            "/cmdline.txt",
            "console=serial0,115200 dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable rootfstype=ext4 rootwait \
             fixrtc quiet splash\n",
        )),
        config: Some(text("/config.txt", "[all]\nkernel=vmlinuz\ncmdline=cmdline.txt\n")),
        runs_rc_local: false,
        netplan: vec![CardPath::new("/etc/netplan/50-cloud-init.yaml").unwrap()],
        units: units(&[]),
        names: names("writable"),
        fstab: fstab("writable"),
        newest: 1_726_000_000,
        ..bionic()
    }
}

/// 26.04: systemd 259, boot files in current/, arm64.
pub(crate) fn resolute() -> BaseFacts {
    BaseFacts {
        arch: Arch::Arm64,
        release: "Ubuntu 26.04 LTS".into(),
        systemd: Some(259),
        cmdline: Some(text(
            "/current/cmdline.txt",
            "console=serial0,115200 multipath=off dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable \
             rootfstype=ext4 panic=10 rootwait fixrtc\n",
        )),
        config: Some(text(
            "/config.txt",
            "[all]\nos_prefix=current/\n[tryboot]\nos_prefix=new/\n",
        )),
        units: units(&[
            "cloud-init-main.service",
            "systemd-networkd-resolve-hook.socket",
            "systemd-networkd-varlink.socket",
        ]),
        newest: 1_777_000_000,
        ..jammy()
    }
}

fn fstab(root: &str) -> String {
    format!("LABEL={root} / ext4 defaults 0 1\nLABEL=system-boot /boot/firmware vfat defaults 0 1\n")
}

fn text(path: &str, text: &str) -> BaseText {
    BaseText {
        path: CardPath::new(path).unwrap(),
        text: text.into(),
    }
}

/// How the filesystems of a base are found whose root has the label `root`.
fn names(root: &str) -> VolumeNames {
    let names = |label: &str, number| {
        [
            format!("LABEL={label}"),
            format!("PARTUUID=70616c6d-{number:02}"),
            format!("number {number}"),
        ]
    };
    VolumeNames {
        boot: names("system-boot", 1).into(),
        root: names(root, 2).into(),
    }
}

fn units(more: &[&str]) -> BTreeSet<String> {
    COMMON.iter().chain(more).map(|unit| (*unit).into()).collect()
}
