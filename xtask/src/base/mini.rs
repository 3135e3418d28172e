//! `cargo xtask mini`: the base that is built into the tool – Ubuntu's layout with hardly anything in it, so that a
//! first try or a test needs no download. It boots nowhere.
//!
//! Everything in it is made here, with fixed times, owners and identifiers: the same tools give the same bytes.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Result};
use fs_err as fs;
use xshell::cmd;

use super::disk::{self, SECTOR};
use super::layout::{End, Root, Seed, MINI};
use super::ubuntu::{FAKE_CLOUD_FAT, META_DATA, NETWORK_CONFIG, RASPI_ETH0};
use crate::{deps, sh};

/// Directories, each after its parent.
const DIRECTORIES: &str = "\
    boot boot/firmware dev etc etc/cloud etc/cloud/cloud.cfg.d etc/default etc/netplan etc/network \
    etc/systemd etc/systemd/network etc/systemd/system etc/systemd/system/multi-user.target.wants home \
    media mnt opt proc root run srv sys tmp usr usr/bin usr/lib usr/lib/arm-linux-gnueabihf \
    usr/lib/systemd usr/lib/systemd/network usr/lib/systemd/system usr/local usr/sbin usr/share var \
    var/cache var/lib var/lib/cloud var/log var/tmp";

/// Symlinks: `/usr` is merged, as on every Ubuntu since 20.04.
const SYMLINKS: &str = "\
    /bin usr/bin
    /lib usr/lib
    /sbin usr/sbin
    /etc/os-release ../usr/lib/os-release
    /etc/resolv.conf ../run/systemd/resolve/stub-resolv.conf
    /usr/lib/ld-linux-armhf.so.3 arm-linux-gnueabihf/ld-linux-armhf.so.3";

/// Units that rendering looks for, as the systemd and cloud-init of 22.04 have them.
const UNITS: &str = "\
    basic.target cloud-config.service cloud-config.target cloud-final.service cloud-init-local.service \
    cloud-init.service cloud-init.target dbus.service getty@.service local-fs.target multi-user.target \
    network-online.target network-pre.target network.target rc-local.service shutdown.target \
    sockets.target ssh.service sysinit.target systemd-networkd-wait-online.service \
    systemd-networkd.service systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service";

/// Files with mode and content.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/cloud/cloud.cfg.d/99-fake_cloud.cfg", 0o644, FAKE_CLOUD_FAT),
    ("etc/fstab", 0o644, MINI.fstab),
    ("etc/group", 0o644, GROUP),
    ("etc/hostname", 0o644, "ubuntu\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n"),
    ("etc/machine-id", 0o444, ""),
    ("etc/passwd", 0o644, PASSWD),
    ("etc/shadow", 0o640, SHADOW),
    ("usr/lib/arm-linux-gnueabihf/ld-linux-armhf.so.3", 0o755, LOADER),
    ("usr/lib/os-release", 0o644, OS_RELEASE),
    ("usr/lib/systemd/libsystemd-shared-249.so", 0o644, SYSTEMD),
    ("usr/lib/systemd/network/10-raspi-eth0.link", 0o644, RASPI_ETH0),
    ("var/log/README", 0o644, "logs go here\n"),
];

const GROUP: &str = "root:x:0:\nadm:x:4:\nsudo:x:27:\nnogroup:x:65534:\n";
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const SHADOW: &str = "root:*:19103:0:99999:7:::\nnobody:*:19103:0:99999:7:::\n";
const LOADER: &str = "stands for the loader of glibc\n";
const SYSTEMD: &str = "stands for the library of systemd 249\n";
const OS_RELEASE: &str = "PRETTY_NAME=\"palmfarm mini (in the layout of Ubuntu 22.04)\"\nNAME=\"Ubuntu\"\n\
                          VERSION_ID=\"22.04\"\nVERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n";

/// Make the image and store it where the tool's build takes it from.
pub(crate) fn run() -> Result<()> {
    deps::ensure(disk::NEEDS)?;
    let dir = disk::shell()?.create_temp_dir()?;
    let size = fs::copy(make(dir.path())?, stored())?;
    println!("{} has {size} bytes", stored().display());
    Ok(())
}

/// Where the build of the tool takes the image from.
fn stored() -> PathBuf {
    crate::workspace_dir().join("src/base/mini/mini.img.xz")
}

/// Make the image in `dir`, compressed.
fn make(dir: &Path) -> Result<PathBuf> {
    let End::Total(total) = MINI.end else {
        bail!("mini has a fixed size")
    };
    let root_start = MINI.boot.end().saturating_mul(SECTOR);
    let root_kib = total.saturating_sub(root_start) / 1024;
    let disk = dir.join("mini.img");
    disk::blank(&disk, total)?;
    let fat = disk::fat(&MINI, &boot_files(dir)?, dir)?;
    disk::copy_sparse(&fat, &disk, MINI.boot.start.saturating_mul(SECTOR))?;
    disk::copy_sparse(&root(dir, root_kib)?, &disk, root_start)?;
    disk::partition_table(&MINI, &disk, root_kib)?;
    // Blocks of 1 MiB as in Ubuntu's images, but packed as small as they go: this one is part of a program.
    let sh = disk::shell()?;
    sh::run(cmd!(sh, "xz -9e -T1 --block-size=1MiB {disk}"))?;
    Ok(dir.join("mini.img.xz"))
}

fn boot_files(dir: &Path) -> Result<PathBuf> {
    let boot = dir.join("boot");
    // No directories: mcopy gives them the time of the host.
    fs::create_dir_all(&boot)?;
    let Seed::Fat(user_data) = MINI.seed else {
        bail!("mini has its seed on the FAT partition")
    };
    for (name, text) in [
        ("cmdline.txt", MINI.boot.cmdline),
        ("config.txt", MINI.boot.config),
        ("meta-data", META_DATA),
        ("network-config", NETWORK_CONFIG),
        ("user-data", user_data),
    ] {
        fs::write(boot.join(name), text)?;
    }
    Ok(boot)
}

/// The root filesystem, filled by debugfs: what `mke2fs -d` copies has the change times of the host.
fn root(dir: &Path, kib: u64) -> Result<PathBuf> {
    let sh = disk::shell()?;
    let (image, script) = (dir.join("root.img"), dir.join("debugfs"));
    disk::blank(&image, kib.saturating_mul(1024))?;
    let Root { label, uuid, mkfs } = MINI.root;
    sh::run(cmd!(
        sh,
        "mke2fs -q -F -t ext4 -L {label} -U {uuid} {mkfs...} -b 4096 -I 256 -E hash_seed={uuid},root_owner=0:0
            {image}"
    ))?;
    fs::write(&script, commands(&dir.join("content"))?)?;
    sh::run(cmd!(sh, "debugfs -w -f {script} {image}"))?;
    // debugfs exits with 0 whatever happened.
    sh::run(cmd!(sh, "e2fsck -fn {image}"))?;
    let listed = sh::output(cmd!(sh, "debugfs -R 'stat /var/log/README' {image}"))?;
    ensure!(
        listed.contains("Type: regular"),
        "debugfs did not write the last file: {listed}"
    );
    Ok(image)
}

/// The script for debugfs. The files that it copies are put into `content`.
fn commands(content: &Path) -> Result<String> {
    fs::create_dir_all(content)?;
    let mut script = String::new();
    for path in DIRECTORIES.split(' ') {
        script.push_str(&format!("mkdir /{path}\n"));
    }
    script.push_str("sif /root mode 040700\nsif /tmp mode 041777\nsif /var/tmp mode 041777\n");
    for link in SYMLINKS.lines() {
        script.push_str(&format!("symlink {}\n", link.trim()));
    }
    let units = UNITS.split(' ').map(|name| {
        let text = format!("[Unit]\nDescription=stands for {name} of the base\n");
        (format!("usr/lib/systemd/system/{name}"), 0o644, text)
    });
    let files = FILES
        .iter()
        .map(|(path, mode, text)| ((*path).into(), *mode, (*text).into()));
    for (number, (path, mode, text)) in units.chain(files).enumerate() {
        let source = content.join(number.to_string());
        fs::write(&source, text)?;
        script.push_str(&format!(
            "write {} /{path}\nsif /{path} mode 0100{mode:o}\nsif /{path} uid 0\nsif /{path} gid 0\n",
            source.display()
        ));
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unpacked: two versions of xz may pack alike bytes differently.
    fn unpacked(path: &Path, to: &Path) -> Vec<u8> {
        let out = std::fs::File::create(to).unwrap();
        sh::run(sh::cmd("xz", ["-dc"]).arg(path).stdout(out)).unwrap();
        fs::read(to).unwrap()
    }

    #[test]
    fn the_stored_base_is_the_one_that_is_made() {
        let version = std::process::Command::new("/sbin/mke2fs").arg("-V").output();
        let version = version
            .map(|out| String::from_utf8_lossy(&out.stderr).into_owned())
            .unwrap_or_default();
        if !version.contains("1.47.0") || disk::NEEDS.iter().any(|need| !deps::is_installed(*need)) {
            println!("skipped: the built-in base is made with e2fsprogs 1.47.0, dosfstools and mtools; here is {version:?}");
            return;
        }
        let temporary = disk::shell().unwrap().create_temp_dir().unwrap();
        let dir = temporary.path();
        let made = unpacked(&make(dir).unwrap(), &dir.join("made"));
        let stored = unpacked(&stored(), &dir.join("stored"));
        let differs = made.iter().zip(&stored).position(|(one, other)| one != other);
        assert_eq!(made.len(), stored.len());
        assert_eq!(differs, None, "the first byte that differs");
        assert!(fs::metadata(super::stored()).unwrap().len() < 300_000);
    }
}
