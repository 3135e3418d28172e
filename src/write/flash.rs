//! What is written to a card, and the whole of writing it: one pass, the second pass that proves it, and a look at
//! the files through the filesystems. It is given a medium and opens none; who may be written, `card` decides.

use std::sync::Arc;
use std::time::Duration;

use crate::base::layout::Layout;
use crate::base::source::{BaseImage, Verified};
use crate::card::{wipe_partition_table, BurnError, CardIo, Medium};
use crate::edit;
use crate::edit::block::{Edits, Extents};
use crate::edit::tree::Tree;
use crate::progress::Watch;
use crate::write::root_space::Room;
use crate::write::{write_card, CardFailure, CardOptions, CardWritten, SinkError};

/// What a card is to hold.
pub struct Job {
    image: Arc<Verified<BaseImage>>,
    edits: Edits,
    allocated: Extents,
    files: Option<PlannedFiles>,
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

/// A card that was written and proved.
#[derive(Debug)]
pub struct Flashed<M> {
    /// The card: it must still be let go.
    pub card: M,
    /// Bytes of image.
    pub size: u64,
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that are free and were skipped.
    pub skipped: u64,
    /// Bytes that were read back and found right.
    pub verified: u64,
    /// Files, directories and links that were read through the filesystems and found as planned.
    pub files: usize,
    /// Where something had to be written again, in bytes.
    pub repaired: Vec<u64>,
    /// How long it took to find out whether the card has the size it claims.
    pub probe: Duration,
}

impl Job {
    /// `edits` laid over `image`, of which the bytes in `allocated` matter; `files` are looked at again on the card.
    #[must_use]
    pub fn new(
        image: Arc<Verified<BaseImage>>,
        edits: Edits,
        allocated: Extents,
        files: Option<PlannedFiles>,
    ) -> Self {
        Self {
            image,
            edits,
            allocated,
            files,
        }
    }

    /// The image, and how it is known to be the right one.
    #[must_use]
    pub fn base(&self) -> &Verified<BaseImage> {
        &self.image
    }

    /// Bytes of the image.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edits.image_size()
    }

    /// Bytes of it that matter.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.allocated.total()
    }

    /// The map of what matters.
    #[must_use]
    pub fn allocated(&self) -> &Extents {
        &self.allocated
    }

    /// The bytes that the root filesystem will have free on a card of `card` bytes; `None` where the image is
    /// nobody's farm.
    #[must_use]
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
    watch: Watch<'_>,
) -> Result<Flashed<M>, CardFailure> {
    let CardWritten {
        card,
        size,
        written,
        skipped,
        verified,
        repaired,
        probe,
    } = write_card(&job.image, &job.edits, card, options, watch)?;
    let (card, files) = look(card, job.files.as_ref())?;
    Ok(Flashed {
        card: card.into_medium(),
        size,
        written,
        skipped,
        verified,
        files,
        repaired,
        probe,
    })
}

/// Read what was planned through the filesystems on the card.
fn look<M: Medium + 'static>(
    card: CardIo<M>,
    files: Option<&PlannedFiles>,
) -> Result<(CardIo<M>, usize), CardFailure> {
    let Some(files) = files else {
        return Ok((card, 0));
    };
    let shared = Arc::new(card);
    let seen = edit::read_back(&shared, files.layout.spans(), &files.tree);
    match seen {
        Err(error) => {
            wipe_partition_table(&shared);
            Err(CardFailure::Spoiled(SinkError::Files(error)))
        }
        Ok(count) => match Arc::into_inner(shared) {
            Some(card) => Ok((card, count)),
            // The readers are gone when `read_back` returns, and nobody else had a share.
            None => Err(CardFailure::Spoiled(SinkError::Card(BurnError::OutOfOrder))),
        },
    }
}
