//! `cargo xtask base LAYOUT`: a real Debian system for the Pi in the layout of one of Ubuntu's images.
//!
//! Ubuntu's own images are not at hand where this is built and tested; a card made from one of these boots the same
//! way through the same programs. Leaves target/base/LAYOUT.img.xz and, for QEMU, target/base/boot/{vmlinuz,initrd}.

mod bootstrap;
mod disk;
mod initrd;
mod layout;
pub(crate) mod mini;
mod ubuntu;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::cache::{self, Key};
use crate::deps::{self, Privilege, Ready};
use crate::sh;
use layout::Layout;

/// Everything that makes the image from a bootstrapped system: a change in one of these makes a new image.
const RECIPE: [&str; 6] = [
    include_str!("base.rs"),
    include_str!("base/disk.rs"),
    include_str!("base/init.sh"),
    include_str!("base/initrd.rs"),
    include_str!("base/layout.rs"),
    include_str!("base/ubuntu.rs"),
];

/// A finished base.
#[derive(Debug)]
pub(crate) struct Base {
    /// The compressed image, as Ubuntu would publish it.
    pub(crate) image: PathBuf,
    /// The emulator that boots it, and its board.
    pub(crate) machine: &'static [&'static str],
    /// Its kernel, for QEMU.
    pub(crate) kernel: PathBuf,
    /// An initrd with QEMU's disk driver.
    pub(crate) initrd: PathBuf,
    /// Packages that first boot may ask for: ifupdown, bridge-utils, a DHCP client, and what they depend on.
    pub(crate) packages: PathBuf,
}

/// `base LAYOUT`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let names = || layout::ALL.map(|layout| layout.name).join(", ");
    let [name] = args else {
        bail!("usage: cargo xtask base LAYOUT, one of {}", names())
    };
    if layout::find(name).is_none() {
        bail!("there is no layout {name}; there are {}", names());
    }
    if deps::again_as_root(&["base", name])? == deps::Again::Done {
        return Ok(());
    }
    let started = Instant::now();
    ready().require()?;
    let base = build(name)?;
    println!("{} ({} s)", base.image.display(), started.elapsed().as_secs());
    Ok(())
}

/// Whether a base can be made here, as root or through sudo.
pub(crate) fn ready() -> Ready {
    if deps::privilege() == Privilege::None {
        return Ready::Skip(
            "making a base needs root: it runs the new system's own installation scripts".into(),
        );
    }
    let needs: Vec<deps::Package> = bootstrap::NEEDS.iter().chain(disk::NEEDS).copied().collect();
    deps::ensure(&needs)
}

/// The base called `name`, from the cache or new; needs root, and [`ready`] must have said yes.
pub(crate) fn build(name: &str) -> Result<Base> {
    let layout = layout::find(name).with_context(|| format!("there is no layout {name}"))?;
    let rootfs = bootstrap::rootfs(layout.arch)?;
    let key = RECIPE
        .iter()
        .fold(Key::default().with(rootfs.id()).with(name), Key::with);
    let made = cache::entry(name, &key, |dir| make(layout, &rootfs, dir))?;
    let target = crate::target_dir().join("base");
    let image = target.join(format!("{name}.img.xz"));
    publish(&made.join("image.xz"), &image)?;
    let (kernel, initrd) = (target.join("boot/vmlinuz"), target.join("boot/initrd"));
    publish(&made.join("vmlinuz"), &kernel)?;
    publish(&made.join("initrd"), &initrd)?;
    deps::give_back(&[&cache::dir()?, &target]);
    Ok(Base {
        image,
        machine: layout.arch.machine,
        kernel,
        initrd,
        packages: rootfs.repo(),
    })
}

fn make(layout: &Layout, rootfs: &bootstrap::Rootfs, dir: &Path) -> Result<()> {
    eprintln!("making the {} image: about a minute", layout.name);
    let root = dir.join("root");
    fs::create_dir(&root).with_context(|| format!("creating {}", root.display()))?;
    let mut extract = sh::cmd(
        "tar",
        [
            "--extract",
            "--zstd",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ],
    );
    extract
        .arg("--exclude=./dev/*")
        .arg("--directory")
        .arg(&root)
        .arg("--file")
        .arg(rootfs.tar());
    sh::run(&mut extract)?;
    ubuntu::settle(&root, layout)?;
    let release = ubuntu::install_kernel(&root, &rootfs.kernel()?)?;
    let busybox = ubuntu::file_of(&rootfs.busybox()?, "./bin/busybox")?;
    let initrd = initrd::build(&root, &release, &busybox)?;
    let kernel = root.join(format!("boot/vmlinuz-{release}"));
    let kernel = fs::read(&kernel).with_context(|| format!("reading {}", kernel.display()))?;
    fs::write(dir.join("vmlinuz"), &kernel).context("writing the kernel")?;
    fs::write(dir.join("initrd"), &initrd).context("writing the initrd")?;

    let boot = dir.join("boot");
    let trees = root.join(format!("usr/lib/linux-image-{release}"));
    disk::boot_files(layout, &boot, &kernel, &initrd, &trees)?;
    let disk = disk::assemble(layout, &root, &boot, dir)?;
    disk::compress(layout, &disk, &dir.join("image.xz"))?;
    for scratch in [&root, &boot] {
        fs::remove_dir_all(scratch).with_context(|| format!("removing {}", scratch.display()))?;
    }
    fs::remove_file(&disk).with_context(|| format!("removing {}", disk.display()))
}

/// Put a copy of `from` at `to` in one step, unless it is there already.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let facts = |path: &Path| {
        fs::metadata(path)
            .and_then(|facts| Ok((facts.len(), facts.modified()?)))
            .ok()
    };
    let wanted = facts(from).with_context(|| format!("{} is not there", from.display()))?;
    if facts(to) == Some(wanted) {
        return Ok(());
    }
    let half = to.with_extension(format!("half-{}", std::process::id()));
    let copy = || {
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::copy(from, &half)?;
        // The same time, so that the next run sees that nothing changed.
        fs::File::options()
            .write(true)
            .open(&half)?
            .set_modified(wanted.1)?;
        fs::rename(&half, to)
    };
    copy().with_context(|| format!("copying {} to {}", from.display(), to.display()))
}
