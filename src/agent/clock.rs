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

/// The name of the step in a report.
pub(crate) const STEP: &str = "clock";

/// Wait for the clock. `reference` is a file that is older than the card's first boot. `note` gets what a person should
/// know if nobody has set the clock.
pub(crate) fn step(root: &Root, reference: &str, note: &mut String) -> StepResult {
    step_for(root, reference, note, PATIENCE)
}

fn step_for(root: &Root, reference: &str, note: &mut String, patience: Duration) -> StepResult {
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
             the Pi reaches the Internet (UDP port 123, and TCP port 4460 from Ubuntu 25.10 on)",
            patience.as_secs()
        )));
    }
    // Without a clock of its own a Pi begins at about the time when its image was made.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    *note = format!(
        "no time server has answered within {} s; the clock says {}",
        patience.as_secs(),
        utc(now.unwrap_or_default().as_secs())
    );
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

/// Whether a failure that says this may be due to a clock that is wrong: a certificate or a list of packages is then of
/// the future.
pub(crate) fn may_explain(text: &str) -> bool {
    // Go's crypto/x509 and curl say the first, apt the second.
    ["certificate", "not valid yet"]
        .iter()
        .any(|words| text.contains(words))
}

/// So many seconds since 1970 as RFC 3339 has them, in UTC.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years of this calendar begin on 1 March, so that a leap day is the last of one; 1970 is 719468 days after that
    // of the year 0 (H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + late,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
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
    fn times_are_those_of_the_calendar() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), expect);
        }
    }

    #[test]
    fn only_a_time_before_the_card_was_made_is_an_error() {
        let document = "/etc/palmfarm/firstboot.json";
        let scratch = Scratch::new("clock", &[(document, "{}")]);
        let root = &scratch.0;
        let mut note = String::new();
        assert!(step_for(root, document, &mut note, Duration::ZERO).is_ok());
        assert!(step_for(root, "/nowhere", &mut note, Duration::ZERO).is_ok());
        if synchronized(&query("timedatectl", &["status"])) {
            // Past the capture of libtest, which counts it as passed.
            let why = "this machine's clock is synchronised, so no time is wrong on it";
            let _ = writeln!(std::io::stdout(), "skipped: clock: {why}");
            return;
        }
        assert!(
            note.contains("no time server has answered within 0 s; the clock says 20"),
            "{note}"
        );
        let later = SystemTime::now() + Duration::from_secs(86_400);
        let file = fs::File::options().write(true).open(root.at(document)).unwrap();
        file.set_modified(later).unwrap();
        let error = step_for(root, document, &mut note, Duration::ZERO).unwrap_err();
        assert!(error.message.contains("before this card was made"), "{error}");
        root.write(SYNCHRONIZED, b"").unwrap();
        assert!(step_for(root, document, &mut note, Duration::ZERO).is_ok());
    }
}
