//! Base, hosts, boot, packages and files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{steps, Judged};
use crate::base::locate::BaseRef;
use crate::base::mounts;
use crate::edit::tree::Mount;
use crate::farm::decode::boot::{self, longest_cmdline};
use crate::farm::node::{Span, Step};
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::timezones;
use crate::farm::{FileSource, Ipv6};

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    base(judged, p);
    timezone(judged, p);
    hosts(judged, p);
    boot(judged, p);
    once(judged, steps!["packages"], &judged.farm.packages, p);
    once(judged, steps!["overlays"], &judged.farm.overlays, p);
    files(
        judged,
        steps!["files"],
        &judged.farm.files,
        mounts::always_covered,
        p,
    );
    for path in judged.farm.files.keys() {
        if OWN.iter().any(|own| Path::new(path).starts_with(own)) {
            let at = judged.key(steps!["files", path]);
            p.error(at, format!("palmfarm itself keeps {}", quoted(path)));
        }
    }
    dns(judged, p);
}

/// Folders of palmfarm's own on the card.
const OWN: &[&str] = &[
    "/etc/palmfarm",
    "/usr/lib/palmfarm",
    "/lib/palmfarm",
    "/var/lib/palmfarm",
];

/// The folder of a container that covers `path`, and what is there. Files are pushed into a running one, so that those
/// below `/run` are seen by what runs next.
pub(super) fn covered_in_container(path: &str) -> Option<(&'static str, &'static str)> {
    mounts::always_covered(path).filter(|(folder, _)| ["/dev", "/proc", "/sys"].contains(folder))
}

fn base(judged: &Judged<'_>, p: &mut Problems) {
    let (base, sha256) = (&judged.farm.base, &judged.farm.sha256);
    let at = judged.at(steps!["base"]);
    if BaseRef::new(base) == BaseRef::Name("mini") {
        p.warning(at, "no Pi starts from `mini`: it is for trying palmfarm out")
            .hint("`palmfarm base suggest 3` says which image suits a Pi 3");
    }
    match (BaseRef::new(base), sha256) {
        (BaseRef::Name("mini"), Some(_)) => {
            let at = judged.key(steps!["sha256"]);
            p.warning(at, "`mini` is built in, so there is no download to compare with");
        }
        _ if !judged.knows(steps!["sha256"]) => {}
        (BaseRef::Url(url), None) if url.starts_with("http://") => {
            p.error(at, "http downloads are not authenticated")
                .hint("write its `sha256`, or an https:// URL");
        }
        (BaseRef::Url(url), None) if url.starts_with("https://") => {
            p.warning(at, "nothing proves that this download is the right file")
                .hint("write its `sha256`, which the server lists beside it");
        }
        _ => {}
    }
}

/// An old name of a time zone, on a release whose images know the new ones only.
fn timezone(judged: &Judged<'_>, p: &mut Problems) {
    let Some(old) = &judged.farm.timezone else { return };
    let is_new = judged.release().is_some_and(|release| release >= (23, 10));
    if let Some(new) = timezones::renamed(old).filter(|_| is_new) {
        let message = format!("{} is an old name, which the base does not know", quoted(old));
        p.warning(judged.at(steps!["timezone"]), message)
            .hint(format!("write {new}; with the old name the clock stays at UTC"));
    }
}

/// Every card has a host name, and no two have the same name or hardware address.
fn hosts(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    if farm.cards.is_empty() {
        let is_known = judged.knows(steps!["cards"]) && judged.knows(steps!["hostname"]);
        if farm.hostname.is_none() && judged.has(steps!["cards"]) && is_known {
            p.error(judged.key(steps!["cards"]), "the farm has no card")
                .hint("declare one here, or name the only one by `hostname`");
        }
        return;
    }
    unused_hostname(judged, p);
    let mut hosts: BTreeMap<String, String> = BTreeMap::new();
    let mut macs = BTreeMap::new();
    for card in farm.resolved_cards() {
        if let Some(other) = hosts.insert(card.hostname.to_ascii_lowercase(), card.name.clone()) {
            let path: &[Step<'_>] = steps!["cards", &card.name, "hostname"];
            let at = if judged.has(path) {
                judged.at(path)
            } else {
                judged.key(steps!["cards", &card.name])
            };
            let message = format!(
                "card {} has the host name of card {}",
                quoted(&card.name),
                quoted(&other)
            );
            p.error(at, message);
        }
        let Some(mac) = card.mac else { continue };
        if let Some(other) = macs.insert(mac, card.name.clone()) {
            let at = judged.at(steps!["cards", &card.name, "mac"]);
            p.error(at, format!("{mac} is the MAC of card {} already", quoted(&other)));
        }
    }
}

/// The name of the only card is its host name, and then the farm's `hostname` does nothing.
fn unused_hostname(judged: &Judged<'_>, p: &mut Problems) {
    let cards = judged.farm.resolved_cards();
    let (Some(name), [card]) = (&judged.farm.hostname, cards.as_slice()) else {
        return;
    };
    if card.hostname.eq_ignore_ascii_case(name) || !judged.knows_keys(steps!["cards"]) {
        return;
    }
    let (name, other) = (quoted(name), quoted(&card.hostname));
    let message = format!("the host is called {other}, and not {name}: the name of its card counts");
    p.warning(judged.at(steps!["hostname"]), message).hint(format!(
        "call the card {name} under `cards`, or leave `hostname` out"
    ));
}

/// Bytes of the kernel command line that a farm leaves to its base: Ubuntu's images have up to 170, and palmfarm adds 36.
const OF_THE_BASE: usize = 256;

fn boot(judged: &Judged<'_>, p: &mut Problems) {
    once(judged, steps!["boot", "cmdline"], &judged.farm.boot.cmdline, p);
    for (index, word) in judged.farm.boot.cmdline.iter().enumerate() {
        let at = judged.at(steps!["boot", "cmdline", index]);
        let key = word.split('=').next().unwrap_or_default();
        if let Some(why) = boot::stops(word).or_else(|| boot::supplants(word)) {
            p.warning(at, format!("the kernel would have `{word}`, {why}"))
                .hint("leave the word out, unless that is meant");
        } else if ["root", "rootfstype", "rootwait", "ro", "rw"].contains(&key) {
            p.warning(at, of_the_base(key));
        }
        turned_off(judged, word, at, p);
    }
    // What kernel a path or URL leads to is known once the base is opened.
    let is_32_bit = judged.base == "mini" || judged.base.ends_with("-armhf");
    let most = longest_cmdline(is_32_bit).saturating_sub(OF_THE_BASE);
    let words = &judged.farm.boot.cmdline;
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    if bytes > most {
        let message = format!(
            "these words have {bytes} bytes, and the kernel has room for {most} beside the base's own"
        );
        p.error(judged.at(steps!["boot", "cmdline"]), message);
    }
    config(judged, p);
}

/// Lines of config.txt that take something from the base, that no firmware reads, or that a later one makes void.
fn config(judged: &Judged<'_>, p: &mut Problems) {
    let mut section = "all";
    let mut seen = BTreeSet::new();
    for (index, line) in judged.farm.boot.config.iter().enumerate() {
        if let Some(name) = boot::section_name(line) {
            section = name;
            if let Some(known) = boot::unknown_section(name) {
                let at = judged.at(steps!["boot", "config", index]);
                let hint = p.did_you_mean(name, known.iter().copied());
                let hint = hint.unwrap_or_else(|| "write one such as [all], [pi3] or [pi4]".into());
                p.warning(
                    at,
                    format!("{} is not a section that the firmware knows", quoted(name)),
                )
                .hint(hint);
            }
            continue;
        }
        // An invalid line is empty.
        let Some((key, _)) = line.split_once('=') else {
            continue;
        };
        let mapped: &[Step<'_>] = steps!["boot", "config", key];
        let at = if judged.has(mapped) {
            judged.key(mapped)
        } else {
            judged.at(steps!["boot", "config", index])
        };
        if ["kernel", "initramfs", "cmdline", "os_prefix", "device_tree"].contains(&key) {
            p.warning(at, of_the_base(key));
        }
        if !seen.insert((section, key)) && !boot::ADDING.contains(&key) {
            p.warning(
                at,
                format!("`{key}` is set before in [{section}], and only the last one counts"),
            )
            .hint("remove one of the two");
        }
    }
}

fn of_the_base(key: &str) -> String {
    format!("`{key}` belongs to the base; with another value the Pi may not start")
}

/// A word of the kernel command line must not turn off what the farm declares.
fn turned_off(judged: &Judged<'_>, word: &str, at: Span, p: &mut Problems) {
    let farm = judged.farm;
    let cards = farm.resolved_cards();
    match word.split_once('=') {
        Some(_) if boot::turns_ipv6_off(word) && judged.knows_interfaces() => {
            let nat = farm.lxd.as_ref().and_then(|lxd| lxd.nat.as_ref());
            let mut without = Vec::new();
            if cards.iter().any(|card| card.network.ipv6 != Ipv6::None) {
                without.push("`network: {ipv6: none}`");
            }
            if nat.is_some_and(|nat| nat.ipv6.is_some()) {
                without.push("`lxd: {nat: {ipv6: none}}`");
            }
            if !without.is_empty() {
                p.error(
                    at,
                    format!("`{word}` turns off IPv6, and the network of this farm has it"),
                )
                .hint(format!("leave the word out, or write {}", without.join(" and ")));
            }
        }
        Some(("systemd.mask", unit)) if is_needed(unit) => {
            p.error(at, format!("`{word}` turns off {unit}, which the card needs"))
                .hint("leave the word out");
        }
        Some(("cloud-init", "disabled")) => {
            let message = "`cloud-init=disabled` turns off what makes users and grows the root filesystem";
            p.error(at, message).hint("leave the word out");
        }
        _ => {}
    }
}

/// Whether every card needs `unit`, by the beginnings of names.
fn is_needed(unit: &str) -> bool {
    let needed = [
        "cloud-config.",
        "cloud-final.",
        "cloud-init.",
        "cloud-init-local.",
        "cloud-init-main.",
        "cloud-init-network.",
        "palmfarm-",
        "systemd-networkd.",
        "systemd-resolved.",
        "systemd-udevd.",
    ];
    needed.iter().any(|beginning| unit.starts_with(beginning))
}

/// No item of the list at `place` is in it twice. Empty ones are invalid, which has been reported.
pub(super) fn once(judged: &Judged<'_>, place: &[Step<'_>], list: &[String], p: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate().filter(|(_, item)| !item.is_empty()) {
        if !seen.insert(item) {
            let at = judged.at(&[place, steps![index]].concat());
            p.error(at, format!("{} is here twice", quoted(item)));
        }
    }
}

/// Paths that nobody would see, and paths of which one would have to be both file and folder.
pub(super) fn files(
    judged: &Judged<'_>,
    at: &[Step<'_>],
    files: &BTreeMap<String, FileSource>,
    covered: fn(&str) -> Option<(&'static str, &'static str)>,
    p: &mut Problems,
) {
    for path in files.keys() {
        let mut tell = |message: String, hint: Option<&str>| {
            let mut place = at.to_vec();
            place.push(Step::from(path));
            p.error(judged.key(&place), message).maybe_hint(hint);
        };
        // A file in the place of the folder itself would not be seen either.
        if let Some((folder, what)) = covered(&format!("{path}/")) {
            tell(format!("{folder} is covered by {what}"), Some(Mount::HINT));
        }
        let parents = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        for parent in parents.filter(|parent| files.contains_key(*parent)) {
            let parent = quoted(parent);
            tell(
                format!("{parent} is a file of the farm, so nothing can be in it"),
                None,
            );
        }
    }
}

/// Names in the zone are at most 253 bytes long, and its name server has one of its own.
fn dns(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    let Some(dns) = &farm.dns else { return };
    let names = farm.containers.iter().map(|container| container.name.len());
    // In a fleet a container may be called NAME.HOST.
    let hosts = farm.cards.iter().filter(|_| farm.cards.len() > 1);
    let hosts = hosts.map(|(name, card)| card.hostname.as_ref().unwrap_or(name).len().saturating_add(1));
    let longest = names
        .max()
        .unwrap_or_default()
        .saturating_add(hosts.max().unwrap_or_default())
        .saturating_add(dns.zone.len() + 4);
    if longest > 253 && dns.zone.len() <= 253 {
        let at = judged.at(steps!["dns", "zone"]);
        p.error(
            at,
            "with the names of the containers in front, names in this zone are longer than 253 bytes",
        );
    }
    if dns.ns.is_empty() {
        return;
    }
    let at = judged.key(steps!["dns", "ns"]);
    if dns.serial.is_none() {
        p.error(
            at,
            "only a whole zone names its name server, and without `serial` there is no whole zone",
        )
        .hint("add `serial: 1`, or remove `ns`");
    }
    let hosts = farm.resolved_cards().into_iter().map(|card| card.hostname);
    // Names of replicas end in a number.
    let containers = farm.containers.iter().filter(|one| one.replicas.is_none());
    let mut names = hosts.chain(containers.map(|one| one.name.clone()));
    if names.any(|name| name.eq_ignore_ascii_case("ns")) {
        p.error(
            at,
            "the name server is called `ns` in the zone, and so is a host or a container",
        )
        .hint("rename that one, or remove `ns`");
    }
}
