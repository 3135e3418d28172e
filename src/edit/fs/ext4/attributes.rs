//! Which files and folders of an ext4 filesystem nobody can change: the attributes of chattr(1), which the library for
//! reading does not tell. It never writes.

use std::sync::Arc;

use fs_ext4::block_io::BlockDevice;
use fs_ext4::inode::InodeFlags;
use fs_ext4::Filesystem;

use super::walk::{self, failed, Missing};
use crate::edit::block::ReadAt;
use crate::edit::fs::FsError;
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
/// one at its end is not. Of a filesystem that the library does not open none is told: editing it says why.
pub fn unchangeable<M: ReadAt + 'static>(
    medium: M,
    paths: &[CardPath],
) -> Result<Vec<(CardPath, char)>, FsError> {
    let Ok(fs) = Filesystem::mount(Arc::new(Device(medium))) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for path in paths {
        let Some(dir) = walk::directory(&fs, path.parent().as_ref(), path, Missing::Stop)? else {
            continue;
        };
        let Some(inode) = walk::child(&fs, dir.inode, path.name().as_bytes(), path)? else {
            continue;
        };
        let stat = fs.stat_ino(inode).map_err(failed("reading the inode of", path))?;
        let has = |flag: InodeFlags| stat.flags & flag.bits() != 0;
        let attribute = [(InodeFlags::IMMUTABLE, 'i'), (InodeFlags::APPEND, 'a')]
            .into_iter()
            .find_map(|(flag, letter)| has(flag).then_some(letter));
        found.extend(attribute.map(|letter| (path.clone(), letter)));
    }
    Ok(found)
}
