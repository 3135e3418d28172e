//! How a test says that it cannot run here. It writes past libtest's capture, so that a plain `cargo test` shows the
//! line, too; libtest itself knows no skipping at run time and counts such a test as passed, which
//! `cargo xtask test` corrects.

use std::io::Write;

/// The calling test does not run, because of `why`.
pub fn skipped(why: impl std::fmt::Display) {
    say("skipped", &why);
}

/// A part of the calling test does not run, because of `why`.
pub fn skipped_in_part(why: impl std::fmt::Display) {
    say("skipped in part", &why);
}

fn say(what: &str, why: &dyn std::fmt::Display) {
    let thread = std::thread::current();
    let line = format!("{what}: {}: {why}\n", thread.name().unwrap_or("a test"));
    show(&line);
}

/// Write `line` past libtest's capture.
pub(super) fn show(line: &str) {
    // In one call, so that lines of other tests do not get into it.
    let _ = std::io::stdout().write_all(line.as_bytes());
}
