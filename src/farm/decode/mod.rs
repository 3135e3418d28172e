//! Reads `farm.yaml` from its tree, key by key, and checks each value by itself. `check` compares values with each other.
//!
//! It never stops at a problem. A wrong value is reported once and replaced by a default, so that the rest can still be
//! checked. A farm with errors must therefore reach nobody but `check`.

pub(crate) mod boot;
mod containers;
mod fields;
mod host;
mod lxd;
mod network;
mod pasted;
mod scalars;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::farm::node::{Entry, Node, Scalar, Span, Value};
use crate::farm::problem::Problems;
use crate::farm::secret;
use crate::farm::suggest::quoted;
use crate::farm::{
    Card, CarriedPackages, CarriedSnap, Carry, Cluster, Dns, Farm, Flavour, Lxd, Network, Refresh, VERSION,
};
use crate::text::shown_url;
use fields::{line, mapping, named, number, parsed, section, section_or, truth, Fields};
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::names;

/// Read a farm. It may be used only if `p` has no error afterwards. `None`: the document is not a farm, or it is of another
/// version, so that every further problem would be a guess.
pub(crate) fn farm(document: &Node, p: &mut Problems) -> Option<Farm> {
    let start = Span {
        start: document.span.start,
        end: document.span.start,
    };
    let mut fields = Fields::open(document, start, "the farm", None, p);
    if fields.broken || other_version(&mut fields, start) {
        return None;
    }
    let farm = read(&mut fields);
    fields.close();
    Some(farm)
}

/// The parts of the source that are never shown: hashes and clear text of passwords, private keys, URLs with credentials,
/// and values of LXD's keys that are not known to be harmless. They count anywhere, since a person may have put them in the
/// wrong place or misspelt the key.
pub(crate) fn secrets(document: &Node) -> Vec<Span> {
    let mut found = Vec::new();
    collect_secrets(document, "", false, &mut found);
    found
}

/// Keys of LXD whose values are often secret.
const HIDDEN: [&str; 4] = ["cloud-init.", "environment.", "raw.", "user."];

/// `hidden` says that everything in `node`, which has the key `key`, is never shown.
fn collect_secrets(node: &Node, key: &str, hidden: bool, found: &mut Vec<Span>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                if entry.key.starts_with('$') {
                    found.push(entry.key_span);
                }
                let of_lxd = key == "config" && !secret::is_plain(&entry.key);
                let hidden = hidden || of_lxd || HIDDEN.iter().any(|start| entry.key.starts_with(start));
                // The `config` of `boot` is the firmware's, which everybody may read on the card.
                let name = if key == "boot" { "" } else { &entry.key };
                collect_secrets(&entry.value, name, hidden, found);
            }
        }
        Value::Seq(items) => {
            for item in items {
                collect_secrets(item, key, hidden, found);
            }
        }
        Value::Scalar(scalar) => {
            let named = matches!(key, "password" | "passwd" | "hash") && scalar.truth().is_none();
            let has_credentials = shown_url(&scalar.text) != scalar.text;
            let is_private = scalar.text.starts_with('$') || scalar.text.contains("PRIVATE KEY");
            if named || hidden || has_credentials || is_private {
                found.push(node.span);
            }
        }
    }
}

/// Whether the farm is of another version than this one. A farm that does not say its version is an error, too, but is
/// read as this version.
fn other_version(fields: &mut Fields<'_, '_>, start: Span) -> bool {
    let write_it = format!("write `farm: {VERSION}` in the first line");
    let entry = fields.take("farm");
    let p = &mut *fields.p;
    let Some(entry) = entry else {
        p.error(start, "the farm does not say its version").hint(write_it);
        return false;
    };
    let at = entry.value.span;
    match entry.value.scalar().and_then(Scalar::number) {
        Some(version) if version == u64::from(VERSION) => false,
        Some(version) => {
            let message =
                format!("this farm is of version {version}, and this palmfarm reads version {VERSION}");
            p.error(at, message).hint("a newer palmfarm may read it");
            true
        }
        None => {
            let message = "`farm` takes the version of the file, a whole number";
            p.error(at, message).hint(write_it);
            false
        }
    }
}

/// Every key of the farm, one a line.
fn read(fields: &mut Fields<'_, '_>) -> Farm {
    fields.explain(&ELSEWHERE);
    fields.require(
        "base",
        "write `base: ubuntu-24.04-arm64`; `palmfarm base suggest` says which base suits which Pi",
    );
    // The cards of a fleet have names of their own.
    if !fields.has("cards") {
        fields.require("hostname", "write `hostname: palm`, or another name of your own");
    }
    let mut farm = Farm {
        base: fields.value("base", host::base).unwrap_or_default(),
        sha256: fields.value("sha256", parsed(host::sha256)),
        hostname: fields.value("hostname", host::name),
        timezone: fields.value("timezone", host::timezone),
        locale: fields.value("locale", named("a locale", names::locale)),
        users: fields.read("users", host::users).unwrap_or_default(),
        ssh: fields.read("ssh", host::ssh).unwrap_or_default(),
        network: Network::default(),
        boot: fields.read("boot", boot::boot).unwrap_or_default(),
        lxd: fields.read("lxd", lxd::lxd),
        images: fields.read("images", lxd::images).unwrap_or_default(),
        containers: fields
            .read("containers", containers::containers)
            .unwrap_or_default(),
        packages: fields.list_in_place("packages", named("a package name", names::package)),
        carry: fields.read("carry", carry).unwrap_or_default(),
        files: fields.read("files", host::files).unwrap_or_default(),
        overlays: fields.list_in_place("overlays", line),
        rc_local: fields.list_in_place("rc_local", line),
        dns: fields.read("dns", dns).flatten(),
        cards: BTreeMap::new(),
        cluster: fields.read("cluster", cluster),
    };
    if let Some(entry) = fields.take("network") {
        farm.network = network::over(&farm.network, entry, "the network", fields.p);
    }
    // What a card does not say of its network is the farm's.
    let cards = fields.read("cards", |entry, p| cards(entry, &farm.network, p));
    farm.cards = cards.unwrap_or_default();
    let has_farm = !(farm.containers.is_empty() && farm.images.is_empty() && farm.carry.lxd.is_empty());
    if farm.lxd.is_none() && (has_farm || farm.cluster.is_some()) {
        farm.lxd = Some(Lxd::default());
    }
    if let (Some(lxd), Some(_)) = (&mut farm.lxd, &farm.cluster) {
        let is_declared = document_has(fields, "lxd", "refresh");
        // Members of different versions block their cluster (LXD's documentation, "How to manage a cluster").
        if lxd.flavour == Flavour::Lxd && !is_declared {
            lxd.refresh = Refresh::Hold;
        }
    }
    farm
}

/// Whether the section `section` has the key `key`.
fn document_has(fields: &Fields<'_, '_>, section: &str, key: &str) -> bool {
    let section = fields.entry(section);
    section.is_some_and(|section| section.value.entry(key).is_some())
}

/// Keys that people look for at the top of a farm.
const ELSEWHERE: [(&str, &str); 14] = [
    (
        "gateway",
        "it stands beside a fixed address: `network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1}}`",
    ),
    (
        "ip",
        "a fixed address is `network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1}}`",
    ),
    ("ipv4", "it is a key of `network`: `network: {ipv4: dhcp}`"),
    ("ipv6", "it is a key of `network`: `network: {ipv6: auto}`"),
    ("keyboard", KEYBOARD),
    ("keymap", KEYBOARD),
    (
        "password",
        "it is a key of a user: `users: [{name: nina, password: {file: PATH}}]`",
    ),
    (
        "profiles",
        "it is a key of `lxd`: `lxd: {profiles: {NAME: {config: {}, devices: {}}}}`",
    ),
    (
        "ssh_keys",
        "it is a key of a user: `users: [{name: nina, ssh_keys: [\"ssh-ed25519 …\"]}]`",
    ),
    (
        "storage",
        "it is a key of `lxd`: `lxd: {storage: {driver: btrfs, size: 15GB}}`",
    ),
    (
        "user",
        "write `users: [{name: nina, ssh_keys: [\"ssh-ed25519 …\"]}]`",
    ),
    ("wifi", WIFI),
    ("wireless", WIFI),
    ("wlan", WIFI),
];

const KEYBOARD: &str =
    "a farm has no key for it; the file /etc/default/keyboard, under `files`, sets the layout (keyboard(5))";

const WIFI: &str = "a farm holds no password of a Wi-Fi, and an access point drops what containers send: connect the Pi by cable; \
     without containers on the LAN, write `network: {uplink: wlan0, bridge: none}`, and let an overlay bring the wpa_supplicant configuration";

fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{} is not an IP address", quoted(text)))
}

fn dns(entry: &Entry, p: &mut Problems) -> Option<Dns> {
    let zone = named("a DNS zone", names::domain);
    section_or(entry, "`dns`", ("zone", &zone), p, |fields| {
        fields.require("zone", "write `zone: home.example.net`");
        let zone = fields.value("zone", &zone);
        let serial = fields.value("serial", number(0, u32::MAX));
        let ns = fields.list("ns", parsed(ip_address));
        Some(Dns {
            zone: zone?,
            serial,
            ns,
        })
    })
}

fn carry(entry: &Entry, p: &mut Problems) -> Carry {
    section(entry, "`carry`", p, |fields| {
        let packages = fields.list_in_place("packages", line).into_iter();
        Carry {
            lxd: fields.list_in_place("lxd", carried_snap),
            packages: packages.map(CarriedPackages::named).collect(),
        }
    })
}

fn carried_snap(node: &Node, key: &str, p: &mut Problems) -> Option<CarriedSnap> {
    if !matches!(node.value, Value::Map(_)) {
        let file = line(node, key, p)?;
        return Some(CarriedSnap {
            file,
            ..CarriedSnap::default()
        });
    }
    Some(mapping(node, node.span, "a snap", p, |fields| {
        fields.require("file", "write `file: PATH`, a file beside the farm");
        CarriedSnap {
            file: fields.value("file", line).unwrap_or_default(),
            dangerous: fields.value("dangerous", truth).unwrap_or_default(),
            name: String::new(),
        }
    }))
}

/// Seconds that a silent member has by default. LXD's own 20 mean a heartbeat every 10, and each is written to every card.
const OFFLINE: u32 = 120;

/// LXD takes no 10 (`offlineThresholdValidator` in its `cluster/config.go`). Whoever waits for longer than an hour does not
/// wait for a member.
const OFFLINES: (u32, u32) = (11, 3600);

fn cluster(entry: &Entry, p: &mut Problems) -> Cluster {
    let card = named("a card name", names::hostname);
    section(entry, "`cluster`", p, |fields| {
        fields.require(
            "keys",
            "write `keys: secrets/farm.keys`; `palmfarm keys new` makes the file",
        );
        fields.require("first", "write `first: NAME`, the card that forms the cluster");
        Cluster {
            keys: fields.value("keys", line).unwrap_or_default(),
            first: fields.value("first", card).unwrap_or_default(),
            offline_threshold: fields
                .value("offline_threshold", number(OFFLINES.0, OFFLINES.1))
                .unwrap_or(OFFLINE),
        }
    })
}

fn cards(entry: &Entry, farm: &Network, p: &mut Problems) -> BTreeMap<String, Card> {
    let mut cards = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let name = fields::named_key(entry, "a card name", names::hostname, p);
        let what = format!("card {}", quoted(&name));
        let network = |entry: &Entry, p: &mut Problems| {
            network::over(farm, entry, &format!("the network of {what}"), p)
        };
        let card = section(entry, &what, p, |fields| Card {
            mac: fields.value("mac", mac),
            hostname: fields.value("hostname", host::name),
            network: fields.read("network", network),
            containers: fields.read("containers", containers::chosen).flatten(),
        });
        cards.insert(name, card);
    }
    cards
}

/// A hardware address that one interface can have.
fn mac(node: &Node, key: &str, p: &mut Problems) -> Option<Mac> {
    let mac: Mac = parsed(values::mac)(node, key, p)?;
    if mac.is_multicast() {
        p.error(
            node.span,
            format!("{mac} is the address of a group of interfaces"),
        )
        .hint("the first byte of an interface's own address is even");
        return None;
    }
    if mac.0 == [0; 6] {
        p.error(node.span, format!("no interface has the address {mac}"));
        return None;
    }
    Some(mac)
}
