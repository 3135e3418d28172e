//! The tree of a root filesystem in Ubuntu's layout, for images that are customized as a whole. It boots nowhere.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;

/// Units that rendering looks for.
const UNITS: [&str; 15] = [
    "cloud-config.service",
    "cloud-final.service",
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init.target",
    "dbus.service",
    "multi-user.target",
    "network-online.target",
    "ssh.service",
    "sysinit.target",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "snapd.service",
];

/// What cloud-init of 22.04 does, as far as cards need it, and a few things more.
pub const CLOUD_CFG: &str = "users: [default]\n\
    cloud_init_modules: [migrator, growpart, resizefs, set_hostname, users-groups, ssh]\n\
    cloud_config_modules: [locale, set-passwords, [timezone, always]]\n\
    cloud_final_modules: [scripts-user]\n\
    system_info: {default_user: {name: ubuntu, sudo: ['ALL=(ALL) NOPASSWD:ALL']}}\n";

/// Fill `root`.
pub fn ubuntu(root: &Path) {
    for dir in [
        "etc/netplan",
        "etc/ssh",
        "usr/bin",
        "usr/sbin",
        "boot/firmware",
        "home",
    ] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/sbin")] {
        fs::create_dir_all(root.join(target)).unwrap();
        symlink(target, root.join(link)).unwrap();
    }
    for unit in UNITS {
        put(root, &format!("usr/lib/systemd/system/{unit}"), "[Unit]\n");
    }
    link(
        root,
        "etc/systemd/system/multi-user.target.wants/ssh.service",
        "/lib/systemd/system/ssh.service",
    );
    for (path, text) in [
        ("etc/cloud/cloud.cfg", CLOUD_CFG),
        (
            "etc/cloud/cloud.cfg.d/99-fake_cloud.cfg",
            "datasource_list: [ NoCloud, None ]\ndatasource: {NoCloud: {fs_label: system-boot}}\n",
        ),
        (
            "etc/fstab",
            "LABEL=writable / ext4 defaults 0 1\nLABEL=system-boot /boot/firmware vfat defaults 0 1\n",
        ),
        ("etc/group", "root:x:0:\nsudo:x:27:\nadmin:x:110:\nlxd:x:118:\n"),
        ("etc/machine-id", ""),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n",
        ),
        ("etc/shadow", "root:*:19103:0:99999:7:::\nsshd:!:19103::::::\n"),
        ("usr/lib/ld-linux-armhf.so.3", "stands for the loader\n"),
        ("usr/bin/sudo", "stands for sudo\n"),
        (
            "usr/lib/os-release",
            "PRETTY_NAME=\"Ubuntu 22.04.5 LTS\"\nID=ubuntu\n",
        ),
        (
            "usr/lib/systemd/libsystemd-shared-249.so",
            "stands for the library\n",
        ),
        (
            "usr/lib/systemd/network/10-raspi-eth0.link",
            "[Match]\nDriver=bcmgenet smsc95xx lan78xx\nOriginalName=en*\n\n[Link]\nName=eth0\n",
        ),
        (
            "usr/lib/systemd/network/80-container-ve.network",
            "[Match]\nName=ve-*\n",
        ),
    ] {
        put(root, path, text);
    }
    fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o640)).unwrap();
}

/// A file of `root`, with its folders.
pub fn put(root: &Path, path: &str, text: &str) {
    let full = root.join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    fs::write(full, text).unwrap();
}

/// A link of `root`, with its folders.
pub fn link(root: &Path, path: &str, target: &str) {
    let full = root.join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    symlink(target, full).unwrap();
}
