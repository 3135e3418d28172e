//! `cargo xtask base LAYOUT`: a real Debian system for the Pi in the layout of one of Ubuntu's images.
//!
//! Ubuntu's own images cannot be downloaded where this is built and tested. A card made from one of these boots in the
//! same way through the same programs. Leaves target/base/LAYOUT.img.xz and, for QEMU, target/base/boot/{vmlinuz,initrd}.
//! Never changes what this machine itself boots or has installed, beyond the tools that it needs.

mod accounts;
mod bootstrap;
mod disk;
mod initrd;
mod layout;
pub(crate) mod mini;
mod snaps;
mod stand_in;
mod ubuntu;
mod zones;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{bail, Result};
use fs_err as fs;
use xshell::cmd;

use crate::cache::{self, Key};
use crate::deps::{self, Privilege};
use crate::sh;
use bootstrap::file_name;
use layout::{Layout, Lxd};

/// Everything that makes the image from a bootstrapped system: a change in one of these makes a new image.
const RECIPE: [&str; 8] = [
    include_str!("base.rs"),
    include_str!("base/accounts.rs"),
    include_str!("base/disk.rs"),
    include_str!("base/init.sh"),
    include_str!("base/initrd.rs"),
    include_str!("base/layout.rs"),
    include_str!("base/ubuntu.rs"),
    include_str!("base/zones.rs"),
];

/// A finished base.
#[derive(Debug)]
pub(crate) struct Base {
    /// The compressed image, as Ubuntu would publish it.
    pub(crate) image: PathBuf,
    /// The emulator that boots it, and its board.
    pub(crate) machine: &'static [&'static str],
    /// For QEMU, which cannot read it from the image.
    pub(crate) kernel: PathBuf,
    /// With QEMU's disk driver.
    pub(crate) initrd: PathBuf,
    /// Packages that first boot may ask for: ifupdown, bridge-utils, a DHCP client, and what they depend on.
    pub(crate) packages: PathBuf,
    /// What it has in place of Ubuntu's packages: a table, for people.
    pub(crate) stand_in: String,
    /// For a base without LXD, which is then carried.
    pub(crate) lxd: Option<CarriedLxd>,
}

/// LXD as a snap, beside a base.
#[derive(Debug)]
pub(crate) struct CarriedLxd {
    /// Packages of snapd and of what it depends on.
    pub(crate) packages: PathBuf,
    /// The snap of LXD, and before it the one that it needs.
    pub(crate) snaps: [PathBuf; 2],
}

/// `base LAYOUT`.
pub(crate) fn run(name: &str) -> Result<()> {
    layout::find(name)?;
    if deps::rerun_as_root(&["base", name])? {
        return Ok(());
    }
    let started = Instant::now();
    ready()?;
    let base = build(name)?;
    println!("{} ({} s)", base.image.display(), started.elapsed().as_secs());
    Ok(())
}

/// Whether a base can be made here, as root or through sudo; an error says why not.
pub(crate) fn ready() -> Result<()> {
    if deps::privilege() == Privilege::None {
        bail!("making a base needs root: it runs the new system's own installation scripts");
    }
    deps::ensure(&[bootstrap::NEEDS, disk::NEEDS].concat())
}

/// The base called `name`, from the cache or new. Needs root; call [`ready`] first.
pub(crate) fn build(name: &str) -> Result<Base> {
    let layout = layout::find(name)?;
    let rootfs = bootstrap::rootfs(layout.arch)?;
    let key = Key::default().with(rootfs.id()).with(name);
    let key = RECIPE.iter().fold(key, Key::with);
    let key = match layout.lxd {
        Lxd::Package => key,
        Lxd::Snap => key.with(include_str!("base/snaps.rs")).with(snaps::SCRIPT),
    };
    let made = cache::entry(name, &key, |dir| make(layout, &rootfs, dir))?;
    let target = crate::target_dir().join("base");
    fs::create_dir_all(target.join("boot"))?;
    let base = Base {
        image: target.join(format!("{name}.img.xz")),
        machine: layout.arch.machine,
        kernel: target.join("boot/vmlinuz"),
        initrd: target.join("boot/initrd"),
        packages: rootfs.repo(),
        stand_in: stand_in::table(layout, &rootfs.packages()?, &file_name(&rootfs.kernel()?)),
        lxd: (layout.lxd == Lxd::Snap).then(|| CarriedLxd {
            packages: made.join("packages"),
            snaps: ["core.snap", "lxd.snap"].map(|name| made.join("snaps").join(name)),
        }),
    };
    publish(&made.join("image.xz"), &base.image)?;
    publish(&made.join("vmlinuz"), &base.kernel)?;
    publish(&made.join("initrd"), &base.initrd)?;
    deps::give_back(&[&cache::dir()?, &target]);
    Ok(base)
}

fn make(layout: &Layout, rootfs: &bootstrap::Rootfs, dir: &Path) -> Result<()> {
    eprintln!("making the {} image: about a minute", layout.name);
    let sh = sh::shell()?;
    let (root, boot) = (dir.join("root"), dir.join("boot"));
    let (kernel, initrd) = (dir.join("vmlinuz"), dir.join("initrd"));
    fs::create_dir(&root)?;
    let tar = rootfs.tar();
    sh::run(cmd!(
        sh,
        "tar --extract --zstd --numeric-owner --xattrs --xattrs-include=* --exclude=./dev/*
            --directory {root} --file {tar}"
    ))?;
    if layout.lxd == Lxd::Snap {
        snaps::apply(&root, layout.arch.debian, dir)?;
    }
    ubuntu::apply(&root, layout)?;
    let release = ubuntu::install_kernel(&root, &rootfs.kernel()?)?;
    fs::copy(root.join(format!("boot/vmlinuz-{release}")), &kernel)?;
    fs::write(&initrd, initrd::build(&root, &release, &rootfs.busybox()?)?)?;

    let trees = root.join(format!("usr/lib/linux-image-{release}"));
    disk::boot_files(layout, &boot, &kernel, &initrd, &trees)?;
    let disk = disk::assemble(layout, &root, &boot, dir)?;
    let options = layout.xz;
    sh::run(cmd!(sh, "xz {options...} {disk}"))?;
    fs::rename(disk.with_extension("img.xz"), dir.join("image.xz"))?;
    fs::remove_dir_all(&root)?;
    Ok(fs::remove_dir_all(&boot)?)
}

/// Put a copy of `from` at `to` in one step, unless `to` is that copy already.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let wanted = fs::metadata(from)?;
    if fs::metadata(to)
        .is_ok_and(|old| old.len() == wanted.len() && old.modified().ok() == wanted.modified().ok())
    {
        return Ok(());
    }
    let half = to.with_extension(format!("half-{}", std::process::id()));
    // The same time, so that the next run sees that nothing changed.
    let sh = sh::shell()?;
    sh::run(cmd!(sh, "cp --preserve=timestamps {from} {half}"))?;
    Ok(fs::rename(half, to)?)
}
