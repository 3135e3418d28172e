//! Which card of a cluster each container is on. Pure, and the same on every computer: the farm alone decides.
//!
//! A container is on the card that its `on` names, or whose `containers` list it. Replicas with `spread` are dealt out, the
//! first to the first card in the order of names, and so on in turn. For any other, each card and the name that declares the
//! container are hashed together, and the highest hash wins: what else a farm declares moves nothing, and a card that is
//! added takes only what it wins (highest random weight, Thaler and Ravishankar 1998). A card that lists its containers has
//! those and what `on` sends there, but the rules send it no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::farm::check::{MOST_CONTAINERS, MOST_MEMBERS};
use crate::farm::{Container, Farm};
use crate::sha256::Sha256Sum;

/// What keeps these hashes apart from any others. A change of it moves containers of every cluster.
const DOMAIN: &[u8] = b"palmfarm placement 1";

/// What is on one card.
#[derive(Debug, Default)]
pub(super) struct Here {
    /// The names that declare its containers.
    pub(super) declared: BTreeSet<String>,
    /// The names of its containers, replicas one by one.
    pub(super) names: BTreeSet<String>,
}

/// What is on each card of `farm`, which has a cluster. Nothing is anywhere in a farm that is larger than any.
pub(super) fn of(farm: &Farm) -> BTreeMap<&str, Here> {
    let mut places: BTreeMap<&str, Here> = BTreeMap::new();
    let count = farm.containers.iter().map(Container::count);
    if farm.cards.len() > MOST_MEMBERS || count.fold(0, usize::saturating_add) > MOST_CONTAINERS {
        return places;
    }
    let mut listed: BTreeMap<&str, &str> = BTreeMap::new();
    for (card, own) in &farm.cards {
        for name in own.containers.iter().flatten() {
            listed.entry(name).or_insert(card);
        }
    }
    // Those that take what the rules send them, in the order of their names.
    let open = farm.cards.iter().filter(|(_, own)| own.containers.is_none());
    let open: Vec<&str> = open.map(|(card, _)| card.as_str()).collect();
    for container in &farm.containers {
        let fixed = container.on.as_deref();
        let fixed = fixed.or_else(|| listed.get(container.name.as_str()).copied());
        let turns: Vec<&str> = match fixed {
            Some(card) => vec![card],
            None if container.spread => open.clone(),
            None => highest(&open, &container.name).into_iter().collect(),
        };
        for (name, card) in container.names().into_iter().zip(turns.iter().cycle()) {
            let here = places.entry(card).or_default();
            here.declared.insert(container.name.clone());
            here.names.insert(name);
        }
    }
    places
}

/// The card of `cards` whose hash with `container` is the highest.
fn highest<'c>(cards: &[&'c str], container: &str) -> Option<&'c str> {
    cards
        .iter()
        .copied()
        .max_by_key(|card| Sha256Sum::of_parts(DOMAIN, &[card, container]))
}
