//! Watching the declared network until it is confirmed, or giving it up.
//!
//! A network that reached its router once stays, whatever happens afterwards. One that never did is given up when the
//! farm's time for that is over, and only time with a cable in counts: after a power cut the router may come minutes
//! after the Pi. Where a switch keeps the cable alive and plain DHCP has no answer either, nothing speaks against the
//! declared network: the two take turns until one of them reaches somebody.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{FirstBoot, Network};
use palmfarm_protocol::report::Outcome;

use crate::bridge::IFUPDOWN_ACTIVE;
use crate::confirm::{self, PAUSE};
use crate::farm::{Change, Done, Trouble};
use crate::journal::{Entry, Journal};
use crate::lock;
use crate::nic;
use crate::program::ask;
use crate::rollback;
use crate::root::Root;

/// How long DHCP may take after a rollback: a client asks at 0, 2, 6, 14 and 30 s (RFC 2131, section 4.1).
const DHCP: Duration = Duration::from_secs(45);

/// The longest turn that the declared network has, but for its first.
const LONGEST_TURN: Duration = Duration::from_secs(1800);

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
    let mut turns = 0;
    let mut patience = Patience::for_turn(network, turns);
    loop {
        let seen = confirm::look(root, network);
        let missing = confirm::missing(network, &seen);
        if missing.is_empty() {
            add(root, Entry::Confirmed { network: digest })?;
            if turns > 0 {
                run_again(root);
            }
            return Ok(Outcome::Confirmed);
        }
        let nics = nic::all(root);
        let targets = rollback::targets(&network.uplink, &nics);
        if targets.is_empty() || !nics.iter().any(|nic| nic.name == network.uplink && nic.carrier) {
            rollback::wake_others(&network.uplink, &nics);
        }
        if patience.is_over(!targets.is_empty(), Instant::now()) {
            if let Some(outcome) = give_up(root, document, patience.given, &targets, &missing)? {
                return Ok(outcome);
            }
            turns = turns.saturating_add(1);
            patience = Patience::for_turn(network, turns);
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

/// Have the farm made true once more: a run that had no network has given up on what needs one, and one that is still at
/// work does not begin anew.
fn run_again(root: &Root) {
    while lock::is_held(root) {
        sleep(PAUSE);
    }
    ask("systemctl", &["--no-block", "start", RUN]);
}

/// Go back to DHCP on `targets`, after the declared network was `given` its time. `None`: nobody answers there either, and
/// the declared network is back.
fn give_up(
    root: &Root,
    document: &FirstBoot,
    given: Duration,
    targets: &[String],
    missing: &[String],
) -> Result<Option<Outcome>, Trouble> {
    let network = &document.network;
    root.console(&format!(
        "the declared network did not reach a router within {} s: {}; going back to DHCP on {}",
        given.as_secs(),
        missing.join("; "),
        targets.join(", ")
    ));
    // Whatever fails on the way, that this boot gave up is true and must be known.
    let result = match rollback::act(root, network, targets) {
        Ok(()) => {
            let Some((target, address)) = rollback::answer(targets, DHCP) else {
                root.console("DHCP has no answer either: back to the declared network");
                // The next turn tries again.
                if let Err(trouble) = rollback::undo(root, network, targets) {
                    root.console(&format!("that failed: {trouble}"));
                }
                return Ok(None);
            };
            format!("{target} is on DHCP at {address}")
        }
        Err(trouble) => format!("DHCP on {} was to stand in, but {trouble}", targets.join(", ")),
    };
    let why = format!(
        "the declared network did not reach a router within {} s: {}. Until the next boot, which tries it again, \
         {result}. Mend `network` in farm.yaml and write the card again",
        given.as_secs(),
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
    /// What it had at first.
    given: Duration,
    left: Option<Duration>,
    last: Option<Instant>,
}

impl Patience {
    /// Each turn is twice as long as the one before: on a LAN where nobody ever answers, the bridge is left alone more
    /// and more.
    fn for_turn(network: &Network, turns: u32) -> Self {
        let first = Duration::from_secs(u64::from(network.rollback_seconds));
        let longer = first.saturating_mul(2_u32.saturating_pow(turns));
        let given = longer.min(LONGEST_TURN.max(first));
        Self {
            given,
            left: Some(given).filter(|given| !given.is_zero()),
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
    use palmfarm_protocol::network::{Ipv4, Ipv6};

    use super::*;
    use crate::confirm::tests::network;

    /// `story`: seconds and whether a cable is in.
    fn check(rollback_seconds: u32, story: &[(u64, bool)], over_at: Option<u64>) {
        let mut network = network(Ipv4::Dhcp, Ipv6::Auto);
        network.rollback_seconds = rollback_seconds;
        let mut patience = Patience::for_turn(&network, 0);
        let start = Instant::now();
        let over = story
            .iter()
            .find(|(at, cable)| patience.is_over(*cable, start + Duration::from_secs(*at)));
        assert_eq!(over.map(|(at, _)| *at), over_at, "{story:?}");
    }

    #[test]
    fn turns_become_longer() {
        let check = |rollback_seconds: u32, turns: u32, expect: u64| {
            let mut network = network(Ipv4::Dhcp, Ipv6::Auto);
            network.rollback_seconds = rollback_seconds;
            let left = Patience::for_turn(&network, turns).left;
            assert_eq!(left, Some(Duration::from_secs(expect)));
        };
        check(120, 0, 120);
        check(120, 2, 480);
        check(120, 9, 1800);
        check(120, u32::MAX, 1800);
        check(3600, 0, 3600);
        check(3600, 1, 3600);
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
