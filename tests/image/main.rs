//! Trees applied to images of every layout that Ubuntu has published for the Pi, judged by e2fsck, fsck.vfat, mtools
//! and the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod crowded;
mod drawn;
mod fat;
mod hashes;
mod kernel;
mod layouts;
mod paths;
mod random;
mod refused;
mod remains;
mod surveyed;
mod unclean;

use std::sync::Arc;

use common::make::{FileBase, Image};
use palmfarm::base::layout::Layout;
use palmfarm::edit::block::Edits;
use palmfarm::edit::tree::{Access, CardPath, IfThere, Node, Planned, Privacy, Tree, Volume};
use palmfarm::edit::{edit, EditError};

/// The time that edits carry: 2023-11-14 22:13:20 UTC.
const TIME: u32 = 1_700_000_000;

const TOOLS: &[&str] = &[
    "mke2fs",
    "e2fsck",
    "debugfs",
    "mkfs.vfat",
    "fsck.vfat",
    "mcopy",
    "mmd",
];

fn path(path: &str) -> CardPath {
    CardPath::new(path).unwrap()
}

fn file(content: &[u8], mode: u16) -> Node {
    Node::File {
        content: content.into(),
        access: Access::root(mode),
    }
}

fn link(target: &str) -> Node {
    Node::Symlink {
        target: target.into(),
    }
}

fn tree<'a>(nodes: impl IntoIterator<Item = (Volume, &'a str, Node)>) -> Tree {
    let mut tree = Tree::default();
    for (volume, name, node) in nodes {
        let planned = Planned {
            node,
            origin: "test".into(),
            privacy: Privacy::Public,
        };
        tree.add(volume, path(name), planned).unwrap();
    }
    tree
}

/// A plan for the root filesystem alone.
fn root<'a>(nodes: impl IntoIterator<Item = (&'a str, Node)>) -> Tree {
    tree(nodes.into_iter().map(|(name, node)| (Volume::Root, name, node)))
}

fn directory(mode: u16) -> Node {
    Node::Dir {
        access: Access::root(mode),
        if_there: IfThere::Set,
    }
}

/// The edits that `tree` makes of `image`, or why it makes none.
fn edits_of(image: &Image, tree: &Tree) -> Result<Edits, EditError> {
    let base = Arc::new(FileBase::open(&image.path));
    let layout = Layout::read(&*base).unwrap();
    assert_eq!((layout.boot.span.start(), layout.boot.span.size()), image.boot);
    assert_eq!((layout.root.span.start(), layout.root.span.size()), image.root);
    edit(&base, layout.spans(), tree, TIME)
}

/// Apply `tree` to `image`, twice, and leave the result in a new file.
fn edited(image: &Image, tree: &Tree) -> Image {
    let edits = edits_of(image, tree).unwrap();
    let again = edits_of(image, tree).unwrap();
    assert!(edits == again, "the same plan gave other edits");
    let copy = image.copy();
    copy.apply(&edits);
    copy
}
