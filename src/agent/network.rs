//! Watching the declared network until it is confirmed, or giving it up.
//!
//! A network that reached its router once stays, whatever happens afterwards. One that never did is given up when the
//! farm's time for that is over, and only time with a cable in counts: after a power cut the router may come minutes
//! after the Pi. Where a switch keeps the cable alive and plain DHCP has no answer either, nothing speaks against the
//! declared network: the two take turns until one of them reaches somebody.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_spec::firstboot::{FirstBoot, Network};
use palmfarm_spec::report::Outcome;

use crate::bridge::IFUPDOWN_ACTIVE;
use crate::confirm::{self, PAUSE};
use crate::farm::{Change, Done, Trouble};
use crate::journal::{Entry, Journal};
use crate::nic;
use crate::program::ask;
use crate::rollback;
use crate::root::Root;

/// How long DHCP may take after a rollback: a client asks at 0, 2, 6, 14 and 30 s (RFC 2131, section 4.1).
const DHCP: Duration = Duration::from_secs(45);

/// The unit that makes the farm true.
const RUN: &str = "palmfarm-firstboot.service";

/// How much longer than the farm's own limit a run waits for what the watch decides.
const GRACE: Duration = Duration::from_secs(60);

/// Watch until the network is confirmed or given up.
pub fn watch(root: &Root, document: &FirstBoot) -> Result<Outcome, Trouble> {
    let network = &document.network;
    let digest = confirm::digest(network);
    if root.has(IFUPDOWN_ACTIVE) || journal(root)?.confirmed(&digest) {
        return Ok(Outcome::Confirmed);
    }
    let mut patience = Patience::new(network);
    let mut late = false;
    loop {
        let seen = confirm::look(root, network);
        let missing = confirm::missing(network, &seen);
        if missing.is_empty() {
            add(root, Entry::Confirmed { network: digest })?;
            if late {
                // A run that had no network has given up on what needs one; one that is at work goes on.
                ask("systemctl", &["--no-block", "start", RUN]);
            }
            return Ok(Outcome::Confirmed);
        }
        let nics = nic::all(root);
        let targets = rollback::targets(&network.uplink, &nics);
        if targets.is_empty() || !nics.iter().any(|nic| nic.name == network.uplink && nic.carrier) {
            rollback::wake_others(&network.uplink, &nics);
        }
        if patience.is_over(!targets.is_empty(), Instant::now()) {
            if let Some(outcome) = give_up(root, document, &targets, &missing)? {
                return Ok(outcome);
            }
            patience = Patience::new(network);
            late = true;
        }
        confirm::knock(root, network, &seen);
        sleep(PAUSE);
    }
}

/// The step of a run: wait for what the watch finds, or find it oneself where no watch runs. Nothing is given up here.
pub(crate) fn step(root: &Root, network: &Network) -> Done {
    let digest = confirm::digest(network);
    if root.has(IFUPDOWN_ACTIVE) || journal(root)?.confirmed(&digest) {
        return Ok(Change::Unchanged);
    }
    let boot = boot(root);
    let end = Instant::now() + Duration::from_secs(u64::from(network.rollback_seconds)) + GRACE;
    loop {
        let journal = journal(root)?;
        if journal.confirmed(&digest) {
            return Ok(Change::Changed);
        }
        if let Some(why) = journal.rolled_back(&boot) {
            return Err(Trouble::new(why));
        }
        let seen = confirm::look(root, network);
        let missing = confirm::missing(network, &seen);
        if missing.is_empty() {
            add(root, Entry::Confirmed { network: digest })?;
            return Ok(Change::Changed);
        }
        if Instant::now() > end {
            return Err(Trouble::new(format!(
                "the network is not up: {}. Where DHCP has no answer either, the two take turns until one of them \
                 reaches a router",
                missing.join("; ")
            )));
        }
        confirm::knock(root, network, &seen);
        sleep(PAUSE);
    }
}

/// What became of the declared network so far.
#[must_use]
pub fn outcome(root: &Root, network: &Network) -> Outcome {
    let journal = Journal::open(root).unwrap_or_default();
    if root.has(IFUPDOWN_ACTIVE) || journal.confirmed(&confirm::digest(network)) {
        Outcome::Confirmed
    } else if journal.rolled_back(&boot(root)).is_some() {
        Outcome::RolledBack
    } else {
        Outcome::Pending
    }
}

/// Go back to DHCP on `targets`. `None`: nobody answers there, and the declared network is back.
fn give_up(
    root: &Root,
    document: &FirstBoot,
    targets: &[String],
    missing: &[String],
) -> Result<Option<Outcome>, Trouble> {
    let network = &document.network;
    root.console(&format!(
        "the declared network did not reach a router within {} s: {}; going back to DHCP on {}",
        network.rollback_seconds,
        missing.join("; "),
        targets.join(", ")
    ));
    // Whatever fails on the way, that this boot gave up is true and must be known.
    let result = match rollback::act(root, network, targets) {
        Ok(()) => {
            let Some((target, address)) = rollback::answer(targets, DHCP) else {
                root.console("DHCP has no answer either: back to the declared network");
                rollback::undo(root, network, targets)?;
                return Ok(None);
            };
            format!("{target} is on DHCP at {address}")
        }
        Err(trouble) => format!("DHCP on {} was to stand in, but {trouble}", targets.join(", ")),
    };
    let why = format!(
        "the declared network did not reach a router within {} s: {}. Until the next boot, which tries it again, \
         {result}. Mend `network` in farm.yaml and write the card again",
        network.rollback_seconds,
        missing.join("; ")
    );
    root.console(&format!("rolled back: {result}"));
    let boot = boot(root);
    add(root, Entry::RolledBack { boot, why })?;
    Ok(Some(Outcome::RolledBack))
}

/// What tells this boot from every other (random(4)).
fn boot(root: &Root) -> String {
    root.line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn journal(root: &Root) -> Result<Journal, Trouble> {
    Journal::open(root).map_err(|error| trouble(&error))
}

/// Another process may have added something since the journal was last read.
fn add(root: &Root, entry: Entry) -> Result<(), Trouble> {
    let mut journal = journal(root)?;
    journal.add(root, entry).map_err(|error| trouble(&error))
}

fn trouble(error: &io::Error) -> Trouble {
    Trouble::new(format!("keeping the journal {}: {error}", crate::journal::PATH))
}

/// How much time an unconfirmed network has left. Zero seconds in the farm: all the time there is.
struct Patience {
    left: Option<Duration>,
    last: Option<Instant>,
}

impl Patience {
    fn new(network: &Network) -> Self {
        let seconds = Some(network.rollback_seconds).filter(|seconds| *seconds > 0);
        Self {
            left: seconds.map(|seconds| Duration::from_secs(u64::from(seconds))),
            last: None,
        }
    }

    /// Whether it is over at `now`; the time since the last call counts if there was a cable then and is now.
    fn is_over(&mut self, cable: bool, now: Instant) -> bool {
        let since = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = cable.then_some(now);
        let Some(left) = &mut self.left else {
            return false;
        };
        if cable {
            *left = left.saturating_sub(since);
        }
        cable && left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use palmfarm_spec::farm::{Ipv4, Ipv6};

    use super::*;
    use crate::confirm::tests::network;

    /// `story`: seconds and whether a cable is in.
    fn check(rollback_seconds: u32, story: &[(u64, bool)], over_at: Option<u64>) {
        let mut network = network(Ipv4::Dhcp, Ipv6::Auto);
        network.rollback_seconds = rollback_seconds;
        let mut patience = Patience::new(&network);
        let start = Instant::now();
        let over = story
            .iter()
            .find(|(at, cable)| patience.is_over(*cable, start + Duration::from_secs(*at)));
        assert_eq!(over.map(|(at, _)| *at), over_at, "{story:?}");
    }

    #[test]
    fn only_time_with_a_cable_counts() {
        check(120, &[(0, true), (60, true), (119, true), (120, true)], Some(120));
        check(
            120,
            &[(0, false), (600, false), (601, true), (700, true), (721, true)],
            Some(721),
        );
        check(
            120,
            &[(0, true), (100, true), (101, false), (900, true), (919, true)],
            None,
        );
        check(
            120,
            &[(0, true), (100, true), (101, false), (900, true), (920, true)],
            Some(920),
        );
        check(120, &[(0, false), (10_000, false)], None);
        check(0, &[(0, true), (10_000, true)], None);
    }
}
