//! From a directory to a disk image, with the tools and options that Ubuntu's image builders use.
//!
//! Works on plain files: no loop device, no mount.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use super::layout::{Active, Boot, BootFiles, End, Layout, Seed};
use super::ubuntu::{META_DATA, NETWORK_CONFIG};
use crate::deps::{command, Package};
use crate::sh;

/// What making the image needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    command("dosfstools", "mkfs.vfat"),
    command("mtools", "mcopy"),
    command("fdisk", "sfdisk"),
    command("e2fsprogs", "mke2fs"),
    command("xz-utils", "xz"),
    command("kmod", "depmod"),
];

/// 2022-04-21 00:00:00 UTC: the time of everything that would otherwise have the time of the build.
pub(super) const EPOCH: &str = "1650499200";
/// The serial number of the FAT file system.
const FAT_SERIAL: &str = "70616c6d";
pub(super) const SECTOR: u64 = 512;

/// Make `dir/disk.img` from the root file system in `root` and the boot files in `boot`.
pub(crate) fn assemble(layout: &Layout, root: &Path, boot: &Path, dir: &Path) -> Result<PathBuf> {
    let disk = dir.join("disk.img");
    let root_start = u64::from(layout.boot.start)
        .saturating_add(u64::from(layout.boot.sectors))
        .saturating_mul(SECTOR);
    let (root_kib, total) = sizes(layout, used_kib(root)?, root_start);
    File::create(&disk)
        .and_then(|file| file.set_len(total))
        .with_context(|| format!("creating {} with {total} bytes", disk.display()))?;
    let fat = fat(layout, boot, dir)?;
    copy_sparse(&fat, &disk, u64::from(layout.boot.start).saturating_mul(SECTOR))?;
    fs::remove_file(&fat).with_context(|| format!("removing {}", fat.display()))?;
    ext4(layout, root, &disk, root_start, root_kib)?;
    partition_table(layout, &disk, root_kib)?;
    Ok(disk)
}

/// Compress `disk` into `to` the way that the layout's images come.
pub(crate) fn compress(layout: &Layout, disk: &Path, to: &Path) -> Result<()> {
    let out = File::create(to).with_context(|| format!("creating {}", to.display()))?;
    sh::run(sh::cmd("xz", layout.xz).arg("--stdout").arg(disk).stdout(out))
}

/// Gather what goes on the FAT partition in `boot`: kernel, initrd, device trees, settings, seed.
pub(crate) fn boot_files(
    layout: &Layout,
    boot: &Path,
    kernel: &[u8],
    initrd: &[u8],
    trees: &Path,
) -> Result<()> {
    let system = match layout.boot.files {
        BootFiles::Root => boot.to_owned(),
        BootFiles::Current => boot.join("current"),
    };
    let overlays = system.join("overlays");
    fs::create_dir_all(&overlays).with_context(|| format!("creating {}", overlays.display()))?;
    let mut files: Vec<(PathBuf, Vec<u8>)> = vec![
        (system.join("vmlinuz"), kernel.to_vec()),
        (system.join("initrd.img"), initrd.to_vec()),
        (system.join("cmdline.txt"), layout.boot.cmdline.into()),
        (
            overlays.join("README"),
            b"device tree overlays go here\n".to_vec(),
        ),
        (boot.join("config.txt"), layout.boot.config.into()),
    ];
    if layout.boot.files == BootFiles::Current {
        files.push((system.join("state"), b"good\n".to_vec()));
        files.push((boot.join("autoboot.txt"), b"[all]\ntryboot_a_b=0\n".to_vec()));
    }
    if let Seed::Fat { user_data } = layout.seed {
        files.push((boot.join("user-data"), user_data.into()));
        files.push((boot.join("meta-data"), META_DATA.into()));
        files.push((boot.join("network-config"), NETWORK_CONFIG.into()));
    }
    for tree in device_trees(trees)? {
        let bytes = fs::read(&tree).with_context(|| format!("reading {}", tree.display()))?;
        files.push((system.join(tree.file_name().unwrap_or_default()), bytes));
    }
    for (path, bytes) in files {
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The device trees of all Pis. 64-bit kernels have theirs sorted by maker.
fn device_trees(dir: &Path) -> Result<Vec<PathBuf>> {
    let maker = dir.join("broadcom");
    let dir = if maker.is_dir() { maker } else { dir.to_owned() };
    let found = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let pi = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("bcm2") && name.ends_with(".dtb")
    };
    let trees: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).filter(pi).collect();
    if trees.is_empty() {
        bail!("{} has no device tree of a Pi", dir.display());
    }
    Ok(trees)
}

/// Size of the root partition in KiB, and of the whole image in bytes.
fn sizes(layout: &Layout, used_kib: u64, root_start: u64) -> (u64, u64) {
    match layout.end {
        End::Total(total) => (total.saturating_sub(root_start) / 1024, total),
        End::Tail(tail) => {
            let kib = used_kib.saturating_mul(3).div_ceil(2).saturating_add(8 * 1024);
            // In most of Ubuntu's images the last block is not a whole one, so it must not be here.
            let kib = if kib.is_multiple_of(4) {
                kib.saturating_add(2)
            } else {
                kib
            };
            (
                kib,
                root_start
                    .saturating_add(kib.saturating_mul(1024))
                    .saturating_add(tail),
            )
        }
    }
}

fn used_kib(root: &Path) -> Result<u64> {
    let text = sh::output(sh::cmd("du", ["--summarize", "--block-size=1K", "--one-file-system"]).arg(root))?;
    text.split_whitespace()
        .next()
        .and_then(|kib| kib.parse().ok())
        .with_context(|| format!("du printed {text:?}"))
}

pub(super) fn fat(layout: &Layout, boot: &Path, dir: &Path) -> Result<PathBuf> {
    let image = dir.join("fat.img");
    let Boot { sectors, mkfs, .. } = layout.boot;
    File::create(&image)
        .and_then(|file| file.set_len(u64::from(sectors).saturating_mul(SECTOR)))
        .with_context(|| format!("creating {}", image.display()))?;
    let mut vfat = sh::cmd("mkfs.vfat", mkfs);
    sh::run(
        vfat.args(["-i", FAT_SERIAL, "-n", "system-boot"])
            .arg(&image)
            .env("SOURCE_DATE_EPOCH", EPOCH),
    )?;
    // mcopy takes the names in the order given; a directory's own order is the host's.
    let mut names: Vec<PathBuf> = fs::read_dir(boot)
        .with_context(|| format!("reading {}", boot.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort();
    let mut mcopy = sh::cmd("mcopy", ["-s", "-Q", "-i"]);
    mcopy
        .arg(&image)
        .args(names)
        .arg("::/")
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("MTOOLS_SKIP_CHECK", "1");
    sh::run(&mut mcopy)?;
    Ok(image)
}

fn ext4(layout: &Layout, root: &Path, disk: &Path, start: u64, kib: u64) -> Result<()> {
    let mut mkfs = sh::cmd(
        "mke2fs",
        [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            layout.root.label,
            "-U",
            layout.root.uuid,
        ],
    );
    mkfs.args(layout.root.mkfs)
        .arg("-E")
        .arg(format!("offset={start},hash_seed={}", layout.root.uuid))
        .arg("-d")
        .arg(root)
        .arg(disk)
        .arg(format!("{kib}k"))
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .env("SOURCE_DATE_EPOCH", EPOCH);
    sh::run(&mut mkfs)
}

pub(super) fn partition_table(layout: &Layout, disk: &Path, root_kib: u64) -> Result<()> {
    let Boot {
        start,
        sectors,
        active,
        ..
    } = layout.boot;
    let active = match active {
        Active::Yes => ", bootable",
        Active::No => "",
    };
    let script = format!(
        "label: dos\nlabel-id: {:#010x}\nunit: sectors\n\n\
         start={start}, size={sectors}, type=c{active}\nstart={}, size={}, type=83\n",
        layout.disk_id,
        start.saturating_add(sectors),
        root_kib.saturating_mul(2),
    );
    let path = disk.with_extension("sfdisk");
    fs::write(&path, script).with_context(|| format!("writing {}", path.display()))?;
    let stdin = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    sh::run(
        sh::cmd(
            "sfdisk",
            ["--quiet", "--no-tell-kernel", "--no-reread", "--wipe=never"],
        )
        .arg(disk)
        .stdin(stdin),
    )?;
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
}

/// Copy `from` to byte `at` of `to`, leaving holes where there is nothing but zeros.
pub(super) fn copy_sparse(from: &Path, to: &Path, at: u64) -> Result<()> {
    let mut input = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let mut output = OpenOptions::new()
        .write(true)
        .open(to)
        .with_context(|| format!("opening {}", to.display()))?;
    let mut chunk = vec![0; 64 * 1024];
    let mut offset = at;
    loop {
        let read = input
            .read(&mut chunk)
            .with_context(|| format!("reading {}", from.display()))?;
        let Some(bytes) = chunk.get(..read) else {
            bail!("a read of {read} bytes into {}", chunk.len())
        };
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            output
                .seek(SeekFrom::Start(offset))
                .and_then(|_| output.write_all(bytes))
                .with_context(|| format!("writing {} at {offset}", to.display()))?;
        }
        offset = offset.saturating_add(u64::try_from(read)?);
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout;
    use super::*;

    #[test]
    fn sizes_follow_the_builders() {
        let check = |name: &str, used: u64, expect: (u64, u64)| {
            let layout = layout::find(name).unwrap();
            assert_eq!(sizes(layout, used, 1_050_624 * SECTOR), expect, "{name}");
        };
        let start = 1_050_624 * SECTOR;
        check("jammy", 1001, (1502 + 8192, start + 9694 * 1024 + 17 * 1024));
        // 12000 KiB would be a whole number of blocks.
        check("jammy", 8000, (20194, start + 20194 * 1024 + 17 * 1024));
        check("noble", 1001, (9694, start + 9694 * 1024 + 512));
        check("bionic", 1001, ((4_000_000_000 - start) / 1024, 4_000_000_000));
    }
}
