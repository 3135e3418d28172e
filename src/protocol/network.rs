//! How a Pi gets its addresses, as both the farm and the first-boot document say it. Types only: it configures nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Who configures the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renderer {
    /// systemd-networkd.
    Networkd,
    /// ifupdown, as in the article.
    Ifupdown,
}

/// How the host gets IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipv4 {
    /// DHCP.
    Dhcp,
    /// Not at all.
    None,
    /// A fixed address.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// Prefix length in bits, at most 32.
        prefix: u8,
        /// Default gateway.
        gateway: Option<Ipv4Addr>,
        /// Resolvers.
        dns: Vec<Ipv4Addr>,
    },
}

/// How the host gets IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipv6 {
    /// Router advertisements, and DHCPv6 where they ask for it.
    Auto,
    /// Link-local only.
    None,
    /// A fixed address.
    Static {
        /// The address.
        address: Ipv6Addr,
        /// Prefix length in bits, at most 128.
        prefix: u8,
        /// Default gateway; may be link-local.
        gateway: Option<Ipv6Addr>,
        /// Resolvers.
        dns: Vec<Ipv6Addr>,
    },
}

/// The name of an interface, or of a VLAN on it.
pub fn tagged(uplink: &str, vlan: Option<u16>) -> String {
    vlan.map_or_else(|| uplink.to_owned(), |vlan| format!("{uplink}.{vlan}"))
}
