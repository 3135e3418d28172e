//! The network of the farm and of each card: what can be a port of a bridge, which addresses go together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::subnet::{net, reserved, same_net, unusable};
use super::{steps, Judged};
use crate::farm::node::{Span, Step};
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::{Ipv4, Ipv6, Nat, Network};

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let mut told = Problems::default();
    network(judged, steps!["network"], &farm.network, &mut told);
    let known: BTreeSet<String> = told
        .list()
        .iter()
        .map(|problem| problem.message.clone())
        .collect();
    for problem in told.list() {
        p.push(problem.clone());
    }
    for (name, card) in &farm.cards {
        let Some(own) = &card.network else { continue };
        // A card repeats what it does not override; of that every problem has been told.
        let mut found = Problems::default();
        network(judged, steps!["cards", name, "network"], own, &mut found);
        for problem in found
            .list()
            .iter()
            .filter(|problem| !known.contains(&problem.message))
        {
            p.push(problem.clone());
        }
    }
    let nat = farm.lxd.as_ref().and_then(|lxd| lxd.nat.as_ref());
    if let Some(nat) = nat.filter(|_| judged.knows(steps!["lxd", "nat"])) {
        self::nat(judged, nat, p);
    }
    if judged.knows(steps!["network"]) && judged.knows(steps!["cards"]) {
        fleet(judged, p);
    }
}

/// One network, which stands at `place`.
fn network(judged: &Judged<'_>, place: &[Step<'_>], network: &Network, p: &mut Problems) {
    let at = |key: &'static str| judged.at(&[place, steps![key]].concat());
    // A card has the farm's network where it has none of its own.
    let knows = |keys: &[&'static str]| {
        let is_known = |key: &&'static str| {
            judged.knows(&[place, steps![*key]].concat()) && judged.knows(steps!["network", *key])
        };
        keys.iter().all(is_known)
    };
    if knows(&["uplink", "vlan", "bridge"]) {
        ports(network, &at, p);
    }
    if knows(&["ipv4", "ipv6"]) {
        reach(network, &at, p);
    }
    for fixed in fixed(network).into_iter().filter(|fixed| knows(&[fixed.family])) {
        let at = |key: &'static str| judged.at(&[place, steps![fixed.family, key]].concat());
        host_address(fixed.address, fixed.prefix, &at, p);
        through(&fixed, &at, p);
    }
    if !knows(&["uplink", "vlan", "bridge", "ipv4", "ipv6"]) || !judged.knows(steps!["lxd", "nat"]) {
        return;
    }
    if let Some(nat) = judged.farm.lxd.as_ref().and_then(|lxd| lxd.nat.as_ref()) {
        clashes(judged, place, network, nat, p);
    }
}

/// What a key of the network points a person at.
type At<'a> = &'a dyn Fn(&'static str) -> Span;

/// A fixed address of either family.
struct Fixed {
    family: &'static str,
    address: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
    resolvers: usize,
}

fn fixed(network: &Network) -> Vec<Fixed> {
    let mut found = Vec::new();
    if let Ipv4::Static {
        address,
        prefix,
        gateway,
        dns,
    } = &network.ipv4
    {
        found.push(Fixed {
            family: "ipv4",
            address: (*address).into(),
            prefix: *prefix,
            gateway: gateway.map(Into::into),
            resolvers: dns.len(),
        });
    }
    if let Ipv6::Static {
        address,
        prefix,
        gateway,
        dns,
    } = &network.ipv6
    {
        found.push(Fixed {
            family: "ipv6",
            address: (*address).into(),
            prefix: *prefix,
            gateway: gateway.map(Into::into),
            resolvers: dns.len(),
        });
    }
    found
}

/// Uplink, VLAN and bridge.
fn ports(network: &Network, at: At<'_>, p: &mut Problems) {
    let uplink = &network.uplink;
    match &network.bridge {
        Some(bridge) if uplink.starts_with("wl") => {
            let message = format!(
                "{uplink} cannot be a port of {bridge}: an access point takes frames only from the MAC that has \
                 joined it, so those of containers are lost"
            );
            let hint =
                "use the wired interface (eth0), or write `bridge: none` to keep the containers behind NAT";
            p.error(at("uplink"), message).hint(hint);
        }
        None if uplink.starts_with("wl") => {
            let message =
                format!("{uplink} needs a network name and its password, which a farm does not hold");
            let hint = "an overlay can bring a wpa_supplicant configuration";
            p.warning(at("uplink"), message).hint(hint);
        }
        _ => {}
    }
    if network.bridge.as_ref() == Some(uplink) {
        let message = format!("{} is the uplink, which cannot be its own bridge", quoted(uplink));
        p.error(at("bridge"), message);
    }
    if network.vlan.is_none() {
        return;
    }
    let port = network.port();
    if port.len() > 15 {
        let message =
            format!("the VLAN's interface would be {port}, and 15 bytes are the most that a name has");
        p.error(at("vlan"), message);
    }
    if network.bridge.as_ref() == Some(&port) {
        p.error(at("bridge"), format!("{port} is the VLAN's own interface"));
    }
}

/// Whether the Pi has an address, and a resolver.
fn reach(network: &Network, at: At<'_>, p: &mut Problems) {
    if network.ipv4 == Ipv4::None && network.ipv6 == Ipv6::None {
        p.error(at("ipv6"), "with neither IPv4 nor IPv6 nobody reaches the Pi")
            .hint("write `ipv6: auto` or `ipv4: dhcp`");
    }
    if network.ipv4 == Ipv4::None && matches!(network.ipv6, Ipv6::Static { gateway: None, .. }) {
        let message = "without a router that announces itself on this LAN, the network is never confirmed";
        p.warning(at("ipv6"), message)
            .hint("write the `gateway` beside the address");
    }
    let automatic = network.ipv4 == Ipv4::Dhcp || network.ipv6 == Ipv6::Auto;
    let fixed = fixed(network);
    if automatic || fixed.iter().any(|fixed| fixed.resolvers > 0) {
        return;
    }
    if let Some(first) = fixed.first() {
        let message = "the Pi knows no resolver, so it finds no host by name";
        p.warning(at(first.family), message)
            .hint("write `dns: [ADDRESS]` beside the address");
    }
}

/// An address that a host can have in its own net.
fn host_address(address: IpAddr, prefix: u8, at: At<'_>, p: &mut Problems) {
    if prefix == 0 {
        p.error(
            at("address"),
            "a prefix length of 0 makes the whole Internet one LAN",
        );
    } else if let Some(why) = unusable(address) {
        p.error(at("address"), format!("{address} is {why}"));
    } else if let Some(why) = reserved(address, prefix) {
        p.error(
            at("address"),
            format!("{address} is {why} of {}", net(address, prefix)),
        );
    }
}

/// The gateway must be another host of the same net, or have a link-local address.
fn through(fixed: &Fixed, at: At<'_>, p: &mut Problems) {
    let Fixed { address, prefix, .. } = *fixed;
    let Some(gateway) = fixed.gateway else {
        // IPv6 routers announce themselves.
        if address.is_ipv4() {
            let message = format!("{address} has no gateway, so nothing beyond its net is reached");
            p.warning(at("address"), message)
                .hint("write `gateway: ADDRESS`, the home router's");
        }
        return;
    };
    let link_local = matches!(gateway, IpAddr::V6(six) if six.is_unicast_link_local());
    if gateway == address {
        p.error(at("gateway"), format!("{gateway} is the Pi's own address"));
    } else if let (false, Some(why)) = (link_local, unusable(gateway)) {
        p.error(at("gateway"), format!("{gateway} is {why}"));
    } else if !link_local && !same_net(address, prefix, gateway) {
        let message = format!(
            "{gateway} is not in {}, so the Pi cannot reach it",
            net(address, prefix)
        );
        p.error(at("gateway"), message);
    }
}

/// The NAT bridge's own addresses.
fn nat(judged: &Judged<'_>, nat: &Nat, p: &mut Problems) {
    let at = |key: &'static str| judged.at(steps!["lxd", "nat", key]);
    if let Some((address, prefix)) = nat.ipv4 {
        host_address(address.into(), prefix, &|_| at("ipv4"), p);
        if prefix > 29 {
            p.error(
                at("ipv4"),
                format!("{} has no room for containers", net(address.into(), prefix)),
            );
        }
        if !address.is_private() && unusable(address.into()).is_none() {
            let message =
                format!("{address} is a public address, whose owner cannot be reached from behind this NAT");
            p.warning(at("ipv4"), message)
                .hint("private addresses are 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16");
        }
    }
    if let Some((address, prefix)) = nat.ipv6 {
        host_address(address.into(), prefix, &|_| at("ipv6"), p);
        if prefix != 64 {
            let message = format!(
                "containers form their IPv6 addresses in nets of 64 bits only, and this has {prefix}"
            );
            p.error(at("ipv6"), message);
        }
    }
    if nat.ipv4.is_none() && nat.ipv6.is_none() {
        p.error(at("bridge"), "the NAT bridge has neither IPv4 nor IPv6")
            .hint("write `nat: none` to do without it");
    }
}

/// What the host has on the LAN against what is behind NAT.
fn clashes(judged: &Judged<'_>, place: &[Step<'_>], network: &Network, nat: &Nat, p: &mut Problems) {
    let port = network.port();
    let taken = [Some(&network.uplink), network.bridge.as_ref(), Some(&port)];
    if taken.contains(&Some(&nat.bridge)) {
        let at = judged.at(steps!["lxd", "nat", "bridge"]);
        p.error(
            at,
            format!(
                "{} is an interface of the host's own network",
                quoted(&nat.bridge)
            ),
        );
    }
    let four = nat.ipv4.map(|(address, prefix)| (IpAddr::from(address), prefix));
    let six = nat.ipv6.map(|(address, prefix)| (IpAddr::from(address), prefix));
    for lan in fixed(network) {
        let inner = if lan.address.is_ipv4() { four } else { six };
        let Some((address, prefix)) = inner else { continue };
        if same_net(lan.address, lan.prefix.min(prefix), address) {
            let (outer, inner) = (net(lan.address, lan.prefix), net(address, prefix));
            let at = judged.at(&[place, steps![lan.family, "address"]].concat());
            p.error(at, format!("{outer} on the LAN and {inner} behind NAT overlap"))
                .hint("give `lxd: nat:` another net, such as 10.78.0.1/24 or fd42:78::1/64");
        }
    }
}

/// No two cards have the same fixed address.
fn fleet(judged: &Judged<'_>, p: &mut Problems) {
    let mut taken: BTreeMap<IpAddr, String> = BTreeMap::new();
    for card in judged.farm.resolved_cards() {
        for Fixed { family, address, .. } in fixed(&card.network) {
            let Some(other) = taken.insert(address, card.name.clone()) else {
                continue;
            };
            let own: &[Step<'_>] = steps!["cards", &card.name, "network", family, "address"];
            let at = if judged.has(own) {
                judged.at(own)
            } else {
                judged.key(steps!["cards", &card.name])
            };
            let (name, other) = (quoted(&card.name), quoted(&other));
            let message = format!("card {name} has the address {address}, as card {other} has");
            p.error(at, message).hint("give each card its own `network`");
        }
    }
}
