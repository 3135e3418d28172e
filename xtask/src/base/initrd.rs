//! A small initrd for QEMU: busybox, the modules of a virtio disk, of the Pi's own and of ext4, and a script that mounts the root file
//! system by label as Ubuntu's initramfs does.
//!
//! It is no part of the image's own files; `mkinitramfs` in the new root would take ten minutes under emulation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Modules by name, without their dependencies. ext4 asks for crc32c at run time only, so depmod does not list it.
const MODULES: &[&str] = &[
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "crc32c_generic",
    "ext4",
    // The SD controllers of the Pi itself: one of them has the card, as its device tree says.
    "sdhci-iproc",
    "bcm2835",
];

/// The archive: newc format (kernel Documentation/driver-api/early-userspace/buffer-format.rst), not compressed.
pub(crate) fn build(root: &Path, kernel_release: &str, busybox: &[u8]) -> Result<Vec<u8>> {
    let modules = root.join("usr/lib/modules").join(kernel_release);
    let listed = modules.join("modules.dep");
    let listed = fs::read_to_string(&listed).with_context(|| format!("reading {}", listed.display()))?;
    let order = load_order(&listed, MODULES);
    let mut archive = Newc::default();
    for dir in ["bin", "dev", "modules", "proc", "root", "sys"] {
        archive.dir(dir);
    }
    archive.file("init", 0o755, include_bytes!("init.sh"));
    archive.file("bin/busybox", 0o755, busybox);
    let mut names = String::new();
    for module in &order {
        let path = modules.join(module);
        let name = file_name(module);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        archive.file(&format!("modules/{name}"), 0o644, &bytes);
        names.push_str(name);
        names.push('\n');
    }
    archive.file("modules/order", 0o644, names.as_bytes());
    Ok(archive.finish())
}

/// Paths of `wanted` and all they depend on, in the order in which insmod takes them. What is built in is not
/// listed and not needed.
fn load_order(modules_dep: &str, wanted: &[&str]) -> Vec<String> {
    let listed: BTreeMap<&str, (&str, Vec<&str>)> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| {
            (
                module_name(path),
                (path, needs.split_whitespace().map(module_name).collect()),
            )
        })
        .collect();
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    for name in wanted {
        add(name, &listed, &mut done, &mut order);
    }
    order
}

fn add<'a>(
    name: &'a str,
    listed: &BTreeMap<&'a str, (&'a str, Vec<&'a str>)>,
    done: &mut BTreeSet<&'a str>,
    order: &mut Vec<String>,
) {
    let Some((path, needs)) = listed.get(name) else {
        return;
    };
    if done.insert(name) {
        for need in needs {
            add(need, listed, done, order);
        }
        order.push((*path).to_owned());
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn module_name(path: &str) -> &str {
    file_name(path).split('.').next().unwrap_or(path)
}

/// A writer of cpio archives in the newc format.
#[derive(Default)]
struct Newc {
    bytes: Vec<u8>,
    inode: usize,
}

impl Newc {
    fn dir(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn file(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, 0o100_000 | mode, data);
    }

    /// Thirteen fields of eight hexadecimal digits after the magic; name and data padded to four bytes each.
    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode = self.inode.saturating_add(1);
        let (inode, size, name_size) = (self.inode, data.len(), name.len().saturating_add(1));
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            0, 0, 1, 0, 0, 0, 0, 0, 0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let dep = "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n\
                   kernel/fs/jbd2/jbd2.ko:\nkernel/lib/crc16.ko.xz:\n\
                   kernel/drivers/block/virtio_blk.ko: kernel/lib/crc16.ko.xz\n";
        let check = |wanted: &[&str], expect: &[&str]| {
            let names: Vec<String> = load_order(dep, wanted)
                .iter()
                .map(|path| module_name(path).to_owned())
                .collect();
            assert_eq!(names, expect);
        };
        check(&["ext4"], &["jbd2", "crc16", "ext4"]);
        check(&["virtio_blk", "ext4"], &["crc16", "virtio_blk", "jbd2", "ext4"]);
        check(&["built_in"], &[]);
    }

    #[test]
    fn entries_are_aligned() {
        let mut archive = Newc::default();
        archive.dir("a");
        archive.file("b/cc", 0o755, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        let second = (110_usize + 2).next_multiple_of(4);
        assert_eq!(
            bytes.get(second..second + 22),
            Some(&b"07070100000002000081ed"[..])
        );
    }
}
