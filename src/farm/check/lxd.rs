//! LXD: image servers that serve it, profiles whose devices lead somewhere.

use std::collections::BTreeMap;

use super::{steps, Judged};
use crate::farm::lxd_keys::{self, Daemon};
use crate::farm::node::Step;
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{Flavour, Lxd, Refresh, ResolvedCard, StorageDriver};

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    let Some(lxd) = &judged.farm.lxd else { return };
    for (name, url) in &lxd.remotes {
        let is_lxd = lxd.flavour == Flavour::Lxd && judged.knows(steps!["lxd", "flavour"]);
        if is_lxd && serves_incus_only(url) {
            let at = judged.at(steps!["lxd", "remotes", name]);
            p.error(at, "images.linuxcontainers.org has been closed to LXD since 2024").hint("leave it out for LXD's own server, carry the image on the card (`images:`), or write `flavour: incus`");
        }
    }
    if lxd.storage.size.is_some()
        && lxd.storage.driver == StorageDriver::Dir
        && judged.knows(steps!["lxd", "storage", "driver"])
    {
        let at = judged.key(steps!["lxd", "storage", "size"]);
        p.error(at, "a pool with the driver dir has no size of its own")
            .hint("leave the size out, or write `driver: btrfs`");
    }
    let base = &judged.farm.base;
    let is_old = judged.release().is_some_and(|release| release < (24, 4));
    if lxd.flavour == Flavour::Incus && is_old {
        let at = judged.at(steps!["lxd", "flavour"]);
        p.warning(
            at,
            format!("{base} has no package of Incus; Ubuntu has one since 24.04"),
        )
        .hint("write `flavour: lxd`, take a newer base, or bring a package source in an overlay");
    }
    snap(judged, lxd, p);
    let daemon = judged.daemon();
    let cards = judged.farm.resolved_cards();
    let cards: Vec<&ResolvedCard> = cards.iter().collect();
    for (name, profile) in &lxd.profiles {
        for (key, value) in &profile.config {
            config(
                judged,
                steps!["lxd", "profiles", name, "config", key],
                (key, value),
                daemon,
                p,
            );
        }
        for (device, keys) in &profile.devices {
            self::device(
                judged,
                steps!["lxd", "profiles", name, "devices", device],
                keys,
                &cards,
                p,
            );
        }
    }
}

/// The channel of LXD's snap, and who refreshes it.
fn snap(judged: &Judged<'_>, lxd: &Lxd, p: &mut Problems) {
    let base = &judged.farm.base;
    let package = match (lxd.flavour, Daemon::of_base(judged.base)) {
        (Flavour::Incus, _) => Some("Incus"),
        (Flavour::Lxd, Some(Daemon::Lxd30)) => Some("LXD on Ubuntu 18.04"),
        _ => None,
    };
    if let Some(package) = package {
        let keys = [
            ("channel", lxd.channel.is_some()),
            // A cluster is held by default.
            (
                "refresh",
                lxd.refresh == Refresh::Hold && judged.has(steps!["lxd", "refresh"]),
            ),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
            let message = format!("{package} is a Debian package, and `{key}` is about a snap");
            p.error(judged.key(steps!["lxd", key]), message)
                .hint(format!("leave `{key}` out"));
        }
        if !judged.farm.carry.lxd.is_empty() {
            let message = format!("{package} is a Debian package, and `lxd` is about a snap");
            p.error(judged.key(steps!["carry", "lxd"]), message)
                .hint("carry the package: `carry: {packages: [FOLDER]}`");
        }
        return;
    }
    if !judged.farm.carry.lxd.is_empty() {
        for (key, is_set) in [("channel", lxd.channel.is_some()), ("upgrade", lxd.upgrade)] {
            if is_set {
                let message = format!(
                    "`{key}` asks the snap store, and the snap of LXD is carried so that nobody needs it"
                );
                p.error(judged.key(steps!["lxd", key]), message).hint(format!(
                    "leave `{key}` out; on the Pi, `snap refresh lxd --channel=…` changes the version later on"
                ));
            }
        }
    }
    let Some((channel, (track, _))) = lxd
        .channel
        .as_deref()
        .and_then(|all| Some((all, all.split_once('/')?)))
    else {
        return;
    };
    let at = judged.at(steps!["lxd", "channel"]);
    if track == "latest" {
        p.warning(
            at,
            format!(
                "with {channel} every refresh may bring a new LXD, and LXD never goes back to an older one"
            ),
        )
        .hint("5.21/stable gets corrections only");
        return;
    }
    // What each image has in it, or installs: the snap of Ubuntu's own choice (`lxd_keys`).
    let (comes_with, number) = match Daemon::of_base(judged.base) {
        Some(Daemon::Lxd40) => ("4.0", [4, 0]),
        Some(Daemon::Lxd50) => ("5.0", [5, 0]),
        // It is installed in the first boot, from whichever channel.
        _ => return,
    };
    let mut parts = track.split('.').map(str::parse::<u32>);
    let [Some(Ok(major)), minor] = [parts.next(), parts.next()] else {
        return;
    };
    // A track such as `6` has all of its minor versions.
    let wanted = [major, minor.map_or(u32::MAX, |minor| minor.unwrap_or(0))];
    if wanted < number {
        p.error(
            at,
            format!("{base} comes with LXD {comes_with}, and LXD never goes back to an older one"),
        )
        .hint(format!(
            "write {comes_with}/stable or a later channel, or leave it out"
        ));
    } else if comes_with == "4.0" && wanted >= [5, 21] {
        // LXD's documentation, "Requirements", of 5.0 and of 5.21.
        p.warning(
            at,
            format!("LXD {track} is made for Linux 5.15 and later, and {base} has 5.4"),
        )
        .hint("write 5.0/stable, or take a newer base");
    }
}

fn serves_incus_only(url: &str) -> bool {
    let host = url.strip_prefix("https://").unwrap_or(url);
    let host = host
        .split(['/', ':'])
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    host.eq_ignore_ascii_case("images.linuxcontainers.org")
}

/// One key of configuration, which stands at `place`.
pub(super) fn config(
    judged: &Judged<'_>,
    place: &[Step<'_>],
    (key, value): (&str, &str),
    daemon: Option<Daemon>,
    p: &mut Problems,
) {
    if let Err(wrong) = lxd_keys::config(key, value, daemon) {
        let value_is_wrong = wrong.message.starts_with('`');
        let at = if value_is_wrong {
            judged.at(place)
        } else {
            judged.key(place)
        };
        p.error(at, wrong.message).maybe_hint(wrong.hint);
    }
}

/// One device, which stands at `place` and is there on `cards`.
pub(super) fn device(
    judged: &Judged<'_>,
    place: &[Step<'_>],
    keys: &BTreeMap<String, String>,
    cards: &[&ResolvedCard],
    p: &mut Problems,
) {
    if !judged.knows(place) {
        return;
    }
    for wrong in lxd_keys::device(keys) {
        let at = match &wrong.key {
            Some(key) => judged.key(&[place, steps![key]].concat()),
            None => judged.key(place),
        };
        p.error(at, wrong.message).maybe_hint(wrong.hint);
    }
    if keys.contains_key("hwaddr") {
        let at = judged.key(&[place, steps!["hwaddr"]].concat());
        p.error(at, "the address of a container is fixed by its `mac`")
            .hint("a `hwaddr` is copied to every container of a profile, and predictions would not know it");
    }
    kernel(judged, place, keys, p);
    if judged.knows_interfaces() {
        parent(judged, place, keys, cards, p);
    }
    if judged.knows(steps!["lxd", "storage", "name"]) {
        pool(judged, place, keys, p);
    }
}

/// The package that has the modules which the kernel of 22.04's images for the Pi comes without (its
/// `debian.raspi/control.d/raspi.inclusion-list`).
const EXTRA_MODULES: &str = "linux-modules-extra-raspi";

/// The kernel must know the kind of a nic.
fn kernel(judged: &Judged<'_>, place: &[Step<'_>], keys: &BTreeMap<String, String>, p: &mut Problems) {
    let Some(kind) = keys
        .get("nictype")
        .filter(|kind| ["macvlan", "ipvlan"].contains(&kind.as_str()))
    else {
        return;
    };
    let brings = |package: &String| package.starts_with(EXTRA_MODULES);
    if judged.release() == Some((22, 4)) && !judged.farm.packages.iter().any(brings) {
        let at = judged.at(&[place, steps!["nictype"]].concat());
        p.warning(at, format!("the kernel of {} has no module for {kind}", judged.farm.base))
            .hint(format!(
                "write `nictype: bridged`, or `packages: [{EXTRA_MODULES}]` and restart the Pi when it is installed"
            ));
    }
}

/// The bridge of a nic must be one that the farm makes.
fn parent(
    judged: &Judged<'_>,
    place: &[Step<'_>],
    keys: &BTreeMap<String, String>,
    cards: &[&ResolvedCard],
    p: &mut Problems,
) {
    let Some(key) = ["parent", "network"]
        .into_iter()
        .find(|key| keys.contains_key(*key))
    else {
        return;
    };
    let Some(parent) = keys
        .get(key)
        .filter(|_| keys.get("type").is_some_and(|kind| kind == "nic"))
    else {
        return;
    };
    let mut known: Vec<String> = Vec::new();
    let mut bridges: Vec<String> = Vec::new();
    let mut port_of = None;
    for network in cards.iter().map(|card| &card.network) {
        let port = network.port();
        if let Some(bridge) = &network.bridge {
            port_of = port_of.or_else(|| (port == *parent).then(|| bridge.clone()));
            bridges.push(bridge.clone());
        }
        known.push(port);
        known.push(network.uplink.clone());
    }
    let nat = judged.farm.lxd.as_ref().and_then(|lxd| lxd.nat.as_ref());
    bridges.extend(nat.map(|nat| nat.bridge.clone()));
    let at = judged.at(&[place, steps![key]].concat());
    if let Some(bridge) = port_of {
        p.error(
            at,
            format!(
                "{} is a port of {bridge} and cannot be used otherwise",
                quoted(parent)
            ),
        )
        .hint(format!("write nictype: bridged and parent: {bridge}"));
        return;
    }
    let is = |nictype: &str| keys.get("nictype").is_some_and(|kind| kind == nictype);
    if is("physical") && (known.contains(parent) || bridges.contains(parent)) {
        let message = format!(
            "the container would take {} away from the Pi itself",
            quoted(parent)
        );
        p.error(at, message)
            .hint("write nictype: macvlan, or bridged on the bridge");
        return;
    }
    if known.contains(parent) && is("bridged") {
        p.error(at, format!("{} is not a bridge", quoted(parent)))
            .hint("write nictype: macvlan, or declare a `bridge` under `network`");
        return;
    }
    known.extend(bridges);
    if known.contains(parent) {
        return;
    }
    let maker = if cards.len() < judged.farm.cards.len() {
        "no card that has this container makes the interface"
    } else {
        "the farm makes no interface"
    };
    let message = format!("{maker} {}", quoted(parent));
    // An overlay may bring interfaces that a farm cannot see.
    let problem = if judged.farm.overlays.is_empty() && judged.farm.files.is_empty() {
        Problem::error(at, message)
    } else {
        Problem::warning(at, message)
    };
    known.sort();
    known.dedup();
    let hint = p.did_you_mean(parent, known.iter().map(String::as_str));
    p.push(problem.hint(hint.unwrap_or_else(|| format!("there are {}", known.join(", ")))));
}

fn pool(judged: &Judged<'_>, place: &[Step<'_>], keys: &BTreeMap<String, String>, p: &mut Problems) {
    let Some(lxd) = &judged.farm.lxd else { return };
    let Some(pool) = keys.get("pool").filter(|pool| **pool != lxd.storage.name) else {
        return;
    };
    let at = judged.at(&[place, steps!["pool"]].concat());
    p.error(at, format!("there is no storage pool {}", quoted(pool)))
        .hint(format!("the farm's pool is {}", quoted(&lxd.storage.name)));
}
