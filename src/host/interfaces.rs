//! This computer's network interfaces and their addresses, as the kernel has them now. It only reads, and needs no
//! privileges.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{attributes, dump, number};

/// A network interface that is up and on which one can speak to everybody at once: Ethernet or Wi-Fi, a bridge or a VLAN
/// of these. Neither the loopback interface nor a tunnel is among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which is the scope of link-local addresses.
    pub index: u32,
    pub name: String,
    pub addresses: Vec<Address>,
}

/// An address of this computer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    /// The length of its prefix in bits.
    pub prefix: u8,
    /// Whether it is not to be used for new connections: its lifetime is over, or another computer has it.
    pub deprecated: bool,
}

impl Interface {
    /// The networks of 64 bits, global or unique-local (RFC 4193), in which it has an address; each once. Of a prefix that
    /// the router has withdrawn, only deprecated addresses are left.
    pub fn prefixes(&self) -> Vec<Ipv6Addr> {
        let mut found = Vec::new();
        for address in self
            .addresses
            .iter()
            .filter(|one| !one.deprecated && one.prefix == 64)
        {
            let IpAddr::V6(ip) = address.ip else { continue };
            let [a, b, c, d, ..] = ip.segments();
            let network = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
            if !ip.is_unicast_link_local() && !found.contains(&network) {
                found.push(network);
            }
        }
        found
    }
}

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// `IFA_F_DADFAILED | IFA_F_DEPRECATED`.
const UNUSABLE: u32 = 0x28;

// linux/if.h
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_POINTOPOINT: u32 = 0x10;
const IFF_RUNNING: u32 = 0x40;
const IFF_NOARP: u32 = 0x80;
const IFF_MULTICAST: u32 = 0x1000;

/// Every interface that is up and has an address.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut all = Vec::new();
    // struct ifinfomsg: family, type, index, flags, change.
    dump(RTM_GETLINK, &[0; 16], |payload| all.extend(link(payload)))?;
    // struct ifaddrmsg: family, length of the prefix, flags, scope, index.
    dump(RTM_GETADDR, &[0; 8], |payload| {
        if let Some((index, address)) = address(payload) {
            let of = all.iter_mut().find(|one: &&mut Interface| one.index == index);
            if let Some(one) = of {
                one.addresses.push(address);
            }
        }
    })?;
    all.retain(|one| !one.addresses.is_empty());
    Ok(all)
}

fn link(payload: &[u8]) -> Option<Interface> {
    let (index, flags) = (number(payload, 4)?, number(payload, 8)?);
    let needed = IFF_UP | IFF_RUNNING | IFF_MULTICAST;
    let unwanted = IFF_LOOPBACK | IFF_POINTOPOINT | IFF_NOARP;
    if flags & needed != needed || flags & unwanted != 0 {
        return None;
    }
    let mut attributes = attributes(payload.get(16..)?);
    let (_, name) = attributes.find(|(kind, _)| *kind == IFLA_IFNAME)?;
    Some(Interface {
        index,
        name: String::from_utf8_lossy(name).trim_end_matches('\0').to_owned(),
        addresses: Vec::new(),
    })
}

fn address(payload: &[u8]) -> Option<(u32, Address)> {
    let (prefix, index) = (*payload.get(1)?, number(payload, 4)?);
    let mut flags = u32::from(*payload.get(2)?);
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => other = ip(value),
            IFA_FLAGS => flags = number(value, 0)?,
            _ => {}
        }
    }
    let deprecated = flags & UNUSABLE != 0;
    let ip = local.or(other)?;
    Some((
        index,
        Address {
            ip,
            prefix,
            deprecated,
        },
    ))
}

/// The address of 4 or 16 bytes.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|four| Ipv4Addr::from(four).into());
    let sixteen = <[u8; 16]>::try_from(bytes).map(|sixteen| Ipv6Addr::from(sixteen).into());
    four.or(sixteen).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_counts_once_and_while_it_is_used() {
        let check = |addresses: &[(&str, u8, bool)], expect: &[&str]| {
            let addresses = addresses.iter().map(|(ip, prefix, deprecated)| Address {
                ip: ip.parse().unwrap(),
                prefix: *prefix,
                deprecated: *deprecated,
            });
            let interface = Interface {
                index: 2,
                name: "wlan0".into(),
                addresses: addresses.collect(),
            };
            let expect: Vec<Ipv6Addr> = expect.iter().map(|one| one.parse().unwrap()).collect();
            assert_eq!(interface.prefixes(), expect);
        };
        check(
            &[
                ("192.0.2.7", 24, false),
                ("fe80::1", 64, false),
                ("2001:db8::7", 128, false),
            ],
            &[],
        );
        check(
            &[
                ("2001:db8:1:2::7", 64, false),
                ("2001:db8:1:2:aaaa::", 64, false),
                ("fd00:1::7", 64, false),
                ("2001:db8:1:3::7", 64, true),
            ],
            &["2001:db8:1:2::", "fd00:1::"],
        );
    }

    #[test]
    fn the_kernel_can_be_asked() {
        for interface in interfaces().unwrap() {
            assert!(interface.index > 0 && !interface.name.is_empty() && interface.name != "lo");
            assert!(
                interface.addresses.iter().all(|one| !one.ip.is_loopback()),
                "{interface:?}"
            );
        }
    }
}
