//! Signals that ask the program to stop. It only notes them: the working code looks at the [`Cancel`] and ends cleanly.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::progress::Cancel;

/// A request to stop, which Ctrl-C or a closed terminal makes. A second Ctrl-C ends the program at once.
pub(crate) fn cancel_on_signal() -> Cancel {
    let cancel = Cancel::new();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // nohup(1) has its program ignore SIGHUP, and that must stay so. The other two are sent on purpose, even to a
        // program in the background that ignores them.
        if signal == SIGHUP && ignored_signals().contains(&signal) {
            continue;
        }
        // If no handler can be set, the signal ends the program, which leaves nothing half-written under a final name.
        drop(signal_hook::flag::register_conditional_shutdown(
            signal,
            130,
            cancel.flag(),
        ));
        drop(signal_hook::flag::register(signal, cancel.flag()));
    }
    cancel
}

/// The signals that this process was started to ignore.
fn ignored_signals() -> Vec<i32> {
    parse_ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// From `SigIgn:` of /proc/PID/status: a mask whose lowest bit is signal 1 (proc(5)).
fn parse_ignored(status: &str) -> Vec<i32> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let check = |status: &str, expect: &[i32]| assert_eq!(parse_ignored(status), expect);
        check("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", &[1, 13]);
        check("SigIgn:\t8000000000000000\n", &[64]);
        check("Name:\tx\n", &[]);
    }
}
