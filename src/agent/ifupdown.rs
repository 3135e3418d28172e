//! The second stage of `renderer: ifupdown`: once its packages are installed, ifupdown takes the bridge over.
//!
//! Ubuntu's images have no ifupdown, and no network before the bridge, so systemd-networkd brings it up first. The
//! change is tried with a mark below `/run`, and made permanent by one below `/var` only if the network works: after a
//! power cut in the middle, systemd-networkd has the bridge again. Two programs never run DHCP on one interface.

use std::time::Duration;

use palmfarm_protocol::firstboot::Network;
use palmfarm_protocol::paths::{IFUPDOWN_STANZA, NETWORK, NETWORK_FALLBACK};

use crate::bridge::{self, IFUPDOWN_ACTIVE, RUNTIME};
use crate::confirm;
use crate::program::{query, run};
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

const INTERFACES: &str = "/etc/network/interfaces";

/// Exists while the change is being tried.
const TRIAL: &str = "/run/palmfarm/ifupdown-trial";

/// Without either mark ifupdown does nothing at boot, and systemd-networkd configures the bridge.
const DROP_IN: &str = "/etc/systemd/system/networking.service.d/palmfarm.conf";
const CONDITION: &str = "# palmfarm: ifupdown has the network only once it was seen to work.\n[Unit]\n\
                         ConditionPathExists=|/var/lib/palmfarm/ifupdown-active\n\
                         ConditionPathExists=|/run/palmfarm/ifupdown-trial\n";

/// How long systemctl may take: networking.service gives DHCP five minutes.
const SYSTEMCTL: Duration = Duration::from_secs(330);

/// Hand the bridge over. The packages must be installed.
pub(crate) fn switch(root: &Root, network: &Network) -> StepResult {
    if root.has(IFUPDOWN_ACTIVE) {
        return Ok(Change::Unchanged);
    }
    prepare(root, network)?;
    let patience = Duration::from_secs(u64::from(network.rollback_seconds.max(30)));
    let tried = hand_over(root, network).and_then(|()| {
        confirm::wait(root, network, patience).map_err(|missing| {
            StepError::new(format!(
                "with ifupdown the network did not come up within {} s: {}",
                patience.as_secs(),
                missing.join("; ")
            ))
        })
    });
    match tried {
        Ok(()) => {
            root.write(IFUPDOWN_ACTIVE, b"")
                .map_err(StepError::io("writing", IFUPDOWN_ACTIVE))?;
            root.remove(TRIAL).map_err(StepError::io("writing", TRIAL))?;
            Ok(Change::Changed)
        }
        Err(mut error) => {
            root.console(&format!("{error}; going back to systemd-networkd"));
            let back = take_back(root, network, patience);
            error.message.push_str("; ");
            error.message.push_str(&match back {
                Ok(()) => "systemd-networkd has the network again".to_owned(),
                Err(back) => format!("going back to systemd-networkd failed: {back}"),
            });
            Err(error)
        }
    }
}

/// Write the files. They change nothing yet, since both marks are absent.
fn prepare(root: &Root, network: &Network) -> Result<(), StepError> {
    root.remove(TRIAL).map_err(StepError::io("writing", TRIAL))?;
    root.write(DROP_IN, CONDITION.as_bytes())
        .map_err(StepError::io("writing", DROP_IN))?;
    let stanza = root
        .read(IFUPDOWN_STANZA)
        .map_err(StepError::io("reading", IFUPDOWN_STANZA))?;
    let mac = match network.mac {
        Some(mac) => mac,
        None => bridge::uplink_mac(root, &network.uplink, Duration::ZERO)?,
    };
    let text = bridge::with_mac(&stanza, mac);
    root.write(INTERFACES, text.as_bytes())
        .map_err(StepError::io("writing", INTERFACES))?;
    run(root, "systemctl", &["daemon-reload"], SYSTEMCTL)
}

/// Remove the files of systemd-networkd first, so that it stops before dhclient starts.
fn hand_over(root: &Root, network: &Network) -> Result<(), StepError> {
    for name in root
        .names(NETWORK)
        .into_iter()
        .chain(root.names(NETWORK_FALLBACK))
    {
        let path = format!("{RUNTIME}/{name}");
        root.remove(&path).map_err(StepError::io("writing", &path))?;
    }
    run(
        root,
        "systemctl",
        &["restart", "systemd-networkd.service"],
        SYSTEMCTL,
    )?;
    // Addresses that it leaves would look like ifupdown's. The bridge itself stays: containers are connected to it.
    clear(&network.addressed());
    root.write(TRIAL, b"").map_err(StepError::io("writing", TRIAL))?;
    run(root, "systemctl", &["restart", "networking.service"], SYSTEMCTL)
}

fn take_back(root: &Root, network: &Network, patience: Duration) -> Result<(), StepError> {
    let stopped = run(root, "systemctl", &["stop", "networking.service"], SYSTEMCTL);
    root.remove(TRIAL).map_err(StepError::io("writing", TRIAL))?;
    clear(&network.addressed());
    let units = ["restart", "palmfarm-bridge.service", "systemd-networkd.service"];
    run(root, "systemctl", &units, SYSTEMCTL)?;
    stopped?;
    confirm::wait(root, network, patience).map_err(|missing| StepError::new(missing.join("; ")))
}

/// Remove all addresses and routes: taking an interface down removes routes and IPv6 addresses, but not IPv4 addresses.
fn clear(interface: &str) {
    query("ip", &["link", "set", "dev", interface, "down"]);
    query("ip", &["addr", "flush", "dev", interface]);
}
