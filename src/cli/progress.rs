//! What people see while bytes move: one line on a terminal, a plain line now and then elsewhere, JSON events with
//! `--json`, nothing with `--quiet`.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::say::{event, note_line};
use crate::progress::{Phase, Progress};
use crate::text::size_text;

/// How often a line or an event is printed where nothing can be drawn over.
const EVERY: Duration = Duration::from_secs(5);

/// How often an event is printed for a program.
const EVENT_EVERY: Duration = Duration::from_millis(500);

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A person at a terminal, or a log.
    People,
    /// A program that reads JSON lines.
    Program,
    /// Nobody.
    Nobody,
}

/// Progress as the command line shows it.
pub struct Shown {
    audience: Audience,
    state: Mutex<State>,
}

struct State {
    phase: Option<Phase>,
    bar: ProgressBar,
    begun: Instant,
    said: Option<Instant>,
    /// Whether the news before was that all is done.
    at_end: bool,
    ended: Vec<(Phase, Duration)>,
}

impl Shown {
    /// For `audience`.
    #[must_use]
    pub fn new(audience: Audience) -> Self {
        let bar = ProgressBar::hidden();
        Self {
            audience,
            state: Mutex::new(State {
                phase: None,
                bar,
                begun: Instant::now(),
                said: None,
                at_end: false,
                ended: Vec::new(),
            }),
        }
    }

    /// Take the line away, so that what is printed next begins on a line of its own.
    pub fn clear(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.bar.finish_and_clear();
            state.end_phase();
        }
    }

    /// How long each phase took that is over, in order. A phase ends where the next one begins, or at
    /// [`clear`](Self::clear).
    #[must_use]
    pub fn durations(&self) -> Vec<(Phase, Duration)> {
        self.state
            .lock()
            .map(|state| state.ended.clone())
            .unwrap_or_default()
    }
}

impl State {
    fn end_phase(&mut self) {
        if let Some(phase) = self.phase.take() {
            self.ended.push((phase, self.begun.elapsed()));
        }
    }
}

impl Progress for Shown {
    fn advance(&self, phase: Phase, done: u64, total: u64) {
        // Whoever finds the lock taken leaves its news to the next call: progress must never slow the work.
        let Ok(mut state) = self.state.try_lock() else {
            return;
        };
        let fresh = state.phase != Some(phase);
        if fresh {
            state.bar.finish_and_clear();
            state.bar = if self.audience == Audience::People && std::io::stderr().is_terminal() {
                bar(phase, total)
            } else {
                ProgressBar::hidden()
            };
            state.end_phase();
            state.phase = Some(phase);
            state.begun = Instant::now();
            state.said = None;
            state.at_end = false;
        }
        if self.audience == Audience::Nobody {
            return;
        }
        state.bar.set_position(done);
        let every = if self.audience == Audience::Program {
            EVENT_EVERY
        } else {
            EVERY
        };
        // What is not known beforehand is at its end all the time.
        let ended = done == total && !std::mem::replace(&mut state.at_end, done == total);
        let due = state.said.is_none_or(|said| said.elapsed() >= every) || ended;
        if !due || !state.bar.is_hidden() {
            return;
        }
        state.said = Some(Instant::now());
        let rate = rate(done, state.begun.elapsed());
        match self.audience {
            Audience::Program => {
                let line = json!({"event": "progress", "phase": phase.name(), "done": done, "total": total, "rate": rate});
                event(&line);
            }
            // A phase that is over at once, or that counts nothing, is no news in a log.
            Audience::People if !fresh && total > 1 => {
                let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
                let rate = if moves_bytes(phase) {
                    format!(" of {}, {} MB/s", size_text(total), rate / 1_000_000)
                } else {
                    String::new()
                };
                note_line!("{phase}: {percent} %{rate}");
            }
            _ => {}
        }
    }
}

/// Whether what is counted is bytes that move: a probe looks at a few places over the whole card.
fn moves_bytes(phase: Phase) -> bool {
    phase != Phase::Probe
}

/// Bytes per second.
fn rate(done: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    done.saturating_mul(1000) / millis
}

fn bar(phase: Phase, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
    let line = if moves_bytes(phase) {
        "{prefix:>8} {wide_bar} {percent:>3} %  {decimal_bytes_per_sec}  {eta} left"
    } else {
        "{prefix:>8} {wide_bar} {percent:>3} %"
    };
    if let Ok(style) = ProgressStyle::with_template(line) {
        bar.set_style(style);
    }
    bar.with_prefix(phase.name())
}
