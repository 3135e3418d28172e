//! First-boot documents as the workstation makes them, from the same types, with addresses out of a fixed range.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use palmfarm::farm::{Flavour, Ipv4, Ipv6, Renderer};
use palmfarm_protocol::firstboot::{
    Container, Content, FirstBoot, Image, ImageRef, Lxd, ManagedNetwork, Network, Preseed, Profile,
    PushedFile, Refresh, Run, StoragePool, VERSION,
};
use palmfarm_protocol::mac::Mac;
use sha2::{Digest, Sha256};

use crate::image::{self, hex};
use crate::lab::Lab;
use crate::router::PREFIX;

/// Both profiles, the bridge last, so that it wins.
pub(crate) const BRIDGED: &[&str] = &["default", "extbridge"];

/// The Pi's own address, which it has without the router's help; the router answers to it.
const HOST: Ipv4 = Ipv4::Static {
    address: Ipv4Addr::new(192, 0, 2, 10),
    prefix: 24,
    gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
    dns: Vec::new(),
};

/// A document without images and containers.
pub(crate) fn empty() -> FirstBoot {
    FirstBoot {
        version: VERSION,
        card: "palm".into(),
        hostname: "palm".into(),
        network: Network {
            uplink: "eth0".into(),
            vlan: None,
            bridge: Some("br0".into()),
            renderer: Renderer::Networkd,
            mac: None,
            ipv4: HOST,
            ipv6: Ipv6::Auto,
            rollback_seconds: 120,
        },
        packages: Vec::new(),
        carried: BTreeMap::new(),
        daemon_users: Vec::new(),
        lxd: Some(Lxd {
            flavour: Flavour::Lxd,
            upgrade: false,
            channel: None,
            refresh: Refresh::Auto,
            snaps: Vec::new(),
            remotes: BTreeMap::new(),
            preseed: preseed(),
            images: Vec::new(),
            cluster: None,
        }),
        containers: Vec::new(),
        boot_mount: "/boot/firmware".into(),
    }
}

/// A document with the image `alpine`, a busybox, which is put onto the card of `lab`.
pub(crate) fn with_alpine(lab: &Lab) -> FirstBoot {
    const PATH: &str = "/var/lib/palmfarm/alpine.tar.gz";
    let busybox = image::busybox();
    lab.put(PATH, &std::fs::read(&busybox.path).unwrap());
    let mut document = empty();
    carry(&mut document, "alpine", PATH, &busybox.fingerprint);
    document
}

/// Carry the image file `path` of the card as `alias`.
pub(crate) fn carry(document: &mut FirstBoot, alias: &str, path: &str, fingerprint: &str) {
    document.lxd.as_mut().unwrap().images.push(Image {
        alias: alias.into(),
        path: path.into(),
        rootfs: None,
        fingerprint: fingerprint.into(),
    });
}

/// A bridged container from the local image `image`; the last byte of its address is `number`.
pub(crate) fn container(name: &str, number: u8, image: &str) -> Container {
    let mac = Mac([0x00, 0x16, 0x3e, 0x6c, 0x02, number]);
    Container {
        name: name.into(),
        digest: String::new(),
        content: Arc::new(Content {
            image: ImageRef::Local(image.into()),
            ..Content::default()
        }),
        profiles: BRIDGED.iter().map(|profile| (*profile).into()).collect(),
        mac,
        predicted: vec![mac.address_in(PREFIX)],
        config: BTreeMap::new(),
        devices: BTreeMap::new(),
    }
}

/// Devices of a container that does not wait for the network, since it has none.
pub(crate) fn unplugged() -> BTreeMap<String, BTreeMap<String, String>> {
    BTreeMap::from([("eth0".into(), [("type".into(), "none".into())].into())])
}

/// Add `container`, with the digest of what it is now.
pub(crate) fn add(document: &mut FirstBoot, mut container: Container) {
    let content = (
        &container.image,
        &container.files,
        &container.run,
        &container.publish,
    );
    container.digest = hex(&Sha256::digest(serde_json::to_vec(&content).unwrap()));
    document.containers.push(container);
}

/// A file that is pushed.
pub(crate) fn file(path: &str, source: &str, content: &[u8], mode: u16) -> PushedFile {
    PushedFile {
        path: path.into(),
        source: source.into(),
        sha256: hex(&Sha256::digest(content)),
        mode,
        uid: 0,
        gid: 0,
    }
}

/// A command that is tried once and may take a minute.
pub(crate) fn run(label: &str, script: &str) -> Run {
    Run {
        label: label.into(),
        script: script.into(),
        retries: 0,
        timeout_seconds: 60,
    }
}

/// The address of `container` in the home's prefix.
pub(crate) fn address(container: &Container) -> Ipv6Addr {
    container.mac.address_in(PREFIX)
}

fn preseed() -> Preseed {
    let config = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    };
    let nic = |parent| {
        config(&[
            ("type", "nic"),
            ("nictype", "bridged"),
            ("name", "eth0"),
            ("parent", parent),
        ])
    };
    let root = config(&[("type", "disk"), ("path", "/"), ("pool", "default")]);
    Preseed {
        config: config(&[("images.auto_update_interval", "0")]),
        storage_pools: vec![StoragePool {
            name: "default".into(),
            driver: "btrfs".into(),
            config: config(&[("size", "4GB")]),
        }],
        networks: vec![ManagedNetwork {
            name: "lxdbr0".into(),
            kind: "bridge".into(),
            config: config(&[
                ("ipv4.address", "10.77.0.1/24"),
                ("ipv4.nat", "true"),
                ("ipv6.address", "fd42:77::1/64"),
                ("ipv6.nat", "true"),
            ]),
        }],
        profiles: vec![
            Profile {
                name: "default".into(),
                description: "behind NAT".into(),
                config: BTreeMap::new(),
                devices: [("eth0".into(), nic("lxdbr0")), ("root".into(), root)].into(),
            },
            Profile {
                name: "extbridge".into(),
                description: "on the LAN".into(),
                config: BTreeMap::new(),
                devices: [("eth0".into(), nic("br0"))].into(),
            },
        ],
    }
}
