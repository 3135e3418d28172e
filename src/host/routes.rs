//! Which of this computer's interfaces lead to a router. It only reads, and needs no privileges.

use std::collections::BTreeSet;
use std::io;

use super::netlink::{attributes, dump, number};

// linux/rtnetlink.h
const RTM_GETROUTE: u16 = 26;
const RTN_UNICAST: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;

/// The numbers of the interfaces to which a default route leads, of IPv4 or IPv6. Bridges that this computer has for its own
/// containers and virtual machines are not among them.
pub(crate) fn default_interfaces() -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    // struct rtmsg: family, lengths of destination and source, service, table, protocol, scope, type, flags.
    dump(RTM_GETROUTE, &[0; 12], |payload| {
        found.extend(default_route(payload));
    })?;
    Ok(found)
}

/// The interface of a route to everywhere; the first one of a route that has several.
fn default_route(payload: &[u8]) -> Option<u32> {
    // An IPv6 system has an unreachable default route, too.
    if *payload.get(1)? != 0 || *payload.get(7)? != RTN_UNICAST {
        return None;
    }
    attributes(payload.get(12..)?).find_map(|(kind, value)| match kind {
        RTA_OIF => number(value, 0),
        // struct rtnexthop: length, flags, hops, interface.
        RTA_MULTIPATH => number(value, 4),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_route_to_everywhere_counts() {
        let route = |length: u8, kind: u8, attribute: u16, value: &[u8]| {
            let mut route = vec![10, length, 0, 0, 254, 9, 0, kind, 0, 0, 0, 0];
            let size = u16::try_from(value.len() + 4).unwrap();
            route.extend(size.to_ne_bytes());
            route.extend(attribute.to_ne_bytes());
            route.extend(value);
            route
        };
        let three = 3_u32.to_ne_bytes();
        assert_eq!(default_route(&route(0, RTN_UNICAST, RTA_OIF, &three)), Some(3));
        assert_eq!(default_route(&route(64, RTN_UNICAST, RTA_OIF, &three)), None);
        assert_eq!(default_route(&route(0, 7, RTA_OIF, &three)), None);
        let hop = [&[8, 0, 0, 0][..], &three].concat();
        assert_eq!(
            default_route(&route(0, RTN_UNICAST, RTA_MULTIPATH, &hop)),
            Some(3)
        );
        assert_eq!(default_route(&[10, 0]), None);
    }
}
