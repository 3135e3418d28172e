//! A Pi's clock does not run while it is off, and TLS and apt fail if the time is years behind: wait for the system to
//! synchronise it, for as long as that is likely to help.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::program::query;
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

/// systemd-timesyncd makes this file once it has synchronised (systemd-timesyncd.service(8), since 239).
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// How long to wait. On a LAN without the Internet the clock is never synchronised, and a clock that is a few minutes off
/// does no harm.
const PATIENCE: Duration = Duration::from_secs(30);

/// Wait for the clock. `reference` is a file that is older than the card's first boot.
pub(crate) fn step(root: &Root, reference: &str) -> StepResult {
    step_for(root, reference, PATIENCE)
}

fn step_for(root: &Root, reference: &str, patience: Duration) -> StepResult {
    let end = Instant::now() + patience;
    loop {
        if is_synchronized(root) {
            return Ok(Change::Unchanged);
        }
        if Instant::now() > end {
            break;
        }
        sleep(Duration::from_secs(1));
    }
    if is_before(root, reference) {
        return Err(StepError::new(format!(
            "the clock shows a time before this card was made, and no time server has answered within {} s: check that \
             the Pi reaches the Internet (UDP port 123)",
            patience.as_secs()
        )));
    }
    Ok(Change::Unchanged)
}

/// Whether a time server has set the clock.
pub(crate) fn is_synchronized(root: &Root) -> bool {
    root.has(SYNCHRONIZED) || synchronized(&query("timedatectl", &["status"]))
}

/// Whether the clock shows a time before `reference` was made, a file that is older than the card's first boot.
pub(crate) fn is_before(root: &Root, reference: &str) -> bool {
    let made = fs::metadata(root.at(reference)).and_then(|facts| facts.modified());
    made.is_ok_and(|made| made > SystemTime::now())
}

/// `timedatectl status` says `System clock synchronized: yes`, up to systemd 238 `systemd clock synchronized: yes`.
fn synchronized(status: &str) -> bool {
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.ends_with("synchronized") && value.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::root::scratch::Scratch;

    #[test]
    fn knows_a_synchronised_clock() {
        let check = |status: &str, expect: bool| assert_eq!(synchronized(status), expect, "{status}");
        check("               Local time: Tue\nSystem clock synchronized: yes\n              NTP service: active\n", true);
        check("NTP synchronized: yes\n", true);
        check("System clock synchronized: no\n", false);
        check("", false);
    }

    #[test]
    fn only_a_time_before_the_card_was_made_is_an_error() {
        let document = "/etc/palmfarm/firstboot.json";
        let scratch = Scratch::new("clock", &[(document, "{}")]);
        let root = &scratch.0;
        assert!(step_for(root, document, Duration::ZERO).is_ok());
        assert!(step_for(root, "/nowhere", Duration::ZERO).is_ok());
        if synchronized(&query("timedatectl", &["status"])) {
            // Past the capture of libtest, which counts it as passed.
            let why = "this machine's clock is synchronised, so no time is wrong on it";
            let _ = writeln!(std::io::stdout(), "skipped: clock: {why}");
            return;
        }
        let later = SystemTime::now() + Duration::from_secs(86_400);
        let file = fs::File::options().write(true).open(root.at(document)).unwrap();
        file.set_modified(later).unwrap();
        let error = step_for(root, document, Duration::ZERO).unwrap_err();
        assert!(error.message.contains("before this card was made"), "{error}");
        root.write(SYNCHRONIZED, b"").unwrap();
        assert!(step_for(root, document, Duration::ZERO).is_ok());
    }
}
