//! Computed hardware addresses that meet others: three bytes of a hash are few enough for it to happen, and an
//! order in which one of two gives way would move an address when something else is edited.

use std::collections::BTreeMap;

use crate::farm::node::Node;
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::Farm;

use crate::farm::addresses;

/// Tell of every two interfaces of the fleet that would have one MAC, of which at least one is computed.
pub(super) fn check(farm: &Farm, document: &Node, p: &mut Problems) {
    let mut taken: BTreeMap<_, (String, bool)> = BTreeMap::new();
    for (name, card) in &farm.cards {
        if let Some(mac) = card.mac {
            taken.insert(mac, (format!("card {}", quoted(name)), false));
        }
    }
    let cards = farm.resolved_cards();
    for card in &cards {
        for one in addresses::containers(farm, card) {
            let computed = one.container.mac.is_none();
            let owner = format!("{} on card {}", quoted(&one.name), quoted(&card.name));
            let Some((other, other_computed)) = taken.get(&one.mac) else {
                taken.insert(one.mac, (owner, computed));
                continue;
            };
            if !computed && !other_computed {
                // Both were written down, of which the checks of the farm have told.
                continue;
            }
            let at = document.locate(&["containers".into(), (&one.container.name).into()]);
            let message = format!("{owner} would have the MAC of {other}, {}", one.mac);
            let hint = match cards.iter().filter(|card| card.has(one.container)).count() {
                0 | 1 => "give one of the two a `mac` of its own",
                _ => "rename one of the two: addresses come from the names of card and container",
            };
            p.error(at, message).hint(hint);
        }
    }
}
