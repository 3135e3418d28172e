//! Which containers the cards of a fleet have: that they are declared, that each is had by somebody, and that what a
//! container is made from is made on the same card.

use std::collections::{BTreeMap, BTreeSet};

use super::{steps, Judged};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::Container;
use palmfarm_protocol::names;

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    if farm.cards.is_empty() || !judged.knows_keys(steps!["containers"]) {
        return;
    }
    let declared = declared(judged);
    let mut had: BTreeSet<&str> = BTreeSet::new();
    let mut unknown = false;
    for (card, own) in &farm.cards {
        let Some(names) = &own.containers else {
            had.extend(declared.keys());
            continue;
        };
        let mut here: BTreeSet<&str> = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let is_again = !here.insert(name);
            let is_known = declared.contains_key(name.as_str());
            unknown |= !is_known;
            // Of what is no name it was told where it was read.
            let is_told = !is_known && names::container(name).is_err();
            if is_told || (is_known && !is_again) {
                continue;
            }
            if p.is_full() {
                p.count();
                continue;
            }
            let at = judged.at(steps!["cards", card, "containers", index]);
            if is_again {
                p.error(at, format!("container {} is here twice", quoted(name)));
                continue;
            }
            let problem = Problem::error(at, format!("there is no container {}", quoted(name)));
            let hint = meant(name, &declared, p);
            p.push(problem.hint(
                hint.unwrap_or_else(|| "name containers that are declared at the top of the farm".into()),
            ));
        }
        had.extend(here);
    }
    if farm.cluster.is_some() {
        // There a card without a list has what the rules give it.
        let cards = farm.resolved_cards();
        // An `on` that names no card has a message of its own.
        let is_placed = |one: &&Container| one.on.is_some() || cards.iter().any(|card| card.has(one));
        had = declared
            .values()
            .copied()
            .filter(is_placed)
            .map(|one| one.name.as_str())
            .collect();
    }
    // A container that nobody has may be the one that a misspelt name means.
    if unknown || !judged.knows(steps!["cards"]) {
        return;
    }
    for name in declared.keys().filter(|name| !had.contains(*name)) {
        let at = judged.key(steps!["containers", *name]);
        p.warning(at, format!("no card has the container {}", quoted(name)))
            .hint("name it in `containers` of a card, or take it out");
    }
}

/// A card that has a container has the one that publishes its image, too.
pub(super) fn images(judged: &Judged<'_>, publishers: &BTreeMap<&str, &Container>, p: &mut Problems) {
    // The images of a cluster belong to all of its members.
    if judged.farm.cluster.is_some() {
        return;
    }
    let declared = declared(judged);
    for (card, own) in &judged.farm.cards {
        let Some(names) = &own.containers else { continue };
        let here: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            if !told.insert(name) {
                continue;
            }
            let container = declared.get(name.as_str());
            let maker = container.and_then(|container| publishers.get(container.image.as_str()));
            let Some(maker) = maker.filter(|maker| !here.contains(maker.name.as_str())) else {
                continue;
            };
            let message = format!(
                "{} is made from the image that {} publishes, which card {} does not have",
                quoted(name),
                quoted(&maker.name),
                quoted(card)
            );
            let at = judged.at(steps!["cards", card, "containers", index]);
            p.error(at, message)
                .hint(format!("name {} here, too", quoted(&maker.name)));
        }
    }
}

fn declared<'f>(judged: &Judged<'f>) -> BTreeMap<&'f str, &'f Container> {
    let all = judged.farm.containers.iter();
    all.map(|one| (one.name.as_str(), one)).collect()
}

/// What was probably meant by `name`, which nothing declares: replicas are declared by the name without the number.
fn meant(name: &str, declared: &BTreeMap<&str, &Container>, p: &mut Problems) -> Option<String> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match declared.get(stem) {
        Some(of) if of.names().iter().any(|one| one == name) => {
            Some(format!("it is one of several: write {}", quoted(stem)))
        }
        _ => p.did_you_mean(name, declared.keys().copied()),
    }
}
