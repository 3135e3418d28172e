//! The cluster that cards form: that they can be members of one, and that each container has one place.

use std::collections::BTreeMap;

use super::{steps, Judged, MOST_MEMBERS};
use crate::farm::cluster_keys::CLUSTER;
use crate::farm::decode::boot;
use crate::farm::lxd_keys::Daemon;
use crate::farm::node::Step;
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{Cluster, Container, Flavour, Refresh};

/// What LXD calls a server that is not in a cluster (`none` in the column `name` of its table `nodes`).
const ALONE: &str = "none";

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    for container in &farm.containers {
        place(judged, container, p);
    }
    let Some(cluster) = &farm.cluster else { return };
    members(judged, cluster, p);
    bridges(judged, p);
    versions(judged, p);
    lists(judged, p);
    for (index, word) in farm.boot.cmdline.iter().enumerate() {
        if boot::turns_ipv6_off(word) {
            let at = judged.at(steps!["boot", "cmdline", index]);
            p.error(
                at,
                format!("`{word}` turns off IPv6, over which the members of a cluster reach each other"),
            )
            .hint("leave the word out");
        }
    }
}

/// Where `container` is to be.
fn place(judged: &Judged<'_>, container: &Container, p: &mut Problems) {
    let farm = judged.farm;
    let name = &container.name;
    let (on, spread): (&[Step<'_>], &[Step<'_>]) = (
        steps!["containers", name, "on"],
        steps!["containers", name, "spread"],
    );
    if farm.cluster.is_none() {
        let unused = [
            ("on", on, container.on.is_some()),
            ("spread", spread, container.spread),
        ];
        for (key, place, _) in unused.into_iter().filter(|(_, _, is_set)| *is_set) {
            if !judged.has(steps!["cluster"]) && judged.knows_keys(&[]) {
                p.error(
                    judged.key(place),
                    format!("`{key}` chooses among the cards of a cluster, and the farm has none"),
                )
                .hint("write `cluster: {keys: secrets/farm.keys, first: NAME}`, or name the container in `containers` of a card");
            }
        }
        return;
    }
    if container.on.is_some() && container.spread {
        p.error(
            judged.key(spread),
            "a container is on one card or spread over all, not both",
        )
        .hint("leave one of `on` and `spread` out");
    }
    if container.spread
        && container.replicas.is_none()
        && judged.knows(steps!["containers", name, "replicas"])
    {
        p.warning(
            judged.key(spread),
            format!("{} is one container, which nothing can spread", quoted(name)),
        )
        .hint("write `replicas: 1..3`, or leave `spread` out");
    }
    if let Some(card) = &container.on {
        known_card(judged, on, card, p);
    }
}

/// `card`, which stands at `place`, is one of the farm's.
fn known_card(judged: &Judged<'_>, place: &[Step<'_>], card: &str, p: &mut Problems) {
    let cards = &judged.farm.cards;
    if cards.contains_key(card) || cards.is_empty() || !judged.knows_keys(steps!["cards"]) {
        return;
    }
    let problem = Problem::error(judged.at(place), format!("there is no card {}", quoted(card)));
    let hint = p.did_you_mean(card, cards.keys().map(String::as_str));
    let known = || {
        let names: Vec<&str> = cards.keys().map(String::as_str).collect();
        format!("the cards are {}", names.join(", "))
    };
    p.push(problem.hint(hint.unwrap_or_else(known)));
}

fn members(judged: &Judged<'_>, cluster: &Cluster, p: &mut Problems) {
    let cards = &judged.farm.cards;
    // That it is missing was told where it was read.
    if judged.knows(steps!["cluster", "first"]) && !cluster.first.is_empty() {
        known_card(judged, steps!["cluster", "first"], &cluster.first, p);
    }
    if !judged.knows_keys(steps!["cards"]) {
        return;
    }
    let at = judged.key(steps!["cards"]);
    match cards.len() {
        0 => {
            p.error(
                judged.key(steps!["cluster"]),
                "the farm has no cards that could form a cluster",
            )
            .hint("name them: `cards: {palm1: {}, palm2: {}, palm3: {}}`");
        }
        2 => {
            p.warning(
                at,
                "a cluster of two cards is weaker than one card: only the first has a vote, and without it the second starts no container",
            )
            .hint("with three cards any one may be off; without `cluster` each of two is a host by itself");
        }
        count if count > MOST_MEMBERS => {
            p.error(
                at,
                format!("these are {count} cards, and a cluster has at most {MOST_MEMBERS} members"),
            );
        }
        _ => {}
    }
    for name in [CLUSTER, ALONE] {
        if cards.contains_key(name) {
            p.error(
                judged.key(steps!["cards", name]),
                format!("no member of a cluster can be called {name}"),
            )
            .hint("give the card another name; `hostname` of a card may stay as it is");
        }
    }
}

/// Members reach each other over their bridges, and one profile names the bridge for all of them.
fn bridges(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    if !judged.knows_interfaces() {
        return;
    }
    if farm.network.bridge.is_none() && farm.cards.values().any(|card| card.network.is_none()) {
        p.error(
            judged.at(steps!["network", "bridge"]),
            "the members of a cluster reach each other over the bridge, and this farm has none",
        )
        .hint("write `bridge: br0`, or leave `cluster` out");
        return;
    }
    let mut usual = None;
    for (name, card) in &farm.cards {
        let network = card.network.as_ref().unwrap_or(&farm.network);
        let at = judged.at(steps!["cards", name, "network", "bridge"]);
        let Some(bridge) = &network.bridge else {
            p.error(
                at,
                format!(
                    "the members of a cluster reach each other over the bridge, and card {} has none",
                    quoted(name)
                ),
            )
            .hint("write `bridge: br0`, or leave `cluster` out");
            continue;
        };
        let (first, of) = *usual.get_or_insert((bridge, name));
        if first != bridge {
            let message = format!(
                "the bridge of card {} is called {bridge}, and that of {} {first}: one profile is for all members of a cluster",
                quoted(name),
                quoted(of)
            );
            p.error(at, message)
                .hint("call the bridges of all cards the same");
        }
    }
}

/// Members must have one version of the daemon, which can form a cluster without a password.
fn versions(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let Some(lxd) = farm.lxd.as_ref().filter(|_| judged.knows(steps!["lxd"])) else {
        return;
    };
    let daemon = judged.daemon();
    if daemon == Some(Daemon::Lxd30) {
        let message = format!(
            "{} has LXD 3.0, which forms no cluster without a password",
            farm.base
        );
        p.error(judged.key(steps!["cluster"]), message)
            .hint("take a newer base");
    }
    if lxd.flavour == Flavour::Lxd && lxd.refresh == Refresh::Auto {
        p.warning(
            judged.at(steps!["lxd", "refresh"]),
            "when snapd refreshes LXD on one member, the cluster stops until all have the same version",
        )
        .hint("leave `refresh` out: the cards of a cluster are held");
    }
    // Older images have the snap in them, and it is held before anything refreshes it.
    if daemon == Some(Daemon::Lxd521) && lxd.channel.is_none() {
        p.warning(
            judged.key(steps!["cluster"]),
            "cards that are set up on different days may get different versions of LXD, and those form no cluster",
        )
        .hint("write `lxd: {channel: 5.21/stable}`, which gets corrections only");
    }
}

/// A name of a container belongs to the whole cluster, so one card has it.
fn lists(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let mut listed: BTreeMap<&str, &str> = BTreeMap::new();
    let fixed = farm
        .containers
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.on.as_deref()?)));
    let fixed: BTreeMap<&str, &str> = fixed.collect();
    for (card, own) in &farm.cards {
        for (index, name) in own.containers.iter().flatten().enumerate() {
            let at = judged.at(steps!["cards", card, "containers", index]);
            let other = fixed.get(name.as_str()).filter(|on| *on != card).copied();
            let other = other.or_else(|| listed.get(name.as_str()).filter(|other| *other != card).copied());
            if let Some(other) = other {
                let message = format!(
                    "{} is on card {} already, and its name belongs to the whole cluster",
                    quoted(name),
                    quoted(other)
                );
                p.error(at, message)
                    .hint("name it on one card; `replicas` with `spread: true` are on all");
            }
            listed.insert(name, card);
        }
    }
}
