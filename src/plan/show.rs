//! A plan as people and programs read it. Nothing secret is ever shown: only that it is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::farm::{secret, stack};
use serde_json::{json, Value};

use super::CardPlan;
use crate::edit::tree::{Access, Node, Planned, Privacy, Tree};

/// How much of a file is shown in the text form, in bytes; programs get all of it.
const SHOWN: usize = 4 << 10;

/// For reading.
#[must_use]
pub fn text(plan: &CardPlan, tree: &Tree) -> String {
    let mut out = format!("card {}: host {}\n", plan.card.name, plan.card.hostname);
    let network = &plan.firstboot.network;
    out.push_str(&format!(
        "\nnetwork: {} over {}\n",
        network.addressed(),
        network.port()
    ));
    if let Some(mac) = plan.card.mac {
        let known = joined(&plan.host_addresses, "known with --prefix");
        out.push_str(&format!("  {mac}  {known}\n"));
    } else {
        if !plan.host_addresses.is_empty() {
            out.push_str(&format!("  {}\n", joined(&plan.host_addresses, "")));
        }
        out.push_str("  its MAC is known at boot; name it under `cards:` to predict what follows from it\n");
    }
    if !plan.firstboot.containers.is_empty() {
        out.push_str("\ncontainers:\n");
    }
    for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
        out.push_str(&format!(
            "  {}  {}  {}\n",
            container.name,
            container.mac,
            joined(&container.predicted, "")
        ));
        out.push_str(&format!("    profiles: {}\n", container.profiles.join(", ")));
        for (name, device) in &stack.devices {
            let keys = device
                .value
                .iter()
                .map(|(key, value)| format!("{key}={}", one_line(secret::shown_of_device(key, value))))
                .collect::<Vec<_>>()
                .join(" ");
            out.push_str(&format!(
                "    device {name}: {keys}  (from {})\n",
                whose(&device.from)
            ));
        }
        for (key, value) in &stack.config {
            out.push_str(&format!(
                "    config {key}={}  (from {})\n",
                one_line(secret::shown(key, &value.value)),
                whose(&value.from)
            ));
        }
    }
    if !plan.notes.is_empty() {
        out.push_str("\nnotes:\n");
    }
    for note in &plan.notes {
        out.push_str(&format!("  {note}\n"));
    }
    out.push_str("\nfiles:\n");
    for (volume, path, planned) in tree.iter() {
        out.push_str(&format!(
            "  {volume}:{path}  {}  ({})\n",
            kind(planned),
            planned.origin
        ));
        if let Some(content) = shown(planned) {
            for line in content.lines() {
                out.push_str(&format!("    | {line}\n"));
            }
        }
    }
    out
}

/// `value` on the line that it is shown on.
fn one_line(value: &str) -> String {
    let visible = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    value.chars().map(visible).collect()
}

/// For programs.
#[must_use]
pub fn json(plan: &CardPlan, tree: &Tree) -> Value {
    let containers = plan
        .firstboot
        .containers
        .iter()
        .zip(&plan.stacks)
        .map(|(container, stack)| {
            let devices = stack.devices.iter().map(|(name, device)| {
                let keys = device.value.iter();
                let keys: BTreeMap<_, _> = keys
                    .map(|(key, value)| (key, secret::shown_of_device(key, value)))
                    .collect();
                (name.clone(), json!({"keys": keys, "from": device.from}))
            });
            let config = stack.config.iter().map(|(key, value)| {
                (
                    key.clone(),
                    json!({"value": secret::shown(key, &value.value), "from": value.from}),
                )
            });
            json!({
                "name": container.name, "mac": container.mac, "addresses": container.predicted,
                "profiles": container.profiles,
                "devices": devices.collect::<serde_json::Map<_, _>>(),
                "config": config.collect::<serde_json::Map<_, _>>(),
            })
        });
    let files = tree.iter().map(|(volume, path, planned)| {
        let secret = planned.privacy != Privacy::Public;
        let content = match &planned.node {
            Node::File { content, .. } if !secret => std::str::from_utf8(content).ok(),
            _ => None,
        };
        json!({
            "path": format!("{volume}:{path}"), "kind": kind(planned), "origin": planned.origin, "secret": secret,
            "content": content,
        })
    });
    json!({
        "plan": 1,
        "card": plan.card.name,
        "host": {
            "name": plan.card.hostname, "mac": plan.card.mac, "interface": plan.firstboot.network.addressed(),
            "addresses": plan.host_addresses,
        },
        "containers": containers.collect::<Vec<_>>(),
        "notes": plan.notes,
        "files": files.collect::<Vec<_>>(),
    })
}

/// A fragment to `$INCLUDE` in a zone file (RFC 1035, section 5): AAAA records and A records of fixed addresses, and an SOA
/// with its NS only where the farm gives a serial.
#[must_use]
pub fn zone(plan: &CardPlan) -> String {
    let mut out = String::new();
    if let Some(dns) = &plan.dns {
        let zone = &dns.zone;
        if let Some(serial) = dns.serial {
            out.push_str(&format!(
                "$ORIGIN {zone}.\n@ 3600 IN SOA ns.{zone}. hostmaster.{zone}. ("
            ));
            out.push_str(&format!(" {serial} 7200 1800 1209600 3600 )\n"));
            out.push_str(&format!("@ 3600 IN NS ns.{zone}.\n"));
            out.push_str("; ns wants an address, too: that of the server which answers for this zone\n");
        }
    }
    for (name, address) in addressed(plan) {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        out.push_str(&format!("{name} IN {kind} {address}\n"));
    }
    out
}

/// Lines for `/etc/hosts`.
#[must_use]
pub fn hosts(plan: &CardPlan) -> String {
    let mut out = String::new();
    for (name, address) in addressed(plan) {
        match &plan.dns {
            Some(dns) => out.push_str(&format!("{address} {name}.{} {name}\n", dns.zone)),
            None => out.push_str(&format!("{address} {name}\n")),
        }
    }
    out
}

/// Every name with each address that is known.
fn addressed(plan: &CardPlan) -> Vec<(&str, IpAddr)> {
    let host = plan
        .host_addresses
        .iter()
        .map(|address| (plan.card.hostname.as_str(), *address));
    let containers = plan.firstboot.containers.iter();
    let containers = containers.flat_map(|one| {
        one.predicted
            .iter()
            .map(|address| (one.name.as_str(), IpAddr::from(*address)))
    });
    host.chain(containers).collect()
}

/// The profile that declares something, or the container itself.
fn whose(from: &str) -> &str {
    if from == stack::OWN {
        "the container"
    } else {
        from
    }
}

fn joined<A: ToString>(addresses: &[A], none: &str) -> String {
    if addresses.is_empty() {
        return none.into();
    }
    addresses.iter().map(A::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn kind(planned: &Planned) -> String {
    let mode = |access: &Access| match (access.uid, access.gid) {
        (0, 0) => format!("{:04o}", access.mode),
        (uid, gid) => format!("{:04o} {uid}:{gid}", access.mode),
    };
    match &planned.node {
        Node::File { access, .. } if planned.privacy != Privacy::Public => {
            format!("{} (secret)", mode(access))
        }
        Node::File { content, access } => format!("{} {} bytes", mode(access), content.len()),
        Node::Dir { access, .. } => format!("{} directory", mode(access)),
        Node::Symlink { target } => format!("-> {target}"),
        Node::Absent => "removed".into(),
    }
}

/// The content of a text that may be shown and is short enough to be read.
pub(super) fn shown(planned: &Planned) -> Option<&str> {
    match &planned.node {
        Node::File { content, .. } if planned.privacy == Privacy::Public && content.len() <= SHOWN => {
            std::str::from_utf8(content)
                .ok()
                .filter(|text| !text.contains('\0'))
        }
        _ => None,
    }
}
