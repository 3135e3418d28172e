//! Addresses of containers: which bridge one hangs on, what was predicted for it there, and what it has.

use std::net::{IpAddr, Ipv6Addr};

use palmfarm_spec::firstboot::{Container, Lxd};
use palmfarm_spec::mac::Mac;
use serde_json::Value;

use crate::daemon::{encoded, Asked, Daemon};

/// The bridge that a container's `eth0` hangs on once its profiles are stacked and its own devices laid over them: a
/// later device of the same name replaces an earlier one whole. `None`: it has no `eth0`.
#[must_use]
pub fn parent<'a>(lxd: &'a Lxd, container: &'a Container) -> Option<&'a str> {
    let own = container.devices.get("eth0");
    let stacked = container.profiles.iter().rev().find_map(|name| {
        let profile = lxd
            .preseed
            .profiles
            .iter()
            .find(|profile| profile.name == *name)?;
        profile.devices.get("eth0")
    });
    let device = own.or(stacked)?;
    device
        .get("parent")
        .or_else(|| device.get("network"))
        .map(String::as_str)
}

/// What a container with `mac` has in each of `prefixes`, if it forms EUI-64 identifiers.
#[must_use]
pub fn predicted(mac: Mac, prefixes: &[Ipv6Addr]) -> Vec<IpAddr> {
    prefixes
        .iter()
        .map(|prefix| IpAddr::V6(mac.address_in(*prefix)))
        .collect()
}

/// The global addresses that the running container `name` has on its `eth0`.
///
/// # Errors
/// What the daemon says.
pub fn observed(daemon: &Daemon, name: &str) -> Asked<Vec<IpAddr>> {
    let path = format!("{}/{}/state", daemon.instances(), encoded(name));
    let state = daemon
        .look(&format!("asking for the addresses of {name}"), &path)?
        .unwrap_or_default();
    let eth0 = state.get("network").and_then(|network| network.get("eth0"));
    let all = eth0
        .and_then(|eth0| eth0.get("addresses"))
        .and_then(Value::as_array);
    Ok(all.map_or_else(Vec::new, |all| all.iter().filter_map(global).collect()))
}

/// Why what was predicted for a container is not what it has, with the cure; empty where there is nothing to say.
#[must_use]
pub fn difference(predicted: &[IpAddr], observed: &[IpAddr]) -> String {
    let missing: Vec<String> = predicted
        .iter()
        .filter(|one| !observed.contains(one))
        .map(IpAddr::to_string)
        .collect();
    if missing.is_empty() {
        return String::new();
    }
    let missing = missing.join(", ");
    if !observed.iter().any(IpAddr::is_ipv6) {
        return format!(
            "it has no global IPv6 address yet, so {missing} is not up: see that the router announces the prefix on \
             this LAN and that the container's network is configured"
        );
    }
    format!(
        "it does not form EUI-64 addresses, so {missing} is not up: its dhcpcd wants `slaac hwaddr` in dhcpcd.conf, \
         its NetworkManager `ipv6.addr-gen-mode=eui64`; then restart it"
    )
}

fn global(address: &Value) -> Option<IpAddr> {
    let global = address.get("scope").and_then(Value::as_str) == Some("global");
    address
        .get("address")
        .and_then(Value::as_str)
        .filter(|_| global)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_its_cure() {
        let gua: IpAddr = "2001:db8::216:3eff:fe94:7e64".parse().unwrap();
        let private: IpAddr = "2001:db8::dead:beef".parse().unwrap();
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(difference(&[gua], &[v4, gua, private]), "");
        assert!(difference(&[gua], &[v4]).starts_with("it has no global IPv6 address yet"));
        assert!(difference(&[gua], &[private]).contains("slaac hwaddr"));
    }
}
