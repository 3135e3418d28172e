//! A small initrd for QEMU: busybox, the modules of a virtio disk, of the Pi's own and of ext4, and a script that mounts
//! the root file system by label as Ubuntu's initramfs does.
//!
//! It is not one of the image's own files; `mkinitramfs` in the new root would take ten minutes under emulation.
//! Writes nothing to the disk.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc;
use fs_err as fs;
use xshell::cmd;

use crate::sh;

/// Modules by name, without their dependencies. ext4 asks for crc32c at run time only, and not every kernel's package
/// says so. sdhci-iproc and bcm2835 are the SD controllers of the Pi itself: one of them has the card, as its device
/// tree says.
const MODULES: &str = "virtio_mmio virtio_pci virtio_blk virtio_net crc32c_generic ext4 sdhci-iproc bcm2835";

/// The archive: newc format (kernel Documentation/driver-api/early-userspace/buffer-format.rst), not compressed.
pub(crate) fn build(root: &Path, kernel_release: &str, busybox: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in "bin dev modules proc root sys".split(' ') {
        archive.add(dir, 0o040_755, &[])?;
    }
    archive.add("init", 0o100_755, include_bytes!("init.sh"))?;
    archive.add("bin/busybox", 0o100_755, busybox)?;
    let mut names = String::new();
    for module in load_order(root, kernel_release)? {
        let name = Path::new(&module)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        archive.add(&format!("modules/{name}"), 0o100_644, &fs::read(&module)?)?;
        names.push_str(&format!("{name}\n"));
    }
    archive.add("modules/order", 0o100_644, names.as_bytes())?;
    Ok(newc::trailer(archive.bytes)?)
}

/// Paths of [`MODULES`] and all that modprobe would load with them, in the order in which insmod takes them: what they
/// depend on, and what the kernel's package asks for beside them. What is built in is not needed.
fn load_order(root: &Path, release: &str) -> Result<Vec<String>> {
    let sh = sh::shell()?;
    let modules = MODULES.split(' ');
    let listed = sh::output(cmd!(
        sh,
        "modprobe --config /dev/null --dirname {root} --set-version {release} --show-depends --all {modules...}"
    ))?;
    let mut order = Vec::new();
    for line in listed.lines() {
        let path = line.strip_prefix("insmod ").map(|path| path.trim().to_owned());
        order.extend(path.filter(|path| !order.contains(path)));
    }
    Ok(order)
}

/// What was archived so far.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.inode = self.inode.saturating_add(1);
        let header = newc::Builder::new(name).ino(self.inode).mode(mode);
        let mut entry = header.write(&mut self.bytes, u32::try_from(data.len())?);
        entry.write_all(data)?;
        entry.finish().with_context(|| format!("archiving {name}"))?;
        Ok(())
    }
}
