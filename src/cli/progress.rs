//! How progress is shown: one line that is redrawn on a terminal, a plain line now and then elsewhere, JSON events with
//! `--json`, nothing with `--quiet`.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::ui::Ui;
use crate::progress::{Phase, Progress, Wait};
use crate::text::size_text;

/// How often a line is printed if none can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How often an event is printed.
const EVENT_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct ProgressLine {
    ui: Ui,
    state: Mutex<State>,
}

struct State {
    phase: Option<Phase>,
    bar: ProgressBar,
    started: Instant,
    /// What was done before the phase began here: an earlier run may have left a part of a download.
    before: u64,
    printed: Option<Instant>,
    /// Whether the last call said that everything is done.
    at_end: bool,
    ended: Vec<(Phase, Duration)>,
}

impl ProgressLine {
    pub(super) fn new(ui: Ui) -> Self {
        Self {
            ui,
            state: Mutex::new(State {
                phase: None,
                bar: ProgressBar::hidden(),
                started: Instant::now(),
                before: 0,
                printed: None,
                at_end: false,
                ended: Vec::new(),
            }),
        }
    }

    /// Remove the line, so that the next text begins on a line of its own.
    pub(super) fn clear(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.bar.finish_and_clear();
            state.end_phase();
        }
    }

    /// How long each phase took that has ended, in order. A phase ends when the next one begins, or at
    /// [`clear`](Self::clear).
    pub(super) fn durations(&self) -> Vec<(Phase, Duration)> {
        self.state
            .lock()
            .map(|state| state.ended.clone())
            .unwrap_or_default()
    }
}

impl State {
    fn end_phase(&mut self) {
        if let Some(phase) = self.phase.take() {
            self.ended.push((phase, self.started.elapsed()));
        }
    }
}

impl Progress for ProgressLine {
    fn advance(&self, phase: Phase, done: u64, total: u64) {
        // A caller that finds the lock taken leaves its news to the next call: progress must never slow the work.
        let Ok(mut state) = self.state.try_lock() else {
            return;
        };
        let Ui { json, quiet } = self.ui;
        let fresh = state.phase != Some(phase);
        if fresh {
            state.bar.finish_and_clear();
            state.bar = if !json && !quiet && std::io::stderr().is_terminal() {
                bar(phase, total)
            } else {
                ProgressBar::hidden()
            };
            state.end_phase();
            state.phase = Some(phase);
            state.started = Instant::now();
            state.before = done;
            state.printed = None;
            state.at_end = false;
            // What is there already does not count for the rate.
            state.bar.set_position(done);
            state.bar.reset_eta();
        }
        if quiet {
            return;
        }
        state.bar.set_position(done);
        let interval = if json { EVENT_INTERVAL } else { LINE_INTERVAL };
        // A phase whose total is not known is at its end all the time.
        let ended = done == total && !std::mem::replace(&mut state.at_end, done == total);
        let due = state.printed.is_none_or(|printed| printed.elapsed() >= interval) || ended;
        if !due || !state.bar.is_hidden() {
            return;
        }
        state.printed = Some(Instant::now());
        let rate = rate(done.saturating_sub(state.before), state.started.elapsed());
        if json {
            let line = json!({"event": "progress", "phase": phase.name(), "done": done, "total": total, "rate": rate});
            self.ui.event(&line);
        } else if !fresh && total > 1 {
            // A phase that is over at once, or that counts nothing, is not worth a line in a log.
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
            let rate = if moves_bytes(phase) {
                format!(" of {}, {}/s", size_text(total), size_text(rate))
            } else {
                String::new()
            };
            self.ui.info_line(format_args!("{phase}: {percent} %{rate}"));
        }
    }

    fn wait(&self, phase: Phase, wait: Wait) {
        let Ok(state) = self.state.lock() else {
            return;
        };
        if self.ui.json {
            let line = json!({"event": "waiting", "phase": phase.name(), "message": wait.to_string()});
            self.ui.event(&line);
        } else {
            let print = || self.ui.info_line(format_args!("{phase}: {wait}"));
            state.bar.suspend(print);
        }
    }
}

/// Whether what is counted is bytes that move: the probe only touches a few places all over the card.
fn moves_bytes(phase: Phase) -> bool {
    phase.activity().is_empty()
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
        "{prefix:>8} {msg}, {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(line) {
        bar.set_style(style);
    }
    if !moves_bytes(phase) {
        // Nobody counts anything meanwhile, so the clock has to move by itself.
        bar.enable_steady_tick(Duration::from_secs(1));
    }
    bar.with_prefix(phase.name()).with_message(phase.activity())
}
