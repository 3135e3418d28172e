//! How much space of an ext4 a plan needs, counted before the first byte is written. It must never count too little.
//!
//! Space that replaced files free is not counted, because the library finds it only after the filesystem was opened
//! again.

use std::collections::{BTreeMap, BTreeSet};

use fs_ext4::Filesystem;

use super::superblock::Superblock;
use super::walk::{self, Missing};
use crate::edit::block::length;
use crate::edit::fs::FsError;
use crate::edit::tree::{CardPath, Node, Volume};

/// Symlink targets up to this length are in the inode (kernel, `ext4/inodes.rst`: "less than 60 bytes").
const INLINE_TARGET: usize = 59;

/// What a plan needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    blocks: u64,
    inodes: u32,
}

impl Need {
    fn add(&mut self, blocks: u64, inodes: u32) {
        self.blocks = self.blocks.saturating_add(blocks);
        self.inodes = self.inodes.saturating_add(inodes);
    }
}

/// Refuse a plan that does not fit.
pub(super) fn check(
    fs: &Filesystem,
    superblock: &Superblock,
    nodes: &[(&CardPath, &Node)],
) -> Result<(), FsError> {
    let mut need = Need::default();
    let mut parents = BTreeSet::new();
    for (path, node) in nodes {
        if **node == Node::Absent {
            continue;
        }
        let new = of(node, superblock.block_size);
        need.add(new.blocks, new.inodes);
        let mut parent = path.parent();
        while let Some(dir) = parent {
            parent = dir.parent();
            if !parents.insert(dir) {
                break;
            }
        }
    }
    for dir in &parents {
        // A new directory needs an inode and a block. An existing one may grow, which `names` counts.
        if walk::directory(fs, Some(dir), dir, Missing::Stop)?.is_none() {
            need.add(1, 1);
        }
    }
    need.add(names(nodes, superblock.block_size), 0);
    if need.inodes > superblock.free_inodes {
        return Err(FsError::NoInodes {
            free: superblock.free_inodes,
            needed: need.inodes,
        });
    }
    if need.blocks > superblock.free_blocks {
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(superblock.block_size));
        return Err(FsError::NoRoom {
            volume: Volume::Root,
            free: bytes(superblock.free_blocks),
            needed: bytes(need.blocks),
        });
    }
    Ok(())
}

/// What one node needs for itself.
fn of(node: &Node, block_size: u32) -> Need {
    let block_size = u64::from(block_size);
    let blocks = match node {
        Node::File { content, .. } => {
            let data = length(content).div_ceil(block_size);
            data.saturating_add(extent_blocks(data, block_size))
        }
        Node::Dir { .. } => 1,
        Node::Symlink { target } if target.len() > INLINE_TARGET => 1,
        Node::Symlink { .. } | Node::Absent => 0,
    };
    let inodes = u32::from(*node != Node::Absent);
    Need { blocks, inodes }
}

/// Blocks of the extent tree of a file of `data` blocks, no two of which are neighbours: four extents are in the
/// inode, a block has room for one per 12 bytes after a header of 12, and a split leaves it half full.
fn extent_blocks(data: u64, block_size: u64) -> u64 {
    if data <= 4 {
        return 0;
    }
    let per_block = (block_size / 12).saturating_sub(2) / 2;
    data.div_ceil(per_block.max(1)).saturating_add(1)
}

/// Blocks that directories may grow by: an entry is 8 bytes and its name, rounded up to 4, and blocks are split in
/// halves.
fn names(nodes: &[(&CardPath, &Node)], block_size: u32) -> u64 {
    let entry = |name: &str| length(name.as_bytes()).next_multiple_of(4).saturating_add(8);
    let mut parents: BTreeMap<Option<CardPath>, u64> = BTreeMap::new();
    for (path, _) in nodes {
        let bytes = parents.entry(path.parent()).or_default();
        *bytes = bytes.saturating_add(entry(path.name()));
    }
    let half = u64::from(block_size / 2).max(1);
    parents.values().map(|bytes| bytes.div_ceil(half)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::tree::Access;

    #[test]
    fn a_node_needs_its_data_and_what_finds_it() {
        let file = |len: usize| Node::File {
            content: vec![0; len].into(),
            access: Access::root(0o644),
        };
        let link = |len: usize| Node::Symlink {
            target: "x".repeat(len),
        };
        let need = |blocks, inodes| Need { blocks, inodes };
        assert_eq!(of(&file(0), 4096), need(0, 1));
        assert_eq!(of(&file(1), 4096), need(1, 1));
        assert_eq!(of(&file(16_384), 4096), need(4, 1));
        assert_eq!(of(&file(1 << 20), 4096), need(256 + 3, 1));
        assert_eq!(of(&file(1 << 20), 1024), need(1024 + 26, 1));
        assert_eq!(of(&link(59), 4096), need(0, 1));
        assert_eq!(of(&link(60), 4096), need(1, 1));
        assert_eq!(of(&Node::Absent, 4096), need(0, 0));
    }

    #[test]
    fn names_make_directories_grow() {
        let paths: Vec<CardPath> = (0..100)
            .map(|nth| CardPath::new(&format!("/d/{nth:050}")).unwrap())
            .collect();
        let nodes: Vec<(&CardPath, &Node)> = paths.iter().map(|path| (path, &Node::Absent)).collect();
        assert_eq!(names(&nodes, 4096), 3);
        assert_eq!(names(&nodes[..1], 4096), 1);
        assert_eq!(names(&[], 4096), 0);
    }
}
