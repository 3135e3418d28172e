//! Whether each cluster of a FAT belongs to one file, and each file has the clusters that its size needs: who replaces one of
//! two files that share a cluster loses the other. It must never write.

use super::damaged;
use super::dir::{self, Dir};
use super::read::{below, FatReader};
use super::volume::{FatVolume, Link, RootDir, FIRST_CLUSTER};
use crate::edit::block::ReadAt;
use crate::edit::fs::FsError;
use crate::numbers::{u64_from_usize, usize_from_u32};

/// Follow every chain of the filesystem that `reader` has open. Returns how many clusters are free.
///
/// # Errors
/// What `fsck.vfat` would change, where it would lose something.
pub(super) fn check<M: ReadAt>(reader: &FatReader<M>) -> Result<u32, FsError> {
    let volume = &reader.volume;
    let mut owned = Owned(vec![false; usize_from_u32(volume.clusters)]);
    if let RootDir::Chain(first) = volume.root {
        owned.take(volume, "/", first, u64_from_usize(dir::MOST_BYTES))?;
    }
    let mut todo = vec![(Dir::Root, String::new())];
    while let Some((dir, way)) = todo.pop() {
        for entry in dir::entries(&dir::bytes_of(volume, dir)?) {
            let path = format!("{way}/{}", entry.name);
            let size = u64::from(entry.size);
            if entry.is_dir {
                let dir = below(&entry)?;
                owned.take(volume, &path, entry.first, u64_from_usize(dir::MOST_BYTES))?;
                todo.push((dir, path));
                continue;
            }
            let found = match entry.first {
                0 => 0,
                first => owned.take(volume, &path, first, size)?,
            };
            if found < size.div_ceil(volume.cluster_size) {
                let what = format!("{path} has {size} bytes, more than its {found} clusters");
                return Err(damaged(what));
            }
        }
    }
    let clusters = FIRST_CLUSTER..volume.clusters.saturating_add(FIRST_CLUSTER);
    // What is neither free nor a link marks a bad cluster.
    let free = clusters.filter(|cluster| matches!(volume.link(*cluster), Ok(Link::Free)));
    Ok(free.fold(0, |count: u32, _| count.saturating_add(1)))
}

/// The clusters that belong to a file or directory, by their index.
struct Owned(Vec<bool>);

impl Owned {
    /// Follow the chain of `path` from `first` on, which has `bytes` bytes at most. Returns its length.
    fn take<M: ReadAt>(
        &mut self,
        volume: &FatVolume<M>,
        path: &str,
        first: u32,
        bytes: u64,
    ) -> Result<u64, FsError> {
        let most = bytes.div_ceil(volume.cluster_size);
        let mut found = 0_u64;
        for cluster in volume.chain(first) {
            let cluster = cluster?;
            if found == most {
                return Err(damaged(format!(
                    "{path} has more clusters than {most}, which is what {bytes} bytes take"
                )));
            }
            found = found.saturating_add(1);
            let index = usize_from_u32(cluster.saturating_sub(FIRST_CLUSTER));
            let is_taken = self.0.get_mut(index).map(|owned| std::mem::replace(owned, true));
            if is_taken != Some(false) {
                return Err(damaged(format!(
                    "{path} and another file have the cluster {cluster} in common"
                )));
            }
        }
        Ok(found)
    }
}
