//! Arithmetic of addresses and nets, both families alike. Nothing here knows a farm.

use std::net::{IpAddr, Ipv6Addr};

/// Why no host has this address.
pub(super) fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(four) if four.is_unspecified() || four.octets()[0] == 0 => {
            Some("not an address of a host")
        }
        IpAddr::V4(four) if four.is_broadcast() || four.octets()[0] >= 240 => {
            Some("not an address of a host")
        }
        IpAddr::V4(four) if four.is_link_local() => {
            Some("a link-local address, which hosts choose themselves")
        }
        IpAddr::V6(six) if six.is_unspecified() => Some("not an address of a host"),
        IpAddr::V6(six) if six.is_unicast_link_local() => {
            Some("a link-local address, which hosts choose themselves")
        }
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => Some("an IPv4 address in disguise"),
        address if address.is_loopback() => Some("a loopback address"),
        address if address.is_multicast() => Some("the address of a group"),
        _ => None,
    }
}

/// Which address of its net it is, where it is one that no host has.
pub(super) fn reserved(address: IpAddr, prefix: u8) -> Option<&'static str> {
    let host = mask(address, 128) & !mask(address, prefix);
    let own = bits(address) & host;
    match address {
        // RFC 3021 and RFC 6164: both ends of a line.
        IpAddr::V4(_) if prefix >= 31 => None,
        IpAddr::V6(_) if prefix >= 127 => None,
        IpAddr::V4(_) if own == 0 => Some("the network address"),
        IpAddr::V4(_) if own == host => Some("the broadcast address"),
        IpAddr::V6(_) if own == 0 => Some("the address of all routers"),
        _ => None,
    }
}

/// Whether `other` is in the net of `address`.
pub(super) fn same_net(address: IpAddr, prefix: u8, other: IpAddr) -> bool {
    address.is_ipv4() == other.is_ipv4()
        && bits(address) & mask(address, prefix) == bits(other) & mask(address, prefix)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u32::from(four).into(),
        IpAddr::V6(six) => six.into(),
    }
}

/// The bits of the net; those above the family's own are zero.
fn mask(address: IpAddr, prefix: u8) -> u128 {
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let all = u128::MAX.checked_shr(128_u32.saturating_sub(width)).unwrap_or(0);
    all & u128::MAX
        .checked_shl(width.saturating_sub(prefix.into()))
        .unwrap_or(0)
}

/// The net for people: `192.0.2.0/24`.
pub(super) fn net(address: IpAddr, prefix: u8) -> String {
    let masked = bits(address) & mask(address, prefix);
    let first = match address {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(masked).unwrap_or_default().into()),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(masked)),
    };
    format!("{first}/{prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nets() {
        for (address, prefix, expect) in [
            ("192.0.2.10", 24, "192.0.2.0/24"),
            ("192.0.2.10", 32, "192.0.2.10/32"),
            ("192.0.2.10", 0, "0.0.0.0/0"),
            ("2001:db8::10", 64, "2001:db8::/64"),
            ("2001:db8::10", 128, "2001:db8::10/128"),
            ("2001:db8::10", 0, "::/0"),
        ] {
            assert_eq!(net(address.parse().unwrap(), prefix), expect);
        }
        let same = |a: &str, prefix, b: &str| same_net(a.parse().unwrap(), prefix, b.parse().unwrap());
        assert!(same("192.0.2.10", 24, "192.0.2.255") && !same("192.0.2.10", 25, "192.0.2.255"));
        assert!(!same("0.0.0.1", 0, "::1"));
    }

    #[test]
    fn addresses_that_no_host_has() {
        for (address, prefix, expect) in [
            ("192.0.2.0", 24, Some("the network address")),
            ("192.0.2.255", 24, Some("the broadcast address")),
            ("192.0.2.255", 23, None),
            ("192.0.3.255", 23, Some("the broadcast address")),
            ("192.0.2.0", 31, None),
            ("192.0.2.1", 24, None),
            ("2001:db8::", 64, Some("the address of all routers")),
            ("2001:db8::1", 64, None),
            ("2001:db8::", 127, None),
        ] {
            assert_eq!(
                reserved(address.parse().unwrap(), prefix),
                expect,
                "{address}/{prefix}"
            );
        }
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:192.0.2.1",
        ] {
            assert!(unusable(bad.parse().unwrap()).is_some(), "{bad}");
        }
        for good in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(unusable(good.parse().unwrap()), None, "{good}");
        }
    }
}
