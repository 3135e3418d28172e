//! What makes a bootstrapped Debian look like Ubuntu's Raspberry Pi image to a tool that customizes it: its labels in
//! fstab, its cloud-init seed and settings, its interface name, and nothing that is one machine's own.
//!
//! systemd-networkd stays as Debian leaves it, installed and not enabled: on Ubuntu, too, only netplan starts it.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};

use super::layout::{Layout, Nic, Seed};
use crate::sh;

/// cloud-init takes its seed from the FAT partition's label (livecd-rootfs since 2019).
pub(super) const FAKE_CLOUD_FAT: &str = "# as in Ubuntu's Raspberry Pi images\n\
                              datasource_list: [ NoCloud, None ]\n\
                              datasource:\n  NoCloud:\n    fs_label: system-boot\n";
const FAKE_CLOUD_ROOT: &str = "# as in Ubuntu's Raspberry Pi images\ndatasource_list: [ NoCloud, None ]\n";

/// The seed on the FAT partition must be mounted before cloud-init looks for it.
const MOUNT_SEED: &str = "[Unit]\nRequiresMountsFor=/boot/firmware\n";
/// Nobody is asked for a login before cloud-init has made the users.
const GETTY_WAIT: &str = "[Unit]\nBefore=getty.target\n";

/// ubuntu-raspi-settings names the on-board NIC of every Pi `eth0` (20.10 on).
const RASPI_ETH0: &str = "[Match]\nDriver=bcmgenet smsc95xx lan78xx\nOriginalName=en*\n\n[Link]\nName=eth0\n";

/// Ubuntu's locale-gen(8) takes names of locales, and cloud-init counts on it; Debian's knows only its file.
const LOCALE_GEN: &str = "#!/bin/sh\n\
    for locale; do\n    echo \"$locale ${locale#*.}\" >> /etc/locale.gen\ndone\n\
    exec /usr/sbin/locale-gen\n";

/// meta-data as Ubuntu writes it, underscore included.
pub(crate) const META_DATA: &str = "dsmode: local\ninstance_id: cloud-image\n";
/// network-config as Ubuntu writes it.
pub(crate) const NETWORK_CONFIG: &str =
    "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      optional: true\n";

/// Make `root` what `layout` expects; `root` is a directory that holds the unpacked root file system.
pub(crate) fn settle(root: &Path, layout: &Layout) -> Result<()> {
    let put = |path: &str, text: &str| put(root, path, text, 0o644);
    put("etc/hostname", "ubuntu\n")?;
    put(
        "etc/hosts",
        "127.0.0.1 localhost\n\n::1 ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\n",
    )?;
    put("etc/fstab", layout.fstab)?;
    put("etc/default/locale", "LANG=C.UTF-8\n")?;
    self::put(root, "usr/local/sbin/locale-gen", LOCALE_GEN, 0o755)?;
    fs::create_dir_all(root.join("boot/firmware")).context("making the mount point of the FAT partition")?;
    cloud_init(root, layout)?;
    if layout.nic == Nic::LinkFile {
        put("usr/lib/systemd/network/10-raspi-eth0.link", RASPI_ETH0)?;
    }
    link(root, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")?;
    forget_machine(root)?;
    no_networkd(root)
}

/// Put the kernel's modules from its package into `root` and return its release, as `uname -r` prints it.
pub(crate) fn install_kernel(root: &Path, package: &Path) -> Result<String> {
    unpack(package, root)?;
    let modules = root.join("usr/lib/modules");
    let release = fs::read_dir(&modules)
        .with_context(|| format!("reading {}", modules.display()))?
        .flatten()
        .next()
        .with_context(|| format!("{} brought no modules", package.display()))?
        .file_name()
        .to_string_lossy()
        .into_owned();
    sh::run(sh::cmd("depmod", ["-b"]).arg(root).arg(&release))?;
    Ok(release)
}

/// One file of a package.
pub(crate) fn file_of(package: &Path, member: &str) -> Result<Vec<u8>> {
    let bytes = untar(
        package,
        sh::cmd("tar", ["--extract", "--to-stdout", "--file=-", member]),
    )?;
    if bytes.is_empty() {
        bail!("{member} of {} is empty", package.display());
    }
    Ok(bytes)
}

/// A package's `lib/…` must land in `usr/lib/…`, where the root file system's own symlink points; `dpkg -x` would
/// replace that symlink by a directory, and with it the dynamic loader.
fn unpack(package: &Path, root: &Path) -> Result<()> {
    let mut tar = sh::cmd(
        "tar",
        [
            "--extract",
            "--file=-",
            "--keep-directory-symlink",
            "--numeric-owner",
        ],
    );
    tar.arg("--directory").arg(root);
    untar(package, tar).map(drop)
}

/// Pipe the package's files through `tar`; what that prints.
fn untar(package: &Path, mut tar: Command) -> Result<Vec<u8>> {
    let mut dpkg = sh::cmd("dpkg-deb", ["--fsys-tarfile"]);
    let mut dpkg = dpkg
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    if let Some(archive) = dpkg.stdout.take() {
        tar.stdin(archive);
    }
    let done = tar.output().context("starting tar");
    // It holds the other end of the pipe, on which dpkg-deb would wait for a tar that gave up.
    drop(tar);
    let dpkg = dpkg.wait().context("waiting for dpkg-deb")?;
    let done = done?;
    if !dpkg.success() || !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        bail!(
            "unpacking {}: dpkg-deb {dpkg}, tar {}: {}",
            package.display(),
            done.status,
            complaint.trim()
        );
    }
    Ok(done.stdout)
}

fn cloud_init(root: &Path, layout: &Layout) -> Result<()> {
    let config = root.join("etc/cloud/cloud.cfg");
    let text = fs::read_to_string(&config).with_context(|| format!("reading {}", config.display()))?;
    let (name, gecos) = ("name: debian", "gecos: Debian");
    if !text.contains(name) {
        bail!("{} has no default user `debian` to rename", config.display());
    }
    let text = text
        .replace(name, "name: ubuntu")
        .replace(gecos, "gecos: Ubuntu")
        .replace(
            "groups: [adm, audio, cdrom, dialout, dip, floppy, netdev,",
            "groups: [adm, audio, cdrom, dialout, dip, floppy, lxd, netdev,",
        );
    fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let put = |path: &str, text: &str| put(root, path, text, 0o644);
    match layout.seed {
        Seed::Root => {
            put("etc/cloud/cloud.cfg.d/99-fake_cloud.cfg", FAKE_CLOUD_ROOT)?;
            let seed = "var/lib/cloud/seed/nocloud-net";
            put(&format!("{seed}/meta-data"), "instance_id: cloud-image\n")?;
            let user_data = "#cloud-config\npassword: ubuntu\nchpasswd: ubuntu\nssh_pwauth: True\n";
            put(&format!("{seed}/user-data"), user_data)
        }
        Seed::Fat { .. } => {
            put("etc/cloud/cloud.cfg.d/99-fake_cloud.cfg", FAKE_CLOUD_FAT)?;
            put(
                "etc/systemd/system/cloud-init-local.service.d/mount-seed.conf",
                MOUNT_SEED,
            )?;
            put(
                "etc/systemd/system/cloud-config.service.d/getty-wait.conf",
                GETTY_WAIT,
            )
        }
    }
}

/// What must differ between two machines that start from one image.
fn forget_machine(root: &Path) -> Result<()> {
    put(root, "etc/machine-id", "", 0o444)?;
    link(root, "var/lib/dbus/machine-id", "/etc/machine-id")?;
    let ssh = root.join("etc/ssh");
    for entry in fs::read_dir(&ssh)
        .with_context(|| format!("reading {}", ssh.display()))?
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    for log in [
        "var/log/bootstrap.log",
        "var/log/dpkg.log",
        "var/log/apt/history.log",
        "var/log/apt/term.log",
    ] {
        let _ = fs::remove_file(root.join(log));
    }
    Ok(())
}

/// A base on which networkd starts by itself would hide the very thing that a card must see to.
fn no_networkd(root: &Path) -> Result<()> {
    let wants = root.join("etc/systemd/system/multi-user.target.wants/systemd-networkd.service");
    if wants.symlink_metadata().is_ok() {
        bail!("systemd-networkd is enabled in the bootstrapped system, unlike in Ubuntu's");
    }
    Ok(())
}

fn put(root: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let full = root.join(path);
    let write = || {
        if let Some(dir) = full.parent() {
            fs::create_dir_all(dir)?;
        }
        // A symlink that is in the way would lead out of the new root.
        remove(&full)?;
        fs::write(&full, text)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("writing {}", full.display()))
}

fn link(root: &Path, path: &str, target: &str) -> Result<()> {
    let full: PathBuf = root.join(path);
    remove(&full)
        .and_then(|()| symlink(target, &full))
        .with_context(|| format!("linking {}", full.display()))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
