//! A card as a member of the farm's cluster: where the members are, what they show, and who publishes which image.

use std::collections::BTreeMap;

use palmfarm_protocol::cluster::{Cluster, Member};

use super::PlanError;
use crate::farm::addresses;
use crate::farm::cluster_keys::{ClusterKeys, PrivateKey};
use crate::farm::{Farm, ResolvedCard};

/// The private keys of one member.
#[derive(Clone, Debug)]
pub struct MemberKeys {
    /// Its own.
    pub member: PrivateKey,
    /// The cluster's, on the card alone that forms it: the others are handed it when they join.
    pub cluster: Option<PrivateKey>,
}

/// What `card` is told of its cluster, and its keys; `None`: the farm has no cluster.
pub(super) fn membership(
    farm: &Farm,
    card: &ResolvedCard,
    keys: Option<&ClusterKeys>,
) -> Result<Option<(Cluster, MemberKeys)>, PlanError> {
    let Some(declared) = &farm.cluster else {
        return Ok(None);
    };
    let not_read = || PlanError::NotRead(declared.keys.clone());
    let keys = keys.ok_or_else(not_read)?;
    let mut members = Vec::new();
    for name in farm.cards.keys() {
        members.push(Member {
            name: name.clone(),
            address: addresses::member(keys.cluster.der(), name),
            certificate: keys.cards.get(name).ok_or_else(not_read)?.certificate(),
        });
    }
    let own = keys.cards.get(&card.name).ok_or_else(not_read)?;
    let is_first = card.name == declared.first;
    let cluster = Cluster {
        first: declared.first.clone(),
        members,
        certificate: keys.cluster.certificate(),
        offline_threshold: declared.offline_threshold,
        published: published(farm, card),
    };
    let keys = MemberKeys {
        member: own.key.clone(),
        cluster: is_first.then(|| keys.cluster.key.clone()),
    };
    Ok(Some((cluster, keys)))
}

/// The card that publishes or carries an image, for each alias that containers of `card` are made from and that `card` has
/// not itself.
fn published(farm: &Farm, card: &ResolvedCard) -> BTreeMap<String, String> {
    let used = farm.containers.iter().filter(|one| card.has(one));
    let cards = farm.resolved_cards();
    let first = farm.cluster.as_ref().map(|cluster| cluster.first.as_str());
    let maker = |alias: &str| {
        let publisher = farm
            .containers
            .iter()
            .find(|one| one.publish.as_deref() == Some(alias));
        match publisher {
            Some(publisher) => cards
                .iter()
                .find(|card| card.has(publisher))
                .map(|card| card.name.as_str()),
            None => first.filter(|_| farm.images.contains_key(alias)),
        }
    };
    let makers = used.filter_map(|one| Some((one.image.clone(), maker(&one.image)?)));
    let elsewhere = makers.filter(|(_, maker)| *maker != card.name);
    elsewhere
        .map(|(alias, maker)| (alias, maker.to_owned()))
        .collect()
}
