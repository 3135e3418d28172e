//! Whether the declared network works: the interface has its addresses, and its router answers.
//!
//! A router has answered if the kernel's neighbour table says so (ARP, RFC 826; neighbour discovery, RFC 4861). That
//! needs no ping, which a router may ignore, and it proves both directions. Nothing is changed here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::Network;
use palmfarm_protocol::network::{Ipv4, Ipv6};

use crate::digest;
use crate::ip::{self, Address};
use crate::nic;
use crate::root::Root;

/// The pause between two looks. A Pi 2 needs some 20 ms for the programs of one.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

/// The discard service (RFC 863): a datagram to it makes the kernel resolve the router, and does nothing else.
const DISCARD: u16 = 9;

/// The interface that carries the host's addresses, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Why nothing can go through it, if so.
    pub(crate) unlinked: Option<String>,
    pub(crate) addresses: Vec<Address>,
    /// Routers of its default routes.
    pub(crate) gateways: Vec<IpAddr>,
    /// Neighbours that answered.
    pub(crate) reachable: Vec<IpAddr>,
}

/// Look at the interface that carries the addresses of `network`.
pub(crate) fn look(root: &Root, network: &Network) -> Seen {
    let interface = network.addressed();
    Seen {
        unlinked: unlinked(root, network),
        addresses: ip::addresses(&interface),
        gateways: ip::gateways(&interface),
        reachable: ip::reachable(&interface),
    }
}

/// What still keeps `network` from being confirmed; empty if it is.
///
/// Every declared address must be there, and a gateway that the farm names must answer. Without a named gateway, one
/// router that DHCP or router advertisements announce must answer; one is enough, since a LAN may have only one of the
/// two families. Only with a fixed IPv4 address and no gateway need there be no router at all: then the addresses and a
/// carrier have to do.
pub(crate) fn missing(network: &Network, seen: &Seen) -> Vec<String> {
    const V6_SOURCE: &str = "router advertisements";
    let interface = network.addressed();
    if let Some(unlinked) = &seen.unlinked {
        return vec![unlinked.clone()];
    }
    let mut required = Vec::new();
    let mut from_lan = Vec::new();
    match &network.ipv4 {
        Ipv4::None => {}
        Ipv4::Dhcp => from_lan.push(automatic(seen, &interface, "DHCPv4", IpAddr::is_ipv4)),
        Ipv4::Static { address, gateway, .. } => {
            let gateway = gateway.map(IpAddr::V4);
            required.push(fixed(seen, &interface, IpAddr::V4(*address), gateway));
        }
    }
    match &network.ipv6 {
        Ipv6::None => {}
        Ipv6::Auto => from_lan.push(automatic(seen, &interface, V6_SOURCE, IpAddr::is_ipv6)),
        Ipv6::Static { address, gateway, .. } => {
            let gateway = gateway.map(IpAddr::V6);
            required.push(fixed(seen, &interface, IpAddr::V6(*address), gateway));
            if gateway.is_none() {
                // The route comes with the advertisements.
                from_lan.push(routed(seen, &interface, V6_SOURCE, IpAddr::is_ipv6));
            }
        }
    }
    let lan_may_be_silent = matches!(network.ipv4, Ipv4::Static { .. })
        || matches!(network.ipv6, Ipv6::Static { gateway: Some(_), .. });
    if !lan_may_be_silent && from_lan.iter().all(Result::is_err) {
        required.extend(from_lan);
    }
    required.into_iter().filter_map(Result::err).collect()
}

/// Look until nothing is missing or `patience` is over. The error is what is still missing.
pub(crate) fn wait(root: &Root, network: &Network, patience: Duration) -> Result<(), Vec<String>> {
    let end = Instant::now() + patience;
    loop {
        let seen = look(root, network);
        let missing = missing(network, &seen);
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(missing);
        }
        probe_routers(root, network, &seen);
        sleep(PAUSE);
    }
}

/// Send a datagram to every router, so that the kernel asks whether it is there.
pub(crate) fn probe_routers(root: &Root, network: &Network, seen: &Seen) {
    // 0 means any interface, and only link-local addresses need one (RFC 4007, section 6).
    let scope = nic::index(root, &network.addressed()).unwrap_or(0);
    let declared4 = match &network.ipv4 {
        Ipv4::Static { gateway, .. } => gateway.map(IpAddr::V4),
        _ => None,
    };
    let declared6 = match &network.ipv6 {
        Ipv6::Static { gateway, .. } => gateway.map(IpAddr::V6),
        _ => None,
    };
    for gateway in seen.gateways.iter().copied().chain(declared4).chain(declared6) {
        let (from, to): (SocketAddr, SocketAddr) = match gateway {
            IpAddr::V4(ip) => (
                SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddrV4::new(ip, DISCARD).into(),
            ),
            IpAddr::V6(ip) => (
                SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into(),
                SocketAddrV6::new(ip, DISCARD, 0, scope).into(),
            ),
        };
        // The neighbour table shows whether it worked.
        let _ = UdpSocket::bind(from).and_then(|socket| socket.send_to(&[0], to));
    }
}

/// What tells one network from another, so that a confirmation never counts for a later declaration.
pub(crate) fn digest(network: &Network) -> String {
    // All parts of a network can be written as JSON, so there is always a text.
    digest::of(&serde_json::to_string(network).unwrap_or_default())
}

/// Why nothing can go through the interface that carries the addresses of `network`, if so. A bridge claims a carrier
/// even without any port, so its port is checked, too.
fn unlinked(root: &Root, network: &Network) -> Option<String> {
    let (interface, port) = (network.addressed(), network.port());
    for name in [&port, &interface] {
        match nic::look(root, name) {
            None => return Some(format!("there is no interface {name}")),
            Some(nic) if !nic.carrier => return Some(format!("{name} has no carrier")),
            Some(_) => {}
        }
    }
    let is_port = nic::bridge_of(root, &port).is_some_and(|bridge| bridge == interface);
    (interface != port && !is_port).then(|| format!("{port} is not a port of {interface}"))
}

/// Whether a family whose addresses come from the LAN has an address and a router that answers.
fn automatic(seen: &Seen, interface: &str, from: &str, family: fn(&IpAddr) -> bool) -> Result<(), String> {
    let ours = |address: &&Address| address.global && address.usable && family(&address.ip);
    if seen.addresses.iter().find(ours).is_none() {
        return Err(format!("{interface} has no address from {from}"));
    }
    routed(seen, interface, from, family)
}

/// Whether a router that the LAN announces answers.
fn routed(seen: &Seen, interface: &str, from: &str, family: fn(&IpAddr) -> bool) -> Result<(), String> {
    let mut routers = seen.gateways.iter().filter(|gateway| family(gateway)).peekable();
    let Some(first) = routers.peek().copied() else {
        return Err(format!("{interface} has no default route from {from}"));
    };
    if routers.any(|router| seen.reachable.contains(router)) {
        Ok(())
    } else {
        Err(format!("the router {first} does not answer on {interface}"))
    }
}

/// Whether a declared address is there, and its gateway, if it has one, answers.
fn fixed(seen: &Seen, interface: &str, address: IpAddr, gateway: Option<IpAddr>) -> Result<(), String> {
    let is_ours = |one: &&Address| one.ip == address;
    match seen.addresses.iter().find(is_ours) {
        None => return Err(format!("{interface} does not have the address {address}")),
        Some(one) if !one.usable => {
            return Err(format!(
                "{address} on {interface} is not usable: another host has it, or may have it"
            ));
        }
        Some(_) => {}
    }
    match gateway {
        Some(gateway) if !seen.reachable.contains(&gateway) => {
            Err(format!("the gateway {gateway} does not answer on {interface}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use palmfarm_protocol::network::Renderer;

    use super::*;
    use crate::root::scratch::Scratch;

    pub(crate) fn network(ipv4: Ipv4, ipv6: Ipv6) -> Network {
        Network {
            uplink: "eth0".into(),
            vlan: None,
            bridge: Some("br0".into()),
            renderer: Renderer::Networkd,
            mac: None,
            ipv4,
            ipv6,
            rollback_seconds: 120,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `seen` is words: addresses (`~` in front: not usable), `>` routers, `!` neighbours that answered.
    fn check(network: &Network, seen: &str, expect: &[&str]) {
        let mut found = Seen::default();
        for word in seen.split_whitespace() {
            let global = !word.contains("fe80:");
            if let Some(gateway) = word.strip_prefix('>') {
                found.gateways.push(ip(gateway));
            } else if let Some(neighbour) = word.strip_prefix('!') {
                found.reachable.push(ip(neighbour));
            } else if let Some(tentative) = word.strip_prefix('~') {
                let ip = ip(tentative);
                let usable = false;
                found.addresses.push(Address { ip, global, usable });
            } else {
                let ip = ip(word);
                let usable = true;
                found.addresses.push(Address { ip, global, usable });
            }
        }
        assert_eq!(missing(network, &found), expect, "{seen}");
    }

    #[test]
    fn one_family_that_configures_itself_is_enough() {
        let auto = network(Ipv4::Dhcp, Ipv6::Auto);
        let v4 = "br0 has no address from DHCPv4";
        let v6 = "br0 has no address from router advertisements";
        check(&auto, "", &[v4, v6]);
        check(&auto, "fe80::2", &[v4, v6]);
        check(&auto, "192.0.2.7 >192.0.2.1 !192.0.2.1", &[]);
        check(&auto, "fe80::2 2001:db8::2 >fe80::1 !fe80::1", &[]);
        check(
            &auto,
            "192.0.2.7 >192.0.2.1",
            &["the router 192.0.2.1 does not answer on br0", v6],
        );
        check(
            &auto,
            "192.0.2.7 !192.0.2.1",
            &["br0 has no default route from DHCPv4", v6],
        );
        check(&auto, "~2001:db8::2 >fe80::1 !fe80::1", &[v4, v6]);
        check(
            &auto,
            "192.0.2.7 >192.0.2.1 >fe80::1 !fe80::1",
            &["the router 192.0.2.1 does not answer on br0", v6],
        );
        check(
            &network(Ipv4::Dhcp, Ipv6::None),
            "2001:db8::2 >fe80::1 !fe80::1",
            &[v4],
        );
    }

    #[test]
    fn a_declared_gateway_must_answer() {
        let gateway = Some("192.0.2.1".parse().unwrap());
        let fixed = |gateway| Ipv4::Static {
            address: "192.0.2.10".parse().unwrap(),
            prefix: 24,
            gateway,
            dns: Vec::new(),
        };
        let wrong = network(fixed(gateway), Ipv6::Auto);
        let auto = "2001:db8::2 >fe80::1 !fe80::1";
        check(&wrong, auto, &["br0 does not have the address 192.0.2.10"]);
        let silent = "the gateway 192.0.2.1 does not answer on br0";
        check(&wrong, &format!("192.0.2.10 >192.0.2.1 {auto}"), &[silent]);
        check(&wrong, "192.0.2.10 !192.0.2.1", &[]);
        check(&network(fixed(None), Ipv6::None), "192.0.2.10", &[]);
        check(&network(fixed(None), Ipv6::Auto), "192.0.2.10", &[]);
    }

    #[test]
    fn a_fixed_address_without_a_gateway_proves_nothing() {
        let fixed = Ipv6::Static {
            address: "2001:db8::10".parse().unwrap(),
            prefix: 64,
            gateway: None,
            dns: Vec::new(),
        };
        let both = network(Ipv4::Dhcp, fixed.clone());
        let v4 = "br0 has no address from DHCPv4";
        let v6 = "br0 has no default route from router advertisements";
        check(&both, "2001:db8::10", &[v4, v6]);
        check(&both, "2001:db8::10 192.0.2.7 >192.0.2.1 !192.0.2.1", &[]);
        check(&both, "2001:db8::10 >fe80::1 !fe80::1", &[]);
        check(&network(Ipv4::None, fixed), "2001:db8::10", &[v6]);
    }

    #[test]
    fn a_taken_address_is_not_confirmed() {
        let fixed = Ipv6::Static {
            address: "2001:db8::10".parse().unwrap(),
            prefix: 64,
            gateway: Some("fe80::1".parse().unwrap()),
            dns: Vec::new(),
        };
        let network = network(Ipv4::Dhcp, fixed);
        let taken = "2001:db8::10 on br0 is not usable: another host has it, or may have it";
        check(
            &network,
            "~2001:db8::10 !fe80::1 192.0.2.7 >192.0.2.1 !192.0.2.1",
            &[taken],
        );
        check(&network, "2001:db8::10 !fe80::1", &[]);
    }

    #[test]
    fn where_nothing_can_answer_a_carrier_is_enough() {
        check(&network(Ipv4::None, Ipv6::None), "", &[]);
        let down = Seen {
            unlinked: Some("br0 has no carrier".into()),
            ..Seen::default()
        };
        let missing = missing(&network(Ipv4::None, Ipv6::None), &down);
        assert_eq!(missing, ["br0 has no carrier"]);
    }

    #[test]
    fn a_bridge_without_its_port_carries_nothing() {
        const BR0: [(&str, &str); 2] = [
            ("/sys/class/net/br0/address", "b8:27:eb:12:34:56\n"),
            ("/sys/class/net/br0/carrier", "1\n"),
        ];
        const ETH0: [(&str, &str); 2] = [
            ("/sys/class/net/eth0/address", "b8:27:eb:12:34:56\n"),
            ("/sys/class/net/eth0/carrier", "1\n"),
        ];
        let check = |number: u8, files: &[(&str, &str)], bridge: Option<&str>, expect: Option<&str>| {
            let scratch = Scratch::new(&format!("confirm-{number}"), files);
            if let Some(bridge) = bridge {
                let to = scratch.0.at("/sys/class/net/eth0/master");
                std::os::unix::fs::symlink(format!("../{bridge}"), to).unwrap();
            }
            let found = unlinked(&scratch.0, &network(Ipv4::Dhcp, Ipv6::Auto));
            assert_eq!(found.as_deref(), expect);
        };
        let both = [BR0, ETH0].concat();
        check(1, &BR0, None, Some("there is no interface eth0"));
        check(2, &ETH0, None, Some("there is no interface br0"));
        check(3, &both, None, Some("eth0 is not a port of br0"));
        check(4, &both, Some("br1"), Some("eth0 is not a port of br0"));
        check(5, &both, Some("br0"), None);
        let mut down = both;
        down[3].1 = "0\n";
        check(6, &down, Some("br0"), Some("eth0 has no carrier"));
    }

    #[test]
    fn another_declaration_has_another_digest() {
        let one = network(Ipv4::Dhcp, Ipv6::Auto);
        let other = network(Ipv4::Dhcp, Ipv6::None);
        assert_eq!(digest(&one), digest(&one.clone()));
        assert_ne!(digest(&one), digest(&other));
    }
}
