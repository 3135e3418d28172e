//! The host's own addresses as systemd-networkd takes them, in the words of the version that the base has. Knows no
//! interface but by name, and writes nothing.

use crate::farm::{Ipv4, Ipv6};
use crate::plan::CardPlan;
use minijinja::{context, Value};
use palmfarm_protocol::cluster::PREFIX_LENGTH;

/// From this version on `[DHCPv4]` is what `[DHCP]` was (systemd's NEWS of 243); 237 does not know the new name.
const DHCPV4_SECTION: u32 = 243;

/// From this version on `UseAutonomousPrefix=` is known (systemd's NEWS of 242).
const AUTONOMOUS_PREFIX: u32 = 242;

/// From this version on `DHCPv6Client=` is known (systemd's NEWS of 246).
const DHCPV6_CLIENT: u32 = 246;

/// What is taken from router advertisements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advertisements {
    /// Addresses, routes, resolvers.
    All,
    /// Routes and resolvers: the address is fixed.
    NoAddress,
    /// Nothing.
    Ignored,
}

/// Where the other members of its cluster reach the card of `plan`, with the prefix length.
pub(super) fn member(plan: &CardPlan) -> Option<String> {
    let (member, _) = plan.member()?;
    Some(format!("{}/{PREFIX_LENGTH}", member.address))
}

/// The host's addresses as systemd-networkd words them.
pub(super) struct Addresses {
    dhcp4: bool,
    dhcp: &'static str,
    advertisements: Advertisements,
    own: Vec<String>,
    gateways: Vec<String>,
    pub(super) dns: Vec<String>,
}

impl Addresses {
    pub(super) fn new(ipv4: &Ipv4, ipv6: &Ipv6) -> Self {
        let mut all = Self {
            dhcp4: *ipv4 == Ipv4::Dhcp,
            dhcp: match (ipv4, ipv6) {
                (Ipv4::Dhcp, Ipv6::Auto) => "yes",
                (Ipv4::Dhcp, _) => "ipv4",
                // Advertisements start DHCPv6 where they ask for it, also with "no" (systemd.network(5), `DHCP=`). With
                // "ipv6" the boot would wait for it on a LAN that has no IPv6.
                _ => "no",
            },
            advertisements: match ipv6 {
                Ipv6::Auto => Advertisements::All,
                Ipv6::Static { gateway: None, .. } => Advertisements::NoAddress,
                Ipv6::Static { .. } | Ipv6::None => Advertisements::Ignored,
            },
            own: Vec::new(),
            gateways: Vec::new(),
            dns: Vec::new(),
        };
        if let Ipv4::Static {
            address,
            prefix,
            gateway,
            dns,
        } = ipv4
        {
            all.add(address, *prefix, gateway.as_ref(), dns);
        }
        if let Ipv6::Static {
            address,
            prefix,
            gateway,
            dns,
        } = ipv6
        {
            all.add(address, *prefix, gateway.as_ref(), dns);
        }
        all
    }

    /// Beside these, the address of the host as a member of a cluster.
    pub(super) fn with_member(mut self, plan: &CardPlan) -> Self {
        self.own.extend(member(plan));
        self
    }

    fn add<A: ToString>(&mut self, address: &A, prefix: u8, gateway: Option<&A>, dns: &[A]) {
        self.own.push(format!("{}/{prefix}", address.to_string()));
        self.gateways.extend(gateway.map(A::to_string));
        self.dns.extend(dns.iter().map(A::to_string));
    }

    /// What the template of `host`, the interface that has them, is filled with, for this version of systemd.
    pub(super) fn values(&self, host: &str, systemd: u32, mdns: bool) -> Value {
        let fixed = self.advertisements == Advertisements::NoAddress;
        let dhcp_section = self.dhcp4.then_some(if systemd < DHCPV4_SECTION {
            "DHCP"
        } else {
            "DHCPv4"
        });
        context! {
            interface => host,
            mdns,
            dhcp => self.dhcp,
            accept_ra => self.advertisements != Advertisements::Ignored,
            addresses => self.own.clone(),
            gateways => self.gateways.clone(),
            dns => self.dns.clone(),
            dhcp_section,
            fixed_only => fixed && AUTONOMOUS_PREFIX <= systemd,
            no_client => fixed && DHCPV6_CLIENT <= systemd,
        }
    }
}
