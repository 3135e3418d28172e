//! `cargo xtask mini`: the base that is built into the tool – Ubuntu's layout with hardly anything in it, so that a
//! first try, a test or a look around needs no download. It boots nowhere.
//!
//! Everything in it is made here, with fixed times, owners and identifiers: the same tools give the same bytes.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use super::disk::{self, EPOCH, SECTOR};
use super::layout::{Seed, MINI};
use super::ubuntu::{META_DATA, NETWORK_CONFIG};
use crate::deps;
use crate::sh::{cmd, output, run as run_tool};
use crate::workspace_dir;

/// Directories, each after the one it lies in.
const DIRECTORIES: &[&str] = &[
    "boot",
    "boot/firmware",
    "dev",
    "etc",
    "etc/cloud",
    "etc/cloud/cloud.cfg.d",
    "etc/default",
    "etc/netplan",
    "etc/network",
    "etc/systemd",
    "etc/systemd/network",
    "etc/systemd/system",
    "etc/systemd/system/multi-user.target.wants",
    "home",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib/arm-linux-gnueabihf",
    "usr/lib/systemd",
    "usr/lib/systemd/network",
    "usr/lib/systemd/system",
    "usr/local",
    "usr/sbin",
    "usr/share",
    "var",
    "var/cache",
    "var/lib",
    "var/lib/cloud",
    "var/log",
    "var/tmp",
];

/// Symlinks: `/usr` is merged, as on every Ubuntu since 20.04.
const SYMLINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("sbin", "usr/sbin"),
    ("etc/os-release", "../usr/lib/os-release"),
    ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    (
        "usr/lib/ld-linux-armhf.so.3",
        "arm-linux-gnueabihf/ld-linux-armhf.so.3",
    ),
];

/// Units that rendering looks for, as the systemd and cloud-init of 22.04 have them.
const UNITS: &[&str] = &[
    "basic.target",
    "cloud-config.service",
    "cloud-config.target",
    "cloud-final.service",
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init.target",
    "dbus.service",
    "getty@.service",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "rc-local.service",
    "shutdown.target",
    "sockets.target",
    "ssh.service",
    "sysinit.target",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
];

/// Files with mode and content.
const FILES: &[(&str, u32, &str)] = &[
    (
        "etc/cloud/cloud.cfg.d/99-fake_cloud.cfg",
        0o644,
        super::ubuntu::FAKE_CLOUD_FAT,
    ),
    ("etc/fstab", 0o644, MINI.fstab),
    (
        "etc/group",
        0o644,
        "root:x:0:\nadm:x:4:\nsudo:x:27:\nnogroup:x:65534:\n",
    ),
    ("etc/hostname", 0o644, "ubuntu\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n"),
    ("etc/machine-id", 0o444, ""),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/shadow",
        0o640,
        "root:*:19103:0:99999:7:::\nnobody:*:19103:0:99999:7:::\n",
    ),
    (
        "usr/lib/arm-linux-gnueabihf/ld-linux-armhf.so.3",
        0o755,
        "stands for the loader of glibc\n",
    ),
    ("usr/lib/os-release", 0o644, OS_RELEASE),
    (
        "usr/lib/systemd/libsystemd-shared-249.so",
        0o644,
        "stands for the library of systemd 249\n",
    ),
    ("usr/lib/systemd/network/10-raspi-eth0.link", 0o644, RASPI_LINK),
    ("var/log/README", 0o644, "logs go here\n"),
];

const OS_RELEASE: &str = "PRETTY_NAME=\"palmfarm mini (in the layout of Ubuntu 22.04)\"\nNAME=\"Ubuntu\"\n\
                          VERSION_ID=\"22.04\"\nVERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n";

const RASPI_LINK: &str = "[Match]\nDriver=bcmgenet smsc95xx lan78xx\nOriginalName=en*\n\n[Link]\nName=eth0\n";

/// Make it anew where the tool takes it from.
pub(crate) fn run() -> Result<()> {
    deps::ensure(disk::NEEDS).require()?;
    let to = stored();
    let dir = scratch()?;
    let made = make(&dir).and_then(|made| {
        fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
        fs::copy(&made, &to).with_context(|| format!("writing {}", to.display()))
    });
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    println!("{} has {} bytes", to.display(), made?);
    Ok(())
}

/// Where the tool takes it from.
fn stored() -> PathBuf {
    workspace_dir().join("src/base/mini/mini.img.xz")
}

fn scratch() -> Result<PathBuf> {
    let dir = crate::target_dir().join(format!("mini.{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// Make the image in `dir`, compressed.
fn make(dir: &Path) -> Result<PathBuf> {
    let root_start = u64::from(MINI.boot.start.saturating_add(MINI.boot.sectors)).saturating_mul(SECTOR);
    let super::layout::End::Total(total) = MINI.end else {
        bail!("mini has a fixed size")
    };
    let root_kib = total.saturating_sub(root_start) / 1024;
    let disk = dir.join("disk.img");
    File::create(&disk)
        .and_then(|file| file.set_len(total))
        .with_context(|| format!("creating {} with {total} bytes", disk.display()))?;
    let fat = disk::fat(&MINI, &boot_files(dir)?, dir)?;
    disk::copy_sparse(&fat, &disk, u64::from(MINI.boot.start).saturating_mul(SECTOR))?;
    let root = root(dir, root_kib)?;
    disk::copy_sparse(&root, &disk, root_start)?;
    disk::partition_table(&MINI, &disk, root_kib)?;
    let packed = dir.join("mini.img.xz");
    // Blocks of 1 MiB as in Ubuntu's images, but packed as small as they go: this one is part of a program.
    let out = File::create(&packed).with_context(|| format!("creating {}", packed.display()))?;
    run_tool(
        cmd("xz", ["-9e", "-T1", "--block-size=1MiB", "--stdout"])
            .arg(&disk)
            .stdout(out),
    )?;
    Ok(packed)
}

fn boot_files(dir: &Path) -> Result<PathBuf> {
    let boot = dir.join("boot");
    // No directories: mcopy gives them the time of the host.
    fs::create_dir_all(&boot).with_context(|| format!("making {}", boot.display()))?;
    let Seed::Fat { user_data } = MINI.seed else {
        bail!("mini has its seed on the FAT partition")
    };
    for (name, text) in [
        ("cmdline.txt", MINI.boot.cmdline),
        ("config.txt", MINI.boot.config),
        ("meta-data", META_DATA),
        ("network-config", NETWORK_CONFIG),
        ("user-data", user_data),
    ] {
        fs::write(boot.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(boot)
}

/// The root filesystem, filled by debugfs: what `mke2fs -d` copies has the change times of the host.
fn root(dir: &Path, kib: u64) -> Result<PathBuf> {
    let image = dir.join("root.img");
    File::create(&image)
        .and_then(|file| file.set_len(kib.saturating_mul(1024)))
        .with_context(|| format!("creating {}", image.display()))?;
    let mut mkfs = cmd(
        "mke2fs",
        [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            MINI.root.label,
            "-U",
            MINI.root.uuid,
        ],
    );
    mkfs.args(MINI.root.mkfs)
        .args(["-b", "4096", "-I", "256"])
        .arg("-E");
    mkfs.arg(format!("hash_seed={},root_owner=0:0", MINI.root.uuid))
        .arg(&image);
    run_tool(
        mkfs.env("E2FSPROGS_FAKE_TIME", EPOCH)
            .env("SOURCE_DATE_EPOCH", EPOCH),
    )?;
    let script = dir.join("debugfs");
    fs::write(&script, commands(&dir.join("content"))?)
        .with_context(|| format!("writing {}", script.display()))?;
    let mut debugfs = cmd("debugfs", ["-w", "-f"]);
    debugfs
        .arg(&script)
        .arg(&image)
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .env("SOURCE_DATE_EPOCH", EPOCH);
    run_tool(&mut debugfs)?;
    // debugfs exits with 0 whatever happened.
    run_tool(cmd("e2fsck", ["-fn"]).arg(&image))?;
    let listed = output(cmd("debugfs", ["-R", "stat /var/log/README"]).arg(&image))?;
    if !listed.contains("Type: regular") {
        bail!("debugfs did not write the last file: {listed}");
    }
    Ok(image)
}

/// What debugfs is told; the files that it copies are put into `content`.
fn commands(content: &Path) -> Result<String> {
    fs::create_dir_all(content).with_context(|| format!("making {}", content.display()))?;
    let mut script = String::new();
    for path in DIRECTORIES {
        writeln!(script, "mkdir /{path}")?;
    }
    writeln!(
        script,
        "sif /root mode 040700\nsif /tmp mode 041777\nsif /var/tmp mode 041777"
    )?;
    for (path, target) in SYMLINKS {
        writeln!(script, "symlink /{path} {target}")?;
    }
    let units = UNITS.iter().map(|name| {
        let text = format!("[Unit]\nDescription=stands for {name} of the base\n");
        (format!("usr/lib/systemd/system/{name}"), 0o644, text)
    });
    let files = FILES
        .iter()
        .map(|(path, mode, text)| ((*path).to_owned(), *mode, (*text).to_owned()));
    for (number, (path, mode, text)) in units.chain(files).enumerate() {
        let source = content.join(number.to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&source)
            .with_context(|| format!("creating {}", source.display()))?;
        file.write_all(text.as_bytes())
            .with_context(|| format!("writing {}", source.display()))?;
        file.set_permissions(Permissions::from_mode(mode))
            .with_context(|| format!("opening {path} up"))?;
        writeln!(script, "write {} /{path}", source.display())?;
        writeln!(
            script,
            "sif /{path} mode 0100{mode:o}\nsif /{path} uid 0\nsif /{path} gid 0"
        )?;
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unpacked: two versions of xz may pack alike bytes differently.
    fn unpacked(path: &Path, to: &Path) -> Vec<u8> {
        let out = File::create(to).unwrap();
        run_tool(cmd("xz", ["-dc"]).arg(path).stdout(out)).unwrap();
        fs::read(to).unwrap()
    }

    #[test]
    fn the_stored_base_is_the_one_that_is_made() {
        let version = std::process::Command::new("/sbin/mke2fs").arg("-V").output();
        let version = version
            .map(|out| String::from_utf8_lossy(&out.stderr).into_owned())
            .unwrap_or_default();
        if !version.contains("1.47.0") || disk::NEEDS.iter().any(|need| need.is_missing()) {
            println!("skipped: the built-in base is made with e2fsprogs 1.47.0, dosfstools and mtools; here is {version:?}");
            return;
        }
        let dir = scratch().unwrap();
        let made = unpacked(&make(&dir).unwrap(), &dir.join("made"));
        let stored = unpacked(&stored(), &dir.join("stored"));
        let differs = made.iter().zip(&stored).position(|(one, other)| one != other);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(made.len(), stored.len());
        assert_eq!(differs, None, "the first byte that differs");
        assert!(fs::metadata(super::stored()).unwrap().len() < 300_000);
    }
}
