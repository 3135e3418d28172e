//! A card as a [`Sink`], and all steps of writing one: probe, one pass, second pass, first MiB, in the order that
//! `card` requires. It opens nothing, and reads the base again only to repair.

use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};

use super::{write_image, FreeSpace, Gap, ImageDigest, Sink, SinkError, WriteOptions, Zeroes};
use crate::base::source::{BaseImage, Verified};
use crate::card::{BurnError, CardReport, CardWriter, Medium, Touched, Unverified};
use crate::edit::block::{Edited, Edits};
use crate::progress::{Observer, Phase};

#[derive(Clone, Copy, Debug)]
pub struct CardOptions<'a> {
    /// Threads that decode. The output does not depend on it.
    pub threads: NonZeroUsize,
    /// What to do with free space. With [`FreeSpace::Written`] it is also read back.
    pub free: FreeSpace<'a>,
    /// Distinguishes the stamps of this probe from those of an earlier one: any value that differs from run to run. It
    /// does not stay on the card.
    pub salt: [u8; 16],
}

/// A card that does not hold the image.
#[derive(Debug, thiserror::Error)]
pub enum CardFailure {
    #[error(transparent)]
    Untouched(SinkError),
    #[error(transparent)]
    Spoiled(SinkError),
}

impl CardFailure {
    pub fn cause(&self) -> &SinkError {
        match self {
            Self::Untouched(cause) | Self::Spoiled(cause) => cause,
        }
    }
}

/// Write `base` with `edits` to `card`, and read it back.
///
/// # Errors
/// [`CardFailure`] says whether the card was touched. A request to stop is a failure, too.
pub fn write_card<M: Medium>(
    base: &Verified<BaseImage>,
    edits: &Edits,
    card: M,
    options: CardOptions<'_>,
    observer: Observer<'_>,
) -> Result<CardReport<M>, CardFailure> {
    let touched = Touched::default();
    let sink = CardSink {
        state: State::Waiting(card),
        touched: touched.clone(),
        salt: options.salt,
        observer,
    };
    pass_and_proof(base, edits, sink, options, observer).map_err(|error| {
        if touched.is_touched() {
            CardFailure::Spoiled(error)
        } else {
            CardFailure::Untouched(error)
        }
    })
}

fn pass_and_proof<M: Medium>(
    base: &Verified<BaseImage>,
    edits: &Edits,
    sink: CardSink<'_, M>,
    options: CardOptions<'_>,
    observer: Observer<'_>,
) -> Result<CardReport<M>, SinkError> {
    let pass = WriteOptions {
        threads: options.threads,
        free: options.free,
        digest: ImageDigest::None,
    };
    let image = write_image(base, edits, sink, pass, observer)?;
    let expect: Vec<(Range<u64>, [u8; 32])> = image
        .mapped
        .into_iter()
        .map(|mapped| (mapped.range, mapped.sha256.0))
        .collect();
    let step = |done: u64, total: u64| {
        observer.progress.advance(Phase::ReadBack, done, total);
        if observer.cancel.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    Ok(image.done.read_back(&expect, &Edited::new(base, edits), &step)?)
}

/// Takes an image to a card.
struct CardSink<'a, M> {
    state: State<M>,
    touched: Touched,
    salt: [u8; 16],
    observer: Observer<'a>,
}

enum State<M> {
    /// Nothing is written yet.
    Waiting(M),
    /// The image is being written.
    Writing(CardWriter<M>),
    /// A step failed.
    Lost,
}

impl<M: Medium> Sink for CardSink<'_, M> {
    type Done = Unverified<M>;

    const ZEROES: Zeroes = Zeroes::AsBytes;

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        let State::Waiting(card) = std::mem::replace(&mut self.state, State::Lost) else {
            return Err(BurnError::OutOfOrder.into());
        };
        self.observer.progress.advance(Phase::Probe, 0, size);
        let writer = CardWriter::begin(card, size, self.salt, &self.touched)?;
        self.observer.progress.advance(Phase::Probe, size, size);
        self.state = State::Writing(writer);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        match &mut self.state {
            State::Writing(writer) => Ok(writer.write(offset, bytes).map_err(BurnError::from)?),
            State::Waiting(_) | State::Lost => Err(BurnError::OutOfOrder.into()),
        }
    }

    fn gap(&mut self, _offset: u64, _len: u64, reason: Gap) -> Result<(), SinkError> {
        match reason {
            Gap::Free => Ok(()),
            // The card would keep its old bytes there.
            Gap::Zero => Err(BurnError::OutOfOrder.into()),
        }
    }

    fn finish(self, observer: Observer<'_>) -> Result<Unverified<M>, SinkError> {
        let State::Writing(writer) = self.state else {
            return Err(BurnError::OutOfOrder.into());
        };
        observer.progress.advance(Phase::Flush, 0, 1);
        let card = writer.finish().map_err(BurnError::from)?;
        observer.progress.advance(Phase::Flush, 1, 1);
        Ok(card)
    }
}
