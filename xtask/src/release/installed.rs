//! Uses a release as people would: the package in a fresh Debian, the program where there is no C library at all, the
//! arm64 program on an emulated processor. It works in a temporary folder and in namespaces of its own.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use sha2::{Digest, Sha256};

use super::Release;
use crate::agents::Arch;
use crate::deps::{self, Package, Privilege};
use crate::{sh, workspace_dir};

const NEEDS: &[Package] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-user-static", "qemu-aarch64-static"),
    ("dnsmasq-base", "dnsmasq"),
    ("python3", "python3"),
    ("util-linux", "unshare"),
    ("iproute2", "ip"),
];

/// Try the files of `release`, each in the way that it is for.
pub(super) fn run(release: &Release) -> Result<()> {
    ensure!(
        deps::privilege() == Privilege::Root,
        "a new root filesystem needs root"
    );
    deps::ensure(NEEDS)?;
    let dir = std::env::temp_dir().join(format!("palmfarm-installed-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let tried = emulated(release, &dir)
        .and_then(|()| by_name(release, &dir))
        .and_then(|()| packaged(release, &dir));
    fs::remove_dir_all(&dir)?;
    tried
}

/// The arm64 program makes the image that the x86-64 program makes.
fn emulated(release: &Release, dir: &Path) -> Result<()> {
    let farm = dir.join("farm.yaml");
    fs::write(&farm, crate::demo::example_on_mini()?)?;
    let image = |name: &str| dir.join(name);
    let build = |command: &mut std::process::Command, name: &str| -> Result<Vec<u8>> {
        sh::run(command.arg("build").arg(&farm).arg("-o").arg(image(name)))?;
        Ok(Sha256::digest(fs::read(image(name))?).to_vec())
    };
    let here = build(
        &mut std::process::Command::new(release.program(Arch::Amd64)),
        "here.img",
    )?;
    let mut qemu = sh::cmd("qemu-aarch64-static", [release.program(Arch::Arm64)]);
    ensure!(
        here == build(&mut qemu, "there.img")?,
        "the arm64 program made another image than the x86-64 program"
    );
    eprintln!("the arm64 program made the same image as the x86-64 program");
    Ok(())
}

/// The program downloads from a host that DNS knows, in a root without a C library, although nsswitch.conf asks for more.
fn by_name(release: &Release, dir: &Path) -> Result<()> {
    let root = dir.join("bare");
    fs::create_dir_all(root.join("etc"))?;
    fs::create_dir_all(root.join("served"))?;
    fs::copy(release.program(Arch::Amd64), root.join("palmfarm"))?;
    fs::write(
        root.join("etc/nsswitch.conf"),
        "hosts: mymachines mdns4_minimal [NOTFOUND=return] resolve files dns\n",
    )?;
    fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n")?;
    fs::copy(
        workspace_dir().join("src/base/mini/mini.img.xz"),
        root.join("served/base.img.xz"),
    )?;
    let script = dir.join("by-name.sh");
    fs::write(&script, include_str!("by-name.sh"))?;
    let mut inside = sh::cmd(
        "unshare",
        ["--net", "--pid", "--fork", "--kill-child", "sh", "-eu"],
    );
    sh::run_shown(inside.arg(&script).arg(&root)).context("downloading by name in a root without a C library")
}

/// The package is installed in a fresh Debian, used by a user there, and removed without a trace.
fn packaged(release: &Release, dir: &Path) -> Result<()> {
    let script = dir.join("packaged.sh");
    fs::write(&script, include_str!("packaged.sh"))?;
    let package = release.package(Arch::Amd64);
    let hooks = [
        format!("copy-in {} /root", sh::quoted(&package)),
        format!("copy-in {} /root", sh::quoted(&script)),
        "chroot \"$1\" sh -eu /root/packaged.sh".to_owned(),
    ];
    let mut debian = sh::cmd("mmdebstrap", ["--mode=root", "--variant=apt", "--format=null"]);
    debian.arg("--include=man-db,bash-completion,openssh-client");
    debian.args(hooks.map(|hook| format!("--customize-hook={hook}")));
    let archives = deps::debian_archives()?;
    let newest = archives.iter().find(|[_, _, codename]| !codename.contains('-'));
    let [uri, _, codename] = newest.context("this machine uses no archive of Debian")?;
    debian
        .args([codename.as_str(), "-"])
        .arg(format!("deb {uri} {codename} main"));
    sh::run_shown(&mut debian).context("using the package in a fresh Debian")
}
