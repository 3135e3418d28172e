//! The cluster that a card is a member of: what tool and agent agree on. How it is formed is the agent's.
//!
//! A card proves itself by a certificate that every other card was given when it was built, so that forming needs
//! neither a password nor a token. The addresses are unique local ones (RFC 4193) on the bridge, formed from the
//! cluster's certificate and the card's name: a router, a lease or another ISP cannot change them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// The TCP port at which members reach each other; LXD's own.
pub const PORT: u16 = 8443;

/// How many bits of a member's address are the network's.
pub const PREFIX_LENGTH: u8 = 64;

/// The cluster of this card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The card that forms it; the others join it.
    pub first: String,
    /// Every card of the farm, this one among them, in the order of their names.
    pub members: Vec<Member>,
    /// The certificate that all members show to clients and to each other, as PEM.
    pub certificate: String,
    /// Seconds after which a silent member counts as offline (`cluster.offline_threshold`). Half of it is the time
    /// between two heartbeats, each of which every member writes to its card.
    pub offline_threshold: u32,
    /// The card that publishes an image, for each alias that another card than this one publishes.
    pub published: BTreeMap<String, String>,
}

/// A card of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The card's name, and the member's.
    pub name: String,
    /// Where it listens.
    pub address: Ipv6Addr,
    /// Its own certificate, as PEM.
    pub certificate: String,
}

impl Cluster {
    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

impl Member {
    /// Its address and port as LXD writes them: `[fd81:e616:1719::1]:8443`.
    pub fn endpoint(&self) -> String {
        format!("[{}]:{PORT}", self.address)
    }
}
