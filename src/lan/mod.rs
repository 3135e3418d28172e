//! Who is on the networks of this computer: it looks for hosts by their MAC, by their name over multicast DNS and at
//! addresses where they should be. It sends small packets to the LAN and remembers nothing but who was there. It knows
//! neither farms nor cards, and believes no host that it is the one whose MAC, name or address it has: whoever relies on
//! that must ask for a proof, as ssh(1) does by its host key.

pub mod mdns;
mod probe;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use palmfarm_protocol::mac::Mac;

use crate::host::interfaces::{interfaces, Interface};
use crate::host::neighbours::{neighbours, Neighbour};
use crate::progress::Cancel;
use probe::Probe;

/// The first three bytes of the MACs of Raspberry Pis: Raspberry Pi Foundation, Raspberry Pi (Trading) Ltd and Raspberry
/// Pi Ltd in the registry of the IEEE (MA-L).
const RASPBERRY_PI: [[u8; 3]; 7] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
];

/// Whether a Raspberry Pi has this MAC.
pub fn is_raspberry_pi(mac: Mac) -> bool {
    let [a, b, c, ..] = mac.0;
    RASPBERRY_PI.contains(&[a, b, c])
}

/// A host to look for. What is not known of it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub mac: Option<Mac>,
    /// Its name in multicast DNS, in lower case: `palm.local`.
    pub name: Option<String>,
    /// Addresses that it has, whatever the network.
    pub fixed: Vec<IpAddr>,
}

/// How a host was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// It answers from its MAC.
    Mac,
    /// It says over multicast DNS that it has the name.
    Name,
    /// Somebody answers at its fixed address.
    Address,
    /// It has the MAC of a Raspberry Pi.
    RaspberryPi,
}

impl Sign {
    /// One word for JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Name => "mdns",
            Self::Address => "address",
            Self::RaspberryPi => "raspberry-pi",
        }
    }
}

/// An address of a host on the LAN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub ip: IpAddr,
    /// The interface behind which it is.
    pub interface: String,
}

impl Place {
    /// Whether it is an address that is valid behind one interface only.
    pub fn is_link_local(&self) -> bool {
        match self.ip {
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
            IpAddr::V4(ip) => ip.is_link_local(),
        }
    }
}

/// As programs take it: link-local addresses with their interface (RFC 4007, section 11).
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V6(ip) if self.is_link_local() => write!(f, "{ip}%{}", self.interface),
            ip => write!(f, "{ip}"),
        }
    }
}

/// A host that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub sign: Sign,
    pub mac: Option<Mac>,
    /// Its name in multicast DNS, where it was asked for.
    pub name: Option<String>,
    /// Its addresses, those first that work everywhere: global, unique-local, IPv4, link-local.
    pub places: Vec<Place>,
}

/// What one look at the LAN saw.
#[derive(Debug, Default)]
pub struct Sight {
    neighbours: Vec<Neighbour>,
    /// Who answered an echo request: the number of the interface, 0 for an address that needs none.
    echoes: BTreeSet<(u32, Ipv6Addr)>,
    /// Who answered over multicast DNS: the name, and the address that it has.
    names: BTreeSet<(String, Place)>,
    interfaces: Vec<Interface>,
}

/// Looks at the LAN as often as it is asked to.
#[derive(Debug)]
pub struct Search(Probe);

/// Why the LAN cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LanError {
    #[error("asking the kernel for the networks of this computer")]
    Interfaces(#[source] io::Error),
    #[error("this computer is on no network: it has no interface that is up and has an address")]
    NoNetwork,
    #[error("opening a socket")]
    Socket(#[source] io::Error),
}

impl LanError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoNetwork => Some("connect it to the network that the Pi is on"),
            Self::Interfaces(_) | Self::Socket(_) => None,
        }
    }
}

impl Search {
    pub fn new() -> Result<Self, LanError> {
        Ok(Self(Probe::open().map_err(LanError::Socket)?))
    }

    /// Whether all hosts can be asked at once to show themselves. If not, only those are found whose MAC, name or address
    /// is known.
    pub fn can_ping(&self) -> bool {
        self.0.can_ping()
    }

    /// Ask for those of `wanted` and listen for that long. `Cancel` cuts it short.
    pub fn look(&mut self, wanted: &[&Wanted], listen: Duration, cancel: &Cancel) -> Result<Sight, LanError> {
        let interfaces = interfaces().map_err(LanError::Interfaces)?;
        if interfaces.is_empty() {
            return Err(LanError::NoNetwork);
        }
        let heard = self.0.ask(&interfaces, wanted, listen, cancel);
        Ok(Sight {
            neighbours: neighbours().map_err(LanError::Interfaces)?,
            echoes: heard.echoes,
            names: heard.names,
            interfaces,
        })
    }
}

impl Sight {
    /// Ask each of `found` for its name in multicast DNS, and put it there.
    pub fn name(&self, found: &mut [Found], listen: Duration, cancel: &Cancel) {
        probe::ask_names(&self.interfaces, found, listen, cancel);
    }

    /// `wanted`, if it is there. Where this computer has a global address, it counts once it has one, too: it forms one as
    /// soon as it hears the router.
    pub fn find(&self, wanted: &Wanted) -> Option<Found> {
        let by_mac = wanted.mac.and_then(|mac| self.with_mac(mac, Sign::Mac));
        let found = by_mac
            .or_else(|| self.by_name(wanted))
            .or_else(|| self.by_address(wanted))?;
        let is_complete = |place: &Place| {
            let here = self.interfaces.iter().find(|one| one.name == place.interface);
            !place.is_link_local() || here.is_none_or(|one| one.prefixes().is_empty())
        };
        found.places.iter().any(is_complete).then_some(found)
    }

    /// Every Raspberry Pi that is there.
    pub fn raspberry_pis(&self) -> Vec<Found> {
        let pis = self
            .neighbours
            .iter()
            .map(|one| one.mac)
            .filter(|mac| is_raspberry_pi(*mac));
        let pis: BTreeSet<Mac> = pis.collect();
        pis.into_iter()
            .filter_map(|mac| self.with_mac(mac, Sign::RaspberryPi))
            .collect()
    }

    fn with_mac(&self, mac: Mac, sign: Sign) -> Option<Found> {
        let of_it = self.neighbours.iter().filter(|one| one.mac == mac);
        let there = of_it.filter(|one| one.reachable || self.has_answered(one));
        found(
            sign,
            Some(mac),
            there.filter_map(|one| self.place(one.interface, one.ip)),
        )
    }

    fn has_answered(&self, neighbour: &Neighbour) -> bool {
        let named = |(_, place): &(String, Place)| {
            Some(place) == self.place(neighbour.interface, neighbour.ip).as_ref()
        };
        let echoed = match neighbour.ip {
            IpAddr::V6(ip) => [neighbour.interface, 0]
                .into_iter()
                .any(|scope| self.echoes.contains(&(scope, ip))),
            IpAddr::V4(_) => false,
        };
        echoed || self.names.iter().any(named)
    }

    fn by_name(&self, wanted: &Wanted) -> Option<Found> {
        let wanted = wanted.name.as_deref()?;
        let answers = self.names.iter().filter(|(name, _)| name == wanted);
        let found = found(Sign::Name, None, answers.map(|(_, place)| place.clone()))?;
        let behind = |one: &&Neighbour| found.places.iter().any(|place| place.ip == one.ip);
        let mac = self.neighbours.iter().find(behind).map(|one| one.mac);
        Some(Found { mac, ..found })
    }

    fn by_address(&self, wanted: &Wanted) -> Option<Found> {
        let there = self
            .neighbours
            .iter()
            .filter(|one| wanted.fixed.contains(&one.ip));
        let one = there
            .into_iter()
            .find(|one| one.reachable || self.has_answered(one))?;
        found(
            Sign::Address,
            Some(one.mac),
            self.place(one.interface, one.ip).into_iter(),
        )
    }

    fn place(&self, interface: u32, ip: IpAddr) -> Option<Place> {
        let interface = self.interfaces.iter().find(|one| one.index == interface)?;
        Some(Place {
            ip,
            interface: interface.name.clone(),
        })
    }
}

/// A host with these places in their order, if there are any.
fn found(sign: Sign, mac: Option<Mac>, places: impl Iterator<Item = Place>) -> Option<Found> {
    let rank = |place: &Place| match place.ip {
        _ if place.is_link_local() => 3,
        IpAddr::V4(_) => 2,
        IpAddr::V6(ip) => u8::from(ip.is_unique_local()),
    };
    let mut places: Vec<Place> = places.collect();
    // Of several global addresses, the one that follows from the MAC is the one that stays.
    let lasts = |place: &Place| match (mac, place.ip) {
        (Some(mac), IpAddr::V6(ip)) => mac.address_in(ip) == ip,
        _ => false,
    };
    places.sort_by_key(|place| (rank(place), !lasts(place), place.clone()));
    places.dedup();
    (!places.is_empty()).then_some(Found {
        sign,
        mac,
        name: None,
        places,
    })
}

#[cfg(test)]
mod tests;
