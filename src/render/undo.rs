//! What the base has in the way of a card and can be undone on it, each with its reason in the plan. It never decides what
//! is refused: that is `refuse`.

use std::collections::{BTreeMap, BTreeSet};

use palmfarm_protocol::firstboot::Network;

use super::builder::{TreeBuilder, UNITS};
use super::{RenderError, UNDONE};
use crate::base::{Accounts, BaseFacts, Hindrances, NetworkdFile, Remains};
use crate::edit::tree::{CardPath, Node, Privacy, Volume};
use crate::farm::Ipv6;
use crate::plan::CardPlan;

/// Units that a card needs as their packages have them.
const NEEDED: [&str; 50] = [
    "basic.target",
    "cloud-config.service",
    "cloud-config.target",
    "cloud-final.service",
    "cloud-init-local.service",
    "cloud-init-main.service",
    "cloud-init-network.service",
    "cloud-init.service",
    "cloud-init.target",
    "dbus-broker.service",
    "dbus.service",
    "dbus.socket",
    "default.target",
    "kmod-static-nodes.service",
    "local-fs-pre.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "paths.target",
    "remote-fs.target",
    "slices.target",
    "sockets.target",
    "ssh.service",
    "ssh.socket",
    "sysinit.target",
    "system.slice",
    "systemd-fsck-root.service",
    "systemd-hostnamed.service",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-remount-fs.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    // Until it has run, pam_nologin lets in nobody but root (systemd-user-sessions.service(8)).
    "systemd-user-sessions.service",
    "timers.target",
];

/// Those that it needs besides if it has a container daemon.
const NEEDED_BY_DAEMON: [&str; 10] = [
    "incus.service",
    "incus.socket",
    "lxd-installer.socket",
    "lxd.service",
    "lxd.socket",
    "lxd-containers.service",
    "snapd.apparmor.service",
    "snapd.seeded.service",
    "snapd.service",
    "snapd.socket",
];

/// Services that would configure the interfaces of systemd-networkd a second time. `@.service`: one for each interface.
const OTHER_MANAGERS: [&str; 15] = [
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "connman.service",
    "connman-wait-online.service",
    "dhclient.service",
    "dhclient@.service",
    "dhcpcd.service",
    "dhcpcd5.service",
    "dhcpcd@.service",
    "ifplugd.service",
    "netctl-ifplugd@.service",
    "netctl.service",
    "netctl@.service",
    "snap.network-manager.networkmanager.service",
    "wicd.service",
];

/// Plan what undoes it.
pub(super) fn render(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let odd = &base.hindrances;
    for Remains { path, what } in &base.remains {
        remove(build, path, what)?;
    }
    let found = hindering(plan, odd);
    let masks: BTreeSet<String> = found
        .iter()
        .filter_map(|found| mask_of_rules(found.path))
        .collect();
    for Hindering { path, what } in &found {
        if let Some(mask) = mask_of_rules(path) {
            build.link(&mask, "/dev/null", &format!("{UNDONE}{what}"))?;
        } else if !masks.contains(path.as_str()) {
            remove(build, path, what)?;
        }
    }
    starts_ssh(build, base)?;
    managers(build, base)?;
    lock_accounts(build, &base.accounts)?;
    if !odd.ipv6_off.is_empty() && wants_ipv6(plan) {
        let keys: BTreeSet<&String> = odd.ipv6_off.iter().map(|(key, _)| key).collect();
        let lines: String = keys.into_iter().map(|key| format!("{key} = 0\n")).collect();
        build.public(
            Volume::Root,
            &after(&odd.ipv6_off),
            &format!("# palmfarm: the base turns IPv6 off.\n{lines}"),
            &format!("{UNDONE}the base turns IPv6 off"),
        )?;
    }
    // What a package has below `/usr` is overridden in `/etc`.
    let network = &plan.firstboot.network;
    for file in odd.networkd.iter().filter(|file| file.is_packaged) {
        if takes_over(network, file, &odd.networkd) {
            let path = format!("/etc/systemd/network/{}", file.path.name());
            build.link(&path, "/dev/null", &format!("{UNDONE}{OTHERWISE}"))?;
        }
    }
    Ok(())
}

/// The file of sysctl.d(5) that comes after those that turn IPv6 off: of several values the last holds, and files are read
/// in the order of their names, byte by byte. `~` comes after the letters.
fn after(turned_off: &[(String, CardPath)]) -> String {
    const OURS: &str = "~palmfarm-ipv6.conf";
    let last = turned_off
        .iter()
        .map(|(_, path)| path.name())
        .max()
        .unwrap_or_default();
    let beginning = if last < OURS {
        ""
    } else {
        last.strip_suffix(".conf").unwrap_or(last)
    };
    format!("/etc/sysctl.d/{beginning}{OURS}")
}

/// Where a link to `/dev/null` turns off the rules of udev's at `path`, if a package has them (udev(7)).
fn mask_of_rules(path: &CardPath) -> Option<String> {
    let path = path.as_str();
    let name = ["/usr/lib/udev/rules.d/", "/lib/udev/rules.d/"]
        .iter()
        .find_map(|dir| path.strip_prefix(dir))?;
    Some(format!("/etc/udev/rules.d/{name}"))
}

const OTHERWISE: &str = "it would configure an interface of the card otherwise";

/// A file that would keep the card from its work, and how.
pub(super) struct Hindering<'h> {
    pub(super) path: &'h CardPath,
    pub(super) what: String,
}

/// The files among `odd` that would, but for those of packages.
pub(super) fn hindering<'h>(plan: &CardPlan, odd: &'h Hindrances) -> Vec<Hindering<'h>> {
    let network = &plan.firstboot.network;
    let mut found = units(plan, odd);
    let mut tell = |path, what: &str| {
        let what = what.to_owned();
        found.push(Hindering { path, what });
    };
    for Remains { path, what } in &odd.remains {
        tell(path, what);
    }
    for (path, names) in &odd.naming_rules {
        // A rule that gives the uplink its name is what the farm counts on.
        if !names.contains(&network.uplink) {
            tell(path, "it gives interfaces other names");
        }
    }
    for file in odd.networkd.iter().filter(|file| !file.is_packaged) {
        if takes_over(network, file, &odd.networkd) {
            tell(&file.path, OTHERWISE);
        }
    }
    found
}

fn remove(build: &mut TreeBuilder, path: &CardPath, what: &str) -> Result<(), RenderError> {
    let origin = format!("{UNDONE}{what}");
    build.add(
        Volume::Root,
        path.as_str(),
        Node::Absent,
        &origin,
        Privacy::Public,
    )
}

fn units<'h>(plan: &CardPlan, odd: &'h Hindrances) -> Vec<Hindering<'h>> {
    let mut found = Vec::new();
    let daemon = needed_by_daemon(plan);
    let is_needed = needed(plan);
    let odd_units = odd.replaced_units.iter();
    for path in odd_units.filter(|path| is_needed(path.name())) {
        let what = format!("{} is masked or changed", path.name());
        found.push(Hindering { path, what });
    }
    for (of, path) in &odd.drop_ins {
        let unit = NEEDED.iter().chain(daemon).find(|unit| applies(of, unit));
        let what = match unit {
            Some(unit) => format!("{unit} would start otherwise, or not at all"),
            None if of.starts_with("palmfarm-") => "it changes a unit of palmfarm's".into(),
            None => continue,
        };
        found.push(Hindering { path, what });
    }
    found
}

fn needed_by_daemon(plan: &CardPlan) -> &'static [&'static str] {
    if plan.firstboot.lxd.is_some() {
        &NEEDED_BY_DAEMON
    } else {
        &[]
    }
}

/// Which units a card of `plan` needs as their packages have them.
pub(super) fn needed(plan: &CardPlan) -> impl Fn(&str) -> bool {
    let daemon = needed_by_daemon(plan);
    |unit| NEEDED.contains(&unit) || daemon.contains(&unit)
}

fn starts_ssh(build: &mut TreeBuilder, base: &BaseFacts) -> Result<(), RenderError> {
    if base.has_unit("ssh.service") && !base.starts_ssh {
        build.link(
            &format!("{UNITS}/multi-user.target.wants/ssh.service"),
            "/lib/systemd/system/ssh.service",
            &format!("{UNDONE}nothing starts sshd"),
        )?;
    }
    Ok(())
}

/// Whether the drop-ins in `OF.d` are for `unit` (systemd.unit(5)): `of` is the unit, its type, or a part of its name that
/// ends in a dash.
fn applies(of: &str, unit: &str) -> bool {
    if of == unit {
        return true;
    }
    let Some((name, kind)) = unit.rsplit_once('.') else {
        return false;
    };
    match of.rsplit_once('.') {
        None => of == kind,
        Some((beginning, of_kind)) => {
            of_kind == kind && beginning.ends_with('-') && name.starts_with(beginning)
        }
    }
}

fn managers(build: &mut TreeBuilder, base: &BaseFacts) -> Result<(), RenderError> {
    let is_there = |unit: &str| base.has_unit(unit) || base.hindrances.own_units.contains(unit);
    for unit in OTHER_MANAGERS.into_iter().filter(|unit| is_there(unit)) {
        let origin = format!("{UNDONE}it would configure the interfaces, too");
        build.link(&format!("{UNITS}/{unit}"), "/dev/null", &origin)?;
    }
    Ok(())
}

/// Lock every password of the base. The accounts stay, since files may belong to them.
fn lock_accounts(build: &mut TreeBuilder, accounts: &Accounts) -> Result<(), RenderError> {
    let Some((shadow, access)) = accounts
        .shadow
        .as_ref()
        .filter(|_| !accounts.with_password.is_empty())
    else {
        return Ok(());
    };
    let locked: String = shadow
        .lines()
        .map(|line| format!("{}\n", locked(line, accounts)))
        .collect();
    let who: Vec<&str> = accounts.with_password.iter().map(String::as_str).collect();
    let node = Node::File {
        content: locked.into_bytes().into(),
        access: *access,
    };
    let origin = format!("{UNDONE}the base lets {} log in", who.join(", "));
    build.add(Volume::Root, "/etc/shadow", node, &origin, Privacy::Secret)
}

/// A line of shadow(5), without the password.
fn locked(line: &str, accounts: &Accounts) -> String {
    let mut fields: Vec<&str> = line.split(':').collect();
    let can_log_in = fields
        .first()
        .is_some_and(|name| accounts.with_password.contains(*name));
    if let Some(hash) = fields.get_mut(1).filter(|_| can_log_in) {
        *hash = "!";
    }
    fields.join(":")
}

/// The interfaces that palmfarm's own files configure, the uplink first.
pub(super) fn interfaces(network: &Network) -> Vec<String> {
    let mut ours = vec![network.uplink.clone(), network.port()];
    ours.extend(network.bridge.clone());
    ours
}

/// Whether `file`, one of `all`, would take an interface of the card's away from palmfarm's own files.
fn takes_over(network: &Network, file: &NetworkdFile, all: &[NetworkdFile]) -> bool {
    let ours = interfaces(network);
    let name = file.path.name();
    let own_of_link = |file: &NetworkdFile| value(&file.text, "Link", "Name").map(str::to_owned);
    match name.rsplit('.').next() {
        // The first file that matches an interface is the only one. Once ifupdown has taken over, those of palmfarm are gone.
        Some("network") => {
            let first = !file.is_packaged || name < "05-palmfarm";
            let joins = value(&file.text, "Network", "Bridge")
                .is_some_and(|bridge| ours.iter().any(|own| own == bridge));
            first && (joins || matches(&file.text, &ours))
        }
        // Two files that make one interface: systemd-networkd 237 gives up on everything.
        Some("netdev") => {
            value(&file.text, "NetDev", "Name").is_some_and(|made| ours.iter().any(|own| own == made))
        }
        // A file in `/etc` with the name of a package's file is in its place.
        Some("link") if !file.is_packaged => {
            let in_place_of = all
                .iter()
                .find(|other| other.is_packaged && other.path.name() == name);
            let uplink = Some(network.uplink.clone());
            let takes_name = in_place_of.is_some_and(|other| own_of_link(other) == uplink);
            let gives_other = own_of_link(file).is_some_and(|given| Some(given) != uplink);
            // Of the files that match, udev takes the first alone.
            let policy = own_of_link(file).is_none() && value(&file.text, "Link", "NamePolicy").is_some();
            let gives_other = gives_other || policy && !file.is_packaged || gives_address(&file.text);
            (takes_name && own_of_link(file) != uplink) || (gives_other && matches(&file.text, &ours[..1]))
        }
        _ => false,
    }
}

/// Whether a link file gives an interface another address than its own (systemd.link(5)): every card would have the same, or
/// a new one at each boot, and its IPv6 address follows from it.
fn gives_address(link: &str) -> bool {
    value(link, "Link", "MACAddress").is_some() || value(link, "Link", "MACAddressPolicy") == Some("random")
}

/// Whether a file for systemd-networkd or udev may match one of `interfaces`. What does not go by the name may match.
fn matches(text: &str, interfaces: &[String]) -> bool {
    let names = ["Name", "OriginalName"].map(|key| list(text, "Match", key));
    // An empty file, or a link to /dev/null, turns off a package's file of the same name.
    let Some(patterns) = names.into_iter().find(|patterns| !patterns.is_empty()) else {
        return !text.trim().is_empty();
    };
    let has_wildcard = |pattern: &str| pattern.contains(['*', '?', '[', '!']);
    patterns
        .iter()
        .any(|pattern| has_wildcard(pattern) || interfaces.iter().any(|own| own == pattern))
}

/// Whether a file for systemd-networkd names one of `interfaces`.
pub(super) fn names_one(text: &str, interfaces: &[String]) -> bool {
    let patterns = list(text, "Match", "Name");
    patterns
        .iter()
        .any(|pattern| interfaces.iter().any(|own| own == pattern))
}

/// The last value of `key` in the section `name` of a file in systemd's format.
fn value<'a>(text: &'a str, name: &'a str, key: &'a str) -> Option<&'a str> {
    values(text, name, key).last()
}

/// The values of `key` in the section `name`, where it is a list: more lines add to it, and an empty one clears it.
fn list<'a>(text: &'a str, name: &'a str, key: &'a str) -> Vec<&'a str> {
    values(text, name, key).fold(Vec::new(), |mut all, value| {
        if value.is_empty() {
            all.clear();
        }
        let words = value.split_whitespace();
        all.extend(words.map(|word| word.trim_matches(['"', '\''])));
        all
    })
}

fn values<'a>(text: &'a str, name: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = section(text, name).filter_map(|line| line.split_once('='));
    pairs.filter_map(move |(found, value)| (found.trim() == key).then_some(value.trim()))
}

/// The lines of the section `name` that are not comments.
fn section<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut inside = false;
    text.lines().map(str::trim).filter(move |line| {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']) == name;
            return false;
        }
        inside && !line.is_empty() && !line.starts_with(['#', ';'])
    })
}

/// Whether an interface of the card gets IPv6 addresses.
pub(super) fn wants_ipv6(plan: &CardPlan) -> bool {
    let managed = plan.firstboot.lxd.iter().flat_map(|lxd| &lxd.preseed.networks);
    let has_address = |config: &BTreeMap<String, String>| {
        config
            .get("ipv6.address")
            .is_some_and(|address| address != "none")
    };
    plan.firstboot.network.ipv6 != Ipv6::None
        || managed.into_iter().any(|network| has_address(&network.config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_goes_by_the_name_if_there_is_one() {
        let ours = ["eth0".to_owned(), "br0".to_owned()];
        let check = |text: &str, expect: bool| assert_eq!(matches(text, &ours), expect, "{text}");
        check("[Match]\nName=eth0\n", true);
        check("[Match]\nName=wlan0 br0\n", true);
        check("[Match]\nName=wlan0\nType=ether\n", false);
        check("[Match]\nName=en* eth*\n", true);
        check("[Match]\nName=eth0\nName=wlan0\n", true);
        check("[Match]\nName=eth0\nName=\nName=wlan0\n", false);
        check("[Match]\nName=\"eth0\"\n", true);
        check("[Match]\nOriginalName=eth1\n[Link]\nName=lan0\n", false);
        check("[Match]\nMACAddress=b8:27:eb:00:00:01\n", true);
        check("# [Match]\n[Network]\nDHCP=yes\n", true);
        check("", false);
    }

    #[test]
    fn drop_ins_are_for_units_types_and_beginnings() {
        let unit = "cloud-init-local.service";
        for of in [unit, "service", "cloud-.service", "cloud-init-.service"] {
            assert!(applies(of, unit), "{of}");
        }
        for of in [
            "cloud-init.service",
            "target",
            "cloud.service",
            "cloud-.target",
            "init-.service",
        ] {
            assert!(!applies(of, unit), "{of}");
        }
    }
}
