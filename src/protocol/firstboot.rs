//! The document that a card carries for its agent: `/etc/palmfarm/firstboot.json`.
//!
//! It holds decisions, not wishes: names are expanded, profiles stacked, addresses chosen. The agent reads it
//! and looks at the Pi; it never reads `farm.yaml`. It may hold what is secret to containers (scripts), so it
//! lies on ext4 with mode 0600 and nothing of it is ever copied into the report.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::mac::Mac;
use crate::network::{tagged, Ipv4, Ipv6, Renderer};

/// The version that this crate writes; the agent refuses any other.
pub const VERSION: u32 = 2;

/// The largest document, in bytes. The agent holds all of it, some times over, on a Pi that may have 512 MiB; a larger
/// one is refused there, so the farm that leads to it is refused here.
pub const LARGEST: u64 = 16 << 20;

/// Everything the agent does, in the order in which it does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct FirstBoot {
    /// [`VERSION`].
    pub version: u32,
    /// The card's name in the fleet.
    pub card: String,
    /// Its host name.
    pub hostname: String,
    /// The bridge and how it is confirmed or rolled back.
    pub network: Network,
    /// Debian packages to install.
    pub packages: Vec<String>,
    /// Debian packages that lie on the card, to install before the others: the path of each file by what is in it,
    /// `NAME[:ARCHITECTURE]=VERSION`.
    pub carried: BTreeMap<String, String>,
    /// Login names that join the group of the container daemon once it exists.
    pub daemon_users: Vec<String>,
    /// The container daemon; `None`: no LXD on this card.
    pub lxd: Option<Lxd>,
    /// Containers; each comes after the one that publishes its image.
    pub containers: Vec<Container>,
    /// Where the FAT partition is mounted: the reports lie in its root.
    pub boot_mount: String,
}

/// The Pi's network as the agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The wired interface.
    pub uplink: String,
    /// VLAN on it.
    pub vlan: Option<u16>,
    /// The bridge; `None`: the uplink itself carries the addresses.
    pub bridge: Option<String>,
    /// Who configures it in the end.
    pub renderer: Renderer,
    /// The Pi's hardware address where the farm knows it; otherwise the uplink is asked.
    pub mac: Option<Mac>,
    /// IPv4 of the host.
    pub ipv4: Ipv4,
    /// IPv6 of the host.
    pub ipv6: Ipv6,
    /// Seconds that an unconfirmed configuration has.
    pub rollback_seconds: u32,
}

impl Network {
    /// The interface that carries the host's addresses.
    pub fn addressed(&self) -> String {
        self.bridge.clone().unwrap_or_else(|| self.port())
    }

    /// The interface that is a port of the bridge: the uplink, or its VLAN (`eth0.42`).
    pub fn port(&self) -> String {
        tagged(&self.uplink, self.vlan)
    }
}

/// The container daemon and all that precedes containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lxd {
    /// LXD itself or its fork.
    pub flavour: Flavour,
    /// Whether it is upgraded first.
    pub upgrade: bool,
    /// The channel of LXD's snap, as `TRACK/RISK`; `None`: whichever the Pi has. A document without it is one that an
    /// older agent reads, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Who refreshes the snap later on.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub refresh: Refresh,
    /// Snaps that lie on the card, in the order of their installation, for a Pi without LXD. A document without them is
    /// one that an older agent reads, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snaps: Vec<Snap>,
    /// Image servers by name.
    pub remotes: BTreeMap<String, String>,
    /// The preseed, in parts that can be compared one by one.
    pub preseed: Preseed,
    /// Images that lie on the card.
    pub images: Vec<Image>,
    /// The cluster that its daemon is a member of; `None`: a daemon by itself. A document without it is one that an
    /// older agent reads, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// A snap that lies on the card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snap {
    /// Its name.
    pub name: String,
    /// Path of its file.
    pub path: String,
    /// Path of the file with its assertions; `None`: it is installed without any (`--dangerous`).
    pub assertions: Option<String>,
}

/// Who refreshes LXD's snap once the farm is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// snapd, as it does with every snap.
    #[default]
    Auto,
    /// Only a person.
    Hold,
}

// serde hands fields over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_auto(refresh: &Refresh) -> bool {
    *refresh == Refresh::Auto
}

/// LXD itself or its fork.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// Canonical's LXD.
    #[default]
    Lxd,
    /// Incus.
    Incus,
}

/// An LXD preseed: the subset that LXD 3.0 to 5.21 and Incus 6 all take. As YAML it is
/// `/etc/palmfarm/lxd-preseed.yaml`, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preseed {
    /// Server configuration.
    pub config: BTreeMap<String, String>,
    /// Storage pools.
    pub storage_pools: Vec<StoragePool>,
    /// Managed networks.
    pub networks: Vec<ManagedNetwork>,
    /// Profiles.
    pub profiles: Vec<Profile>,
}

/// A storage pool of the preseed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoragePool {
    /// Name.
    pub name: String,
    /// `btrfs` or `dir`.
    pub driver: String,
    /// Keys, all strings.
    pub config: BTreeMap<String, String>,
}

/// A managed network of the preseed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedNetwork {
    /// Name.
    pub name: String,
    /// `bridge`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Keys, all strings.
    pub config: BTreeMap<String, String>,
}

/// A profile of the preseed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name.
    pub name: String,
    /// What it is for, as LXD shows it.
    pub description: String,
    /// Keys, all strings.
    pub config: BTreeMap<String, String>,
    /// Devices by name.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

/// An image that lies on the card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The alias that containers name.
    pub alias: String,
    /// Path of the unified image, or of the metadata tarball of a split one.
    pub path: String,
    /// Path of the rootfs of a split image.
    pub rootfs: Option<String>,
    /// LXD's fingerprint: SHA-256 of the file, or of metadata and rootfs one after the other; 64 hexadecimal digits.
    pub fingerprint: String,
}

/// A [`FirstBoot`] as it is written: what makes a container's content stands in it once, under its digest, because
/// hundreds of replicas may share one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    card: String,
    hostname: String,
    network: Network,
    packages: Vec<String>,
    /// A document without it is one that an older agent reads, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    carried: BTreeMap<String, String>,
    daemon_users: Vec<String>,
    lxd: Option<Lxd>,
    contents: BTreeMap<String, Content>,
    containers: Vec<Container>,
    boot_mount: String,
}

impl From<FirstBoot> for Stored {
    fn from(document: FirstBoot) -> Self {
        let contents = document.containers.iter();
        let contents: BTreeMap<_, _> = contents.map(|one| (&one.digest, &one.content)).collect();
        Self {
            contents: contents
                .into_iter()
                .map(|(digest, content)| (digest.clone(), Content::clone(content)))
                .collect(),
            version: document.version,
            card: document.card,
            hostname: document.hostname,
            network: document.network,
            packages: document.packages,
            carried: document.carried,
            daemon_users: document.daemon_users,
            lxd: document.lxd,
            containers: document.containers,
            boot_mount: document.boot_mount,
        }
    }
}

impl TryFrom<Stored> for FirstBoot {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let contents = stored.contents.into_iter();
        let contents: BTreeMap<_, _> = contents
            .map(|(digest, content)| (digest, Arc::new(content)))
            .collect();
        let mut containers = stored.containers;
        for container in &mut containers {
            let content = contents.get(&container.digest);
            let content = content.ok_or_else(|| format!("the content of {} is missing", container.name))?;
            container.content = Arc::clone(content);
        }
        Ok(Self {
            version: stored.version,
            card: stored.card,
            hostname: stored.hostname,
            network: stored.network,
            packages: stored.packages,
            carried: stored.carried,
            daemon_users: stored.daemon_users,
            lxd: stored.lxd,
            containers,
            boot_mount: stored.boot_mount,
        })
    }
}

/// One container, replicas already expanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// SHA-256 over its content, as 64 hexadecimal digits. It is kept with the container, so that a later document
    /// tells what has changed.
    pub digest: String,
    /// What it is made from; replicas share it. Its fields are read as if they were the container's own.
    #[serde(skip)]
    pub content: Arc<Content>,
    /// Profiles in the order of stacking.
    pub profiles: Vec<String>,
    /// The hardware address of its `eth0`.
    pub mac: Mac,
    /// The predicted addresses in the prefixes that were known at build time; the agent adds the prefixes it sees.
    pub predicted: Vec<Ipv6Addr>,
    /// Its own configuration keys (`security.nesting` among them).
    pub config: BTreeMap<String, String>,
    /// Its own devices.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

impl Deref for Container {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Content {
        Arc::make_mut(&mut self.content)
    }
}

/// What makes the content of a container: a change of it makes the container anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Where it comes from.
    pub image: ImageRef,
    /// Files pushed before anything runs.
    pub files: Vec<PushedFile>,
    /// What runs in it once.
    pub run: Vec<Run>,
    /// The alias under which it is published once all has run.
    pub publish: Option<String>,
}

/// Where a container comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRef {
    /// An alias in the daemon's own store: carried or published.
    Local(String),
    /// An image server's.
    Remote {
        /// The remote's name.
        remote: String,
        /// The alias there.
        alias: String,
    },
}

impl Default for ImageRef {
    fn default() -> Self {
        Self::Local(String::new())
    }
}

/// A file pushed into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushedFile {
    /// Absolute path in the container.
    pub path: String,
    /// Where its content lies on the card.
    pub source: String,
    /// SHA-256 of the content, 64 hexadecimal digits: a change of it is a change of the container.
    pub sha256: String,
    /// Permission bits.
    pub mode: u16,
    /// Its owner there. A document in which every file is root's is one that an older agent reads, too.
    #[serde(default, skip_serializing_if = "is_root")]
    pub uid: u32,
    /// Its group there.
    #[serde(default, skip_serializing_if = "is_root")]
    pub gid: u32,
}

// serde hands fields over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_root(id: &u32) -> bool {
    *id == 0
}

/// One step of provisioning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What people see of it: the place and the first word of a line, or the script's name. Never the arguments, which
    /// may be secret.
    pub label: String,
    /// Handed to `sh` in the container: a line or a whole script.
    pub script: String,
    /// How often it is tried again.
    pub retries: u32,
    /// Seconds one try may take.
    pub timeout_seconds: u32,
}
