//! What makes a bootstrapped Debian look like Ubuntu's Raspberry Pi image to a tool that customizes it: its labels in
//! fstab, its cloud-init seed and settings, its accounts, its interface name, and nothing that is one machine's own.
//!
//! systemd-networkd stays as Debian leaves it, installed and not enabled: on Ubuntu, too, only netplan starts it.
//! Never writes outside the new root.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::symlink;
use xshell::cmd;

use super::accounts::Files;
use super::layout::{Layout, Seed};
use super::zones;
use crate::sh;

/// cloud-init takes its seed from the FAT partition's label (livecd-rootfs since 2019).
pub(super) const FAKE_CLOUD_FAT: &str = "# as in Ubuntu's Raspberry Pi images\n\
                              datasource_list: [ NoCloud, None ]\n\
                              datasource:\n  NoCloud:\n    fs_label: system-boot\n";
const FAKE_CLOUD_ROOT: &str = "# as in Ubuntu's Raspberry Pi images\ndatasource_list: [ NoCloud, None ]\n";

/// The seed on the FAT partition must be mounted before cloud-init looks for it.
const MOUNT_SEED: &str = "[Unit]\nRequiresMountsFor=/boot/firmware\n";
/// No login prompt before cloud-init has made the users.
const GETTY_WAIT: &str = "[Unit]\nBefore=getty.target\n";

/// ubuntu-raspi-settings names the on-board NIC of every Pi `eth0` (20.10 on).
pub(super) const RASPI_ETH0: &str =
    "[Match]\nDriver=bcmgenet smsc95xx lan78xx\nOriginalName=en*\n\n[Link]\nName=eth0\n";

/// Ubuntu's locale-gen(8) takes names of locales, and cloud-init relies on it; Debian's reads only its file.
const LOCALE_GEN: &str = "#!/bin/sh\n\
    for locale; do\n    echo \"$locale ${locale#*.}\" >> /etc/locale.gen\ndone\n\
    exec /usr/sbin/locale-gen\n";

/// What Ubuntu's sudoers has before the rule for the group `sudo`, which took the place of `admin`.
const SUDOERS_ADMIN: &str = "# Members of the admin group may gain root privileges\n%admin ALL=(ALL) ALL\n\n";

/// meta-data as Ubuntu writes it, underscore included.
pub(crate) const META_DATA: &str = "dsmode: local\ninstance_id: cloud-image\n";
/// network-config as Ubuntu writes it.
pub(crate) const NETWORK_CONFIG: &str =
    "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      optional: true\n";

/// Make `root` what `layout` expects; `root` is a directory that holds the unpacked root file system.
pub(crate) fn apply(root: &Path, layout: &Layout) -> Result<()> {
    put(root, "etc/hostname", "ubuntu\n")?;
    let hosts = "127.0.0.1 localhost\n\n::1 ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\n";
    put(root, "etc/hosts", hosts)?;
    put(root, "etc/fstab", layout.fstab)?;
    put(root, "etc/default/locale", "LANG=C.UTF-8\n")?;
    put_mode(root, "usr/local/sbin/locale-gen", LOCALE_GEN, 0o755)?;
    fs::create_dir_all(root.join("boot/firmware"))?;
    accounts(root, layout)?;
    zones::modernize(root, layout.release)?;
    cloud_init(root, layout)?;
    if layout.has_link_file {
        put(root, "usr/lib/systemd/network/10-raspi-eth0.link", RASPI_ETH0)?;
    }
    link(root, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")?;
    forget_machine(root)?;
    // If networkd started by itself, no test would notice that a card fails to start it.
    let wants = root.join("etc/systemd/system/multi-user.target.wants/systemd-networkd.service");
    ensure!(
        wants.symlink_metadata().is_err(),
        "systemd-networkd is enabled in the bootstrapped system, unlike in Ubuntu's"
    );
    Ok(())
}

/// Put the kernel's modules from its package into `root` and return its release, as `uname -r` prints it.
pub(crate) fn install_kernel(root: &Path, package: &Path) -> Result<String> {
    let sh = sh::shell()?;
    // The package's `lib/…` must land in `usr/lib/…`, where the root file system's own symlink points; `dpkg -x`
    // would replace that symlink by a directory, and with it the dynamic loader.
    let script = "set -o pipefail; dpkg-deb --fsys-tarfile \"$0\" | \
                  tar --extract --keep-directory-symlink --numeric-owner --directory \"$1\"";
    sh::run(cmd!(sh, "bash -c {script} {package} {root}"))?;
    let modules = sh.read_dir(root.join("usr/lib/modules"))?;
    let release = modules.first().and_then(|path| path.file_name());
    let release = release.with_context(|| format!("{} brought no modules", package.display()))?;
    sh::run(cmd!(sh, "depmod -b {root} {release}"))?;
    Ok(release.to_string_lossy().into_owned())
}

/// Accounts, groups, and what sudo has for one of them. Writing keeps owner and mode of a file.
fn accounts(root: &Path, layout: &Layout) -> Result<()> {
    let etc = root.join("etc");
    let read = |name: &str| fs::read_to_string(etc.join(name));
    let mut files = Files {
        passwd: read("passwd")?,
        shadow: read("shadow")?,
        group: read("group")?,
        gshadow: read("gshadow")?,
    };
    files.add_all_of(layout.release);
    let sudoers = read("sudoers")?;
    let rule = sudoers
        .find("# Allow members of group sudo")
        .context("/etc/sudoers of the bootstrapped system has no rule for the group sudo")?;
    let (before, from) = sudoers.split_at(rule);
    for (name, text) in [
        ("passwd", files.passwd),
        ("shadow", files.shadow),
        ("group", files.group),
        ("gshadow", files.gshadow),
        ("sudoers", format!("{before}{SUDOERS_ADMIN}{from}")),
    ] {
        fs::write(etc.join(name), text)?;
    }
    Ok(())
}

fn cloud_init(root: &Path, layout: &Layout) -> Result<()> {
    let config = root.join("etc/cloud/cloud.cfg");
    let text = fs::read_to_string(&config)?;
    let name = "name: debian";
    ensure!(
        text.contains(name),
        "{} has no default user `debian` to rename",
        config.display()
    );
    let groups = "groups: [adm, audio, cdrom, dialout, dip, floppy,";
    let text = text
        .replace(name, "name: ubuntu")
        .replace("gecos: Debian", "gecos: Ubuntu")
        .replace(&format!("{groups} netdev,"), &format!("{groups} lxd, netdev,"));
    fs::write(&config, text)?;
    let fake_cloud = "etc/cloud/cloud.cfg.d/99-fake_cloud.cfg";
    match layout.seed {
        Seed::Root => {
            put(root, fake_cloud, FAKE_CLOUD_ROOT)?;
            let seed = "var/lib/cloud/seed/nocloud-net";
            put(root, &format!("{seed}/meta-data"), "instance_id: cloud-image\n")?;
            let user_data = "#cloud-config\npassword: ubuntu\nchpasswd: ubuntu\nssh_pwauth: True\n";
            put(root, &format!("{seed}/user-data"), user_data)
        }
        Seed::Fat(_) => {
            put(root, fake_cloud, FAKE_CLOUD_FAT)?;
            let units = "etc/systemd/system";
            put(
                root,
                &format!("{units}/cloud-init-local.service.d/mount-seed.conf"),
                MOUNT_SEED,
            )?;
            put(
                root,
                &format!("{units}/cloud-config.service.d/getty-wait.conf"),
                GETTY_WAIT,
            )
        }
    }
}

/// Remove whatever must differ between two machines that start from one image.
fn forget_machine(root: &Path) -> Result<()> {
    put_mode(root, "etc/machine-id", "", 0o444)?;
    link(root, "var/lib/dbus/machine-id", "/etc/machine-id")?;
    for path in sh::shell()?.read_dir(root.join("etc/ssh"))? {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_"))
        {
            fs::remove_file(path)?;
        }
    }
    for log in ["bootstrap.log", "dpkg.log", "apt/history.log", "apt/term.log"] {
        remove(&root.join("var/log").join(log))?;
    }
    Ok(())
}

fn put(root: &Path, path: &str, text: &str) -> Result<()> {
    put_mode(root, path, text, 0o644)
}

fn put_mode(root: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let full = root.join(path);
    fs::create_dir_all(full.parent().unwrap_or(root))?;
    // A symlink at that place would lead out of the new root.
    remove(&full)?;
    fs::write(&full, text)?;
    Ok(fs::set_permissions(&full, std::fs::Permissions::from_mode(mode))?)
}

fn link(root: &Path, path: &str, target: &str) -> Result<()> {
    remove(&root.join(path))?;
    Ok(symlink(target, root.join(path))?)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
