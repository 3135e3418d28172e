//! Addresses of containers: which bridge a container is on, which addresses were predicted for it there, and which ones
//! it has. Everything here is computed; nothing asks the daemon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use palmfarm_protocol::firstboot::{Container, Lxd};
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::nic;
use serde_json::Value;

/// The interface whose network a container's `eth0` is in, if it has addresses of its own there ([`nic::joins`]).
pub(crate) fn parent<'a>(lxd: &'a Lxd, container: &'a Container) -> Option<&'a str> {
    nic::joins(eth0(lxd, container)?)
}

/// A container's network port `eth0` after its profiles and then its own devices are stacked: a later device of the same
/// name replaces the whole earlier one, even one of another type.
pub(crate) fn eth0<'a>(lxd: &'a Lxd, container: &'a Container) -> Option<&'a BTreeMap<String, String>> {
    let own = container.devices.get("eth0");
    let stacked = container.profiles.iter().rev().find_map(|name| {
        let profile = lxd
            .preseed
            .profiles
            .iter()
            .find(|profile| profile.name == *name)?;
        profile.devices.get("eth0")
    });
    own.or(stacked).filter(|keys| nic::is_nic(keys))
}

/// The 64-bit prefixes in which `interface` has a global address that is still preferred, each once. `if_inet6` is the
/// text of `/proc/net/if_inet6` (Linux, `net/ipv6/addrconf.c`, `if6_seq_show`): address, index, prefix length, scope
/// and flags in hexadecimal, name.
pub(crate) fn prefixes(if_inet6: &str, interface: &str) -> Vec<Ipv6Addr> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _index, "40", "00", flags, name] = fields[..] else {
            return None;
        };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let address = u128::from_str_radix(address, 16).ok()?;
        let mine = name == interface && flags & DEPRECATED == 0;
        mine.then(|| Ipv6Addr::from(address & (u128::MAX << 64)))
    };
    let mut found: Vec<Ipv6Addr> = if_inet6.lines().filter_map(line).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `IFA_F_DEPRECATED` (Linux, `include/uapi/linux/if_addr.h`): the router has withdrawn the prefix.
const DEPRECATED: u32 = 0x20;

/// The addresses that `container` forms in the prefixes `seen` on its bridge, if it uses EUI-64 identifiers. If there are
/// no prefixes, the addresses that were predicted when the card was made.
pub(crate) fn predicted(container: &Container, seen: &[Ipv6Addr]) -> Vec<IpAddr> {
    if seen.is_empty() {
        return container.predicted.iter().copied().map(IpAddr::V6).collect();
    }
    let in_prefix = |prefix: &Ipv6Addr| IpAddr::V6(container.mac.address_in(*prefix));
    seen.iter().map(in_prefix).collect()
}

/// The addresses that were predicted in other prefixes than those `seen` on the bridge; empty if none are seen.
pub(crate) fn elsewhere(at_build: &[Ipv6Addr], seen: &[Ipv6Addr]) -> Vec<Ipv6Addr> {
    let inside = |one: &&Ipv6Addr| {
        seen.iter()
            .any(|prefix| prefix.octets()[..8] == one.octets()[..8])
    };
    let outside = at_build.iter().filter(|one| !seen.is_empty() && !inside(one));
    outside.copied().collect()
}

/// The global addresses of `eth0` in the state of a container, as the daemon reports it.
pub(crate) fn observed(state: &Value) -> Vec<IpAddr> {
    let eth0 = state.get("network").and_then(|network| network.get("eth0"));
    let all = eth0
        .and_then(|eth0| eth0.get("addresses"))
        .and_then(Value::as_array);
    all.map_or_else(Vec::new, |all| all.iter().filter_map(global).collect())
}

/// The hardware address of `eth0` in the same state.
pub(crate) fn mac(state: &Value) -> Option<Mac> {
    state["network"]["eth0"]["hwaddr"].as_str()?.parse().ok()
}

/// Why a container does not have its predicted addresses, and what to do; empty if it has them. `elsewhere` was predicted
/// when the card was made, in prefixes that this LAN does not have.
pub(crate) fn difference(predicted: &[IpAddr], observed: &[IpAddr], elsewhere: &[Ipv6Addr]) -> String {
    let missing: Vec<String> = predicted
        .iter()
        .filter(|one| !observed.contains(one))
        .map(IpAddr::to_string)
        .collect();
    if missing.is_empty() {
        return moved(elsewhere);
    }
    let missing = missing.join(", ");
    if !observed.iter().any(IpAddr::is_ipv6) {
        return format!(
            "it has no global IPv6 address, so {missing} is not up: check that the router announces a prefix on this \
             LAN, and that the container configures its eth0"
        );
    }
    format!(
        "it does not form EUI-64 addresses, so {missing} is not up: its dhcpcd needs `slaac hwaddr` instead of `slaac \
         private` in /etc/dhcpcd.conf, its NetworkManager needs `ipv6.addr-gen-mode=eui64`; then restart it"
    )
}

fn moved(elsewhere: &[Ipv6Addr]) -> String {
    if elsewhere.is_empty() {
        return String::new();
    }
    let list: Vec<String> = elsewhere.iter().map(Ipv6Addr::to_string).collect();
    format!(
        "the router announces another prefix than the one that the card was made for, so {} is not up; put the \
         addresses above into DNS",
        list.join(", ")
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
    fn a_container_without_eth0_has_none() {
        let lxd = serde_json::json!({
            "flavour": "lxd", "upgrade": false, "remotes": {}, "images": [],
            "preseed": {
                "config": {}, "storage_pools": [], "networks": [],
                "profiles": [{"name": "default", "description": "", "config": {},
                    "devices": {"eth0": {"type": "nic", "nictype": "bridged", "parent": "br0"}}}],
            },
        });
        let lxd: Lxd = serde_json::from_value(lxd).unwrap();
        let check = |own: serde_json::Value, expect: Option<&str>| {
            let container = serde_json::json!({
                "name": "web", "profiles": ["default"], "mac": "00:16:3e:94:7e:64",
                "predicted": [], "config": {}, "devices": own, "digest": "",
            });
            let container: Container = serde_json::from_value(container).unwrap();
            assert_eq!(eth0(&lxd, &container).is_some(), expect.is_some());
            assert_eq!(parent(&lxd, &container), expect);
        };
        check(serde_json::json!({}), Some("br0"));
        check(serde_json::json!({"eth0": {"type": "none"}}), None);
    }

    #[test]
    fn prefixes_are_those_of_the_interface() {
        let text = "\
            00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8ebbd2080ba27ebfffe6c0288 02 40 00 00      br0\n\
            20010db8ebbd2080000000000000beef 02 40 00 00      br0\n\
            20010db8ebbd20800000000000001007 02 80 00 00      br0\n\
            20010db8000000010000000000000001 02 40 00 20      br0\n\
            fe80000000000000ba27ebfffe6c0288 02 40 20 80      br0\n\
            fd420077000000000000000000000001 03 40 00 80   lxdbr0\n\
            nonsense\n";
        let check = |interface: &str, expect: &[&str]| {
            let got: Vec<String> = prefixes(text, interface)
                .iter()
                .map(Ipv6Addr::to_string)
                .collect();
            assert_eq!(got, expect, "{interface}");
        };
        check("br0", &["2001:db8:ebbd:2080::"]);
        check("lxdbr0", &["fd42:77::"]);
        check("br", &[]);
    }

    #[test]
    fn a_difference_names_its_cure() {
        let gua: IpAddr = "2001:db8::216:3eff:fe94:7e64".parse().unwrap();
        let private: IpAddr = "2001:db8::dead:beef".parse().unwrap();
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        let check = |observed: &[IpAddr], elsewhere: &[Ipv6Addr], expect: &str| {
            let got = difference(&[gua], observed, elsewhere);
            assert!(
                got.starts_with(expect) && got.is_empty() == expect.is_empty(),
                "{got}"
            );
        };
        check(&[v4, gua, private], &[], "");
        check(&[v4], &[], "it has no global IPv6 address");
        check(&[private], &[], "it does not form EUI-64 addresses");
        let former: Ipv6Addr = "2001:db8:1::216:3eff:fe94:7e64".parse().unwrap();
        check(&[gua], &[former], "the router announces another prefix");
    }

    #[test]
    fn addresses_elsewhere_are_in_no_prefix_of_the_lan() {
        let former: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
        let here: Ipv6Addr = "2001:db8:2::".parse().unwrap();
        let there: Ipv6Addr = "2001:db8:2::1".parse().unwrap();
        assert_eq!(elsewhere(&[former, there], &[here]), [former]);
        assert!(elsewhere(&[former], &[]).is_empty());
    }
}
