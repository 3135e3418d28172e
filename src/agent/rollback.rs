//! The way back from a network that cuts the Pi off: plain DHCP on the wired interface until the next boot.
//!
//! It writes only below `/run`, so the next boot tries the declared network again.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use palmfarm_protocol::firstboot::Network;

use crate::bridge::RUNTIME;
use crate::nic::Nic;
use crate::program::{query, run};
use crate::root::Root;
use crate::step::StepError;

/// Sorts before `05-palmfarm-…`, and of several files that match an interface systemd-networkd takes the first.
const PLAIN: &str = "00-palmfarm-rollback.network";
const OFF: &str = "00-palmfarm-rollback-off.network";

/// How long systemctl may take.
const SYSTEMCTL: Duration = Duration::from_secs(90);

/// The interfaces to go back to: the uplink if it has a cable, else every other one that has. Empty if there is no cable
/// anywhere; then nothing would work better than the declared network.
pub(crate) fn targets(uplink: &str, nics: &[Nic]) -> Vec<String> {
    let connected = |nic: &&Nic| nic.carrier && (nic.wired || nic.name == uplink);
    let connected: Vec<&Nic> = nics.iter().filter(connected).collect();
    let own = connected.iter().find(|nic| nic.name == uplink);
    match own {
        Some(nic) => vec![nic.name.clone()],
        None => connected.iter().map(|nic| nic.name.clone()).collect(),
    }
}

/// Bring the other wired interfaces up: an interface that is down does not know whether it has a cable.
pub(crate) fn wake_others(uplink: &str, nics: &[Nic]) {
    for nic in nics
        .iter()
        .filter(|nic| nic.wired && nic.name != uplink && !nic.carrier)
    {
        query("ip", &["link", "set", "dev", &nic.name, "up"]);
    }
}

/// Put `targets` on DHCP and take the declared network down.
pub(crate) fn act(root: &Root, network: &Network, targets: &[String]) -> Result<(), StepError> {
    for (name, text) in files(network, targets) {
        let path = format!("{RUNTIME}/{name}");
        root.write(&path, text.as_bytes())
            .map_err(StepError::io("writing", &path))?;
    }
    // systemd-networkd does not clean up what it no longer configures.
    for target in targets {
        query("ip", &["link", "set", "dev", target, "nomaster"]);
        query("ip", &["addr", "flush", "dev", target, "scope", "global"]);
    }
    for gone in discarded(network, targets) {
        query("ip", &["addr", "flush", "dev", &gone, "scope", "global"]);
        query("ip", &["link", "set", "dev", &gone, "down"]);
    }
    restart_networkd(root)
}

/// Undo what [`act`] did: bring the declared network back.
pub(crate) fn undo(root: &Root, network: &Network, targets: &[String]) -> Result<(), StepError> {
    for name in [PLAIN, OFF] {
        let path = format!("{RUNTIME}/{name}");
        root.remove(&path).map_err(StepError::io("removing", &path))?;
    }
    for target in targets {
        query("ip", &["addr", "flush", "dev", target, "scope", "global"]);
    }
    for back in discarded(network, targets) {
        query("ip", &["link", "set", "dev", &back, "up"]);
    }
    restart_networkd(root)
}

fn restart_networkd(root: &Root) -> Result<(), StepError> {
    run(
        root,
        "systemctl",
        &["restart", "systemd-networkd.service"],
        SYSTEMCTL,
    )
}

/// Wait until one of `targets` has an address. Returns that interface and its address.
pub(crate) fn answer(targets: &[String], patience: Duration) -> Option<(String, IpAddr)> {
    let mut left = patience;
    loop {
        for target in targets {
            let addresses = crate::ip::addresses(target);
            if let Some(address) = addresses.iter().find(|address| address.global && address.usable) {
                return Some((target.clone(), address.ip));
            }
        }
        if left.is_zero() {
            return None;
        }
        let pause = Duration::from_secs(1).min(left);
        left = left.saturating_sub(pause);
        sleep(pause);
    }
}

/// Interfaces of the declared network that are out of use on DHCP.
fn discarded(network: &Network, targets: &[String]) -> Vec<String> {
    let mut names = vec![network.addressed()];
    if network.port() != network.uplink {
        names.push(network.port());
    }
    names.retain(|name| !targets.contains(name));
    names.dedup();
    names
}

fn files(network: &Network, targets: &[String]) -> Vec<(&'static str, String)> {
    let head =
        "# palmfarm: the declared network never reached its router; this replaces it until the next boot.\n";
    let plain = format!(
        "{head}[Match]\nName={}\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=yes\n\
         MulticastDNS=yes\n\n[DHCP]\nClientIdentifier=mac\n",
        targets.join(" ")
    );
    let gone = discarded(network, targets);
    let mut files = vec![(PLAIN, plain)];
    if !gone.is_empty() {
        let off = format!(
            "{head}[Match]\nName={}\n\n[Link]\nUnmanaged=yes\n",
            gone.join(" ")
        );
        files.push((OFF, off));
    }
    files
}

#[cfg(test)]
mod tests {
    use palmfarm_protocol::network::{Ipv4, Ipv6};

    use super::*;
    use crate::confirm::tests::network;

    fn nic(name: &str, carrier: bool, wired: bool) -> Nic {
        Nic {
            name: name.into(),
            mac: None,
            carrier,
            wired,
        }
    }

    #[test]
    fn goes_back_to_where_a_cable_is() {
        let check = |uplink: &str, nics: &[Nic], expect: &[&str]| assert_eq!(targets(uplink, nics), expect);
        let lo = nic("lo", true, false);
        let wlan = nic("wlan0", true, false);
        let bridge = nic("br0", true, false);
        check(
            "eth0",
            &[bridge, nic("eth0", true, true), lo.clone(), wlan],
            &["eth0"],
        );
        check("eth1", &[nic("eth0", true, true), lo.clone()], &["eth0"]);
        check(
            "eth1",
            &[nic("eth0", true, true), nic("eth1", false, true)],
            &["eth0"],
        );
        check(
            "eth0",
            &[nic("eth0", true, true), nic("eth1", true, true)],
            &["eth0"],
        );
        check("eth0", &[nic("eth0", false, true), lo], &[]);
        check("veth0", &[nic("veth0", true, false)], &["veth0"]);
        check("eth0", &[], &[]);
    }

    #[test]
    fn the_declared_network_is_out_of_the_way() {
        let mut network = network(Ipv4::Dhcp, Ipv6::Auto);
        let text = |network: &Network| {
            let files = files(network, &["eth0".to_owned()]);
            let text: Vec<String> = files
                .iter()
                .map(|(name, text)| format!("{name}\n{text}"))
                .collect();
            text.concat()
        };
        assert!(text(&network).contains("[Match]\nName=br0\n\n[Link]\nUnmanaged=yes\n"));
        network.vlan = Some(42);
        assert!(text(&network).contains("[Match]\nName=br0 eth0.42\n"));
        network.bridge = None;
        assert!(text(&network).contains("[Match]\nName=eth0.42\n"));
        network.vlan = None;
        assert!(
            !text(&network).contains("Unmanaged"),
            "the uplink itself carries the addresses"
        );
    }
}
