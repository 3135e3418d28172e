//! What the agent tells people: `palmfarm-report.json` on the FAT partition and `palmfarm-agent status --json`.
//! No secret ever stands in it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// The version that this crate writes.
pub const VERSION: u32 = 1;

/// The state of the card after a run of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The agent's own version.
    pub agent: String,
    /// The card's name.
    pub card: String,
    /// Its host name, as the kernel has it.
    pub hostname: String,
    /// How it stands.
    pub state: State,
    /// How many times the agent has run on this card.
    pub run: u32,
    /// The host's network.
    pub network: Network,
    /// Each step that has ended, in order.
    pub steps: Vec<Step>,
    /// The step that is being taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Each container.
    pub containers: Vec<Container>,
    /// The cluster that the card is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// The cluster as this card's daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Every card of the farm, and after them members that the farm does not declare.
    pub members: Vec<Member>,
    /// Why there are none, if so.
    pub message: String,
}

/// A card of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// `online`, `offline` or `not a member`.
    pub state: String,
    /// When this card first saw it in that state.
    pub since: String,
    /// LXD's words for its part in the database: `database-leader`, `database`, `database-standby`.
    pub roles: Vec<String>,
    /// The containers on it.
    pub containers: Vec<String>,
}

/// How a card stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything that was declared is true.
    Done,
    /// The agent is at work.
    Running,
    /// Something failed; the next boot and `palmfarm-agent run` try it again.
    Failed,
}

/// The host's network as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The interface that carries the addresses.
    pub interface: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its addresses without the link-local ones.
    pub addresses: Vec<IpAddr>,
    /// What became of the declared configuration.
    pub outcome: Outcome,
}

/// What became of the declared network configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not yet known.
    #[default]
    Pending,
    /// It reached a router once; from now on it stays, whatever happens.
    Confirmed,
    /// It never reached a router, so the uplink is on DHCP until the next boot.
    RolledBack,
}

/// One step of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name: `bridge`, `network`, `packages`, `container web`.
    pub name: String,
    /// How it ended.
    pub state: StepState,
    /// What happened, where, and what to do; empty where nothing need be said.
    pub message: String,
    /// The last lines of output of what failed.
    pub output: Vec<String>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It was true before; nothing was done.
    Unchanged,
    /// It was made true.
    Changed,
    /// It could not be made true.
    Failed,
    /// It was not tried, because what it stands on failed.
    Skipped,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// LXD's word for its state, or `missing`.
    pub state: String,
    /// The hardware address that its `eth0` has; the declared one if it does not run.
    pub mac: Mac,
    /// The addresses that follow from it in the prefixes on the LAN.
    pub predicted: Vec<IpAddr>,
    /// The global addresses it has.
    pub observed: Vec<IpAddr>,
    /// Where the two differ: why, and the cure.
    pub message: String,
    /// The member that it is on, if the farm has a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}
