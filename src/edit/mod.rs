//! From a plan to the blocks in which a card differs from its base: the tree is written into a copy-on-write overlay of
//! the base, then read back by other code and compared, before any output is written.
//!
//! Pure: the same base, tree and time give the same edits, on every host.

pub mod block;
pub mod fs;
pub mod tree;

use std::io;
use std::sync::Arc;

use crate::edit::block::{length, Edits, Overlay, ReadAt, Span, Window};
use crate::edit::fs::ext4::{Ext4Reader, Ext4Writer};
use crate::edit::fs::fat::{FatReader, FatWriter};
use crate::edit::fs::{FileKind, FsError, Stat, VolumeReader, VolumeSpans};
use crate::edit::tree::{Access, CardPath, Node, Tree, Volume};
use crate::numbers::u64_from_usize;

/// A reason why a plan could not be turned into edits.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("the {volume} partition ends at byte {end}, but the image has only {size} bytes")]
    Layout { volume: Volume, end: u64, size: u64 },
    #[error("the plan removes {volume}:{gone}, but puts {below} below it")]
    Contradiction {
        volume: Volume,
        gone: CardPath,
        below: CardPath,
    },
    #[error(transparent)]
    Fs(#[from] FsError),
    /// An error of this program or of a library, never of the user.
    #[error("{volume}:{path} was written, but reads back differently: {difference}")]
    Mismatch {
        volume: Volume,
        path: CardPath,
        difference: Difference,
    },
    #[error("comparing the edited blocks with the base")]
    Collect(#[source] io::Error),
}

impl EditError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Fs(error) => error.hint(),
            Self::Contradiction { .. } => Some("leave one of the two out of farm.yaml or the overlay"),
            Self::Layout { .. } | Self::Collect(_) => {
                Some("the image is damaged: get it again and compare its SHA-256")
            }
            Self::Mismatch { .. } => {
                Some("nothing was written; please report this with the image's name and farm.yaml")
            }
        }
    }
}

/// The difference between a node and its plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// One of the two is missing, or they are of different kinds.
    #[error("{planned} is planned, {found} was found")]
    Kind {
        planned: &'static str,
        found: &'static str,
    },
    #[error("{planned} is planned, {found} was found")]
    Access { planned: Access, found: Access },
    /// The lengths, and the first byte that differs or the end of the shorter content.
    #[error("{planned} bytes are planned, {found} were found, and they differ from byte {at} on")]
    Content { planned: u64, found: u64, at: u64 },
    #[error("the symlink has another target")]
    Target,
}

/// The edits that turn `base` into the card that `tree` plans. Every inode and FAT entry that is written gets `time`
/// (seconds since 1970).
///
/// # Errors
/// On an error nothing has been changed.
pub fn edit<B>(base: &Arc<B>, spans: VolumeSpans, tree: &Tree, time: u32) -> Result<Edits, EditError>
where
    B: ReadAt + ?Sized + 'static,
{
    check_consistent(tree)?;
    let overlay = Arc::new(Overlay::new(Arc::clone(base)));
    let (boot, root) = (nodes(tree, Volume::Boot), nodes(tree, Volume::Root));
    if !boot.is_empty() {
        let window = window(&overlay, Volume::Boot, spans.boot)?;
        FatWriter::open(window, time)?.apply(&boot)?;
    }
    if !root.is_empty() {
        let window = window(&overlay, Volume::Root, spans.root)?;
        Ext4Writer::open(window, time)?
            .mounts(tree.mounts())
            .apply(&root)?;
    }
    read_back(&overlay, spans, tree)?;
    overlay.take_edits().map_err(EditError::Collect)
}

/// Read every node of `tree` from `medium`, which may be an overlay or a card, and compare it with the plan. Returns
/// the number of nodes.
///
/// # Errors
/// The first node that differs or cannot be read.
pub fn read_back<M>(medium: &Arc<M>, spans: VolumeSpans, tree: &Tree) -> Result<usize, EditError>
where
    M: ReadAt + 'static,
{
    let (boot, root) = (nodes(tree, Volume::Boot), nodes(tree, Volume::Root));
    if !boot.is_empty() {
        let window = window(medium, Volume::Boot, spans.boot)?;
        compare(&FatReader::open(window)?, Volume::Boot, &boot)?;
    }
    if !root.is_empty() {
        let window = window(medium, Volume::Root, spans.root)?;
        compare(&Ext4Reader::open(window)?, Volume::Root, &root)?;
    }
    Ok(boot.len().saturating_add(root.len()))
}

/// Refuse a plan that contradicts itself. Other impossible plans are found when the base is edited.
fn check_consistent(tree: &Tree) -> Result<(), EditError> {
    for (volume, path, planned) in tree.iter() {
        let mut above = path.parent().filter(|_| planned.node != Node::Absent);
        while let Some(gone) = above {
            let there = tree.get(volume, &gone);
            if there.is_some_and(|planned| planned.node == Node::Absent) {
                return Err(EditError::Contradiction {
                    volume,
                    gone,
                    below: path.clone(),
                });
            }
            above = gone.parent();
        }
    }
    Ok(())
}

fn window<M: ReadAt>(medium: &Arc<M>, volume: Volume, span: Span) -> Result<Window<Arc<M>>, EditError> {
    span.of(Arc::clone(medium)).ok_or_else(|| EditError::Layout {
        volume,
        end: span.end(),
        size: medium.size(),
    })
}

fn nodes(tree: &Tree, wanted: Volume) -> Vec<(&CardPath, &Node)> {
    tree.iter()
        .filter(|(volume, _, _)| *volume == wanted)
        .map(|(_, path, planned)| (path, &planned.node))
        .collect()
}

fn compare(
    reader: &impl VolumeReader,
    volume: Volume,
    nodes: &[(&CardPath, &Node)],
) -> Result<(), EditError> {
    for (path, node) in nodes {
        if let Some(difference) = difference(reader, path, node)? {
            return Err(EditError::Mismatch {
                volume,
                path: (*path).clone(),
                difference,
            });
        }
    }
    Ok(())
}

fn difference(
    reader: &impl VolumeReader,
    path: &CardPath,
    node: &Node,
) -> Result<Option<Difference>, FsError> {
    let found = match node {
        // A directory may be reached through a symlink of the base.
        Node::Dir { .. } => reader.stat_through(path)?,
        _ => reader.stat(path)?,
    };
    let unlike = |planned| Difference::Kind {
        planned,
        found: found.as_ref().map_or("nothing", kind),
    };
    Ok(match (node, &found) {
        (Node::Absent, None) => None,
        (Node::Absent, Some(_)) => Some(unlike("nothing")),
        (Node::Dir { access, if_there }, Some(stat)) if stat.kind == FileKind::Dir => {
            // What the plan leaves to the base is not the plan's to compare.
            let planned = stat.access.map(|found| if_there.access(*access, found));
            access_differs(planned.unwrap_or(*access), stat)
        }
        (Node::Dir { .. }, _) => Some(unlike("a directory")),
        (Node::Symlink { target }, Some(stat)) => match &stat.kind {
            FileKind::Symlink(found) => (target.as_bytes() != found).then_some(Difference::Target),
            _ => Some(unlike("a symlink")),
        },
        (Node::Symlink { .. }, None) => Some(unlike("a symlink")),
        (Node::File { content, access }, Some(stat)) if stat.kind == FileKind::File => {
            let planned = length(content);
            if stat.size > planned {
                return Ok(Some(Difference::Content {
                    planned,
                    found: stat.size,
                    at: planned,
                }));
            }
            let found = reader.read(path, planned)?.unwrap_or_default();
            access_differs(*access, stat).or_else(|| content_differs(content, &found))
        }
        (Node::File { .. }, _) => Some(unlike("a file")),
    })
}

fn kind(stat: &Stat) -> &'static str {
    match stat.kind {
        FileKind::File => "a file",
        FileKind::Dir => "a directory",
        FileKind::Symlink(_) => "a symlink",
        FileKind::Special => "a device, socket or FIFO",
    }
}

fn access_differs(planned: Access, found: &Stat) -> Option<Difference> {
    let found = found.access.filter(|found| *found != planned)?;
    Some(Difference::Access { planned, found })
}

fn content_differs(planned: &[u8], found: &[u8]) -> Option<Difference> {
    if planned == found {
        return None;
    }
    let same = planned.iter().zip(found).take_while(|(a, b)| a == b).count();
    Some(Difference::Content {
        planned: length(planned),
        found: length(found),
        at: u64_from_usize(same),
    })
}
