//! Reads the section `network:` of the farm and of a card, whose keys replace the farm's.

use std::fmt::Display;
use std::str::FromStr;

use super::fields::{choice, named, number, parsed, section, ReadValue};
use super::values;
use crate::farm::node::{Entry, Node};
use crate::farm::problem::Problems;
use crate::farm::{Ipv4, Ipv6, Network, Renderer};
use palmfarm_protocol::names;

/// The least and the most seconds before an unconfirmed network is rolled back. DHCP of a home router and a bridge
/// port that comes up take some ten seconds each; nobody waits an hour for a Pi that does not answer.
const ROLLBACK: (u32, u32) = (30, 3600);

/// `base` with the keys of `entry` in place of its own.
pub(super) fn over(base: &Network, entry: &Entry, what: &str, p: &mut Problems) -> Network {
    let base = base.clone();
    let renderers = [("networkd", Renderer::Networkd), ("ifupdown", Renderer::Ifupdown)];
    section(entry, what, p, |fields| Network {
        uplink: fields.value("uplink", interface).unwrap_or(base.uplink),
        vlan: fields
            .value("vlan", or_none(number(1, 4094)))
            .unwrap_or(base.vlan),
        bridge: fields.value("bridge", or_none(interface)).unwrap_or(base.bridge),
        renderer: fields
            .value("renderer", choice(&renderers))
            .unwrap_or(base.renderer),
        ipv4: fields.read("ipv4", ipv4).flatten().unwrap_or(base.ipv4),
        ipv6: fields.read("ipv6", ipv6).flatten().unwrap_or(base.ipv6),
        rollback_seconds: fields
            .value("rollback", rollback)
            .unwrap_or(base.rollback_seconds),
    })
}

fn interface(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    named("an interface name", names::interface)(node, key, p)
}

/// Reads the word `none`, which removes on one card what the farm has, or what `read` reads.
fn or_none<T>(read: impl ReadValue<T>) -> impl ReadValue<Option<T>> {
    move |node: &Node, key: &str, p: &mut Problems| match node.scalar() {
        Some(scalar) if scalar.text == "none" => Some(None),
        _ => read(node, key, p).map(Some),
    }
}

fn rollback(node: &Node, key: &str, p: &mut Problems) -> Option<u32> {
    let seconds = parsed(values::duration)(node, key, p)?;
    let (least, most) = ROLLBACK;
    if !(least..=most).contains(&seconds) {
        let message = format!("`rollback` is {seconds} s, but must be from {least} s to {most} s");
        p.error(node.span, message).hint(
            "it is the time that a network which never worked may leave the Pi unreachable; 120s suits most",
        );
        return None;
    }
    Some(seconds)
}

fn ipv4(entry: &Entry, p: &mut Problems) -> Option<Ipv4> {
    if entry.value.scalar().is_some() {
        return choice(&[("dhcp", Ipv4::Dhcp), ("none", Ipv4::None)])(&entry.value, "ipv4", p);
    }
    let (address, prefix, gateway, dns) = fixed(entry, 32, p)?;
    Some(Ipv4::Static {
        address,
        prefix,
        gateway,
        dns,
    })
}

fn ipv6(entry: &Entry, p: &mut Problems) -> Option<Ipv6> {
    if entry.value.scalar().is_some() {
        return choice(&[("auto", Ipv6::Auto), ("none", Ipv6::None)])(&entry.value, "ipv6", p);
    }
    let (address, prefix, gateway, dns) = fixed(entry, 128, p)?;
    Some(Ipv6::Static {
        address,
        prefix,
        gateway,
        dns,
    })
}

/// A fixed address: itself, its prefix length, gateway and resolvers.
fn fixed<A>(entry: &Entry, bits: u8, p: &mut Problems) -> Option<(A, u8, Option<A>, Vec<A>)>
where
    A: FromStr + Display,
{
    let address = |text: &str| values::address(text, bits);
    section(entry, format!("`{}`", entry.key), p, |fields| {
        fields.require("address");
        let own = fields.value("address", parsed(|text| values::network(text, bits)));
        let gateway = fields.value("gateway", parsed(address));
        let dns = fields.list("dns", parsed(address));
        let (own, prefix) = own?;
        Some((own, prefix, gateway, dns))
    })
}
