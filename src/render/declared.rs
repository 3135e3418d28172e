//! What of a farm's files and overlays would keep its card from what the plan promises: the rules by which bases are
//! judged, and the places where palmfarm itself writes. Nothing here is undone, since somebody declared it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::undo::{self, Hindering};
use super::{effect, fstab, refuse};
use crate::base::{CloudSettings, Hindrances};
use crate::edit::tree::{CardPath, Node, Volume};
use crate::farm::Renderer;
use crate::plan::CardPlan;

/// One thing that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    pub volume: Volume,
    pub path: CardPath,
    /// What it does: "takes the place of …".
    pub what: String,
    /// What the person can do.
    pub hint: Cow<'static, str>,
    /// Whether no card with it would come up as planned, so that none is made.
    pub is_certain: bool,
}

/// What somebody may do who means it.
const MEANT: &str = "leave it out, unless that is meant";

const OWN: &str = "leave it out: palmfarm makes what is there from farm.yaml";

/// A place where palmfarm writes.
struct Own {
    volume: Volume,
    /// A `*` at the end stands for any text, also with slashes after a slash. A name alone is in any folder.
    pattern: &'static str,
    what: &'static str,
    hint: &'static str,
    is_certain: bool,
}

const fn own(pattern: &'static str, what: &'static str, hint: &'static str, is_certain: bool) -> Own {
    Own {
        volume: Volume::Root,
        pattern,
        what,
        hint,
        is_certain,
    }
}

const fn on_boot(pattern: &'static str, what: &'static str, hint: &'static str) -> Own {
    Own {
        volume: Volume::Boot,
        ..own(pattern, what, hint, false)
    }
}

const AGENT: &str = "is where palmfarm puts what its agent works from";

const SEED: &str = "takes the place of the seed from which cloud-init makes users and settings";

const UNREAD: &str = "is read by nobody: cloud-init is told to take its seed from the root filesystem alone";

const DECLARE: &str = "declare users and settings in farm.yaml";

const RASPBIAN: &str = "is for Raspberry Pi OS; on this card nobody reads it";

static PLACES: [Own; 24] = [
    own("/etc/palmfarm/*", AGENT, OWN, true),
    own("/usr/lib/palmfarm/*", AGENT, OWN, true),
    own("/usr/sbin/palmfarm-agent", AGENT, OWN, true),
    own("/var/lib/palmfarm/*", AGENT, OWN, true),
    own("/var/lib/cloud/seed/nocloud-net/user-data", SEED, DECLARE, true),
    own("/var/lib/cloud/seed/nocloud-net/meta-data", SEED, DECLARE, true),
    own(
        "/etc/cloud/cloud.cfg.d/99-palmfarm-*",
        "takes the place of what palmfarm tells cloud-init",
        OWN,
        true,
    ),
    own("/etc/systemd/system/palmfarm-*", "takes the place of a unit of palmfarm's", MEANT, false),
    own("90-palmfarm.conf", "takes the place of a drop-in of palmfarm's", MEANT, false),
    own(
        "/etc/systemd/network/05-palmfarm-*",
        "takes the place of a file with which palmfarm configures the network",
        "write it under `network:`; what that does not have goes into a drop-in, FILE.d/NAME.conf beside that file",
        false,
    ),
    own(
        "/etc/hostname",
        "takes the place of the card's host name",
        "write `hostname:` in farm.yaml",
        false,
    ),
    own("/etc/machine-id", "gives each card the same identifier", MEANT, false),
    own("/var/lib/dbus/machine-id", "gives each card the same identifier", MEANT, false),
    own(
        "/etc/resolv.conf",
        "takes the place of the link by which the card asks the resolvers of its network",
        MEANT,
        false,
    ),
    on_boot(
        "/config.txt",
        "takes the place of the base's whole config.txt, without which the Pi may not start",
        "write the lines that you want under `boot: {config: […]}`",
    ),
    on_boot(
        "/cmdline.txt",
        "takes the place of the kernel command line that palmfarm makes of the base's",
        "write the words that you want under `boot: {cmdline: […]}`",
    ),
    on_boot(
        "/current/cmdline.txt",
        "takes the place of the kernel command line that palmfarm makes of the base's",
        "write the words that you want under `boot: {cmdline: […]}`",
    ),
    on_boot("/user-data", UNREAD, DECLARE),
    on_boot("/meta-data", UNREAD, DECLARE),
    on_boot("/network-config", UNREAD, "write it under `network:`"),
    on_boot("/ssh", RASPBIAN, "leave it out: sshd starts by itself"),
    on_boot("/userconf.txt", RASPBIAN, "declare `users:` in farm.yaml"),
    on_boot("/custom.toml", RASPBIAN, DECLARE),
    on_boot("/wpa_supplicant.conf", RASPBIAN, "leave it out: a farm's uplink is wired"),
];

/// What of `nodes`, which the files and overlays of a farm lay over the base, is in the way of its card `plan`. `odd` is
/// what a survey finds among them.
pub fn objections(
    plan: &CardPlan,
    nodes: &BTreeMap<(Volume, &CardPath), &Node>,
    odd: &Hindrances,
) -> Vec<Objection> {
    let mut found: Vec<Objection> = Vec::new();
    for ((volume, path), node) in nodes {
        if let Some(own) = place(*volume, path).filter(|_| !is_as_planned(plan, path, node)) {
            found.push(Objection {
                volume: *volume,
                path: (*path).clone(),
                what: own.what.into(),
                hint: own.hint.into(),
                is_certain: own.is_certain || turns_off(plan, path, node),
            });
        }
    }
    // What is at such a place is not judged a second time.
    let owned: BTreeSet<CardPath> = found.iter().map(|told| told.path.clone()).collect();
    let mut tell = |path: &CardPath, what: String, hint: &'static str| {
        let node = nodes.get(&(Volume::Root, path));
        if owned.contains(path) {
            return;
        }
        found.push(Objection {
            volume: Volume::Root,
            path: path.clone(),
            what: format!("is in the way of what palmfarm plans: {what}"),
            hint: hint.into(),
            is_certain: node.is_some_and(|node| turns_off(plan, path, node)),
        });
    };
    let network = &plan.firstboot.network;
    let interfaces = undo::interfaces(network);
    for Hindering { path, what } in undo::hindering(plan, odd) {
        let file = odd.networkd.iter().find(|file| file.path == *path);
        // Of the files that match an interface systemd-networkd takes the first alone, until ifupdown has taken over.
        let comes_later = path.name() > "05-palmfarm" && network.renderer == Renderer::Networkd;
        let harmless = |text: &str| comes_later && !undo::names_one(text, &interfaces);
        if !file.is_some_and(|file| path.name().ends_with(".network") && harmless(&file.text)) {
            tell(path, what, MEANT);
        }
    }
    for (blocked, without) in refuse::needed_modules(plan, &odd.blocked_modules) {
        let (line, module) = (blocked.line, &blocked.module);
        let what =
            format!("its line {line} keeps the module {module} from being loaded, without which {without}");
        tell(&blocked.path, what, "leave that line out, unless that is meant");
    }
    for (key, path) in odd.ipv6_off.iter().filter(|_| undo::wants_ipv6(plan)) {
        let interface = key.split('.').nth(3).unwrap_or_default();
        if matches!(interface, "all" | "default") || interfaces.iter().any(|own| own == interface) {
            let what = format!("its {key} turns IPv6 off, and the network of this farm has it");
            tell(
                path,
                what,
                "leave that line out, or write `network: {ipv6: none}`",
            );
        }
    }
    for (path, what, hint) in odd.cloud_settings.iter().flat_map(of_cloud_settings) {
        tell(path, what, hint);
    }
    for (said, locale) in refuse::locales(plan, &odd.locale) {
        let what = format!(
            "its line {} sets {}={}, which would count in place of `locale: {locale}`",
            said.line, said.key, said.value
        );
        tell(&said.path, what, "leave that line out, or leave `locale` out");
    }
    let is_needed = undo::needed(plan);
    for path in odd.masked_units.iter().filter(|path| is_needed(path.name())) {
        tell(path, format!("{} is masked", path.name()), MEANT);
    }
    for path in &odd.replaced_units {
        if let Some(target) = refuse::mounts_over(path.name()) {
            tell(path, hides(&target), MEANT);
        }
    }
    for ((volume, path), node) in nodes {
        let Node::File { content, .. } = node else {
            continue;
        };
        if *volume == Volume::Root {
            let text = String::from_utf8_lossy(content);
            if let Some(what) = in_text(path, &text, &interfaces) {
                tell(path, what, MEANT);
            }
        }
    }
    found.extend(of_files(nodes, &owned));
    found
}

/// What a file of cloud-init's settings does that no card needs: where, what, and what to do.
fn of_cloud_settings(settings: &CloudSettings) -> impl Iterator<Item = (&CardPath, String, &'static str)> {
    let withholds = settings.withholds.join(", ");
    let withholds =
        (!withholds.is_empty()).then(|| (format!("it sets {withholds}, on which every card depends"), MEANT));
    let overrules = settings.overrules.join(", ");
    let overrules = (!overrules.is_empty()).then(|| {
        let what = format!("it sets {overrules}, which cloud-init reads after palmfarm's own settings");
        (
            what,
            "leave them out, or give the file a name that sorts before 99-palmfarm",
        )
    });
    let both = withholds.into_iter().chain(overrules);
    both.map(|(what, hint)| (&settings.path, what, hint))
}

/// What is wrong with the files of the root filesystem by themselves, but for those in `owned`.
fn of_files(nodes: &BTreeMap<(Volume, &CardPath), &Node>, owned: &BTreeSet<CardPath>) -> Vec<Objection> {
    let mut found = Vec::new();
    for ((volume, path), node) in nodes {
        let Node::File { content, access } = node else {
            continue;
        };
        if *volume != Volume::Root || owned.contains(*path) {
            continue;
        }
        if path.as_str() == fstab::PATH {
            found.extend(of_fstab(path, &String::from_utf8_lossy(content)));
        }
        let lacking = effect::lacking(path, content, *access);
        found.extend(lacking.map(|(what, hint)| Objection {
            volume: *volume,
            path: (*path).clone(),
            what,
            hint: hint.into(),
            is_certain: false,
        }));
    }
    found
}

/// The place of palmfarm's that `path` is.
fn place(volume: Volume, path: &CardPath) -> Option<&'static Own> {
    // FAT takes no notice of case.
    let path = match volume {
        Volume::Boot => path.as_str().to_ascii_lowercase(),
        Volume::Root => path.as_str().to_owned(),
    };
    let is_at = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => path
            .strip_prefix(start)
            .is_some_and(|rest| start.ends_with('/') || !rest.contains('/')),
        None if pattern.starts_with('/') => path == pattern,
        None => path.rsplit('/').next() == Some(pattern),
    };
    PLACES
        .iter()
        .find(|own| own.volume == volume && is_at(own.pattern))
}

/// Whether palmfarm would write the same there.
fn is_as_planned(plan: &CardPlan, path: &CardPath, node: &Node) -> bool {
    match (path.as_str(), node) {
        (_, Node::Dir { .. }) => true,
        ("/etc/hostname", Node::File { content, .. }) => {
            String::from_utf8_lossy(content).trim() == plan.card.hostname
        }
        ("/etc/machine-id", Node::File { content, .. }) => content.is_empty(),
        ("/var/lib/dbus/machine-id", Node::Symlink { target }) => target == "/etc/machine-id",
        _ => false,
    }
}

/// Whether `node` keeps a part of the card from running without which nothing that is planned comes about.
fn turns_off(plan: &CardPlan, path: &CardPath, node: &Node) -> bool {
    let has_users = !plan.users.is_empty();
    if path.as_str() == "/etc/cloud/cloud-init.disabled" {
        return has_users;
    }
    let is_mask = match node {
        Node::Symlink { target } => target.ends_with("dev/null"),
        Node::File { content, .. } => content.is_empty(),
        Node::Dir { .. } | Node::Absent => false,
    };
    let is_needed = match path.name() {
        "systemd-networkd.service" | "palmfarm-firstboot.service" | "palmfarm-bridge.service" => true,
        name => has_users && name.starts_with("cloud-") && name.ends_with(".service"),
    };
    is_mask && is_needed && path.as_str().contains("/systemd/")
}

fn hides(target: &str) -> String {
    format!("it mounts another filesystem at {target}, which would hide what palmfarm puts there")
}

/// What is wrong with the fstab that the farm brings, on whatever base.
fn of_fstab(path: &CardPath, text: &str) -> Vec<Objection> {
    let objection = |what: String, hint: String, is_certain| Objection {
        volume: Volume::Root,
        path: path.clone(),
        what: format!("is in the way of what palmfarm plans: it {what}"),
        hint: hint.into(),
        is_certain,
    };
    let faults = fstab::faults(text, None);
    let mut found: Vec<_> = faults
        .iter()
        .map(|fault| objection(fault.to_string(), fault.hint("that fstab"), true))
        .collect();
    if !fstab::takes_report(text) {
        found.push(objection(
            "does not mount the FAT partition for writing, so there would be no report on it".into(),
            "add the line `LABEL=system-boot /boot/firmware vfat defaults 0 1`, unless that is meant".into(),
            false,
        ));
    }
    found
}

/// What the text of the file at `path` does to the card, by rules that a base has no need of: what it has there is
/// replaced.
fn in_text(path: &CardPath, text: &str, interfaces: &[String]) -> Option<String> {
    let taken = |name: &str| {
        let is_ours = interfaces.iter().any(|own| own == name);
        is_ours.then(|| format!("it configures {name}, as palmfarm's own files do"))
    };
    let path = path.as_str();
    if path.starts_with("/etc/netplan/") && path.strip_suffix(".yaml").is_some() {
        let yaml: serde_json::Value = serde_yaml::from_str(text).ok()?;
        let kinds = yaml.get("network")?.as_object()?.values();
        let mut names = kinds
            .filter_map(serde_json::Value::as_object)
            .flat_map(serde_json::Map::keys);
        return names.find_map(|name| taken(name));
    }
    if path == "/etc/network/interfaces" || path.starts_with("/etc/network/interfaces.d/") {
        let stanzas = text.lines().map(str::split_whitespace).filter_map(|mut words| {
            let is_stanza = matches!(words.next()?, "auto" | "iface" | "allow-hotplug" | "mapping");
            is_stanza.then_some(words)
        });
        return stanzas.flatten().find_map(taken);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn palmfarm_has_places_of_its_own() {
        let check = |volume, path: &str, expect: bool| {
            let path = CardPath::new(path).unwrap();
            assert_eq!(place(volume, &path).is_some(), expect, "{path}");
        };
        for path in [
            "/etc/palmfarm/firstboot.json",
            "/usr/lib/palmfarm/network/x",
            "/etc/systemd/system/palmfarm-seed.service",
            "/etc/systemd/network/05-palmfarm-br0.network",
            "/etc/hostname",
        ] {
            check(Volume::Root, path, true);
        }
        for path in [
            "/etc/palmfarm2/x",
            // A drop-in is judged by what is in it.
            "/etc/systemd/system/palmfarm-seed.service.d/x.conf",
            "/etc/systemd/network/05-palmfarm-br0.network.d/mtu.conf",
            "/etc/hosts",
            "/config.txt",
        ] {
            check(Volume::Root, path, false);
        }
        check(Volume::Boot, "/CONFIG.TXT", true);
        check(Volume::Boot, "/etc/hostname", false);
    }

    #[test]
    fn a_fstab_of_the_farm_is_judged() {
        const BOOT: &str = "LABEL=system-boot /boot/firmware vfat defaults 0 1\n";
        let check = |text: &str, expect: &[bool]| {
            let path = CardPath::new(fstab::PATH).unwrap();
            let found = of_fstab(&path, &format!("{text}\n{BOOT}"));
            let found: Vec<bool> = found.iter().map(|objection| objection.is_certain).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("LABEL=writable / ext4 ro 0 1", &[true]);
        check(
            "LABEL=writable / ext4 defaults 0 1\n/dev/sda1 /srv ext4 nofail",
            &[],
        );
        check(
            "/dev/sda1 /var ext4 nofail\ntmpfs /home tmpfs defaults",
            &[true, true],
        );
        let path = CardPath::new(fstab::PATH).unwrap();
        let found = of_fstab(&path, "LABEL=writable / ext4 defaults 0 1\n");
        assert_eq!(found.len(), 1);
        assert!(!found[0].is_certain && found[0].what.contains("no report"));
    }

    #[test]
    fn texts_name_the_interfaces_of_the_card() {
        let ours = ["eth0".to_owned(), "br0".to_owned()];
        let check = |path: &str, text: &str, expect: bool| {
            let path = CardPath::new(path).unwrap();
            assert_eq!(in_text(&path, text, &ours).is_some(), expect, "{path}: {text}");
        };
        let netplan = "/etc/netplan/60-lan.yaml";
        check(
            netplan,
            "network: {version: 2, bridges: {br0: {interfaces: [eth0]}}}",
            true,
        );
        check(
            netplan,
            "network: {version: 2, wifis: {wlan0: {dhcp4: true}}}",
            false,
        );
        check("/etc/network/interfaces.d/lan", "auto lo eth0\n", true);
        check(
            "/etc/network/interfaces.d/lan",
            "# eth0\niface wlan0 inet dhcp\n  up echo eth0\n",
            false,
        );
    }
}
