//! Watches the declared network until it is confirmed or rolled back.
//!
//! A network that has once reached its router is kept, whatever happens afterwards. One that never did is rolled back
//! when the farm's `rollback` time is over, and only time with a cable plugged in counts: after a power cut the router
//! may come up minutes after the Pi. If DHCP does not answer either, there is no evidence that the declared network is
//! wrong: the two take turns until one of them reaches a router.

use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{FirstBoot, Network};
use palmfarm_protocol::report::Outcome;

use crate::bridge::IFUPDOWN_ACTIVE;
use crate::confirm::{self, PAUSE};
use crate::journal::{self, Journal, Writer};
use crate::lock;
use crate::nic;
use crate::program::query;
use crate::rollback;
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

/// How long DHCP may take after a rollback: a client asks at 0, 2, 6, 14 and 30 s (RFC 2131, section 4.1).
const DHCP: Duration = Duration::from_secs(45);

/// The longest turn of the declared network, except for its first.
const LONGEST_TURN: Duration = Duration::from_secs(1800);

/// The unit that makes the farm true.
const RUN: &str = "palmfarm-firstboot.service";

/// How much longer than the farm's own limit a run waits for what the watch decides.
const GRACE: Duration = Duration::from_secs(60);

/// Watch until the network is confirmed or rolled back.
pub(crate) fn watch(root: &Root, document: &FirstBoot) -> Result<Outcome, StepError> {
    let network = &document.network;
    let digest = confirm::digest(network);
    if is_confirmed(root, &digest)? {
        return Ok(Outcome::Confirmed);
    }
    let mut turn = 0_u32;
    loop {
        let mut timer = RollbackTimer::for_turn(network, turn);
        let Some(failure) = watch_turn(root, network, &mut timer) else {
            journal::confirm(root, Writer::Watch, &digest)
                .map_err(StepError::io("writing to", journal::PATH))?;
            if turn > 0 {
                run_again(root);
            }
            return Ok(Outcome::Confirmed);
        };
        if let Some(instead) = try_dhcp(root, network, &failure) {
            let why = format!(
                "{}. Until the next boot, which tries the declared network again, {instead}. Correct `network` in \
                 farm.yaml and write the card again",
                failure.reason
            );
            journal::roll_back(root, &boot(root), &why)
                .map_err(StepError::io("writing to", journal::PATH))?;
            return Ok(Outcome::RolledBack);
        }
        turn = turn.saturating_add(1);
    }
}

/// Why a turn of the declared network ended without a router.
struct Failure {
    reason: String,
    /// The interfaces that DHCP can be tried on.
    targets: Vec<String>,
}

/// Watch until the network is confirmed (`None`) or its time is over.
fn watch_turn(root: &Root, network: &Network, timer: &mut RollbackTimer) -> Option<Failure> {
    loop {
        let seen = confirm::look(root, network);
        let missing = confirm::missing(network, &seen);
        if missing.is_empty() {
            return None;
        }
        let nics = nic::all(root);
        let targets = rollback::targets(&network.uplink, &nics);
        if targets.is_empty() || !nics.iter().any(|nic| nic.name == network.uplink && nic.carrier) {
            rollback::wake_others(&network.uplink, &nics);
        }
        if timer.is_over(!targets.is_empty(), Instant::now()) {
            let reason = format!(
                "the declared network did not reach a router within {} s: {}",
                timer.given.as_secs(),
                missing.join("; ")
            );
            return Some(Failure { reason, targets });
        }
        confirm::probe_routers(root, network, &seen);
        sleep(PAUSE);
    }
}

/// Go back to DHCP after `failure`. Returns what this boot has instead of the declared network, or `None` if DHCP does
/// not answer either and the declared network is back.
fn try_dhcp(root: &Root, network: &Network, failure: &Failure) -> Option<String> {
    let targets = &failure.targets;
    let names = targets.join(", ");
    root.console(&format!("{}; going back to DHCP on {names}", failure.reason));
    let instead = match rollback::act(root, network, targets) {
        Ok(()) => {
            let Some((target, address)) = rollback::answer(targets, DHCP) else {
                root.console("DHCP does not answer either: back to the declared network");
                // If this fails, the next turn tries again.
                if let Err(error) = rollback::undo(root, network, targets) {
                    root.console(&format!("going back to the declared network failed: {error}"));
                }
                return None;
            };
            format!("{target} is on DHCP at {address}")
        }
        // The declared network may be half gone, so this counts as rolled back, too.
        Err(error) => format!("DHCP on {names} was to replace it, but {error}"),
    };
    root.console(&format!("rolled back: {instead}"));
    Some(instead)
}

/// The step of a run: wait for what the watch finds, or confirm the network here if no watch runs. Nothing is rolled
/// back here.
pub(crate) fn step(root: &Root, network: &Network) -> StepResult {
    let digest = confirm::digest(network);
    if is_confirmed(root, &digest)? {
        return Ok(Change::Unchanged);
    }
    let boot = boot(root);
    let end = Instant::now() + Duration::from_secs(u64::from(network.rollback_seconds)) + GRACE;
    loop {
        let journal = open(root)?;
        if journal.confirmed(&digest) {
            return Ok(Change::Changed);
        }
        if let Some(why) = journal.rolled_back(&boot) {
            return Err(StepError::new(why));
        }
        let seen = confirm::look(root, network);
        let missing = confirm::missing(network, &seen);
        if missing.is_empty() {
            journal::confirm(root, Writer::Run, &digest)
                .map_err(StepError::io("writing to", journal::PATH))?;
            return Ok(Change::Changed);
        }
        if Instant::now() > end {
            return Err(StepError::new(format!(
                "the network is not up: {}. If DHCP does not answer either, the two take turns until one of them \
                 reaches a router",
                missing.join("; ")
            )));
        }
        confirm::probe_routers(root, network, &seen);
        sleep(PAUSE);
    }
}

/// What has become of the declared network so far.
pub(crate) fn outcome(root: &Root, network: &Network) -> Outcome {
    // A journal that cannot be read confirms nothing; the steps of the network report the error.
    let journal = Journal::open(root).unwrap_or_default();
    if root.has(IFUPDOWN_ACTIVE) || journal.confirmed(&confirm::digest(network)) {
        Outcome::Confirmed
    } else if journal.rolled_back(&boot(root)).is_some() {
        Outcome::RolledBack
    } else {
        Outcome::Pending
    }
}

/// Make the farm true once more: a run without network has given up on what needs one. A run that is still at work must
/// end first, since it does not start again.
fn run_again(root: &Root) {
    while lock::is_held(root) {
        sleep(PAUSE);
    }
    query("systemctl", &["--no-block", "start", RUN]);
}

/// What tells this boot from every other (random(4)).
fn boot(root: &Root) -> String {
    root.line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Whether the network with this digest was confirmed, now or in an earlier boot.
fn is_confirmed(root: &Root, digest: &str) -> Result<bool, StepError> {
    Ok(root.has(IFUPDOWN_ACTIVE) || open(root)?.confirmed(digest))
}

fn open(root: &Root) -> Result<Journal, StepError> {
    Journal::open(root).map_err(StepError::io("reading", journal::PATH))
}

/// How much time an unconfirmed network has left. If the farm says zero seconds, it has all the time there is.
struct RollbackTimer {
    /// The time it had at first.
    given: Duration,
    left: Option<Duration>,
    /// When the timer was last asked, if there was a cable.
    last: Option<Instant>,
}

impl RollbackTimer {
    /// Each turn is twice as long as the one before: on a LAN where nothing ever answers, the bridge is interrupted less
    /// and less often.
    fn for_turn(network: &Network, turn: u32) -> Self {
        let first = Duration::from_secs(u64::from(network.rollback_seconds));
        let longer = first.saturating_mul(2_u32.saturating_pow(turn));
        let given = longer.min(LONGEST_TURN.max(first));
        Self {
            given,
            left: Some(given).filter(|given| !given.is_zero()),
            last: None,
        }
    }

    /// Whether the time is over at `now`. The time since the last call counts if there was a cable then and is now.
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
        let mut timer = RollbackTimer::for_turn(&network, 0);
        let start = Instant::now();
        let over = story
            .iter()
            .find(|(at, cable)| timer.is_over(*cable, start + Duration::from_secs(*at)));
        assert_eq!(over.map(|(at, _)| *at), over_at, "{story:?}");
    }

    #[test]
    fn turns_become_longer() {
        let check = |rollback_seconds: u32, turns: u32, expect: u64| {
            let mut network = network(Ipv4::Dhcp, Ipv6::Auto);
            network.rollback_seconds = rollback_seconds;
            let left = RollbackTimer::for_turn(&network, turns).left;
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
