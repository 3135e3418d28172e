//! How long work reports its progress, and how it is asked to stop.
//!
//! The layers that move bytes know nothing of terminals: they report to a [`Progress`] and look at a [`Cancel`]
//! before every piece of at most 1 MiB.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// A phase of the work. A build or a flash goes through some of these, each once, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Downloading the base.
    Download,
    /// Hashing the base as downloaded.
    Hash,
    /// Decompressing a base without random access into the cache.
    Unpack,
    /// Testing whether a card has the size that it claims.
    Probe,
    /// Decoding the base, merging the edits and writing.
    Write,
    /// Waiting until what was written has reached the medium.
    Flush,
    /// Reading back what was written.
    ReadBack,
}

impl Phase {
    /// One word for people and for JSON events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Hash => "hash",
            Self::Unpack => "unpack",
            Self::Probe => "probe",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::ReadBack => "verify",
        }
    }

    /// What happens while nothing is counted.
    pub const fn activity(self) -> &'static str {
        match self {
            Self::Probe => "testing whether the card has the size that it claims",
            Self::Flush => "waiting until everything is stored",
            Self::Download | Self::Hash | Self::Unpack | Self::Write | Self::ReadBack => "",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why nothing moves for a while although nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The connection was lost. After a pause, the download is tried again: the try `next` of `of`, counted from 1.
    Connection { next: u32, of: u32 },
    /// Another palmfarm unpacks the same base.
    Unpacking,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { next, of } => write!(f, "connection lost, trying again ({next} of {of})"),
            Self::Unpacking => f.write_str("waiting for another palmfarm that unpacks the same base"),
        }
    }
}

/// Receives the progress of a phase. It is called often and from any thread, so it must return quickly.
pub trait Progress: Send + Sync {
    /// `done` of `total` bytes of `phase` are done: bytes that have to move, without those that are skipped. A `total` of
    /// 0 means that it is not known, 1 that nothing is counted.
    fn advance(&self, phase: Phase, done: u64, total: u64);

    /// From now on `phase` waits. Called once for each time.
    fn wait(&self, _phase: Phase, _wait: Wait) {}
}

/// Discards what is reported.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _phase: Phase, _done: u64, _total: u64) {}
}

/// A request to stop. Clones share it, so that a signal handler can hold one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    /// Ask to stop. Safe to call from a signal handler: it stores one atomic.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for `signal_hook`-like interfaces.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// Where a long-running function reports, and when it must stop.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    /// Where to report.
    pub progress: &'a dyn Progress,
    /// When to stop.
    pub cancel: &'a Cancel,
}
