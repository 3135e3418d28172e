//! `farm.yaml` from its tree: each key read, each value judged by itself. What must fit together is in `check`.
//!
//! It never stops at a problem. A value that is wrong is told once and replaced by a default, so that what follows
//! can still be judged; hence a farm with errors is never handed to anyone but `check`.

pub mod boot;
mod containers;
mod fields;
mod host;
mod lxd;
mod network;
pub mod values;

use std::collections::BTreeMap;

use crate::farm::node::{Entry, Node, Scalar, Span, Value};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{Boot, Card, Dns, Farm, Lxd, Network, Ssh, VERSION};
use fields::Fields;
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::names;

/// Read a farm. It is whole only where `p` holds no error afterwards; `None`: it is none at all, or one of a version
/// of which nothing is known, so that every further complaint would be a guess.
#[must_use]
pub fn farm(document: &Node, p: &mut Problems) -> Option<Farm> {
    let start = Span {
        start: document.span.start,
        end: document.span.start,
    };
    let mut fields = Fields::open(document, start, "the farm", p);
    if fields.broken() || other_version(&mut fields, p) {
        return None;
    }
    let farm = read(&mut fields, p);
    fields.close(p);
    Some(farm)
}

/// The parts of the source that are never shown: hashes and clear text of passwords, private keys – wherever they stand,
/// since a person may have put them in the wrong place.
#[must_use]
pub fn secrets(document: &Node) -> Vec<Span> {
    let mut found = Vec::new();
    collect_secrets(document, "", &mut found);
    found
}

fn collect_secrets(node: &Node, key: &str, found: &mut Vec<Span>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                if entry.key.starts_with('$') {
                    found.push(entry.key_span);
                }
                collect_secrets(&entry.value, &entry.key, found);
            }
        }
        Value::Seq(items) => items.iter().for_each(|item| collect_secrets(item, key, found)),
        Value::Scalar(scalar) => {
            let named = matches!(key, "password" | "passwd" | "hash") && scalar.truth().is_none();
            if named || scalar.text.starts_with('$') || scalar.text.contains("PRIVATE KEY") {
                found.push(node.span);
            }
        }
    }
}

/// Whether the farm says that it is of another version than this one; no word of it is an error, too, but then it
/// is read as this one.
fn other_version(fields: &mut Fields<'_>, p: &mut Problems) -> bool {
    let Some(entry) = fields.take("farm") else {
        let problem = Problem::error(fields.at(), "the farm does not say its version");
        p.push(problem.hint(format!("write `farm: {VERSION}` in the first line")));
        return false;
    };
    let version = entry.value.scalar().and_then(Scalar::number);
    match version {
        Some(version) if version == u64::from(VERSION) => false,
        Some(version) => {
            let message =
                format!("this farm is of version {version}, and this palmfarm reads version {VERSION}");
            p.push(Problem::error(entry.value.span, message).hint("a newer palmfarm may read it"));
            true
        }
        None => {
            let problem = Problem::error(
                entry.value.span,
                "`farm` takes the version of the file, a whole number",
            );
            p.push(problem.hint(format!("write `farm: {VERSION}`")));
            false
        }
    }
}

fn read(fields: &mut Fields<'_>, p: &mut Problems) -> Farm {
    let base = fields.need("base").and_then(|entry| host::base(&entry.value, p));
    let sha256 = fields
        .take("sha256")
        .and_then(|entry| host::sha256(&entry.value, p));
    // A fleet's cards have names of their own.
    let hostname = if fields.take("cards").is_some() {
        fields.take("hostname")
    } else {
        fields.need("hostname")
    };
    let hostname =
        hostname.and_then(|entry| fields::named(&entry.value, "hostname", "host name", names::hostname, p));
    let timezone = fields
        .take("timezone")
        .and_then(|entry| host::timezone(&entry.value, p));
    let locale = fields
        .take("locale")
        .and_then(|entry| fields::named(&entry.value, "locale", "locale", names::locale, p));
    let users = fields
        .take("users")
        .map(|entry| host::users(entry, p))
        .unwrap_or_default();
    let ssh = fields
        .take("ssh")
        .map_or_else(Ssh::default, |entry| host::ssh(entry, p));
    let network = fields.take("network").map_or_else(Network::default, |entry| {
        network::over(&Network::default(), entry, "the network", p)
    });
    let boot = fields
        .take("boot")
        .map_or_else(Boot::default, |entry| boot::boot(entry, p));
    let declared = fields.take("lxd").map(|entry| lxd::lxd(entry, p));
    let images = fields
        .take("images")
        .map(|entry| lxd::images(entry, p))
        .unwrap_or_default();
    let containers = fields
        .take("containers")
        .map(|entry| containers::containers(entry, p))
        .unwrap_or_default();
    let wanted = !containers.is_empty() || !images.is_empty();
    let packages = fields
        .take("packages")
        .map(|entry| host::packages(entry, p))
        .unwrap_or_default();
    let files = fields
        .take("files")
        .map(|entry| host::files(entry, p))
        .unwrap_or_default();
    let overlays = fields
        .take("overlays")
        .map(|entry| host::lines(entry, p))
        .unwrap_or_default();
    let rc_local = fields
        .take("rc_local")
        .map(|entry| host::lines(entry, p))
        .unwrap_or_default();
    let dns = fields.take("dns").and_then(|entry| dns(entry, p));
    let cards = fields
        .take("cards")
        .map(|entry| cards(entry, &network, p))
        .unwrap_or_default();
    Farm {
        base: base.unwrap_or_default(),
        sha256,
        hostname,
        timezone,
        locale,
        users,
        ssh,
        network,
        boot,
        lxd: declared.or_else(|| wanted.then(Lxd::default)),
        images,
        containers,
        packages,
        files,
        overlays,
        rc_local,
        dns,
        cards,
    }
}

fn dns(entry: &Entry, p: &mut Problems) -> Option<Dns> {
    let mut fields = Fields::open(&entry.value, entry.key_span, "`dns`", p);
    let zone = fields
        .need("zone")
        .and_then(|entry| fields::named(&entry.value, "zone", "zone", names::domain, p));
    let serial = fields.take("serial").and_then(|entry| {
        let number = fields::number(&entry.value, "serial", 0, u64::from(u32::MAX), p)?;
        u32::try_from(number).ok()
    });
    fields.close(p);
    Some(Dns { zone: zone?, serial })
}

fn cards(entry: &Entry, farm: &Network, p: &mut Problems) -> BTreeMap<String, Card> {
    let mut cards = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let name = fields::named_key(entry, "name of a card", names::hostname, p);
        let what = format!("card {}", quoted(&name));
        let mut fields = Fields::open(&entry.value, entry.key_span, what.as_str(), p);
        let card = Card {
            mac: fields.take("mac").and_then(|entry| mac(&entry.value, p)),
            hostname: fields
                .take("hostname")
                .and_then(|entry| fields::named(&entry.value, "hostname", "host name", names::hostname, p)),
            network: fields
                .take("network")
                .map(|entry| network::over(farm, entry, &format!("the network of {what}"), p)),
            containers: fields
                .take("containers")
                .and_then(|entry| containers::chosen(entry, p)),
        };
        fields.close(p);
        cards.insert(name, card);
    }
    cards
}

/// A hardware address that one interface can have.
fn mac(node: &Node, p: &mut Problems) -> Option<Mac> {
    let mac: Mac = fields::parsed(node, "mac", p, |text| {
        text.parse()
            .map_err(|bad: palmfarm_protocol::mac::BadMac| bad.to_string())
    })?;
    if mac.is_multicast() {
        let problem = Problem::error(node.span, format!("{mac} names a group of interfaces, not one"));
        p.push(problem.hint("the first byte of an interface's own address is even"));
        return None;
    }
    if mac.0 == [0; 6] {
        p.error(node.span, format!("{mac} is the address of no interface"));
        return None;
    }
    Some(mac)
}
