//! What is written to a card, and the whole of writing it: one pass, the second pass that proves it, and a look at
//! the files through the filesystems. It is given a medium and opens none; who may be written, `card` decides.

use std::sync::Arc;

use crate::base::layout::Layout;
use crate::base::source::{BaseImage, Verified};
use crate::card::{wipe_partition_table, BurnError, CardReport, Medium};
use crate::edit;
use crate::edit::block::{Edits, Extents};
use crate::edit::tree::Tree;
use crate::progress::Observer;
use crate::write::root_space::Room;
use crate::write::{write_card, CardFailure, CardOptions, SinkError};

/// What a card is to hold: `edits` laid over `image`.
pub struct Job {
    /// The image, and how it is known to be the right one.
    pub image: Arc<Verified<BaseImage>>,
    /// What differs from it.
    pub edits: Edits,
    /// The bytes that matter, of the image with its edits.
    pub allocated: Extents,
    /// What is looked at again on the card; `None` where the image is nobody's farm.
    pub files: Option<PlannedFiles>,
}

/// What was put on the image: looked at again on the card.
pub struct PlannedFiles {
    /// The partitions of the base.
    pub layout: Layout,
    /// The files, directories and links.
    pub tree: Tree,
    /// How much of a card the root filesystem will have.
    pub room: Room,
}

impl Job {
    /// The bytes that the root filesystem of a farm will have free on a card of `card` bytes.
    pub fn free_when_grown(&self, card: u64) -> Option<u64> {
        self.files.as_ref().map(|files| files.room.free_on(card))
    }
}

/// Write `job` to `card` and prove that it is there.
///
/// # Errors
/// [`CardFailure`], which says whether the card was touched. A card that fails the last look, too, is left without
/// a partition table.
pub fn flash<M: Medium + 'static>(
    job: &Job,
    card: M,
    options: CardOptions<'_>,
    observer: Observer<'_>,
) -> Result<CardReport<M>, CardFailure> {
    let report = write_card(&job.image, &job.edits, card, options, observer)?;
    match &job.files {
        Some(files) => check_files(report, files),
        None => Ok(report),
    }
}

/// Read what was planned through the filesystems on the card.
fn check_files<M: Medium + 'static>(
    mut report: CardReport<M>,
    files: &PlannedFiles,
) -> Result<CardReport<M>, CardFailure> {
    let shared = Arc::new(report.card);
    report.files = edit::read_back(&shared, files.layout.spans(), &files.tree).map_err(|error| {
        wipe_partition_table(&shared);
        CardFailure::Spoiled(SinkError::Files(error))
    })?;
    // The readers are gone when `read_back` returns, and nobody else had a share.
    report.card =
        Arc::into_inner(shared).ok_or(CardFailure::Spoiled(SinkError::Card(BurnError::OutOfOrder)))?;
    Ok(report)
}
