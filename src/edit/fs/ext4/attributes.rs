//! Which files and folders of an ext4 filesystem nobody can change: the attributes of chattr(1), which the library for
//! reading does not tell. It never writes.

use std::sync::Arc;

use fs_ext4::block_io::BlockDevice;
use fs_ext4::inode::InodeFlags;
use fs_ext4::Filesystem;

use super::superblock::Superblock;
use super::walk::{self, Missing};
use crate::edit::block::ReadAt;
use crate::edit::tree::CardPath;

/// A window as the library's device, to be read.
struct Device<M>(M);

impl<M: ReadAt> BlockDevice for Device<M> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> fs_ext4::Result<()> {
        Ok(self.0.read_exact_at(offset, buf)?)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size()
    }
}

/// Those of `paths` that cannot be changed, each with the letter of its attribute. Links on the way to one are followed,
/// one at its end is not. Of a filesystem or a path that cannot be edited none is told: editing it says why.
pub fn unchangeable<M: ReadAt + 'static>(medium: M, paths: &[CardPath]) -> Vec<(CardPath, char)> {
    let may_edit = Superblock::read(&medium).is_ok_and(|superblock| superblock.check(medium.size()).is_ok());
    let device = Arc::new(Device(medium));
    let Some(fs) = may_edit.then(|| Filesystem::mount(device).ok()).flatten() else {
        return Vec::new();
    };
    let attribute = |path: &CardPath| {
        let dir = walk::directory(&fs, path.parent().as_ref(), path, Missing::Stop).ok()??;
        let inode = walk::child(&fs, dir.inode, path.name().as_bytes(), path).ok()??;
        let flags = fs.stat_ino(inode).ok()?.flags;
        let has = |flag: InodeFlags| flags & flag.bits() != 0;
        [(InodeFlags::IMMUTABLE, 'i'), (InodeFlags::APPEND, 'a')]
            .into_iter()
            .find_map(|(flag, letter)| has(flag).then_some(letter))
    };
    paths
        .iter()
        .filter_map(|path| Some((path.clone(), attribute(path)?)))
        .collect()
}
