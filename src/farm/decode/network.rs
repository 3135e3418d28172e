//! Reads the section `network:` of the farm and of a card, whose keys replace the farm's.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::fields::{choice, named, number, parsed, scalar, section, truth, ReadValue};
use super::values;
use crate::farm::node::{Entry, Node};
use crate::farm::problem::Problems;
use crate::farm::suggest::{did_you_mean, quoted};
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
        mdns: fields.value("mdns", truth).unwrap_or(base.mdns),
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
        let words = [("dhcp", Ipv4::Dhcp), ("none", Ipv4::None)];
        return automatic::<_, Ipv4Addr>(&entry.value, "ipv4", &words, 32, p);
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
        let words = [("auto", Ipv6::Auto), ("none", Ipv6::None)];
        return automatic::<_, Ipv6Addr>(&entry.value, "ipv6", &words, 128, p);
    }
    let (address, prefix, gateway, dns) = fixed(entry, 128, p)?;
    Some(Ipv6::Static {
        address,
        prefix,
        gateway,
        dns,
    })
}

/// One of `words`; any other word is meant as a fixed address, or names the way in which another program has it.
fn automatic<T: Clone, A: FromStr + Display>(
    node: &Node,
    key: &str,
    words: &[(&str, T)],
    bits: u8,
    p: &mut Problems,
) -> Option<T> {
    let text = &scalar(node, key, p)?.text;
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(value.clone());
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let usual = known.first().copied().unwrap_or_default();
    let (address, prefix) = text
        .split_once('/')
        .unwrap_or((text, if bits == 32 { "24" } else { "64" }));
    let address = Some(format!("{address}/{prefix}")).filter(|one| values::network::<A>(one, bits).is_ok());
    let is_own = address.is_some();
    let (address, router) = match (address, bits) {
        (Some(address), 32) => {
            let net = address
                .rsplit_once('.')
                .map_or("192.168.1", |(net, _)| net)
                .to_owned();
            (address, format!(", gateway: {net}.1, dns: [{net}.1]"))
        }
        (Some(address), _) => (format!("\"{address}\""), String::new()),
        (None, 32) => (
            "192.168.1.10/24".into(),
            ", gateway: 192.168.1.1, dns: [192.168.1.1]".into(),
        ),
        (None, _) => ("\"2001:db8::10/64\"".into(), String::new()),
    };
    let is_other_way = ["auto", "dhcp", "dhcp4", "dhcp6", "slaac", "ra", "true"].contains(&text.as_str());
    let hint = match did_you_mean(text, known.iter().copied()) {
        _ if is_other_way => format!("write {usual}"),
        _ if ["no", "off", "false", "disabled"].contains(&text.as_str()) => "write none".into(),
        Some(hint) => hint,
        None if is_own && bits == 32 => {
            format!(
                "write {{address: {address}{router}}}, with your router's address as gateway and resolver"
            )
        }
        None => format!("a fixed address is written {{address: {address}{router}}}"),
    };
    let message = format!(
        "`{key}` is {} or a mapping with a fixed address, not {}",
        known.join(", "),
        quoted(text)
    );
    p.error(node.span, message).hint(hint);
    None
}

/// A fixed address: itself, its prefix length, gateway and resolvers.
fn fixed<A>(entry: &Entry, bits: u8, p: &mut Problems) -> Option<(A, u8, Option<A>, Vec<A>)>
where
    A: FromStr + Display,
{
    let address = |text: &str| values::address(text, bits);
    section(entry, format!("`{}`", entry.key), p, |fields| {
        let usual = if bits == 32 {
            "write `address: 192.0.2.10/24`"
        } else {
            "write `address: \"2001:db8::10/64\"`"
        };
        fields.require("address", usual);
        let own = fields.value("address", parsed(|text| values::network(text, bits)));
        let gateway = fields.value("gateway", parsed(address));
        let dns = fields.list("dns", parsed(address));
        let (own, prefix) = own?;
        Some((own, prefix, gateway, dns))
    })
}
