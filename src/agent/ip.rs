//! The state of the kernel's network as ip(8) prints it. Its one-line text is parsed and not its JSON, since the ip of
//! Ubuntu 18.04 has JSON for some queries only.

use std::net::IpAddr;

use crate::program::query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    /// Whether it is valid beyond its own link.
    pub(crate) global: bool,
    /// Whether duplicate address detection (RFC 4862) has ended and found no other host with it.
    pub(crate) usable: bool,
}

pub(crate) fn addresses(interface: &str) -> Vec<Address> {
    parse_addresses(&query("ip", &["-o", "addr", "show", "dev", interface]))
}

/// The routers of the default routes over `interface`.
pub(crate) fn gateways(interface: &str) -> Vec<IpAddr> {
    let v4 = query("ip", &["-4", "route", "show", "default"]);
    let v6 = query("ip", &["-6", "route", "show", "default"]);
    let mut found = parse_gateways(&v4, interface);
    found.extend(parse_gateways(&v6, interface));
    found
}

/// The neighbours on `interface` that answered within the last half minute or so (`NUD_REACHABLE`, RFC 4861, 7.3.2).
pub(crate) fn reachable(interface: &str) -> Vec<IpAddr> {
    parse_reachable(&query(
        "ip",
        &["neigh", "show", "dev", interface, "nud", "reachable"],
    ))
}

/// Lines of `ip -o addr`: `3: br0    inet 192.0.2.7/24 brd 192.0.2.255 scope global dynamic br0\  valid_lft …`.
fn parse_addresses(text: &str) -> Vec<Address> {
    let one = |line: &str| {
        let line = line.split('\\').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let family = words.iter().position(|word| matches!(*word, "inet" | "inet6"))?;
        let (family, scope) = words.split_at_checked(family.checked_add(1)?)?.1.split_first()?;
        let at = scope.iter().position(|word| *word == "scope")?;
        let scope = scope.get(at..)?;
        Some(Address {
            ip: family.split('/').next()?.parse().ok()?,
            global: scope.get(1) == Some(&"global"),
            usable: !scope
                .iter()
                .any(|flag| matches!(*flag, "tentative" | "dadfailed")),
        })
    };
    text.lines().filter_map(one).collect()
}

/// Lines of `ip route`: `default via 192.0.2.1 dev br0 proto dhcp …`, or `default proto ra …` with lines
/// `nexthop via fe80::1 dev br0 …` under it.
fn parse_gateways(text: &str, interface: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let mut via = None;
        while let Some(word) = words.next() {
            match word {
                // `via inet6 fe80::1` is a router of the other family.
                "via" => {
                    via = words
                        .next()
                        .filter(|next| *next != "inet6")
                        .or_else(|| words.next());
                }
                "dev" if words.next() == Some(interface) => {
                    found.extend(via.take().and_then(|via| via.parse::<IpAddr>().ok()));
                }
                _ => {}
            }
        }
    }
    found
}

/// Lines of `ip neigh`: `192.0.2.1 lladdr 02:00:00:00:00:01 REACHABLE`.
fn parse_reachable(text: &str) -> Vec<IpAddr> {
    let lines = text
        .lines()
        .filter(|line| line.split_whitespace().any(|word| word == "REACHABLE"));
    lines
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let text = "\
3: br0    inet 192.0.2.57/24 metric 1024 brd 192.0.2.255 scope global dynamic br0\\       valid_lft 3599sec
3: br0    inet6 2001:db8:ebbd:2080:ba27:ebff:fe12:3456/64 scope global dynamic mngtmpaddr noprefixroute \\  valid
3: br0    inet6 2001:db8::2/64 scope global tentative \\       valid_lft forever preferred_lft forever
3: br0    inet6 2001:db8::3/64 scope global dadfailed tentative \\       valid_lft forever
3: br0    inet6 fe80::ba27:ebff:fe12:3456/64 scope link \\       valid_lft forever preferred_lft forever
9: ppp0    inet 10.0.0.1 peer 10.0.0.2/32 scope global ppp0\\       valid_lft forever
7: x0    inet6 not-an-address/64 scope global
8: x0    inet6
garbage

";
        let short: Vec<String> = parse_addresses(text)
            .iter()
            .map(|one| format!("{} {} {}", one.ip, one.global, one.usable))
            .collect();
        assert_eq!(
            short,
            [
                "192.0.2.57 true true",
                "2001:db8:ebbd:2080:ba27:ebff:fe12:3456 true true",
                "2001:db8::2 true false",
                "2001:db8::3 true false",
                "fe80::ba27:ebff:fe12:3456 false true",
                "10.0.0.1 true true",
            ]
        );
    }

    #[test]
    fn reads_default_routes() {
        let check = |text: &str, expect: &[&str]| {
            let found: Vec<String> = parse_gateways(text, "br0")
                .iter()
                .map(IpAddr::to_string)
                .collect();
            assert_eq!(found, expect, "{text}");
        };
        check(
            "default via 192.0.2.1 dev br0 proto dhcp src 192.0.2.57 metric 1024 \n",
            &["192.0.2.1"],
        );
        check("default via 192.0.2.1 dev eth1 \n", &[]);
        check(
            "default via fe80::1 dev br0 proto ra metric 1024 expires 1798sec hoplimit 64 pref medium\n",
            &["fe80::1"],
        );
        check(
            "default proto ra metric 1024 expires 25sec pref medium\n\tnexthop via fe80::1 dev br0 weight 1 \n\
             \tnexthop via fe80::2 dev br0 weight 1 \n",
            &["fe80::1", "fe80::2"],
        );
        check(
            "default proto ra nexthop via fe80::1 dev eth1 nexthop via fe80::2 dev br0\n",
            &["fe80::2"],
        );
        check("default via inet6 fe80::1 dev br0\n", &["fe80::1"]);
        check("default dev br0 scope link\n", &[]);
        check("default via dev br0", &[]);
        check("", &[]);
    }

    #[test]
    fn reads_neighbours() {
        let text = "192.0.2.1 lladdr 02:00:00:00:00:01 REACHABLE\nfe80::1 lladdr 02:00:00:00:00:01 router REACHABLE\n\
                    192.0.2.9 lladdr 02:00:00:00:00:09 STALE\n192.0.2.8  FAILED\n\n";
        let found: Vec<String> = parse_reachable(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "fe80::1"]);
    }
}
