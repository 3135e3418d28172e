//! Containers: names and hardware addresses taken once, profiles that exist, what they are left with.

use std::collections::BTreeMap;

use super::host;
use super::{lxd, steps, Judged};
use crate::farm::lxd_keys::Daemon;
use crate::farm::problem::{Problem, Problems};
use crate::farm::stack;
use crate::farm::suggest::quoted;
use crate::farm::{Container, Network, Profile, ResolvedCard};
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::names;
use palmfarm_protocol::nic;

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let daemon = judged.daemon();
    names(judged, p);
    macs(judged, p);
    let cards = farm.resolved_cards();
    let by_network = profiles(judged, &cards);
    for container in &farm.containers {
        let name = &container.name;
        let mut on: Vec<&ResolvedCard> = cards.iter().filter(|card| card.has(container)).collect();
        // Then it is judged as if each had it: one will, once somebody has read the warning.
        let nowhere = on.is_empty();
        if nowhere {
            on = cards.iter().collect();
        }
        for (key, value) in &container.config {
            lxd::config(
                judged,
                steps!["containers", name, "config", key],
                (key, value),
                daemon,
                p,
            );
        }
        let before = p.errors();
        for (device, keys) in &container.devices {
            lxd::device(
                judged,
                steps!["containers", name, "devices", device],
                keys,
                &on,
                p,
            );
        }
        let are_devices_wrong = p.errors() > before;
        host::files(
            judged,
            steps!["containers", name, "files"],
            &container.files,
            host::covered_in_container,
            p,
        );
        for (path, source) in &container.files {
            if source.declared.mode.is_some_and(|mode| mode & 0o7000 != 0) {
                let at = judged.at(steps!["containers", name, "files", path, "mode"]);
                p.error(at, "the container daemon sets only the nine bits of permission")
                    .hint("leave the first digit out, and set it by chmod in a line of `run`");
            }
        }
        switches(judged, container, p);
        docker(judged, container, daemon, p);
        replicas(judged, container, p);
        let is_known = ["profiles", "devices"]
            .iter()
            .all(|key| judged.knows(steps!["containers", name, *key]));
        if !is_known
            || are_devices_wrong
            || !judged.knows(steps!["lxd", "profiles"])
            || !judged.knows_interfaces()
        {
            continue;
        }
        for there in &by_network {
            if nowhere || there.cards.iter().any(|card| card.has(container)) {
                stacked(judged, container, there.network, &there.profiles, p);
            }
        }
    }
}

/// Every name once, replicas, hosts and cards among them: they share a DNS zone and a LAN.
fn names(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for card in farm.resolved_cards() {
        if !judged.knows(steps!["cards", &card.name, "hostname"]) {
            continue;
        }
        taken.insert(
            card.hostname.to_ascii_lowercase(),
            format!("the host {}", quoted(&card.hostname)),
        );
    }
    for container in &farm.containers {
        if !judged.knows(steps!["containers", &container.name, "replicas"]) {
            continue;
        }
        let at = judged.key(steps!["containers", &container.name]);
        let declared = match container.replicas {
            Some(_) => format!("the replicas of {}", quoted(&container.name)),
            None => format!("the container {}", quoted(&container.name)),
        };
        for name in container.names() {
            if container.replicas.is_some()
                && names::container(&name).is_err()
                && names::container(&container.name).is_ok()
            {
                p.error(
                    at,
                    format!(
                        "{} is not a container name: it has more than 63 bytes",
                        quoted(&name)
                    ),
                );
            }
            let key = name.to_ascii_lowercase();
            if let Some(other) = taken.get(&key) {
                let message = format!("the name {} is taken by {other}", quoted(&name));
                p.error(at, message)
                    .hint("each host and container of a farm has a name of its own");
                break;
            }
            taken.insert(key, declared.clone());
        }
    }
}

/// No two interfaces have one MAC. What is computed from names is judged by whoever computes it.
fn macs(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let mut taken: BTreeMap<Mac, String> = BTreeMap::new();
    for (name, card) in &farm.cards {
        if let Some(mac) = card.mac {
            taken.insert(mac, format!("card {}", quoted(name)));
        }
    }
    let cards = farm.resolved_cards();
    for container in &farm.containers {
        let Some(mac) = container.mac else { continue };
        let at = judged.at(steps!["containers", &container.name, "mac"]);
        let owner = format!("container {}", quoted(&container.name));
        if let Some(other) = taken.insert(mac, owner) {
            p.error(at, format!("{mac} is the MAC of {other} already"));
        }
        let on = cards.iter().filter(|card| card.has(container)).count();
        if on > 1 && judged.knows(steps!["cards"]) {
            let message = format!("on each of {on} cards this container has the same MAC");
            p.warning(at, message).hint(
                "on one LAN they take each other's address; leave `mac` out, and each card has its own",
            );
        }
    }
}

/// `nesting` and its kin do not contradict `config`.
fn switches(judged: &Judged<'_>, container: &Container, p: &mut Problems) {
    for (key, lxd_key, switch) in container.switches() {
        let (Some(switch), Some(value)) = (switch, container.config.get(lxd_key)) else {
            continue;
        };
        let opposite = if switch {
            ["false", "no", "0", "off"]
        } else {
            ["true", "yes", "1", "on"]
        };
        if opposite.contains(&value.to_ascii_lowercase().as_str()) {
            let at = judged.at(steps!["containers", &container.name, "config", lxd_key]);
            p.error(at, format!("`{key}: {switch}` and this contradict each other"));
        }
    }
}

/// Docker starts in a container if its runc may write to /proc/sys there, which LXD allows since 5.0.6 and 5.21.5
/// (opencontainers/runc, issue 4968; canonical/lxd, issue 16902).
fn docker(judged: &Judged<'_>, container: &Container, daemon: Option<Daemon>, p: &mut Problems) {
    let upgrade = judged.farm.lxd.as_ref().is_some_and(|lxd| lxd.upgrade);
    let hint = match daemon {
        Some(Daemon::Lxd30 | Daemon::Lxd40) => "take ubuntu-22.04 or a later base if Docker will run in it",
        Some(Daemon::Lxd50) if !upgrade && judged.knows(steps!["lxd", "upgrade"]) => {
            "write `lxd: {upgrade: true}`, which brings LXD 5.0.6 or later"
        }
        _ => return,
    };
    if container.nesting {
        let at = judged.key(steps!["containers", &container.name, "nesting"]);
        let message = format!(
            "a current Docker does not start in containers of the {} that {} comes with",
            daemon.map_or("LXD", Daemon::name),
            judged.farm.base
        );
        p.warning(at, message).hint(hint);
    }
}

/// What can be said of one container only.
fn replicas(judged: &Judged<'_>, container: &Container, p: &mut Problems) {
    if container.replicas.is_none() {
        return;
    }
    if container.mac.is_some() {
        let at = judged.key(steps!["containers", &container.name, "mac"]);
        p.error(at, "replicas cannot share one MAC")
            .hint("leave `mac` out: each replica's comes from its name");
    }
    if container.publish.is_some() {
        let at = judged.key(steps!["containers", &container.name, "publish"]);
        p.error(at, "replicas cannot be published")
            .hint("publish a container without replicas, and make the replicas from its alias");
    }
}

/// Cards that have the same profiles.
struct Alike<'c> {
    cards: Vec<&'c ResolvedCard>,
    network: &'c Network,
    profiles: BTreeMap<String, Profile>,
}

/// Every profile there is on a card, by the card's network; cards with the same bridge have the same.
fn profiles<'c>(judged: &Judged<'_>, cards: &'c [ResolvedCard]) -> Vec<Alike<'c>> {
    let mut found: Vec<Alike<'c>> = Vec::new();
    let Some(lxd) = &judged.farm.lxd else { return found };
    for card in cards {
        let same = |alike: &&mut Alike<'_>| alike.network.bridge == card.network.bridge;
        match found.iter_mut().find(same) {
            Some(alike) => alike.cards.push(card),
            None => found.push(Alike {
                cards: vec![card],
                network: &card.network,
                profiles: stack::profiles(lxd, &card.network),
            }),
        }
    }
    found
}

/// The profiles of one container on a card with this network, and what they leave it with.
fn stacked(
    judged: &Judged<'_>,
    container: &Container,
    network: &Network,
    profiles: &BTreeMap<String, Profile>,
    p: &mut Problems,
) {
    let names = container.stacked(network);
    let whole = judged.key(steps!["containers", &container.name]);
    for (index, name) in names.iter().enumerate() {
        let at = match &container.profiles {
            Some(_) => judged.at(steps!["containers", &container.name, "profiles", index]),
            None => whole,
        };
        if names.iter().take(index).any(|before| before == name) {
            p.error(at, format!("profile {} is here twice", quoted(name)));
        }
        if profiles.contains_key(name) {
            continue;
        }
        if name == "extbridge" {
            p.error(at, "there is no profile extbridge where `bridge` is none")
                .hint("write `profiles: [default]`, or give the network a bridge");
            continue;
        }
        let problem = Problem::error(at, format!("there is no profile {}", quoted(name)));
        let hint = p.did_you_mean(name, profiles.keys().map(String::as_str));
        p.push(problem.hint(hint.unwrap_or_else(|| "profiles are declared under `lxd: profiles:`".into())));
    }
    let unknown = names.iter().any(|name| !profiles.contains_key(name));
    if unknown {
        return;
    }
    let result = stack::stack(profiles, &names, container);
    let at = judged.key(steps!["containers", &container.name, "profiles"]);
    if !result.has_root() {
        let message = format!("{} has no disk at /, so it cannot start", quoted(&container.name));
        let hint = if names.iter().any(|name| name == "default") {
            "the farm's own profile default has none: give it `devices: {root: {type: disk, path: /, pool: default}}`"
        } else {
            "the profile default brings one: write it first"
        };
        p.error(at, message).hint(hint);
        return;
    }
    if !result.devices.values().any(|device| nic::is_nic(&device.value)) {
        let message = format!("{} has no network", quoted(&container.name));
        p.warning(at, message);
    }
    eth0(judged, container, &result, p);
    let both = ["default", "extbridge"]
        .iter()
        .all(|name| names.iter().any(|found| found == name));
    let from_default = result
        .devices
        .get("eth0")
        .is_some_and(|eth0| eth0.from == "default");
    if both && from_default {
        let message = format!(
            "{} ends up behind NAT: of two profiles with an eth0 the last one wins",
            quoted(&container.name)
        );
        p.warning(at, message)
            .hint("write [default, extbridge] for an address of its own on the LAN");
    }
}

/// What is predicted, and what `mac` fixes, is the container's `eth0`.
fn eth0(judged: &Judged<'_>, container: &Container, stacked: &stack::Stacked, p: &mut Problems) {
    let eth0 = stacked.devices.get("eth0").map(|eth0| &eth0.value);
    let is_nic = eth0.is_some_and(nic::is_nic);
    let mac = steps!["containers", &container.name, "mac"];
    if !is_nic && judged.has(mac) {
        let message = format!(
            "{} has no network port eth0 that could have this address",
            quoted(&container.name)
        );
        p.error(judged.at(mac), message).hint("call its nic eth0");
    }
    let other = eth0
        .and_then(|keys| keys.get("name"))
        .filter(|name| *name != "eth0");
    if let Some(other) = other.filter(|_| is_nic) {
        let message = format!(
            "eth0 of {} is called {} inside it, but its address is looked for at eth0",
            quoted(&container.name),
            quoted(other)
        );
        p.warning(judged.key(steps!["containers", &container.name]), message)
            .hint("leave out `name`");
    }
}
