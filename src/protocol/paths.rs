//! Where tool and agent meet on the card: paths that one writes and the other reads. What only one of them knows is not
//! here.

/// The document for the first boot; 0600, since it holds what containers are told.
pub const DOCUMENT: &str = "/etc/palmfarm/firstboot.json";

/// What cloud-init is told, without passwords: the agent looks whether it is there.
pub const HOST: &str = "/etc/palmfarm/host.json";

/// What `lxd init --preseed` would take, for people to read; the agent works from [`DOCUMENT`].
pub const PRESEED: &str = "/etc/palmfarm/lxd-preseed.yaml";

/// What was built, from what, and what was put where.
pub const MANIFEST: &str = "/etc/palmfarm/manifest.json";

/// The bridge's stanza of interfaces(5), until ifupdown takes over.
pub const IFUPDOWN_STANZA: &str = "/etc/palmfarm/ifupdown/interfaces";

/// Files for systemd-networkd in which [`MAC_PLACEHOLDER`] stands.
pub const NETWORK: &str = "/usr/lib/palmfarm/network";

/// The same without an address for the bridge, copied first: it stays where the hardware address cannot be had.
pub const NETWORK_FALLBACK: &str = "/usr/lib/palmfarm/network-fallback";

/// Stands for the wired interface's hardware address where that is known on the Pi only.
pub const MAC_PLACEHOLDER: &str = "@MAC@";

/// Scripts and files for containers.
pub const FARM_FILES: &str = "/usr/lib/palmfarm/farm";

/// Images that the card carries.
pub const IMAGES: &str = "/var/lib/palmfarm/images";

/// Debian packages and snaps that the card carries.
pub const CARRIED: &str = "/var/lib/palmfarm/carried";

/// The private half of the card's own certificate, for the cluster; 0600.
pub const MEMBER_KEY: &str = "/etc/palmfarm/cluster/server.key";

/// The private half of the cluster's certificate, on the card alone that forms it; 0600.
pub const CLUSTER_KEY: &str = "/etc/palmfarm/cluster/cluster.key";
