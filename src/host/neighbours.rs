//! Which addresses of the LAN the kernel knows, with the MAC behind each (its ARP and neighbour cache), and the socket
//! that asks all hosts at once to show themselves. It needs no privileges.

use std::io;
use std::net::{IpAddr, UdpSocket};

use palmfarm_protocol::mac::Mac;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::interfaces::ip;
use super::netlink::{attributes, dump, number};

/// An address of another host on the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The number of the interface behind which it is.
    pub interface: u32,
    pub ip: IpAddr,
    pub mac: Mac,
    /// Whether the kernel had an answer from it within the last half minute (`NUD_REACHABLE`, RFC 4861, 7.3.2). Any other
    /// entry may be of a host that is gone.
    pub reachable: bool,
}

// linux/rtnetlink.h, linux/neighbour.h
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_REACHABLE: u16 = 0x2;

/// Every neighbour whose MAC the kernel knows.
pub fn neighbours() -> io::Result<Vec<Neighbour>> {
    let mut all = Vec::new();
    // struct ndmsg: family and padding, interface, state, flags, type.
    dump(RTM_GETNEIGH, &[0; 12], |payload| all.extend(neighbour(payload)))?;
    Ok(all)
}

fn neighbour(payload: &[u8]) -> Option<Neighbour> {
    let interface = number(payload, 4)?;
    let state = u16::from_ne_bytes(payload.get(8..10)?.try_into().ok()?);
    let (mut to, mut mac) = (None, None);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            NDA_DST => to = ip(value),
            NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour {
        interface,
        ip: to?,
        mac: mac?,
        reachable: state & NUD_REACHABLE != 0,
    })
}

/// A socket for ICMPv6 echo requests (icmp(7)); it does not block. The kernel puts in identifier and checksum, and
/// hands over only replies to it. It refuses with `PermissionDenied` if the sysctl `net.ipv4.ping_group_range` has none
/// of the user's groups.
pub fn ping_socket() -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(net::ipproto::ICMPV6);
    // Both kinds of socket carry datagrams between addresses with a scope, so the type of UDP's does for either.
    Ok(net::socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, protocol)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read() {
        let entry = |state: u16, length: u16| {
            [
                [10, 0, 0, 0].as_slice(),
                &2_u32.to_ne_bytes(),
                &state.to_ne_bytes(),
                &[0, 1],
                &20_u16.to_ne_bytes(),
                &NDA_DST.to_ne_bytes(),
                &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                &length.to_ne_bytes(),
                &NDA_LLADDR.to_ne_bytes(),
                &[0xb8, 0x27, 0xeb, 1, 2, 3, 0, 0],
            ]
            .concat()
        };
        let expect = Neighbour {
            interface: 2,
            ip: "fe80::1".parse().unwrap(),
            mac: Mac([0xb8, 0x27, 0xeb, 1, 2, 3]),
            reachable: true,
        };
        assert_eq!(neighbour(&entry(NUD_REACHABLE, 10)), Some(expect));
        let stale = neighbour(&entry(4, 10)).unwrap();
        assert!(!stale.reachable);
        // InfiniBand has addresses of 20 bytes, tunnels have IP addresses.
        assert_eq!(neighbour(&entry(NUD_REACHABLE, 8)), None);
        assert_eq!(neighbour(&[0; 11]), None);
        neighbours().unwrap();
    }
}
