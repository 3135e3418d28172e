//! What became of the containers: their states, their predicted and their observed addresses, and what to do if the two
//! differ. It reads and waits; it never changes anything.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{Container, FirstBoot, Lxd};
use palmfarm_protocol::report;
use serde_json::Value;

use super::{address, text, MAC};
use crate::daemon::{encoded, Daemon, DaemonResult};

/// How long a container that has one global IPv6 address may take to form the predicted one: stateless
/// autoconfiguration is done a second or two after DHCPv6, or before it.
const SECOND_ADDRESS: Duration = Duration::from_secs(8);

/// How long a container that was just made or started must have had its predicted addresses: the kernel forms them as
/// soon as there is a router, and what configures the container's network may remove them again.
const STEADY: Duration = Duration::from_secs(5);

/// For which containers a survey waits, and at most how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressWait {
    /// For containers that were just made or started.
    Fresh(Duration),
    /// For containers that the daemon is starting, since the host has just booted.
    Booting(Duration),
    /// For containers that have been running.
    Old(Duration),
}

/// The reported state of a container that does not exist.
const MISSING: &str = "missing";

/// The daemon's word for a container that does not run.
const STOPPED: &str = "Stopped";

/// The reported state of a container if the daemon does not answer.
const UNKNOWN: &str = "unknown";

/// Look at each container of `document`, waiting no longer than `wait` for addresses that may still come.
pub(crate) fn survey(
    daemon: &Daemon,
    document: &FirstBoot,
    lxd: &Lxd,
    wait: AddressWait,
) -> Vec<report::Container> {
    // Without IPv6 in the kernel there is no such file, and no prefix.
    let if_inet6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let begun = Instant::now();
    let (longest, steady) = match wait {
        AddressWait::Fresh(longest) | AddressWait::Booting(longest) => (longest, STEADY),
        AddressWait::Old(longest) => (longest, Duration::ZERO),
    };
    let booting = matches!(wait, AddressWait::Booting(_));
    // For each container its state, and since when it has been in it.
    let mut states = vec![(AddressState::Final, begun); document.containers.len()];
    loop {
        let mut reports = Vec::with_capacity(states.len());
        for (container, known) in document.containers.iter().zip(&mut states) {
            let (report, mut state) = look(daemon, lxd, container, &if_inet6);
            if booting && report.state == STOPPED && will_start(daemon, &container.name) {
                state = AddressState::NoAddress;
            }
            if known.0 != state {
                *known = (state, Instant::now());
            }
            reports.push(report);
        }
        let unsettled = |(state, since): &(AddressState, Instant)| state.may_change(since.elapsed(), steady);
        if !states.iter().any(unsettled) || begun.elapsed() >= longest {
            return reports;
        }
        sleep(Duration::from_millis(500));
    }
}

/// The containers of `document` if there is no daemon to ask.
pub(crate) fn unknown(document: &FirstBoot) -> Vec<report::Container> {
    let all = document.containers.iter();
    all.map(|container| blank(container, UNKNOWN)).collect()
}

/// How far a container has come with its addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AddressState {
    /// Waiting does not bring any.
    Final,
    /// All predicted addresses are there.
    Complete,
    NoAddress,
    /// There is a global IPv6 address, but not the predicted one.
    OtherAddress,
}

impl AddressState {
    /// Whether a container that has been in this state for `elapsed` is worth waiting for.
    fn may_change(self, elapsed: Duration, steady: Duration) -> bool {
        match self {
            Self::Final => false,
            Self::Complete => elapsed < steady,
            Self::NoAddress => true,
            Self::OtherAddress => elapsed < SECOND_ADDRESS,
        }
    }
}

fn look(
    daemon: &Daemon,
    lxd: &Lxd,
    container: &Container,
    if_inet6: &str,
) -> (report::Container, AddressState) {
    let now = match state(daemon, &container.name) {
        Ok(Some(now)) => now,
        Ok(None) => return (blank(container, MISSING), AddressState::Final),
        Err(error) => {
            let mut report = blank(container, UNKNOWN);
            report.message = error.to_string();
            return (report, AddressState::Final);
        }
    };
    let mut report = blank(container, text(&now, &["status"]).unwrap_or(UNKNOWN));
    report.location = location(daemon, lxd, &container.name);
    report.observed = address::observed(&now);
    if let Some(mac) = address::mac(&now) {
        report.mac = mac;
    }
    let parent = address::parent(lxd, container);
    let mut seen = parent.map_or_else(Vec::new, |parent| address::prefixes(if_inet6, parent));
    // No router announces the network of the cluster's own addresses.
    let members = lxd.cluster.iter().flat_map(|cluster| &cluster.members);
    let own: Vec<Ipv6Addr> = members.map(|member| member.address).collect();
    seen.retain(|prefix| own.iter().all(|own| own.octets()[..8] != prefix.octets()[..8]));
    report.predicted = address::predicted(container, &seen);
    if report.state != "Running" || parent.is_none() {
        return (report, AddressState::Final);
    }
    let elsewhere = address::elsewhere(&container.predicted, &seen);
    report.message = if report.mac == container.mac {
        address::difference(&report.predicted, &report.observed, &elsewhere)
    } else {
        let name = &container.name;
        format!(
            "its eth0 does not have the declared hardware address {}; if the farm declares what you want, set it (lxc \
             config set {name} {MAC} {}; lxc restart {name})",
            container.mac, container.mac
        )
    };
    let state = if report.predicted.iter().all(|one| report.observed.contains(one)) {
        AddressState::Complete
    } else if report.observed.iter().any(IpAddr::is_ipv6) {
        AddressState::OtherAddress
    } else {
        AddressState::NoAddress
    };
    (report, state)
}

/// Whether the daemon will start a container that was running when the power was cut (LXD's doc/instances,
/// `boot.autostart`).
fn will_start(daemon: &Daemon, name: &str) -> bool {
    let path = format!("{}/{}", daemon.instances(), encoded(name));
    let doing = format!("asking whether {name} was running");
    let Ok(Some(now)) = daemon.look(&doing, &path) else {
        return false;
    };
    let is = |key: &str, value: &str| text(&now, &["config", key]) == Some(value);
    is("volatile.last_state.power", "RUNNING") && !is("boot.autostart", "false")
}

/// What the daemon says of the running state of `name`; `None` if there is no such container.
pub(super) fn state(daemon: &Daemon, name: &str) -> DaemonResult<Option<Value>> {
    let path = format!("{}/{}/state", daemon.instances(), encoded(name));
    daemon.look(&format!("asking for the state of {name}"), &path)
}

/// The member of the cluster on which the container `name` is.
fn location(daemon: &Daemon, lxd: &Lxd, name: &str) -> Option<String> {
    lxd.cluster.as_ref()?;
    let path = format!("{}/{}", daemon.instances(), encoded(name));
    let now = daemon.look(&format!("asking where {name} is"), &path).ok()??;
    text(&now, &["location"]).map(str::to_owned)
}

fn blank(container: &Container, state: &str) -> report::Container {
    report::Container {
        name: container.name.clone(),
        state: state.into(),
        mac: container.mac,
        predicted: container.predicted.iter().copied().map(Ipv6Addr::into).collect(),
        observed: Vec::new(),
        message: String::new(),
        location: None,
    }
}
