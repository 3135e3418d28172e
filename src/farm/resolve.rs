//! What a farm says only between its lines: which card is meant, what differs on it, what a container is called.

use std::collections::BTreeSet;
use std::fmt;

use crate::farm::placement;
use crate::farm::suggest::closest;
use crate::farm::{Container, Farm, Network};
use palmfarm_protocol::mac::Mac;

/// One card with all that differs from card to card decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedCard {
    /// Its name in the fleet; for a farm of one card its host name.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// The Pi's own hardware address, where the farm knows it.
    pub mac: Option<Mac>,
    /// Its network.
    pub network: Network,
    /// The names that declare its containers; `None`: it has all of the farm's.
    pub containers: Option<BTreeSet<String>>,
    /// In a cluster the names of its containers, replicas one by one; `None`: it has every replica of its containers.
    pub placed: Option<BTreeSet<String>>,
}

impl ResolvedCard {
    /// Whether this card has what `container` declares.
    pub fn has(&self, container: &Container) -> bool {
        let chosen = self.containers.as_ref();
        chosen.is_none_or(|names| names.contains(&container.name))
    }

    /// Whether the container called `name`, one of those that [`has`](Self::has) is true of, is on this card.
    pub fn has_replica(&self, name: &str) -> bool {
        let placed = self.placed.as_ref();
        placed.is_none_or(|names| names.contains(name))
    }
}

/// No card of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchCard {
    /// The name asked for; `None`: the one card of a farm that has several.
    pub asked: Option<String>,
    /// The names there are.
    pub known: Vec<String>,
}

impl NoSuchCard {
    /// What the person can do.
    pub fn hint(&self) -> Option<String> {
        let one = match &self.asked {
            Some(asked) => closest(asked, self.known.iter().map(String::as_str))?,
            None => self.known.first()?,
        };
        Some(format!("name one: --card {one}"))
    }
}

impl fmt::Display for NoSuchCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.join(", ");
        match &self.asked {
            Some(asked) => write!(f, "the farm has no card {asked:?}; its cards are {known}"),
            None => write!(f, "the farm has several cards, and one must be named: {known}"),
        }
    }
}

impl std::error::Error for NoSuchCard {}

impl Farm {
    /// Every card by name; a farm without `cards` is one card, named by `hostname`.
    pub fn resolved_cards(&self) -> Vec<ResolvedCard> {
        if self.cards.is_empty() {
            let name = self.hostname.clone().unwrap_or_default();
            return vec![ResolvedCard {
                hostname: name.clone(),
                name,
                mac: None,
                network: self.network.clone(),
                containers: None,
                placed: None,
            }];
        }
        let mut places = self.cluster.as_ref().map(|_| placement::of(self));
        self.cards
            .iter()
            .map(|(name, card)| {
                let own = card.containers.as_ref();
                let own = own.map(|names| names.iter().cloned().collect());
                let (containers, placed) = match &mut places {
                    None => (own, None),
                    Some(places) => {
                        let here = places.remove(name.as_str()).unwrap_or_default();
                        (Some(here.declared), Some(here.names))
                    }
                };
                ResolvedCard {
                    name: name.clone(),
                    hostname: card.hostname.clone().unwrap_or_else(|| name.clone()),
                    mac: card.mac,
                    network: card.network.clone().unwrap_or_else(|| self.network.clone()),
                    containers,
                    placed,
                }
            })
            .collect()
    }

    /// The card called `name`, or the only one.
    ///
    /// # Errors
    /// There is none of that name, or none was named and there are several.
    pub fn card(&self, name: Option<&str>) -> Result<ResolvedCard, NoSuchCard> {
        let mut cards = self.resolved_cards();
        let known = || cards.iter().map(|card| card.name.clone()).collect();
        let at = match name {
            Some(name) => cards.iter().position(|card| card.name == name),
            None => (cards.len() == 1).then_some(0),
        };
        match at {
            Some(at) => Ok(cards.swap_remove(at)),
            None => Err(NoSuchCard {
                asked: name.map(Into::into),
                known: known(),
            }),
        }
    }
}

impl Container {
    /// How many containers this declares.
    pub fn count(&self) -> usize {
        self.replicas.map_or(1, |(first, last)| {
            usize::try_from(last.saturating_sub(first)).map_or(usize::MAX, |more| more.saturating_add(1))
        })
    }

    /// The names of the containers that this declares: its own, or those of its replicas (`w2` to `w10`).
    pub fn names(&self) -> Vec<String> {
        match self.replicas {
            Some((first, last)) => (first..=last)
                .map(|number| format!("{}{number}", self.name))
                .collect(),
            None => vec![self.name.clone()],
        }
    }

    /// Its profiles in the order of stacking: what it says, else `default` and, where the card has a bridge on the
    /// LAN, `extbridge`.
    pub fn stacked(&self, network: &Network) -> Vec<String> {
        let suggested: &[&str] = if network.bridge.is_some() {
            &["default", "extbridge"]
        } else {
            &["default"]
        };
        self.profiles
            .clone()
            .unwrap_or_else(|| suggested.iter().map(|name| (*name).into()).collect())
    }
}
