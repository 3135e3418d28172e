//! What one card will be: the farm and one of its cards with every name expanded, every profile stacked, every
//! address chosen. Pure: what the farm names was read before, and nothing here knows of images or filesystems.

mod cluster;
mod containers;
pub mod content_cache;
mod error;
pub mod html;
pub mod images;
pub mod names;
pub mod packages;
mod preseed;
pub mod show;
pub mod table;

pub use error::{DocumentTooLong, PlanError};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::farm::assets::Sources;
use crate::farm::host_keys::{self, ON_THE_CARD};
use crate::farm::stack::Stacked;
use crate::farm::{
    Boot, CarriedPackage, Dns, Farm, FileSource, Flavour, Ipv4, Ipv6, ResolvedCard, Ssh, Sudo,
};
use palmfarm_protocol::cluster::Member;
use palmfarm_protocol::firstboot::{self, FirstBoot};

use crate::edit::block::length;
use crate::edit::tree::{Access, CardPath, IfThere, Privacy};
use crate::farm::addresses::{self, Prefix};
use crate::farm::cluster_keys::ClusterKeys;
use crate::farm::passwords::CryptHash;
pub use cluster::MemberKeys;
use content_cache::ContentCache;

/// Where the FAT partition is mounted on every image of Ubuntu's; rendering puts in what the base says.
const BOOT_MOUNT: &str = "/boot/firmware";

/// The mode of a file for which none is declared.
pub(crate) const MODE: u16 = 0o644;

/// What only the agent reads, which is root.
const OF_THE_AGENT: Access = Access::root(0o600);

/// One card, decided.
#[derive(Clone, Debug)]
pub struct CardPlan {
    /// The card.
    pub card: ResolvedCard,
    /// People who log in.
    pub users: Vec<PlannedUser>,
    /// The SSH server.
    pub ssh: Ssh,
    /// The public half of the host key, if the card brings one: `ssh-ed25519 AAAA… HOST`.
    pub host_key: Option<String>,
    /// A zone of the tz database.
    pub timezone: Option<String>,
    /// A locale.
    pub locale: Option<String>,
    /// Kernel command line and firmware configuration.
    pub boot: Boot,
    /// Shell lines for the end of every boot.
    pub rc_local: Vec<String>,
    /// The agent's document.
    pub firstboot: FirstBoot,
    /// Each container of `firstboot`, in the same order: what it is left with once its profiles are stacked.
    pub stacks: Vec<Stacked>,
    /// Host files: path on the card, content.
    pub files: Vec<CardFile>,
    /// What the agent pushes into containers, the images, packages and snaps.
    pub payload: Vec<CardFile>,
    /// What is known of the carried images.
    pub images: Vec<images::Found>,
    /// The carried packages.
    pub packages: Vec<CarriedPackage>,
    /// The private keys of the card as a member of a cluster.
    pub cluster_keys: Option<MemberKeys>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970, where it was given.
    pub epoch: Option<u32>,
    /// Prefixes of the LAN, as far as they were given.
    pub prefixes: Vec<Prefix>,
    /// The host's own addresses, where they can be known.
    pub host_addresses: Vec<IpAddr>,
    /// The zone that `plan --format zone` writes for.
    pub dns: Option<Dns>,
    /// What the card's owner should know, one sentence each.
    pub notes: Vec<String>,
}

impl CardPlan {
    /// The card as a member of a cluster, and whether it forms it; `None`: it is a host by itself.
    #[must_use]
    pub fn member(&self) -> Option<(&Member, bool)> {
        let cluster = self.firstboot.lxd.as_ref()?.cluster.as_ref()?;
        let member = cluster.member(&self.card.name)?;
        Some((member, cluster.first == member.name))
    }

    /// Why addresses of the host are not known; `None`: they are.
    #[must_use]
    pub fn host_unknown(&self) -> Option<&'static str> {
        match (&self.card.network.ipv6, &self.card.network.ipv4) {
            (Ipv6::Auto, _) if self.card.mac.is_none() => {
                Some("no IPv6 is known without its MAC in `cards:`")
            }
            (Ipv6::Auto, _) if self.prefixes.is_empty() => Some(ASK_PREFIX),
            (Ipv6::None, Ipv4::Dhcp) => Some("DHCP chooses its only address"),
            (Ipv6::None, Ipv4::None) => Some("it has no address"),
            _ => None,
        }
    }

    /// Whether an address is not known only because no prefix is.
    #[must_use]
    pub fn lacks_prefix(&self) -> bool {
        let mut containers = self.firstboot.containers.iter().zip(&self.stacks);
        self.host_unknown() == Some(ASK_PREFIX)
            || containers.any(|(container, stack)| self.unknown(container, stack) == Some(ASK_PREFIX))
    }

    /// Why no address of `container` is known, which is left with `stack`; `None`: one is.
    #[must_use]
    pub fn unknown(&self, container: &firstboot::Container, stack: &Stacked) -> Option<&'static str> {
        if !container.predicted.is_empty() {
            return None;
        }
        let lan = self.firstboot.network.addressed();
        let mut networks = self.firstboot.lxd.iter().flat_map(|lxd| &lxd.preseed.networks);
        Some(match stack.parent() {
            Some(parent) if parent == lan => ASK_PREFIX,
            Some(parent) if networks.any(|network| network.name == parent) => "it is behind NAT",
            _ => "its network is as its devices say",
        })
    }
}

/// Why an address is not known that could be.
const ASK_PREFIX: &str = "its address is known with --prefix";

/// A person as cloud-init is told of them.
#[derive(Clone, Debug)]
pub struct PlannedUser {
    /// Login name.
    pub name: String,
    /// Supplementary groups, without those that the container daemon brings.
    pub groups: Vec<String>,
    /// Lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// `None`: no login by password.
    pub password: Option<CryptHash>,
    /// What `sudo` asks for.
    pub sudo: Option<Sudo>,
    /// The login shell.
    pub shell: String,
    /// The comment of passwd(5).
    pub gecos: Option<String>,
    /// The number; `None`: the next one that is free.
    pub uid: Option<u32>,
    /// Whether the shell ends at once.
    pub is_service: bool,
}

/// A file that goes onto the card as it is.
#[derive(Clone, Debug)]
pub struct CardFile {
    /// Where on the card.
    pub path: CardPath,
    /// All of it.
    pub content: Arc<[u8]>,
    /// The path beside the farm file.
    pub source: String,
    /// Mode and owner on the card.
    pub access: Access,
    /// What a file of the base at the same path keeps of its access.
    pub if_there: IfThere,
    /// Whether plans and manifests may show it.
    pub privacy: Privacy,
}

/// The agent's document as it lies on the card.
///
/// # Errors
/// It is longer than the agent reads.
pub fn document(firstboot: &FirstBoot) -> Result<String, DocumentTooLong> {
    let text = format!("{:#}\n", serde_json::json!(firstboot));
    let (bytes, most) = (length(text.as_bytes()), firstboot::LARGEST);
    if bytes > most {
        return Err(DocumentTooLong { bytes, most });
    }
    Ok(text)
}

/// Plan `card` of `farm`. `hashes` has the hash of each user who has a password, `prefixes` the prefixes of the LAN
/// in which addresses are predicted, `keys` the key pairs of the farm's cluster; `seen` knows the files of the farm from its
/// other cards.
///
/// # Errors
/// What was to be read or hashed beforehand was not, or is no script, or containers wait for each other.
pub fn card(
    farm: &Farm,
    card: ResolvedCard,
    sources: &Sources,
    hashes: &BTreeMap<String, CryptHash>,
    prefixes: &[Prefix],
    keys: Option<&ClusterKeys>,
    seen: &mut ContentCache,
) -> Result<CardPlan, PlanError> {
    let own = addresses::own_prefix(&card);
    let prefixes = if prefixes.is_empty() {
        own.as_slice()
    } else {
        prefixes
    };
    let mut payload = Vec::new();
    let (containers, stacks) = containers::plan(farm, &card, sources, prefixes, &mut payload, seen)?;
    let (mut lxd, images) = preseed::lxd(farm, &card, sources, &mut payload, seen)?;
    let membership = cluster::membership(farm, &card, keys)?;
    if let (Some(lxd), Some((cluster, _))) = (&mut lxd, &membership) {
        lxd.cluster = Some(cluster.clone());
    }
    let mut files = Vec::new();
    for (path, source) in &farm.files {
        let (access, privacy) = access(path, source, sources)?;
        let mut file = carried(path, &source.file, access, privacy, sources)?;
        file.if_there = source.declared.if_there();
        files.push(file);
    }
    let host_key = match farm.ssh.host_key(&card.hostname) {
        Some(file) => Some(host_key(&file, &card.hostname, sources, &mut files)?),
        None => None,
    };
    // Where the farm declares no daemon its groups are like any other.
    let flavour = farm.lxd.as_ref().map(|lxd| lxd.flavour);
    let brought = |group: &str| flavour.is_some_and(|flavour| is_daemon_group(flavour, group));
    let users: Result<_, _> = farm
        .users
        .iter()
        .map(|user| planned_user(user, hashes, &brought))
        .collect();
    let daemon_users = farm
        .users
        .iter()
        .filter(|user| user.groups.iter().any(|group| brought(group)))
        .map(|user| user.name.clone())
        .collect();
    let network = firstboot::Network {
        uplink: card.network.uplink.clone(),
        vlan: card.network.vlan,
        bridge: card.network.bridge.clone(),
        renderer: card.network.renderer,
        mac: card.mac,
        ipv4: card.network.ipv4.clone(),
        ipv6: card.network.ipv6.clone(),
        rollback_seconds: card.network.rollback_seconds,
    };
    let firstboot = FirstBoot {
        version: firstboot::VERSION,
        card: card.name.clone(),
        hostname: card.hostname.clone(),
        network,
        packages: packages::wanted(farm, &card),
        carried: packages::declared(farm, sources, &mut payload)?,
        daemon_users,
        lxd,
        containers,
        boot_mount: BOOT_MOUNT.into(),
    };
    let host_addresses = addresses::host(&card, prefixes);
    Ok(CardPlan {
        notes: notes(farm, &card, &firstboot, &stacks)
            .into_iter()
            .chain(elsewhere(own, prefixes))
            .chain(by_name(&card, &host_addresses))
            .chain(host_key.as_deref().map(|public| {
                let line = host_keys::known_hosts(&card.hostname, &host_addresses, public);
                format!("ssh knows this card by this line in ~/.ssh/known_hosts: {line}")
            }))
            .collect(),
        card,
        users: users?,
        ssh: farm.ssh.clone(),
        host_key,
        timezone: farm.timezone.clone(),
        locale: farm.locale.clone(),
        boot: farm.boot.clone(),
        rc_local: farm.rc_local.clone(),
        firstboot,
        stacks,
        files,
        payload,
        images,
        packages: farm.carry.packages().cloned().collect(),
        cluster_keys: membership.map(|(_, keys)| keys),
        epoch: None,
        prefixes: prefixes.to_vec(),
        host_addresses,
        dns: farm.dns.clone(),
    })
}

/// How the host is found if nothing tells its address before it boots.
fn by_name(card: &ResolvedCard, addresses: &[IpAddr]) -> Option<String> {
    (card.network.mdns && addresses.is_empty()).then(|| {
        format!(
            "the address of the host is not known before it boots; on the LAN it answers for {}.local",
            card.hostname
        )
    })
}

/// Groups that come with the daemon. cloud-init would make a missing one, as an ordinary group, and the daemon's
/// package would then refuse to make its own; so the agent adds people once the group is there.
fn is_daemon_group(flavour: Flavour, group: &str) -> bool {
    match flavour {
        Flavour::Lxd => group == "lxd",
        Flavour::Incus => matches!(group, "incus-admin" | "lxd"),
    }
}

/// A user for cloud-init, without the groups that are `brought` by the daemon's package.
fn planned_user(
    user: &crate::farm::User,
    hashes: &BTreeMap<String, CryptHash>,
    brought: &dyn Fn(&str) -> bool,
) -> Result<PlannedUser, PlanError> {
    let password = match &user.password {
        None => None,
        Some(_) => Some(
            hashes
                .get(&user.name)
                .cloned()
                .ok_or_else(|| PlanError::NotHashed(user.name.clone()))?,
        ),
    };
    Ok(PlannedUser {
        name: user.name.clone(),
        groups: user
            .groups
            .iter()
            .filter(|group| !brought(group))
            .cloned()
            .collect(),
        ssh_keys: user.authorized_keys(),
        password,
        sudo: user.sudo,
        shell: user.shell.clone().unwrap_or_else(|| "/bin/bash".into()),
        gecos: user.gecos.clone(),
        uid: user.uid,
        is_service: user.is_service(),
    })
}

/// Add the host key in `file` to `files`; returns its public half.
fn host_key(
    file: &str,
    host: &str,
    sources: &Sources,
    files: &mut Vec<CardFile>,
) -> Result<String, PlanError> {
    let of_root = |mode| Access { mode, uid: 0, gid: 0 };
    let public = host_keys::public_half(&read(file, sources)?, host).map_err(|why| PlanError::HostKey {
        file: file.into(),
        why,
    })?;
    files.push(carried(
        ON_THE_CARD,
        file,
        of_root(0o600),
        Privacy::Secret,
        sources,
    )?);
    files.push(CardFile {
        path: card_path(&format!("{ON_THE_CARD}.pub"), file)?,
        content: format!("{public}\n").into_bytes().into(),
        source: file.into(),
        access: of_root(0o644),
        if_there: IfThere::Set,
        privacy: Privacy::Public,
    });
    Ok(public)
}

fn carried(
    path: &str,
    source: &str,
    access: Access,
    privacy: Privacy,
    sources: &Sources,
) -> Result<CardFile, PlanError> {
    Ok(CardFile {
        path: card_path(path, source)?,
        content: read(source, sources)?,
        source: source.into(),
        access,
        if_there: IfThere::Set,
        privacy,
    })
}

/// Who may read the file `source`, which will be at `path` of the card or of a container, and whether it may be shown.
fn access(path: &str, source: &FileSource, sources: &Sources) -> Result<(Access, Privacy), PlanError> {
    let content = read(&source.file, sources)?;
    let found = source.declared.of_file(path, &content, MODE);
    found.map_err(|why| PlanError::Exposed {
        path: path.into(),
        source_path: source.file.clone(),
        why,
    })
}

fn card_path(path: &str, source_path: &str) -> Result<CardPath, PlanError> {
    CardPath::new(path).map_err(|source| PlanError::Path {
        source_path: source_path.into(),
        source,
    })
}

fn read(source: &str, sources: &Sources) -> Result<Arc<[u8]>, PlanError> {
    sources
        .get(source)
        .cloned()
        .ok_or_else(|| PlanError::NotRead(source.into()))
}

/// A fixed address in another net than the one that predictions are asked for.
fn elsewhere(own: Option<Prefix>, prefixes: &[Prefix]) -> Option<String> {
    let own = own.filter(|own| !prefixes.contains(own))?;
    Some(format!(
        "the host's fixed address is in {own}, which is none of the prefixes that were given"
    ))
}

/// What is as declared and yet may surprise.
fn notes(farm: &Farm, card: &ResolvedCard, document: &FirstBoot, stacks: &[Stacked]) -> Vec<String> {
    let mut notes = Vec::new();
    let flavour = farm.lxd.as_ref().map_or(Flavour::Lxd, |lxd| lxd.flavour);
    for user in &farm.users {
        if user.groups.iter().any(|group| is_daemon_group(flavour, group)) {
            notes.push(format!(
                "{} is in the group of the container daemon, which is as good as root on this Pi",
                user.name
            ));
        }
    }
    if farm.cluster.is_some() && flavour == Flavour::Incus {
        notes.push(
            "a cluster of Incus was tried less than one of LXD: three daemons of Incus 6.0 form one, and no card was lost or \
             flashed again"
                .into(),
        );
    }
    let Some(bridge) = &card.network.bridge else {
        return notes;
    };
    let nat = farm
        .lxd
        .as_ref()
        .and_then(|lxd| lxd.nat.as_ref())
        .map(|nat| nat.bridge.as_str());
    let mut exposed = Vec::new();
    for (container, stack) in document.containers.iter().zip(stacks) {
        let name = &container.name;
        match stack.parent() {
            Some(parent) if parent == bridge => exposed.push(name.as_str()),
            Some(parent)
                if Some(parent) == nat && container.profiles.iter().any(|profile| profile == "extbridge") =>
            {
                let order = container.profiles.join(", ");
                notes.push(format!(
                    "{name} stays behind NAT: of its profiles [{order}] the last one with an eth0 wins, so extbridge must \
                     come last"
                ));
            }
            _ => {}
        }
    }
    if let [first, .., last] | [first @ last] = exposed.as_slice() {
        let who = if first == last {
            (*first).to_owned()
        } else {
            format!("{first} to {last}, {} containers,", exposed.len())
        };
        notes.push(format!(
            "{who} on {bridge} can be reached from the whole Internet over IPv6 where the router lets them be"
        ));
    }
    notes
}
