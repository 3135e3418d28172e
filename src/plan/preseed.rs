//! The container daemon's part of the document: preseed, image servers, images on the card.
//!
//! The preseed keeps to what LXD 3.0 to 5.21 and Incus 6 all take: fixed addresses (an `auto` one is drawn anew each
//! time it is applied), every value a string, NICs by `nictype` and `parent`.

use std::collections::BTreeMap;

use crate::farm::stack;
use crate::farm::{Farm, Flavour, Nat, ResolvedCard, Storage, StorageDriver};
use palmfarm_protocol::firstboot::{Lxd, ManagedNetwork, Preseed, Profile, StoragePool};

use super::content_cache::ContentCache;
use super::images::Found;
use super::{CardFile, PlanError};
use crate::farm::assets::Sources;

/// What the agent is told of the daemon, and what is known of the images, whose files are added to `payload`.
pub(super) fn lxd(
    farm: &Farm,
    card: &ResolvedCard,
    sources: &Sources,
    payload: &mut Vec<CardFile>,
    seen: &mut ContentCache,
) -> Result<(Option<Lxd>, Vec<Found>), PlanError> {
    let Some(lxd) = &farm.lxd else {
        return Ok((None, Vec::new()));
    };
    let mut images = Vec::new();
    let mut found = Vec::new();
    let uses = |alias: &str, here: bool| {
        let all = farm
            .containers
            .iter()
            .filter(|container| container.image == alias);
        all.filter(|container| card.has(container) == here).count() > 0
    };
    for (alias, image) in &farm.images {
        let is_elsewhere = match &farm.cluster {
            // It belongs to all members, and the card that forms the cluster imports it.
            Some(cluster) => cluster.first != card.name,
            // An image that no container uses is for whoever works at the Pi; one that other cards' containers use is theirs.
            None => uses(alias, false) && !uses(alias, true),
        };
        if is_elsewhere {
            continue;
        }
        let (image, what) = super::images::declared(alias, image, sources, payload, seen)?;
        images.push(image);
        found.push(what);
    }
    let mut remotes = default_remotes(lxd.flavour);
    remotes.extend(lxd.remotes.clone());
    let profiles = stack::profiles(lxd, &card.network)
        .into_iter()
        .map(|(name, profile)| Profile {
            name,
            description: profile.description,
            config: profile.config,
            devices: profile.devices,
        })
        .collect();
    let lxd = Lxd {
        flavour: lxd.flavour,
        upgrade: lxd.upgrade,
        channel: lxd.channel.clone(),
        refresh: lxd.refresh,
        snaps: super::packages::snaps(farm, sources, payload)?,
        remotes,
        preseed: Preseed {
            config: strings(&[("images.auto_update_interval", "0")]),
            storage_pools: vec![pool(&lxd.storage)],
            networks: lxd.nat.iter().map(nat).collect(),
            profiles,
        },
        images,
        cluster: None,
    };
    Ok((Some(lxd), found))
}

/// Image servers that need not be declared. images.linuxcontainers.org is closed to LXD since 2024.
fn default_remotes(flavour: Flavour) -> BTreeMap<String, String> {
    let images = match flavour {
        Flavour::Lxd => "https://images.lxd.canonical.com",
        Flavour::Incus => "https://images.linuxcontainers.org",
    };
    strings(&[
        ("images", images),
        ("ubuntu", "https://cloud-images.ubuntu.com/releases"),
        ("ubuntu-daily", "https://cloud-images.ubuntu.com/daily"),
    ])
}

fn pool(storage: &Storage) -> StoragePool {
    let mut config = BTreeMap::new();
    // A bare number is bytes in every version; what `GB` means has changed. With driver dir a size is an error.
    if let (StorageDriver::Btrfs, Some(size)) = (storage.driver, storage.size) {
        config.insert("size".into(), size.to_string());
    }
    StoragePool {
        name: storage.name.clone(),
        driver: match storage.driver {
            StorageDriver::Btrfs => "btrfs".into(),
            StorageDriver::Dir => "dir".into(),
        },
        config,
    }
}

fn nat(nat: &Nat) -> ManagedNetwork {
    let mut config = BTreeMap::new();
    let mut family = |version: u8, address: Option<String>| {
        let known = address.is_some();
        config.insert(
            format!("ipv{version}.address"),
            address.unwrap_or_else(|| "none".into()),
        );
        if known {
            config.insert(format!("ipv{version}.nat"), "true".into());
        }
    };
    family(4, nat.ipv4.map(|(address, prefix)| format!("{address}/{prefix}")));
    family(6, nat.ipv6.map(|(address, prefix)| format!("{address}/{prefix}")));
    ManagedNetwork {
        name: nat.bridge.clone(),
        kind: "bridge".into(),
        config,
    }
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}
