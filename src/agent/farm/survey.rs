//! What became of the containers: their states, the addresses that were predicted and those that they have, and what
//! to do where the two differ. It asks and waits; it never changes anything.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{Container, FirstBoot, Lxd};
use palmfarm_protocol::report;
use serde_json::Value;

use super::{address, text};
use crate::daemon::{encoded, Asked, Daemon};

/// How long a container that has one global IPv6 address may take for the one that was predicted: stateless
/// autoconfiguration is done a second or two after DHCPv6, or before it.
const SECOND_ADDRESS: Duration = Duration::from_secs(8);

/// How long a container that was just made or started must have had the addresses that were predicted: the kernel
/// forms them as soon as there is a router, and what configures the container's network may take them away again.
const STEADY: Duration = Duration::from_secs(5);

/// How long a survey lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For containers that were just made or started: at most this long.
    Fresh(Duration),
    /// For containers that the daemon starts at this moment, since the host has: at most this long.
    Booting(Duration),
    /// For containers that have been running: at most this long.
    Old(Duration),
}

/// The state of a container of which the daemon knows nothing.
const MISSING: &str = "missing";

/// The daemon's word for a container that does not run.
const STOPPED: &str = "Stopped";

/// The state of a container while the daemon does not answer.
const UNKNOWN: &str = "unknown";

/// Look at each container of `document`, waiting no longer than `patience` for addresses that are still to come.
#[must_use]
pub fn survey(
    daemon: &Daemon,
    document: &FirstBoot,
    lxd: &Lxd,
    patience: Patience,
) -> Vec<report::Container> {
    let if_inet6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let begun = Instant::now();
    let (longest, steady) = match patience {
        Patience::Fresh(longest) | Patience::Booting(longest) => (longest, STEADY),
        Patience::Old(longest) => (longest, Duration::ZERO),
    };
    let mut since: BTreeMap<&str, Instant> = BTreeMap::new();
    let mut complete: BTreeMap<&str, Instant> = BTreeMap::new();
    loop {
        let mut waits = false;
        let mut all = Vec::with_capacity(document.containers.len());
        for container in &document.containers {
            let mut found = one(daemon, lxd, container, &if_inet6);
            let booting = matches!(patience, Patience::Booting(_));
            if booting && found.report.state == STOPPED && will_start(daemon, &container.name) {
                found.standing = Standing::NoAddress;
            }
            let name = container.name.as_str();
            if found.standing != Standing::Complete {
                complete.remove(name);
            }
            waits |= match found.standing {
                Standing::Settled => false,
                Standing::Complete => {
                    let first = complete.entry(name).or_insert_with(Instant::now);
                    first.elapsed() < steady
                }
                Standing::NoAddress => true,
                Standing::OtherAddress => {
                    let first = since.entry(name).or_insert_with(Instant::now);
                    first.elapsed() < SECOND_ADDRESS
                }
            };
            all.push(found.report);
        }
        if !waits || begun.elapsed() >= longest {
            return all;
        }
        sleep(Duration::from_millis(500));
    }
}

/// The containers of `document` when there is no daemon to ask.
#[must_use]
pub fn unknown(document: &FirstBoot) -> Vec<report::Container> {
    let all = document.containers.iter();
    all.map(|container| blank(container, UNKNOWN)).collect()
}

/// Whether waiting may bring an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It may not.
    Settled,
    /// All are there.
    Complete,
    NoAddress,
    OtherAddress,
}

struct Found {
    report: report::Container,
    standing: Standing,
}

fn one(daemon: &Daemon, lxd: &Lxd, container: &Container, if_inet6: &str) -> Found {
    let settled = |report| Found {
        report,
        standing: Standing::Settled,
    };
    let now = match state(daemon, &container.name) {
        Ok(Some(now)) => now,
        Ok(None) => return settled(blank(container, MISSING)),
        Err(error) => {
            let mut report = blank(container, UNKNOWN);
            report.message = error.to_string();
            return settled(report);
        }
    };
    let mut report = blank(container, text(&now, &["status"]).unwrap_or(UNKNOWN));
    report.observed = address::observed(&now);
    let parent = address::parent(lxd, container);
    let seen = parent.map_or_else(Vec::new, |parent| address::prefixes(if_inet6, parent));
    report.predicted = address::predicted(container, &seen);
    if report.state != "Running" || parent.is_none() {
        return settled(report);
    }
    let elsewhere = address::elsewhere(&container.predicted, &seen);
    report.message = address::difference(&report.predicted, &report.observed, &elsewhere);
    let standing = if report.predicted.iter().all(|one| report.observed.contains(one)) {
        Standing::Complete
    } else if report.observed.iter().any(std::net::IpAddr::is_ipv6) {
        Standing::OtherAddress
    } else {
        Standing::NoAddress
    };
    Found { report, standing }
}

/// Whether the daemon will start a container that ran when the power went (LXD's doc/instances, `boot.autostart`).
fn will_start(daemon: &Daemon, name: &str) -> bool {
    let path = format!("{}/{}", daemon.instances(), encoded(name));
    let doing = format!("asking what {name} was at");
    let Ok(Some(now)) = daemon.look(&doing, &path) else {
        return false;
    };
    let is = |key: &str, value: &str| text(&now, &["config", key]) == Some(value);
    is("volatile.last_state.power", "RUNNING") && !is("boot.autostart", "false")
}

/// What the daemon says of the running state of `name`; `None` where there is no such container.
pub(super) fn state(daemon: &Daemon, name: &str) -> Asked<Option<Value>> {
    let path = format!("{}/{}/state", daemon.instances(), encoded(name));
    daemon.look(&format!("asking for the state of {name}"), &path)
}

fn blank(container: &Container, state: &str) -> report::Container {
    report::Container {
        name: container.name.clone(),
        state: state.into(),
        mac: container.mac,
        predicted: container.predicted.iter().copied().map(Ipv6Addr::into).collect(),
        observed: Vec::new(),
        message: String::new(),
    }
}
