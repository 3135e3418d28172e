//! `lxd:` and `images:`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::fields::{self, Fields};
use super::values;
use crate::farm::node::{Entry, Node};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{CarriedImage, Flavour, Lxd, Nat, Profile, Storage, StorageDriver};
use palmfarm_protocol::names;

/// The smallest loop file: mkfs.btrfs asks for some 110 MiB, and an image must fit in as well.
const SMALLEST_POOL: u64 = 128 << 20;

pub(super) fn lxd(entry: &Entry, p: &mut Problems) -> Lxd {
    let mut fields = Fields::open(&entry.value, entry.key_span, "`lxd`", p);
    let default = Lxd::default();
    let flavours = [("lxd", Flavour::Lxd), ("incus", Flavour::Incus)];
    let lxd = Lxd {
        flavour: fields
            .take("flavour")
            .and_then(|entry| fields::choice(&entry.value, "flavour", &flavours, p))
            .unwrap_or(default.flavour),
        upgrade: fields
            .take("upgrade")
            .and_then(|entry| fields::truth(&entry.value, "upgrade", p))
            .unwrap_or(default.upgrade),
        remotes: fields
            .take("remotes")
            .map(|entry| remotes(entry, p))
            .unwrap_or_default(),
        storage: fields
            .take("storage")
            .map_or(default.storage, |entry| storage(entry, p)),
        nat: fields.take("nat").map_or(default.nat, |entry| nat(entry, p)),
        profiles: fields
            .take("profiles")
            .map(|entry| profiles(entry, p))
            .unwrap_or_default(),
    };
    fields.close(p);
    lxd
}

fn remotes(entry: &Entry, p: &mut Problems) -> BTreeMap<String, String> {
    let mut remotes = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let name = fields::named_key(entry, "name of an image server", names::object, p);
        if name == "local" {
            p.error(entry.key_span, "the remote \"local\" is the daemon itself");
        }
        if let Some(url) = fields::parsed(&entry.value, &entry.key, p, https) {
            remotes.insert(name, url);
        }
    }
    remotes
}

/// An image server's URL: LXD and Incus take images over HTTPS only.
fn https(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(format!("{} is no image server: an https:// URL is", quoted(text)));
    };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let plain =
        !rest.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '"' | '\'' | '\\' | '?' | '#'));
    if !plain || names::domain(host).is_err() {
        return Err(format!("{} is no image server's URL", quoted(text)));
    }
    Ok(text.into())
}

fn storage(entry: &Entry, p: &mut Problems) -> Storage {
    let mut fields = Fields::open(&entry.value, entry.key_span, "`storage`", p);
    let default = Storage::default();
    let drivers = [("btrfs", StorageDriver::Btrfs), ("dir", StorageDriver::Dir)];
    let name = fields
        .take("name")
        .and_then(|entry| fields::named(&entry.value, "name", "name of a storage pool", names::object, p));
    let driver = fields
        .take("driver")
        .and_then(|entry| fields::choice(&entry.value, "driver", &drivers, p));
    let mut size = None;
    if let Some(entry) = fields.take("size") {
        size = fields::parsed(&entry.value, "size", p, values::size);
        if size.is_some_and(|size| size < SMALLEST_POOL) {
            let message = format!("a pool takes at least {} MiB", SMALLEST_POOL >> 20);
            p.error(entry.value.span, message);
        }
        if driver.unwrap_or(default.driver) == StorageDriver::Dir {
            let problem = Problem::error(entry.key_span, "a pool of the driver dir has no size of its own");
            p.push(problem.hint("leave the size out, or write `driver: btrfs`"));
        }
    }
    fields.close(p);
    Storage {
        name: name.unwrap_or(default.name),
        driver: driver.unwrap_or(default.driver),
        size,
    }
}

fn nat(entry: &Entry, p: &mut Problems) -> Option<Nat> {
    let default = Nat::default();
    if let Some(scalar) = entry.value.scalar().filter(|scalar| !scalar.is_null()) {
        if scalar.text != "none" {
            let message = format!("`nat` is a mapping or none, not {}", quoted(&scalar.text));
            p.error(entry.value.span, message);
            return Some(default);
        }
        return None;
    }
    let mut fields = Fields::open(&entry.value, entry.key_span, "`nat`", p);
    let bridge = fields
        .take("bridge")
        .and_then(|entry| fields::named(&entry.value, "bridge", "interface name", names::interface, p));
    let nat = Nat {
        bridge: bridge.unwrap_or(default.bridge),
        ipv4: fields
            .take("ipv4")
            .map_or(default.ipv4, |entry| fixed(entry, 32, p)),
        ipv6: fields
            .take("ipv6")
            .map_or(default.ipv6, |entry| fixed(entry, 128, p)),
    };
    fields.close(p);
    Some(nat)
}

/// A bridge's own address, or none.
fn fixed<A: FromStr + Display>(entry: &Entry, bits: u8, p: &mut Problems) -> Option<(A, u8)> {
    let scalar = fields::scalar(&entry.value, &entry.key, p)?;
    match scalar.text.as_str() {
        "none" => None,
        "auto" => {
            let message = "`auto` picks another network each time the preseed is applied";
            let problem = Problem::error(entry.value.span, message);
            p.push(
                problem.hint("leave the key out for a fixed one, or write an address such as 10.77.0.1/24"),
            );
            None
        }
        _ => fields::parsed(&entry.value, &entry.key, p, |text| values::network(text, bits)),
    }
}

fn profiles(entry: &Entry, p: &mut Problems) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let name = fields::named_key(entry, "name of a profile", names::object, p);
        let mut fields = Fields::open(
            &entry.value,
            entry.key_span,
            format!("profile {}", quoted(&name)),
            p,
        );
        let profile = Profile {
            description: fields
                .take("description")
                .and_then(|entry| fields::text(&entry.value, "description", p))
                .unwrap_or_default(),
            config: fields
                .take("config")
                .map(|entry| fields::texts(entry, p))
                .unwrap_or_default(),
            devices: fields
                .take("devices")
                .map(|entry| devices(entry, p))
                .unwrap_or_default(),
        };
        fields.close(p);
        profiles.insert(name, profile);
    }
    profiles
}

/// LXD devices: name to keys.
pub(super) fn devices(entry: &Entry, p: &mut Problems) -> BTreeMap<String, BTreeMap<String, String>> {
    fields::entries(entry, p)
        .into_iter()
        .map(|entry| {
            let name = fields::named_key(entry, "name of a device", names::object, p);
            (name, fields::texts(entry, p))
        })
        .collect()
}

pub(super) fn images(entry: &Entry, p: &mut Problems) -> BTreeMap<String, CarriedImage> {
    let mut images = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let alias = fields::named_key(entry, "image alias", names::object, p);
        if is_text(&entry.value) {
            let problem = Problem::error(entry.value.span, format!("image {} is a mapping", quoted(&alias)));
            p.push(problem.hint("write {file: PATH}"));
            continue;
        }
        let mut fields = Fields::open(
            &entry.value,
            entry.key_span,
            format!("image {}", quoted(&alias)),
            p,
        );
        let file = fields
            .need("file")
            .and_then(|entry| fields::line(&entry.value, "file", p));
        let metadata = fields
            .take("metadata")
            .and_then(|entry| fields::line(&entry.value, "metadata", p));
        fields.close(p);
        images.insert(
            alias,
            CarriedImage {
                file: file.unwrap_or_default(),
                metadata,
            },
        );
    }
    images
}

fn is_text(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| !scalar.is_null())
}
