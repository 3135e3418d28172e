//! Hardware addresses of containers, and the IPv6 addresses that follow, before the card exists. Pure: nothing but
//! the card's and the container's name goes into an address, so no edit of anything else moves one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::farm::decode::values;
use crate::farm::stack;
use crate::farm::{Container, Farm, Flavour, Ipv4, Ipv6, ResolvedCard};
use crate::sha256::Sha256Sum;
use palmfarm_protocol::mac::Mac;

/// What keeps these hashes apart from any others. A change of it moves every address of every farm.
const DOMAIN: &[u8] = b"palmfarm container MAC 1";

/// The first three bytes that LXD gives its own containers (`00:16:3e:xx:xx:xx`, in its `instance_utils.go`).
const LXD: [u8; 3] = [0x00, 0x16, 0x3e];

/// Those that Incus gives since 6.0.4.
const INCUS: [u8; 3] = [0x10, 0x66, 0x6a];

/// A network of the LAN in which hosts form their own addresses: 64 bits (RFC 4862, section 5.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Ipv6Addr);

/// Why a text is not a [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPrefix(String);

impl Prefix {
    /// Its address, the low 64 bits zero.
    pub fn address(self) -> Ipv6Addr {
        self.0
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    /// `P/64`; the low 64 bits may be those of a host, as `ip address` prints them.
    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let text = text.trim();
        let (address, length) = values::network::<Ipv6Addr>(text, 128).map_err(|_| {
            BadPrefix(format!(
                "{text:?} is not an IPv6 prefix; write one such as 2001:db8:1:2::/64"
            ))
        })?;
        if length != 64 {
            return Err(BadPrefix(format!(
                "{text} has {length} bits, but hosts form addresses from their MAC only in a prefix of 64"
            )));
        }
        let is_link_local = address.segments()[0] & 0xffc0 == 0xfe80;
        if address.is_multicast() || is_link_local || address.segments()[..4] == [0; 4] {
            return Err(BadPrefix(format!("{text} is not a unicast prefix of a LAN")));
        }
        let [a, b, c, d, ..] = address.segments();
        Ok(Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/64", self.0)
    }
}

/// The hardware address of the container `name` on `card`: three bytes of the daemon's, three of a SHA-256.
pub fn container_mac(flavour: Flavour, card: &str, name: &str) -> Mac {
    let [x, y, z, ..] = Sha256Sum::of_parts(DOMAIN, &[card, name]).0;
    let [a, b, c] = match flavour {
        Flavour::Lxd => LXD,
        Flavour::Incus => INCUS,
    };
    Mac([a, b, c, x, y, z])
}

/// What keeps the addresses of members apart from other hashes. A change of it moves every member of every cluster.
const MEMBER: &[u8] = b"palmfarm cluster member 1";

/// The address of `card` in the cluster whose certificate is `certificate` (DER): `fd` and the first 40 bits of the
/// certificate's SHA-256 as the global identifier, subnet 0 (RFC 4193, section 3.1), and as the interface identifier the
/// first 64 bits of the SHA-256 of [`MEMBER`], the length of the card's name in eight bytes, and the name. Its bits that mean
/// "universal" and "group" in a MAC are cleared, so that it is neither taken for one nor reserved (RFC 5453).
pub fn member(certificate: &[u8], card: &str) -> Ipv6Addr {
    let [a, b, c, d, e, ..] = Sha256Sum::of(certificate).0;
    let [s, t, u, v, w, x, y, z, ..] = Sha256Sum::of_parts(MEMBER, &[card]).0;
    Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, s & !3, t, u, v, w, x, y, z])
}

/// A container as it will be on one card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed<'f> {
    /// Its name, with its number where it is a replica.
    pub name: String,
    /// What declares it.
    pub container: &'f Container,
    /// Its hardware address.
    pub mac: Mac,
}

/// Every container of `card`, replicas one by one, in the order in which they are declared.
pub fn containers<'f>(farm: &'f Farm, card: &ResolvedCard) -> Vec<Addressed<'f>> {
    let flavour = farm.lxd.as_ref().map_or(Flavour::Lxd, |lxd| lxd.flavour);
    let mut all = Vec::new();
    for container in farm.containers.iter().filter(|one| card.has(one)) {
        for name in container
            .names()
            .into_iter()
            .filter(|name| card.has_replica(name))
        {
            let mac = container
                .mac
                .unwrap_or_else(|| container_mac(flavour, &card.name, &name));
            all.push(Addressed { name, container, mac });
        }
    }
    all
}

/// The containers of `card` that are on the LAN while the Pi runs, each with its hardware address there. Those that do not
/// start with the Pi are not among them.
pub fn on_lan(farm: &Farm, card: &ResolvedCard) -> Vec<(String, Mac)> {
    let lxd = farm.lxd.clone().unwrap_or_default();
    let profiles = stack::profiles(&lxd, &card.network);
    let lan = card.network.lan();
    let started = |one: &Addressed<'_>| one.container.autostart != Some(false);
    let all = containers(farm, card).into_iter().filter(started);
    all.filter_map(|one| {
        let stacked = stack::stack(&profiles, &one.container.stacked(&card.network), one.container);
        (stacked.parent() == Some(&lan)).then(|| (one.name, stacked.mac().unwrap_or(one.mac)))
    })
    .collect()
}

/// The addresses that `mac` forms in each of `prefixes`, where it forms EUI-64 identifiers.
pub fn predicted(mac: Mac, prefixes: &[Prefix]) -> Vec<Ipv6Addr> {
    prefixes
        .iter()
        .map(|prefix| mac.address_in(prefix.address()))
        .collect()
}

/// The addresses of the host: its fixed ones, or those that its MAC forms in `prefixes`. Empty where they are known
/// only at boot, or where it has none.
pub fn host(card: &ResolvedCard, prefixes: &[Prefix]) -> Vec<IpAddr> {
    let six = match &card.network.ipv6 {
        Ipv6::Auto => card.mac.map(|mac| predicted(mac, prefixes)).unwrap_or_default(),
        Ipv6::Static { address, .. } => vec![*address],
        Ipv6::None => Vec::new(),
    };
    let four = match &card.network.ipv4 {
        Ipv4::Static { address, .. } => Some(IpAddr::from(*address)),
        Ipv4::Dhcp | Ipv4::None => None,
    };
    six.into_iter().map(IpAddr::from).chain(four).collect()
}

/// The prefix that the farm itself tells of: that of the host's fixed address.
pub fn own_prefix(card: &ResolvedCard) -> Option<Prefix> {
    match &card.network.ipv6 {
        Ipv6::Static { address, prefix, .. } => format!("{address}/{prefix}").parse().ok(),
        Ipv6::Auto | Ipv6::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_never_move() {
        // Whoever has to change this table moves the addresses of every farm there is. Its values are those of
        // Python's hashlib: sha256(DOMAIN + pack(">Q", 4) + b"palm" + pack(">Q", 3) + b"web").hexdigest()[:6]
        for (flavour, card, name, expect) in [
            (Flavour::Lxd, "palm", "web", "00:16:3e:03:ad:8a"),
            (Flavour::Lxd, "palm", "w2", "00:16:3e:9f:cb:ab"),
            (Flavour::Lxd, "palm2", "web", "00:16:3e:9c:7e:05"),
            (Flavour::Incus, "palm", "web", "10:66:6a:03:ad:8a"),
        ] {
            assert_eq!(
                container_mac(flavour, card, name).to_string(),
                expect,
                "{card} {name}"
            );
        }
    }

    #[test]
    fn members_never_move() {
        // Python: n = b"palm1"; sha256(b"certificate").hexdigest()[:10],
        // sha256(b"palmfarm cluster member 1" + pack(">Q", len(n)) + n).hexdigest()[:16]
        assert_eq!(
            member(b"certificate", "palm1").to_string(),
            "fd03:d66d:d088:0:2cf6:92f:26b5:b508"
        );
        assert_eq!(
            member(b"certificate", "palm2").to_string(),
            "fd03:d66d:d088:0:acee:370b:ed1e:591"
        );
    }

    #[test]
    fn the_border_between_the_names_counts() {
        let mac = |card, name| container_mac(Flavour::Lxd, card, name);
        assert_ne!(mac("a", "bc"), mac("ab", "c"));
        assert_ne!(mac("", "abc"), mac("abc", ""));
    }

    #[test]
    fn prefixes() {
        let prefix: Prefix = "2001:db8:1:2:3::4/64".parse().unwrap();
        assert_eq!(prefix.to_string(), "2001:db8:1:2::/64");
        for bad in [
            "",
            "2001:db8::",
            "2001:db8::/",
            "2001:db8::/48",
            "2001:db8::/065x",
            "::/64",
            "::1/64",
            "ff02::/64",
            "fe80::/64",
            "192.0.2.0/24",
            "2001:db8::/129",
            "2001:db8::/+64",
            "fe80::1%eth0/64",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
        let mac = "00:16:3e:94:7e:64".parse().unwrap();
        assert_eq!(
            predicted(mac, &["2001:db8:ebbd:2080::/64".parse().unwrap(), prefix]),
            [
                "2001:db8:ebbd:2080:216:3eff:fe94:7e64"
                    .parse::<Ipv6Addr>()
                    .unwrap(),
                "2001:db8:1:2:216:3eff:fe94:7e64".parse().unwrap()
            ]
        );
    }
}
