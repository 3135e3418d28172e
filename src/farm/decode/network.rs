//! `network:`, the farm's and a card's own, which is laid over the farm's.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fields::{self, Fields};
use super::values;
use crate::farm::node::{Entry, Node};
use crate::farm::problem::{Problem, Problems};
use crate::farm::{Ipv4, Ipv6, Network, Renderer};
use palmfarm_protocol::names;

/// The least and the most seconds before an unconfirmed network is rolled back. DHCP of a home router and a bridge
/// port that comes up take some ten seconds each; whoever stands before a dead Pi for an hour has pulled the card.
const ROLLBACK: (u32, u32) = (30, 3600);

/// `base` with the keys of `entry` in place of its own.
pub(super) fn over(base: &Network, entry: &Entry, what: &str, p: &mut Problems) -> Network {
    let mut fields = Fields::open(&entry.value, entry.key_span, what, p);
    let mut network = base.clone();
    if let Some(name) = fields.take("uplink").and_then(|entry| interface(entry, p)) {
        network.uplink = name;
    }
    if let Some(entry) = fields.take("vlan") {
        network.vlan = vlan(entry, p);
    }
    if let Some(entry) = fields.take("bridge") {
        match entry.value.scalar() {
            Some(scalar) if scalar.text == "none" => network.bridge = None,
            _ => {
                if let Some(name) = interface(entry, p) {
                    network.bridge = Some(name);
                }
            }
        }
    }
    let renderers = [("networkd", Renderer::Networkd), ("ifupdown", Renderer::Ifupdown)];
    if let Some(renderer) = fields
        .take("renderer")
        .and_then(|entry| fields::choice(&entry.value, "renderer", &renderers, p))
    {
        network.renderer = renderer;
    }
    if let Some(ipv4) = fields.take("ipv4").and_then(|entry| ipv4(entry, p)) {
        network.ipv4 = ipv4;
    }
    if let Some(ipv6) = fields.take("ipv6").and_then(|entry| ipv6(entry, p)) {
        network.ipv6 = ipv6;
    }
    if let Some(seconds) = fields
        .take("rollback")
        .and_then(|entry| rollback(&entry.value, p))
    {
        network.rollback_seconds = seconds;
    }
    fields.close(p);
    network
}

fn interface(entry: &Entry, p: &mut Problems) -> Option<String> {
    fields::named(&entry.value, &entry.key, "interface name", names::interface, p)
}

/// `none` takes away the VLAN of the farm on one card.
fn vlan(entry: &Entry, p: &mut Problems) -> Option<u16> {
    if entry.value.scalar().is_some_and(|scalar| scalar.text == "none") {
        return None;
    }
    let number = fields::number(&entry.value, "vlan", 1, 4094, p)?;
    u16::try_from(number).ok()
}

fn rollback(node: &Node, p: &mut Problems) -> Option<u32> {
    let seconds = fields::parsed(node, "rollback", p, values::duration)?;
    let (least, most) = ROLLBACK;
    if !(least..=most).contains(&seconds) {
        let message = format!("`rollback` is {seconds} s, and {least} s to {most} s is what it may be");
        p.push(Problem::error(node.span, message).hint(
            "it is the time that a network which never worked may leave the Pi unreachable; 120s suits most",
        ));
        return None;
    }
    Some(seconds)
}

/// The keys of a fixed address.
struct Fixed<A> {
    address: A,
    prefix: u8,
    gateway: Option<A>,
    dns: Vec<A>,
}

fn ipv4(entry: &Entry, p: &mut Problems) -> Option<Ipv4> {
    if entry.value.scalar().is_some() {
        let words = [("dhcp", Word::Automatic), ("none", Word::None)];
        return match fields::choice(&entry.value, "ipv4", &words, p)? {
            Word::Automatic => Some(Ipv4::Dhcp),
            Word::None => Some(Ipv4::None),
        };
    }
    let fixed: Fixed<Ipv4Addr> = fixed(entry, 32, p)?;
    Some(Ipv4::Static {
        address: fixed.address,
        prefix: fixed.prefix,
        gateway: fixed.gateway,
        dns: fixed.dns,
    })
}

fn ipv6(entry: &Entry, p: &mut Problems) -> Option<Ipv6> {
    if entry.value.scalar().is_some() {
        let words = [("auto", Word::Automatic), ("none", Word::None)];
        return match fields::choice(&entry.value, "ipv6", &words, p)? {
            Word::Automatic => Some(Ipv6::Auto),
            Word::None => Some(Ipv6::None),
        };
    }
    let fixed: Fixed<Ipv6Addr> = fixed(entry, 128, p)?;
    Some(Ipv6::Static {
        address: fixed.address,
        prefix: fixed.prefix,
        gateway: fixed.gateway,
        dns: fixed.dns,
    })
}

/// What stands in place of a fixed address.
#[derive(Clone, Copy)]
enum Word {
    Automatic,
    None,
}

fn fixed<A>(entry: &Entry, bits: u8, p: &mut Problems) -> Option<Fixed<A>>
where
    A: std::str::FromStr + std::fmt::Display,
{
    let family = if bits == 32 { "IPv4" } else { "IPv6" };
    let mut fields = Fields::open(&entry.value, entry.key_span, format!("`{}`", entry.key), p);
    let address = fields
        .need("address")
        .and_then(|entry| fields::parsed(&entry.value, "address", p, |text| values::network(text, bits)));
    let gateway = fields
        .take("gateway")
        .and_then(|entry| fields::parsed(&entry.value, "gateway", p, |text| values::address(text, family)));
    let mut dns = Vec::new();
    if let Some(entry) = fields.take("dns") {
        for item in fields::items(entry, p) {
            dns.extend(fields::parsed(item, "dns", p, |text| {
                values::address(text, family)
            }));
        }
    }
    fields.close(p);
    let (address, prefix) = address?;
    Some(Fixed {
        address,
        prefix,
        gateway,
        dns,
    })
}
