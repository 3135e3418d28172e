//! The buffer between workers and consumer: pieces come in any order and leave in the order of the image, and no piece is
//! decoded further ahead than the window allows. It knows neither bytes nor decoders.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::decode_units::{Failure, Unit};
use super::{Backing, Chunk};

/// A piece on its way to the consumer.
pub(super) enum Ready<T> {
    Prepared(T),
    /// Less than a chunk, because a unit begins or ends inside one.
    Part(Chunk),
    Failed(Failure),
}

/// The state that workers and consumer share.
pub(super) struct ReorderBuffer<T> {
    state: Mutex<State<T>>,
    made: Condvar,
    taken: Condvar,
    window: u64,
}

struct State<T> {
    next_unit: usize,
    /// Number of the first piece of the next unit.
    next_piece: u64,
    /// Number of the piece that the consumer waits for.
    wanted: u64,
    ready: BTreeMap<u64, Ready<T>>,
    end: End,
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// There are no more units. The piece before this one is the last.
    At(u64),
    /// The consumer or a worker gave up.
    Stopped,
}

impl<T> ReorderBuffer<T> {
    pub(super) fn new(window: u64) -> Self {
        Self {
            state: Mutex::new(State {
                next_unit: 0,
                next_piece: 0,
                wanted: 0,
                ready: BTreeMap::new(),
                end: End::Open,
            }),
            made: Condvar::new(),
            taken: Condvar::new(),
            window,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next unit, with the number of its first piece.
    pub(super) fn take_unit(&self, units: &Backing) -> Option<(Unit, u64)> {
        let mut state = self.lock();
        if state.end != End::Open {
            return None;
        }
        let first = state.next_piece;
        let Some(unit) = units.unit(state.next_unit) else {
            state.end = End::At(first);
            self.made.notify_all();
            return None;
        };
        state.next_unit += 1;
        state.next_piece += unit.pieces();
        Some((unit, first))
    }

    /// Wait until `piece` may be decoded; `false` if the pass was stopped.
    pub(super) fn wait_for_room(&self, piece: u64) -> bool {
        let state = self.lock();
        let state = self
            .taken
            .wait_while(state, |state| {
                state.end != End::Stopped && piece >= state.wanted.saturating_add(self.window)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.end != End::Stopped
    }

    pub(super) fn put(&self, piece: u64, ready: Ready<T>) {
        let mut state = self.lock();
        state.ready.insert(piece, ready);
        if piece == state.wanted {
            self.made.notify_all();
        }
    }

    /// Wait for the next piece; `None` at the end.
    pub(super) fn next(&self) -> Option<Ready<T>> {
        let state = self.lock();
        let mut state = self
            .made
            .wait_while(state, |state| {
                !state.ready.contains_key(&state.wanted)
                    && state.end != End::Stopped
                    && state.end != End::At(state.wanted)
            })
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = state.wanted;
        let ready = state.ready.remove(&wanted)?;
        state.wanted += 1;
        self.taken.notify_all();
        Some(ready)
    }

    pub(super) fn stop(&self) {
        self.lock().end = End::Stopped;
        self.made.notify_all();
        self.taken.notify_all();
    }
}

/// Stops the pass when the consumer returns, for whatever reason.
pub(super) struct StopOnDrop<'a, T>(pub(super) &'a ReorderBuffer<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Stops the pass when a worker panics: the consumer would wait forever.
pub(super) struct StopOnPanic<'a, T>(pub(super) &'a ReorderBuffer<T>);

impl<T> Drop for StopOnPanic<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
