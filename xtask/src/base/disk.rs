//! From a directory to a disk image, with the tools and options that Ubuntu's image builders use.
//!
//! Works on plain files: no loop device, no mount.

use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use xshell::{cmd, Shell};

use super::layout::{End, Layout, Root, Seed};
use super::ubuntu::{META_DATA, NETWORK_CONFIG};
use crate::deps::Package;
use crate::sh;

/// What making the image needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    ("dosfstools", "mkfs.vfat"),
    ("mtools", "mcopy"),
    ("fdisk", "sfdisk"),
    ("e2fsprogs", "mke2fs"),
    ("xz-utils", "xz"),
    ("kmod", "depmod"),
];

/// 2022-04-21 00:00:00 UTC: every file gets this time instead of that of the build.
const EPOCH: &str = "1650499200";
/// The serial number of the FAT file system.
const FAT_SERIAL: &str = "70616c6d";
pub(super) const SECTOR: u64 = 512;

/// A shell in which [`EPOCH`] is the time for every tool that makes a file system.
pub(super) fn shell() -> Result<Shell> {
    let sh = sh::shell()?;
    sh.set_var("SOURCE_DATE_EPOCH", EPOCH);
    sh.set_var("E2FSPROGS_FAKE_TIME", EPOCH);
    sh.set_var("MTOOLS_SKIP_CHECK", "1");
    Ok(sh)
}

/// Make `dir/disk.img` from the root file system in `root` and the boot files in `boot`.
pub(crate) fn assemble(layout: &Layout, root: &Path, boot: &Path, dir: &Path) -> Result<PathBuf> {
    let disk = dir.join("disk.img");
    let start = layout.boot.end().saturating_mul(SECTOR);
    let (kib, total) = sizes(layout, used_kib(root)?, start);
    blank(&disk, total)?;
    let fat = fat(layout, boot, dir)?;
    copy_sparse(&fat, &disk, layout.boot.start.saturating_mul(SECTOR))?;
    fs::remove_file(&fat)?;
    let Root { label, uuid, mkfs } = layout.root;
    let (offset, size) = (start.to_string(), format!("{kib}k"));
    let sh = shell()?;
    sh::run(cmd!(
        sh,
        "mke2fs -q -F -t ext4 -L {label} -U {uuid} {mkfs...} -E offset={offset},hash_seed={uuid} -d {root}
            {disk} {size}"
    ))?;
    partition_table(layout, &disk, kib)?;
    Ok(disk)
}

/// A file of `size` bytes, all of them zero.
pub(super) fn blank(path: &Path, size: u64) -> Result<()> {
    Ok(fs::File::create(path)?.set_len(size)?)
}

/// Put what goes on the FAT partition into `boot`: kernel, initrd, device trees, settings, seed.
pub(crate) fn boot_files(
    layout: &Layout,
    boot: &Path,
    kernel: &Path,
    initrd: &Path,
    trees: &Path,
) -> Result<()> {
    let sh = shell()?;
    let system = boot.join(if layout.boot.in_current { "current" } else { "" });
    sh.write_file(system.join("overlays/README"), "device tree overlays go here\n")?;
    sh.write_file(system.join("cmdline.txt"), layout.boot.cmdline)?;
    sh.write_file(boot.join("config.txt"), layout.boot.config)?;
    if layout.boot.in_current {
        sh.write_file(system.join("state"), "good\n")?;
        sh.write_file(boot.join("autoboot.txt"), "[all]\ntryboot_a_b=0\n")?;
    }
    if let Seed::Fat(user_data) = layout.seed {
        sh.write_file(boot.join("user-data"), user_data)?;
        sh.write_file(boot.join("meta-data"), META_DATA)?;
        sh.write_file(boot.join("network-config"), NETWORK_CONFIG)?;
    }
    fs::copy(kernel, system.join("vmlinuz"))?;
    fs::copy(initrd, system.join("initrd.img"))?;
    for tree in device_trees(trees)? {
        fs::copy(&tree, system.join(tree.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// The device trees of all Pis. 64-bit kernels sort theirs by maker.
fn device_trees(dir: &Path) -> Result<Vec<PathBuf>> {
    let maker = dir.join("broadcom");
    let dir = if maker.is_dir() { &maker } else { dir };
    let mut trees = shell()?.read_dir(dir)?;
    trees.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("bcm2") && name.ends_with(".dtb")
    });
    ensure!(!trees.is_empty(), "{} has no device tree of a Pi", dir.display());
    Ok(trees)
}

/// Size of the root partition in KiB, and of the whole image in bytes.
fn sizes(layout: &Layout, used_kib: u64, root_start: u64) -> (u64, u64) {
    match layout.end {
        End::Total(total) => (total.saturating_sub(root_start) / 1024, total),
        End::Tail(tail) => {
            let kib = used_kib.saturating_mul(3).div_ceil(2).saturating_add(8 * 1024);
            // In most of Ubuntu's images the last block is not a whole one, so here it is not, either.
            let kib = kib.saturating_add(if kib.is_multiple_of(4) { 2 } else { 0 });
            let root_end = root_start.saturating_add(kib.saturating_mul(1024));
            (kib, root_end.saturating_add(tail))
        }
    }
}

fn used_kib(root: &Path) -> Result<u64> {
    let sh = shell()?;
    let text = sh::output(cmd!(
        sh,
        "du --summarize --block-size=1K --one-file-system {root}"
    ))?;
    let number = text.split_whitespace().next().and_then(|kib| kib.parse().ok());
    number.with_context(|| format!("du printed {text:?}"))
}

pub(super) fn fat(layout: &Layout, boot: &Path, dir: &Path) -> Result<PathBuf> {
    let sh = shell()?;
    let image = dir.join("fat.img");
    blank(&image, layout.boot.sectors.saturating_mul(SECTOR))?;
    let mkfs = layout.boot.mkfs;
    sh::run(cmd!(
        sh,
        "mkfs.vfat {mkfs...} -i {FAT_SERIAL} -n system-boot {image}"
    ))?;
    // mcopy copies in the order of its arguments. `read_dir` sorts them; a directory's own order depends on the host.
    let names = sh.read_dir(boot)?;
    sh::run(cmd!(sh, "mcopy -s -Q -i {image} {names...} ::/"))?;
    Ok(image)
}

pub(super) fn partition_table(layout: &Layout, disk: &Path, root_kib: u64) -> Result<()> {
    let (start, sectors, end) = (layout.boot.start, layout.boot.sectors, layout.boot.end());
    let bootable = if layout.boot.bootable { ", bootable" } else { "" };
    let script = format!(
        "label: dos\nlabel-id: {:#010x}\nunit: sectors\n\n\
         start={start}, size={sectors}, type=c{bootable}\nstart={end}, size={}, type=83\n",
        layout.disk_id,
        root_kib.saturating_mul(2),
    );
    let sh = shell()?;
    let sfdisk = "printf %s \"$0\" | sfdisk --quiet --no-tell-kernel --no-reread --wipe=never \"$1\"";
    sh::run(cmd!(sh, "sh -c {sfdisk} {script} {disk}"))
}

/// Copy `from` to byte `at` of `to`, leaving holes for blocks of zeros.
pub(super) fn copy_sparse(from: &Path, to: &Path, at: u64) -> Result<()> {
    let (sh, at) = (shell()?, at.to_string());
    sh::run(cmd!(
        sh,
        "dd if={from} of={to} bs=64K seek={at} oflag=seek_bytes conv=sparse,notrunc status=none"
    ))
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
