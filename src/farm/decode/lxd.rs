//! Reads the sections `lxd:` and `images:`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::fields::{self, choice, named, parsed, section, section_or, truth};
use super::pasted::LeftOut;
use super::values;
use crate::farm::node::Entry;
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::{CarriedImage, Flavour, Lxd, Nat, Profile, Refresh, Storage, StorageDriver};
use palmfarm_protocol::names;

/// The smallest loop file: mkfs.btrfs asks for some 110 MiB, and an image must fit in as well.
const SMALLEST_POOL: u64 = 128 << 20;

pub(super) fn lxd(entry: &Entry, p: &mut Problems) -> Lxd {
    let default = Lxd::default();
    let flavours = [("lxd", Flavour::Lxd), ("incus", Flavour::Incus)];
    let refreshes = [("auto", Refresh::Auto), ("hold", Refresh::Hold)];
    section(entry, "`lxd`", p, |fields| Lxd {
        flavour: fields
            .value("flavour", choice(&flavours))
            .unwrap_or(default.flavour),
        upgrade: fields.value("upgrade", truth).unwrap_or(default.upgrade),
        channel: fields.value("channel", named("a channel of LXD's snap", names::channel)),
        refresh: fields
            .value("refresh", choice(&refreshes))
            .unwrap_or(default.refresh),
        remotes: fields.read("remotes", remotes).unwrap_or_default(),
        storage: fields.read("storage", storage).unwrap_or_default(),
        nat: fields.read("nat", nat).unwrap_or(default.nat),
        profiles: fields.read("profiles", profiles).unwrap_or_default(),
    })
}

fn remotes(entry: &Entry, p: &mut Problems) -> BTreeMap<String, String> {
    let mut remotes = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let name = fields::named_key(entry, "an image server name", names::object, p);
        if name == "local" {
            p.error(entry.key_span, "the name \"local\" means the daemon itself");
        }
        if let Some(url) = parsed(https)(&entry.value, &entry.key, p) {
            remotes.insert(name, url);
        }
    }
    remotes
}

/// An image server's URL: LXD and Incus take images over HTTPS only.
fn https(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(format!(
            "{} is not an image server: its URL must begin with https://",
            quoted(text)
        ));
    };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let plain =
        !rest.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '"' | '\'' | '\\' | '?' | '#'));
    if !plain || names::domain(host).is_err() {
        return Err(format!("{} is not the URL of an image server", quoted(text)));
    }
    Ok(text.into())
}

fn storage(entry: &Entry, p: &mut Problems) -> Storage {
    let default = Storage::default();
    let drivers = [("btrfs", StorageDriver::Btrfs), ("dir", StorageDriver::Dir)];
    let driver = choice(&drivers);
    section_or(entry, "`storage`", ("driver", &driver), p, |fields| {
        let name = fields.value("name", named("a storage pool name", names::object));
        let driver = fields.value("driver", &driver).unwrap_or(default.driver);
        let size = fields.read("size", |entry, p| {
            let size = parsed(values::size)(&entry.value, "size", p);
            if let Some(bytes) = size.filter(|size| *size < SMALLEST_POOL) {
                let message = format!("a pool takes at least {} MiB", SMALLEST_POOL >> 20);
                let is_bare = entry
                    .value
                    .scalar()
                    .is_some_and(|scalar| scalar.text == bytes.to_string());
                let hint =
                    is_bare.then(|| format!("without a unit it is a number of bytes: write {bytes}GB"));
                p.error(entry.value.span, message).maybe_hint(hint);
            }
            size
        });
        Storage {
            name: name.unwrap_or(default.name),
            driver,
            size: size.flatten(),
        }
    })
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
    section(entry, "`nat`", p, |fields| {
        let bridge = fields.value("bridge", named("an interface name", names::interface));
        Some(Nat {
            bridge: bridge.unwrap_or(default.bridge),
            ipv4: fields
                .read("ipv4", |entry, p| fixed(entry, 32, p))
                .unwrap_or(default.ipv4),
            ipv6: fields
                .read("ipv6", |entry, p| fixed(entry, 128, p))
                .unwrap_or(default.ipv6),
        })
    })
}

/// A bridge's own address; `None`: it has none.
fn fixed<A: FromStr + Display>(entry: &Entry, bits: u8, p: &mut Problems) -> Option<(A, u8)> {
    match fields::scalar(&entry.value, &entry.key, p)?.text.as_str() {
        "none" => None,
        "auto" => {
            let message = "`auto` picks another network each time the preseed is applied";
            let hint = "leave the key out for a fixed network, or write an address such as 10.77.0.1/24";
            p.error(entry.value.span, message).hint(hint);
            None
        }
        _ => parsed(|text| values::network(text, bits))(&entry.value, &entry.key, p),
    }
}

fn profiles(entry: &Entry, p: &mut Problems) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let name = fields::named_key(entry, "a profile name", names::object, p);
        let what = format!("profile {}", quoted(&name));
        let profile = section(entry, &what, p, |fields| {
            if let Some(left_out) = LeftOut::of_profile(fields) {
                fields.p.push(left_out.note(&what, false, entry.key_span));
            }
            Profile {
                description: fields.value("description", fields::text).unwrap_or_default(),
                config: fields.read("config", fields::texts).unwrap_or_default(),
                devices: fields.read("devices", devices).unwrap_or_default(),
            }
        });
        profiles.insert(name, profile);
    }
    profiles
}

/// LXD devices: name to keys.
pub(super) fn devices(entry: &Entry, p: &mut Problems) -> BTreeMap<String, BTreeMap<String, String>> {
    fields::entries(entry, p)
        .into_iter()
        .map(|entry| {
            let name = fields::named_key(entry, "a device name", names::object, p);
            (name, fields::texts(entry, p))
        })
        .collect()
}

pub(super) fn images(entry: &Entry, p: &mut Problems) -> BTreeMap<String, CarriedImage> {
    let mut images = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let alias = fields::named_key(entry, "an image alias", names::object, p);
        let what = format!("image {}", quoted(&alias));
        if entry.value.scalar().is_some_and(|scalar| !scalar.is_null()) {
            p.error(entry.value.span, format!("{what} is a mapping"))
                .hint("write {file: PATH}");
            continue;
        }
        let image = section(entry, what, p, |fields| {
            fields.require("file", "write `file: PATH`, an image beside the farm");
            CarriedImage {
                file: fields.value("file", fields::line).unwrap_or_default(),
                metadata: fields.value("metadata", fields::line),
            }
        });
        images.insert(alias, image);
    }
    images
}
