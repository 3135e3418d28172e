//! What is sent to the LAN and what is heard: echo requests to all hosts, questions over multicast DNS, and packets to
//! addresses where a host should be, for which the kernel must ask whose they are (RFC 4861, section 7.2; RFC 826). It
//! judges nothing. What fails is left out: an interface may go away at any moment, and the next look asks again.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::mdns::{self, Data, Record};
use super::{Found, Place, Wanted};
use crate::host::interfaces::Interface;
use crate::host::neighbours::ping_socket;
use crate::host::random;
use crate::progress::Cancel;

/// All hosts behind an interface (RFC 4291, section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The port of the discard service (RFC 863), on which nobody listens.
const DISCARD: u16 = 9;

/// How many hosts each look tries at the addresses that follow from their MACs. The kernel keeps an entry for each address
/// until it gives up after three seconds, and has room for about a thousand (`gc_thresh3`).
const AT_ONCE: usize = 64;

/// How much is remembered of what strangers answer, for each kind.
const MOST: usize = 4096;

/// The longest message of multicast DNS, in bytes (RFC 6762, section 17).
const LONGEST: usize = 9000;

/// The pause between two looks at the sockets.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Probe {
    /// `None` if this user may not ping.
    ping: Option<UdpSocket>,
    /// With which host the next look begins.
    next: usize,
}

/// What was heard in one look.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Number of the interface, 0 if the address needs none; the address that answered.
    pub(super) echoes: BTreeSet<(u32, Ipv6Addr)>,
    pub(super) names: BTreeSet<(String, Place)>,
}

/// A socket behind one interface, bound to an address of this computer there, so that multicasts leave by it.
struct Ear<'a> {
    interface: &'a Interface,
    socket: UdpSocket,
    is_v6: bool,
}

impl Probe {
    pub(super) fn open() -> io::Result<Self> {
        let ping = match ping_socket() {
            Ok(socket) => Some(socket),
            // The user may not, or this computer has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        Ok(Self { ping, next: 0 })
    }

    pub(super) fn can_ping(&self) -> bool {
        self.ping.is_some()
    }

    pub(super) fn ask(
        &mut self,
        interfaces: &[Interface],
        wanted: &[&Wanted],
        listen: Duration,
        cancel: &Cancel,
    ) -> Heard {
        let ears = ears(interfaces);
        let id = fresh_id();
        let names: Vec<&str> = wanted.iter().filter_map(|one| one.name.as_deref()).collect();
        for ear in ears.iter().filter(|ear| ear.is_v6) {
            self.ping(ALL_NODES, ear.interface.index);
        }
        for name in &names {
            for ear in &ears {
                ear.ask(&mdns::ask_addresses(id, name));
            }
        }
        for address in wanted.iter().flat_map(|one| &one.fixed) {
            for ear in &ears {
                self.knock(ear, *address);
            }
        }
        let macs: Vec<_> = wanted.iter().filter_map(|one| one.mac).collect();
        for mac in macs.iter().cycle().skip(self.next).take(AT_ONCE.min(macs.len())) {
            for ear in ears.iter().filter(|ear| ear.is_v6) {
                let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
                for prefix in [link_local].into_iter().chain(ear.interface.prefixes()) {
                    self.knock(ear, mac.address_in(prefix).into());
                }
            }
        }
        self.next = self
            .next
            .wrapping_add(AT_ONCE)
            .checked_rem(macs.len())
            .unwrap_or(0);
        let mut heard = Heard::default();
        let end = Instant::now() + listen;
        while Instant::now() < end && !cancel.is_cancelled() {
            self.hear_echoes(&mut heard.echoes);
            hear(&ears, id, |interface, record| {
                let Data::Address(ip) = record.data else { return };
                let is_host = !ip.is_multicast() && !ip.is_loopback() && !ip.is_unspecified();
                if is_host && names.contains(&record.name.as_str()) && heard.names.len() < MOST {
                    let interface = interface.name.clone();
                    heard.names.insert((record.name, Place { ip, interface }));
                }
            });
            sleep(PAUSE);
        }
        heard
    }

    /// Send something to `address`, so that the kernel asks whose it is, and the host answers itself if it can be pinged.
    fn knock(&self, ear: &Ear<'_>, address: IpAddr) {
        match address {
            IpAddr::V6(ip) if ear.is_v6 => {
                let scope = if ip.is_unicast_link_local() {
                    ear.interface.index
                } else {
                    0
                };
                self.ping(ip, scope);
                drop(ear.socket.send_to(&[], SocketAddrV6::new(ip, DISCARD, 0, scope)));
            }
            IpAddr::V4(ip) if !ear.is_v6 => drop(ear.socket.send_to(&[], (ip, DISCARD))),
            _ => {}
        }
    }

    /// Send an echo request (RFC 4443, section 4.1).
    fn ping(&self, ip: Ipv6Addr, scope: u32) {
        const REQUEST: [u8; 8] = [128, 0, 0, 0, 0, 0, 0, 1];
        if let Some(ping) = &self.ping {
            drop(ping.send_to(&REQUEST, SocketAddrV6::new(ip, 0, 0, scope)));
        }
    }

    fn hear_echoes(&self, echoes: &mut BTreeSet<(u32, Ipv6Addr)>) {
        let Some(ping) = &self.ping else { return };
        let mut buffer = [0; 64];
        while let Ok((_, from)) = ping.recv_from(&mut buffer) {
            if let (SocketAddr::V6(from), 129, true) = (from, buffer[0], echoes.len() < MOST) {
                echoes.insert((from.scope_id(), *from.ip()));
            }
        }
    }
}

impl Ear<'_> {
    fn ask(&self, question: &[u8]) {
        let to = if self.is_v6 {
            SocketAddrV6::new(mdns::GROUP_V6, mdns::PORT, 0, self.interface.index).into()
        } else {
            SocketAddr::from((mdns::GROUP_V4, mdns::PORT))
        };
        drop(self.socket.send_to(question, to));
    }
}

/// Put into each of `found` the name that it has in multicast DNS, if it says one.
pub(super) fn ask_names(interfaces: &[Interface], found: &mut [Found], listen: Duration, cancel: &Cancel) {
    let ears = ears(interfaces);
    let id = fresh_id();
    for place in found.iter().flat_map(|one| &one.places) {
        for ear in ears.iter().filter(|ear| ear.interface.name == place.interface) {
            ear.ask(&mdns::ask_name(id, place.ip));
        }
    }
    let end = Instant::now() + listen;
    while Instant::now() < end && !cancel.is_cancelled() && found.iter().any(|one| one.name.is_none()) {
        hear(&ears, id, |_, record| {
            let Data::Pointer(name) = record.data else { return };
            let is_its = |place: &Place| mdns::reverse(place.ip) == record.name;
            for one in found.iter_mut().filter(|one| one.places.iter().any(is_its)) {
                one.name = Some(name.clone());
            }
        });
        sleep(PAUSE);
    }
}

/// A socket for IPv6 and one for IPv4 behind each interface that has such an address. They do not block.
fn ears(interfaces: &[Interface]) -> Vec<Ear<'_>> {
    let mut ears = Vec::new();
    for interface in interfaces {
        let usable = interface.addresses.iter().filter(|one| !one.deprecated);
        let six = usable.clone().find_map(|one| match one.ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
            _ => None,
        });
        let four = usable.clone().find_map(|one| match one.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        ears.extend(six.and_then(|ip| ear(interface, SocketAddrV6::new(ip, 0, 0, interface.index).into())));
        // The kernel sends multicasts by the interface that has the source's address (`ip_route_output_key_hash_rcu`).
        ears.extend(four.and_then(|ip: Ipv4Addr| ear(interface, (ip, 0).into())));
    }
    ears
}

fn ear(interface: &Interface, address: SocketAddr) -> Option<Ear<'_>> {
    let socket = UdpSocket::bind(address).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(Ear {
        interface,
        socket,
        is_v6: address.is_ipv6(),
    })
}

/// Give each record of an answer to the question `id` that has come in to `take`.
fn hear(ears: &[Ear<'_>], id: u16, mut take: impl FnMut(&Interface, Record)) {
    let mut buffer = vec![0; LONGEST];
    for ear in ears {
        // At most this many, or a flood would keep the others from being heard.
        for _ in 0..64 {
            let Ok((length, _)) = ear.socket.recv_from(&mut buffer) else {
                break;
            };
            for record in mdns::answers(buffer.get(..length).unwrap_or_default(), id) {
                take(ear.interface, record);
            }
        }
    }
}

/// A number that a stranger who does not hear the question cannot know.
fn fresh_id() -> u16 {
    // Without random numbers, answers are as easy to forge as the question is to hear.
    random::bytes().map_or(1, |[a, b, ..]| u16::from_be_bytes([a, b]))
}
