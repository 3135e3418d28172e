//! `farm.yaml`, version 1, as types. It decides nothing: what a farm must fulfil beyond its types is in `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::network::tagged;

pub use super::accounts::Account;
pub use super::carry::{CarriedPackage, CarriedPackages, CarriedSnap, Carry};
pub use super::declared::Declared;
pub use palmfarm_protocol::firstboot::{Flavour, Refresh};
pub use palmfarm_protocol::network::{Ipv4, Ipv6, Renderer};

/// The version of `farm.yaml` that this crate knows: the value of its key `farm`.
pub const VERSION: u32 = 1;

/// One farm: a base image and all that its cards hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farm {
    /// A name from the catalogue, a path or a URL.
    pub base: String,
    /// SHA-256 of the base as downloaded, 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// Host name (RFC 1123 label) of a farm of one card.
    pub hostname: Option<String>,
    /// A zone of the tz database.
    pub timezone: Option<String>,
    /// A locale such as `en_GB.UTF-8`.
    pub locale: Option<String>,
    /// People who log in at the Pi.
    pub users: Vec<User>,
    /// The SSH server.
    pub ssh: Ssh,
    /// The Pi's network.
    pub network: Network,
    /// Kernel command line and firmware configuration.
    pub boot: Boot,
    /// LXD; `None` where the farm names neither it nor containers.
    pub lxd: Option<Lxd>,
    /// Images carried on the card, by alias.
    pub images: BTreeMap<String, CarriedImage>,
    /// Containers in the order in which they are declared.
    pub containers: Vec<Container>,
    /// Debian packages that the first boot installs.
    pub packages: Vec<String>,
    /// What the cards bring so that the first boot needs no Internet.
    pub carry: Carry,
    /// Host files by their path on the card.
    pub files: BTreeMap<String, FileSource>,
    /// Overlay directories and tar files, beside the farm file.
    pub overlays: Vec<String>,
    /// Shell lines that run at the end of every boot.
    pub rc_local: Vec<String>,
    /// The zone that `plan --format zone` writes for.
    pub dns: Option<Dns>,
    /// The fleet; empty for a single card that is named by `hostname`.
    pub cards: BTreeMap<String, Card>,
    /// The cluster that the cards form; `None`: each is a host by itself.
    pub cluster: Option<Cluster>,
}

/// The cluster of container daemons that the cards form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The file of the key pairs, beside the farm file.
    pub keys: String,
    /// The card that forms it; the others join it.
    pub first: String,
    /// Seconds after which a silent member counts as offline.
    pub offline_threshold: u32,
}

/// One person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// The public keys of those who may log in by SSH.
    pub ssh_keys: Vec<SshKeys>,
    /// Where the password comes from; `None`: no login by password.
    pub password: Option<Password>,
    /// What `sudo` asks for.
    pub sudo: Option<Sudo>,
    /// The login shell, an absolute path; `None`: bash.
    pub shell: Option<String>,
    /// The comment of passwd(5), mostly the full name.
    pub gecos: Option<String>,
    /// The number; `None`: the next one that is free.
    pub uid: Option<u32>,
}

/// Public SSH keys that a farm names in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshKeys {
    /// Where they are.
    pub source: KeySource,
    /// Lines of `authorized_keys`; none where an account is not pinned in palmfarm.lock.
    pub lines: Vec<String>,
}

/// Where public SSH keys are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// In the farm itself.
    #[default]
    Farm,
    /// In a file.
    File(String),
    /// At GitHub or Launchpad; palmfarm.lock has what was there.
    Account(Account),
}

impl User {
    /// Whether the shell is one that ends at once, as accounts of services have it.
    pub fn is_service(&self) -> bool {
        let shell = self.shell.as_deref().unwrap_or_default();
        shell.ends_with("/nologin") || shell.ends_with("/false")
    }

    /// The lines of `authorized_keys`, each once.
    pub fn authorized_keys(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let lines = self.ssh_keys.iter().flat_map(|keys| &keys.lines);
        lines.filter(|line| seen.insert(*line)).cloned().collect()
    }
}

/// Where a password comes from. The clear text is never part of a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// A crypt(5) hash.
    Hash(String),
    /// A file whose first line is the clear text.
    File(String),
    /// An environment variable of the workstation that holds the clear text.
    Env(String),
}

/// What `sudo` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sudo {
    /// The user's password.
    Password,
    /// Nothing.
    Nopasswd,
}

/// The SSH server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// Whether it takes passwords; keys it always takes.
    pub password: bool,
    /// The folder with the host keys of the cards; `None`: each card makes its own at its first boot.
    pub host_keys: Option<String>,
}

impl Ssh {
    /// The file with the host key of the card called `host`.
    pub fn host_key(&self, host: &str) -> Option<String> {
        let folder = self.host_keys.as_deref()?.trim_end_matches('/');
        Some(format!("{folder}/{host}"))
    }
}

/// The Pi's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The wired interface that goes to the home router.
    pub uplink: String,
    /// VLAN identifier on the uplink, 1 to 4094.
    pub vlan: Option<u16>,
    /// The bridge; `None` (`bridge: none`): containers stay behind NAT.
    pub bridge: Option<String>,
    /// Who configures it.
    pub renderer: Renderer,
    /// IPv4 of the host.
    pub ipv4: Ipv4,
    /// IPv6 of the host.
    pub ipv6: Ipv6,
    /// How long a configuration that was never confirmed may leave the Pi unreachable, in seconds.
    pub rollback_seconds: u32,
    /// Whether the host answers for `HOSTNAME.local` on the LAN (mDNS, RFC 6762).
    pub mdns: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            uplink: "eth0".into(),
            vlan: None,
            bridge: Some("br0".into()),
            renderer: Renderer::Networkd,
            ipv4: Ipv4::Dhcp,
            ipv6: Ipv6::Auto,
            rollback_seconds: 120,
            mdns: true,
        }
    }
}

impl Network {
    /// The interface that is a port of the bridge, where there is one: the uplink, or its VLAN (`eth0.42`).
    pub fn port(&self) -> String {
        tagged(&self.uplink, self.vlan)
    }

    /// The interface that puts a container on the LAN: the bridge, or without one the port, by macvlan.
    pub fn lan(&self) -> String {
        self.bridge.clone().unwrap_or_else(|| self.port())
    }
}

/// Kernel command line and firmware configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Words for `cmdline.txt`.
    pub cmdline: Vec<String>,
    /// Lines of `config.txt`, in order: `KEY=VALUE`, or a section such as `[pi4]`.
    pub config: Vec<String>,
}

/// LXD on the Pi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lxd {
    /// LXD itself or its fork.
    pub flavour: Flavour,
    /// Whether the first boot upgrades it.
    pub upgrade: bool,
    /// The channel of LXD's snap, as `TRACK/RISK`; `None`: whichever Ubuntu chooses.
    pub channel: Option<String>,
    /// Who refreshes the snap later on.
    pub refresh: Refresh,
    /// Image servers by name.
    pub remotes: BTreeMap<String, String>,
    /// The storage pool.
    pub storage: Storage,
    /// The NAT bridge; `None`: no NAT bridge.
    pub nat: Option<Nat>,
    /// Profiles beside `default` and `extbridge`, or in their place.
    pub profiles: BTreeMap<String, Profile>,
}

impl Default for Lxd {
    fn default() -> Self {
        Self {
            flavour: Flavour::Lxd,
            upgrade: false,
            channel: None,
            refresh: Refresh::Auto,
            remotes: BTreeMap::new(),
            storage: Storage::default(),
            nat: Some(Nat::default()),
            profiles: BTreeMap::new(),
        }
    }
}

/// The storage pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: StorageDriver,
    /// Size in bytes of the loop file; only with btrfs. `None`: LXD's default.
    pub size: Option<u64>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            name: "default".into(),
            driver: StorageDriver::Dir,
            size: None,
        }
    }
}

/// How a pool stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageDriver {
    /// A loop file with btrfs.
    Btrfs,
    /// Plain directories.
    Dir,
}

/// The NAT bridge of LXD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Interface name.
    pub bridge: String,
    /// The bridge's own address; `None`: no IPv4.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// The bridge's own address; `None`: no IPv6.
    pub ipv6: Option<(Ipv6Addr, u8)>,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            bridge: "lxdbr0".into(),
            ipv4: Some((Ipv4Addr::new(10, 77, 0, 1), 24)),
            ipv6: Some((Ipv6Addr::new(0xfd42, 0x77, 0, 0, 0, 0, 0, 1), 64)),
        }
    }
}

/// A profile, in LXD's own form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What it is for, as LXD shows it.
    pub description: String,
    /// Configuration keys.
    pub config: BTreeMap<String, String>,
    /// Devices by name, each with its keys.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

/// An image that the card carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedImage {
    /// The unified image, the rootfs, or a plain rootfs tarball; beside the farm file.
    pub file: String,
    /// The metadata tarball of a split image.
    pub metadata: Option<String>,
}

/// One container, or as many as it has replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The key under `containers`.
    pub name: String,
    /// A carried image, `REMOTE:ALIAS`, or an alias that another container publishes.
    pub image: String,
    /// Profiles in the order of stacking; `None`: what the network suggests.
    pub profiles: Option<Vec<String>>,
    /// A hardware address in place of the computed one.
    pub mac: Option<Mac>,
    /// LXD configuration keys, merged last.
    pub config: BTreeMap<String, String>,
    /// LXD devices, merged last.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    /// Files that are pushed into it, by their path in the container.
    pub files: BTreeMap<String, FileSource>,
    /// What runs in it once, in order.
    pub run: Vec<Run>,
    /// The alias under which it is published.
    pub publish: Option<String>,
    /// First and last number of its replicas: `2..10` makes NAME2 to NAME10 and no NAME.
    pub replicas: Option<(u32, u32)>,
    /// Whether containers may run in it (`security.nesting`).
    pub nesting: bool,
    /// Whether it starts with the Pi (`boot.autostart`); `None`: it starts if it ran before.
    pub autostart: Option<bool>,
    /// The card of a cluster that it is on; `None`: a rule chooses.
    pub on: Option<String>,
    /// Whether its replicas are dealt out to the cards of a cluster.
    pub spread: bool,
}

/// A file that goes onto the card as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSource {
    /// Beside the farm file.
    pub file: String,
    /// Who may read it there, and whose it is.
    pub declared: Declared,
}

/// One step of provisioning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub what: RunWhat,
    /// How often it is tried again.
    pub retries: u32,
    /// How long one try may take, in seconds.
    pub timeout_seconds: u32,
}

/// What one step of provisioning runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunWhat {
    /// A line for `sh -c`.
    Command(String),
    /// A script beside the farm file.
    Script(String),
}

/// The zone that `plan --format zone` writes for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The zone's name.
    pub zone: String,
    /// Serial of an SOA record; `None`: no SOA.
    pub serial: Option<u32>,
    /// The addresses of the zone's name server; none: the first name that has an address stands for it.
    pub ns: Vec<IpAddr>,
}

/// One card of a fleet: what differs from the farm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The Pi's own hardware address.
    pub mac: Option<Mac>,
    /// Host name; `None`: the card's name.
    pub hostname: Option<String>,
    /// The farm's network with the card's own keys laid over it; `None`: the farm's network.
    pub network: Option<Network>,
    /// Those of the farm's containers that it has, by the names that declare them; `None`: all of them.
    pub containers: Option<Vec<String>>,
}
