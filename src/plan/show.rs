//! A plan as programs read it, and its files for people. Nothing secret is ever shown: only that it is there.

use std::collections::BTreeMap;

use crate::farm::{secret, stack};
use serde_json::{json, Value};

use super::CardPlan;
use crate::edit::tree::{Access, Node, Planned, Privacy, Tree};

/// How much of a file is shown in the text form, in bytes; programs get all of it.
const SHOWN: usize = 4 << 10;

/// What each container is left with, and every file with its content.
#[must_use]
pub fn files(plan: &CardPlan, tree: &Tree) -> String {
    let mut out = format!("card {}\n", plan.card.name);
    if !plan.firstboot.containers.is_empty() {
        out.push_str("\ncontainers:\n");
    }
    for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
        out.push_str(&format!("  {}\n", container.name));
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

/// For programs: one card as it is, several as a list.
#[must_use]
pub fn json(plans: &[CardPlan], trees: &[Tree]) -> Value {
    let mut cards: Vec<Value> = plans
        .iter()
        .zip(trees)
        .map(|(plan, tree)| card(plan, tree))
        .collect();
    match cards.len() {
        1 => cards.swap_remove(0),
        _ => json!({"plan": 1, "cards": cards}),
    }
}

fn card(plan: &CardPlan, tree: &Tree) -> Value {
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
    let mut all = json!({
        "plan": 1,
        "card": plan.card.name,
        "host": {
            "name": plan.card.hostname, "mac": plan.card.mac, "interface": plan.firstboot.network.addressed(),
            "addresses": plan.host_addresses,
        },
        "prefixes": plan.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "containers": containers.collect::<Vec<_>>(),
        "notes": plan.notes,
        "files": files.collect::<Vec<_>>(),
    });
    if let Some((member, forms_it)) = plan.member() {
        all["cluster"] = json!({"forms_it": forms_it, "address": member.address});
    }
    all
}

/// The profile that declares something, or the container itself.
fn whose(from: &str) -> &str {
    if from == stack::OWN {
        "the container"
    } else {
        from
    }
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
