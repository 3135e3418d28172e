//! The belt between workers and consumer: pieces come in any order and leave in their own, and none is made further ahead
//! than the window allows. Knows neither bytes nor decoders.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::units::{Failure, Units};
use super::Cell;
use crate::base::source::CELL;

/// A piece on its way to the consumer.
pub(super) enum Ready<T> {
    Prepared(T),
    /// Less than a cell, since a unit begins or ends inside one.
    Part(Cell),
    Failed(Failure),
}

/// What workers and consumer share.
pub(super) struct Belt<T> {
    state: Mutex<State<T>>,
    made: Condvar,
    taken: Condvar,
    window: u64,
}

struct State<T> {
    next_unit: usize,
    /// Number of the first piece of the next unit.
    next_piece: u64,
    /// Number of the piece that the consumer wants.
    wanted: u64,
    ready: BTreeMap<u64, Ready<T>>,
    end: End,
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// There are no more units: the last piece is the one before this.
    At(u64),
    /// Somebody gave up.
    Stopped,
}

impl<T> Belt<T> {
    pub(super) fn new(window: usize) -> Self {
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
            window: u64::try_from(window).unwrap_or(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next unit, with the number of its first piece.
    pub(super) fn take_unit(&self, units: Units<'_>) -> Option<(usize, Range<u64>, u64)> {
        let mut state = self.lock();
        if state.end != End::Open {
            return None;
        }
        let (number, first) = (state.next_unit, state.next_piece);
        let Some(unit) = units.get(number) else {
            state.end = End::At(first);
            self.made.notify_all();
            return None;
        };
        state.next_unit += 1;
        state.next_piece += pieces(&unit);
        Some((number, unit, first))
    }

    /// Wait until `piece` may be made; `false` where nobody wants it any more.
    pub(super) fn may_make(&self, piece: u64) -> bool {
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

    /// The piece that comes next; `None` at the end.
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

/// Stops the belt when the consumer is done with it, however that came.
pub(super) struct Stop<'a, T>(pub(super) &'a Belt<T>);

impl<T> Drop for Stop<'_, T> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Stops the belt when a worker panics: the consumer would wait for ever.
pub(super) struct Alarm<'a, T>(pub(super) &'a Belt<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

fn pieces(unit: &Range<u64>) -> u64 {
    unit.end.div_ceil(CELL).saturating_sub(unit.start / CELL)
}
