//! The names of hosts and containers with their addresses, as name servers and `/etc/hosts` take them: of one card, or
//! of all cards of a fleet, which share one zone. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::CardPlan;
use crate::farm::addresses::Prefix;
use crate::farm::Dns;

/// How long others may remember a record, in seconds.
const TTL: u32 = 3600;

/// Refresh, retry and expiry of the zone for its secondaries, and how long an absence is remembered: RFC 1912, section
/// 2.2, and RFC 2308, section 4. In seconds.
const TIMERS: &str = "7200 1800 1209600 3600";

/// Why there is no list of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// An empty zone would delete every name.
    #[error("there is no address to list")]
    Nothing,
    /// The records of a reverse zone hold whole names.
    #[error("a reverse zone holds whole names, and the farm names no zone for them")]
    NoZone,
    /// A reverse zone is that of one prefix.
    #[error("a reverse zone belongs to one prefix, and there are {}: {}", .0.len(), listed(.0))]
    Prefixes(Vec<Prefix>),
}

impl NamesError {
    /// What the person can do. Where there is no address, that depends on the prefixes that are known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::NoZone => Some("add to the farm: dns: {zone: home.example.net}".into()),
            Self::Prefixes(prefixes) => Some(format!(
                "make one for each: --prefix {}",
                prefixes.first().map(ToString::to_string).unwrap_or_default()
            )),
        }
    }
}

fn listed(prefixes: &[Prefix]) -> String {
    let shown: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

/// A name and its addresses.
struct Named {
    /// Relative to the zone.
    name: String,
    addresses: Vec<IpAddr>,
    /// Why an address is not known.
    missing: Option<&'static str>,
}

/// The names of containers that several cards have: each is called `NAME.HOST` in the zone, which is below its host and
/// can be the name of nothing else. A sentence for each.
#[must_use]
pub fn qualified(plans: &[CardPlan]) -> Vec<String> {
    let taken = taken(plans);
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (plan, name) in containers(plans).filter(|(_, name)| is_shared(&taken, name)) {
        said.entry(name)
            .or_default()
            .push(format!("{name}.{}", plan.card.hostname));
    }
    said.iter()
        .map(|(name, full)| {
            format!(
                "more than one card has the name {name}, so its names are {}",
                full.join(", ")
            )
        })
        .collect()
}

/// How many hosts and containers have each name; name servers do not distinguish large and small letters.
fn taken(plans: &[CardPlan]) -> BTreeMap<String, usize> {
    let hosts = plans.iter().map(|plan| plan.card.hostname.as_str());
    let mut taken = BTreeMap::new();
    for name in hosts.chain(containers(plans).map(|(_, name)| name)) {
        let count: &mut usize = taken.entry(name.to_ascii_lowercase()).or_default();
        *count = count.saturating_add(1);
    }
    taken
}

fn is_shared(taken: &BTreeMap<String, usize>, name: &str) -> bool {
    taken
        .get(&name.to_ascii_lowercase())
        .is_some_and(|count| *count > 1)
}

fn containers(plans: &[CardPlan]) -> impl Iterator<Item = (&CardPlan, &str)> {
    plans.iter().flat_map(|plan| {
        let containers = plan.firstboot.containers.iter();
        containers.map(move |one| (plan, one.name.as_str()))
    })
}

/// Every name, each host before its containers.
fn names(plans: &[CardPlan]) -> Result<Vec<Named>, NamesError> {
    let taken = taken(plans);
    let mut names = Vec::new();
    for plan in plans {
        names.push(Named {
            name: plan.card.hostname.clone(),
            addresses: plan.host_addresses.clone(),
            missing: plan.host_unknown(),
        });
        for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
            let name = if is_shared(&taken, &container.name) {
                format!("{}.{}", container.name, plan.card.hostname)
            } else {
                container.name.clone()
            };
            names.push(Named {
                name,
                addresses: container.predicted.iter().copied().map(IpAddr::from).collect(),
                missing: plan.unknown(container, stack),
            });
        }
    }
    if names.iter().all(|name| name.addresses.is_empty()) {
        return Err(NamesError::Nothing);
    }
    Ok(names)
}

fn dns(plans: &[CardPlan]) -> Option<&Dns> {
    plans.first()?.dns.as_ref()
}

/// The records of a zone (RFC 1035, section 5): AAAA, and A of fixed addresses. With a serial in the farm it is a whole
/// zone that a name server loads; without one, a fragment to `$INCLUDE`.
///
/// # Errors
/// No address is known.
pub fn zone(plans: &[CardPlan]) -> Result<String, NamesError> {
    let names = names(plans)?;
    let mut out = String::new();
    if let Some((dns, serial)) = dns(plans).and_then(|dns| Some((dns, dns.serial?))) {
        out.push_str(&head(&format!("{}.", dns.zone), dns, serial, &names));
        for address in &dns.ns {
            out.push_str(&record("ns", *address));
        }
    }
    out.push_str(&comments(";", plans, &names));
    for name in &names {
        for address in &name.addresses {
            out.push_str(&record(&name.name, *address));
        }
    }
    Ok(out)
}

fn record(name: &str, address: IpAddr) -> String {
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    format!("{name} IN {kind} {address}\n")
}

/// What a whole zone begins with. Its name server is `ns` if the farm gives the addresses of one, else the first name that
/// has an address: a zone without one does not load.
fn head(origin: &str, dns: &Dns, serial: u32, names: &[Named]) -> String {
    let zone = &dns.zone;
    let known = names.iter().find(|name| !name.addresses.is_empty());
    let server = match known {
        Some(known) if dns.ns.is_empty() => known.name.as_str(),
        _ => "ns",
    };
    format!(
        "$ORIGIN {origin}\n$TTL {TTL}\n@ IN SOA {server}.{zone}. hostmaster.{zone}. ( {serial} {TIMERS} )\n\
         @ IN NS {server}.{zone}.\n"
    )
}

/// A line for each name that has no address, or not every kind, and for each that was made unambiguous.
fn comments(mark: &str, plans: &[CardPlan], names: &[Named]) -> String {
    let missing = names
        .iter()
        .filter_map(|name| Some(format!("{mark} {}: {}\n", name.name, name.missing?)));
    let qualified = qualified(plans).into_iter();
    qualified
        .map(|said| format!("{mark} {said}\n"))
        .chain(missing)
        .collect()
}

/// Lines for `/etc/hosts`.
///
/// # Errors
/// No address is known.
pub fn hosts(plans: &[CardPlan]) -> Result<String, NamesError> {
    let names = names(plans)?;
    let mut out = comments("#", plans, &names);
    for Named { name, addresses, .. } in &names {
        for address in addresses {
            match dns(plans) {
                Some(dns) => out.push_str(&format!("{address} {name}.{} {name}\n", dns.zone)),
                None => out.push_str(&format!("{address} {name}\n")),
            }
        }
    }
    Ok(out)
}

/// The PTR records of the addresses in the one prefix that is known (RFC 3596, section 2.5). With a serial in the farm it
/// is a whole zone, as in [`zone`].
///
/// # Errors
/// The farm names no zone, no address is known, or more than one prefix is.
pub fn reverse_zone(plans: &[CardPlan]) -> Result<String, NamesError> {
    let dns = dns(plans).ok_or(NamesError::NoZone)?;
    let names = names(plans)?;
    let mut prefixes: Vec<Prefix> = plans.iter().flat_map(|plan| plan.prefixes.clone()).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let prefix = match prefixes.as_slice() {
        [] => return Err(NamesError::Nothing),
        [prefix] => *prefix,
        _ => return Err(NamesError::Prefixes(prefixes)),
    };
    let nibbles = |address| nibbles(address).collect::<Vec<_>>();
    let origin = format!("{}.ip6.arpa.", nibbles(prefix.address())[16..].join("."));
    let mut out = match dns.serial {
        Some(serial) => head(&origin, dns, serial, &names),
        None => format!("$ORIGIN {origin}\n"),
    };
    out.push_str(&comments(";", plans, &names));
    for Named { name, addresses, .. } in &names {
        for address in addresses {
            if let Some(address) = in_prefix(*address, prefix) {
                let host = nibbles(address)[..16].join(".");
                out.push_str(&format!("{host} IN PTR {name}.{}.\n", dns.zone));
            }
        }
    }
    Ok(out)
}

fn in_prefix(address: IpAddr, prefix: Prefix) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) if address.segments()[..4] == prefix.address().segments()[..4] => Some(address),
        _ => None,
    }
}

/// The 32 digits of an address, the last one first.
fn nibbles(address: Ipv6Addr) -> impl Iterator<Item = String> {
    let octets = address.octets().into_iter().rev();
    octets.flat_map(|octet| [format!("{:x}", octet & 0xf), format!("{:x}", octet >> 4)])
}
