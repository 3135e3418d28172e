//! The container daemon's part of the document: preseed, image servers, images on the card.
//!
//! The preseed keeps to what LXD 3.0 to 5.21 and Incus 6 all take: fixed addresses (an `auto` one is drawn anew each
//! time it is applied), every value a string, NICs by `nictype` and `parent`.

use std::collections::BTreeMap;

use palmfarm_spec::farm::{Farm, Flavour, Nat, ResolvedCard, Storage, StorageDriver};
use palmfarm_spec::firstboot::{Image, Lxd, ManagedNetwork, Preseed, Profile, StoragePool};
use palmfarm_spec::stack;

use super::{carried, sha256_hex, Carried, PlanError, Sources};

/// Where carried images lie on the card.
const IMAGES: &str = "/var/lib/palmfarm/images";

/// What the agent is told of the daemon; images are added to `payload`.
pub(super) fn lxd(
    farm: &Farm,
    card: &ResolvedCard,
    sources: &Sources,
    payload: &mut Vec<Carried>,
) -> Result<Option<Lxd>, PlanError> {
    let Some(lxd) = &farm.lxd else {
        return Ok(None);
    };
    let mut images = Vec::new();
    for (alias, image) in &farm.images {
        let file = carried(&format!("{IMAGES}/{alias}"), &image.file, sources)?;
        images.push(match &image.metadata {
            None => Image {
                alias: alias.clone(),
                path: file.path.as_str().into(),
                rootfs: None,
                fingerprint: sha256_hex(&file.content),
            },
            Some(metadata) => {
                let metadata = carried(&format!("{IMAGES}/{alias}.metadata"), metadata, sources)?;
                let both = [&metadata.content[..], &file.content[..]].concat();
                let image = Image {
                    alias: alias.clone(),
                    path: metadata.path.as_str().into(),
                    rootfs: Some(file.path.as_str().into()),
                    fingerprint: sha256_hex(&both),
                };
                payload.push(metadata);
                image
            }
        });
        payload.push(file);
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
    Ok(Some(Lxd {
        flavour: lxd.flavour,
        upgrade: lxd.upgrade,
        remotes,
        preseed: Preseed {
            config: strings(&[("images.auto_update_interval", "0")]),
            storage_pools: vec![pool(&lxd.storage)],
            networks: lxd.nat.iter().map(nat).collect(),
            profiles,
        },
        images,
    }))
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
