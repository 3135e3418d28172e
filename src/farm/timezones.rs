//! The names of the tz database, compiled in: the workstation may have none, or another than the card.
//!
//! `timezones.txt` comes from tzdata 2025b, zones and links, by
//! `awk '$1 == "Z" { print $2 } $1 == "L" { print $3 }' /usr/share/zoneinfo/tzdata.zi | LC_ALL=C sort -u`.

use crate::farm::suggest;

const NAMES: &str = include_str!("timezones.txt");

/// Old names, each with the one that it stands for. Ubuntu has them in a package of its own, tzdata-legacy, since 23.10;
/// no image has it. The list is what tzdata of Debian 12 renames by itself (`convert_timezone` in its `config`) and
/// `US/*`, without the names of zones that are links since 2024b only (EST, CET and their kin).
const OLD_NAMES: &str = include_str!("timezones_old.txt");

/// Every name, in the order of bytes.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    NAMES.lines()
}

/// The name that was most likely meant: of the parts between its slashes each must be close, since there is hardly a word
/// that is far from all names of cities.
pub(crate) fn closest(name: &str) -> Option<&'static str> {
    let city = |name: &'static str| name.rsplit('/').next().unwrap_or(name);
    let Some((area, city_meant)) = name.rsplit_once('/') else {
        let by_city = suggest::closest(name, all().map(city));
        return suggest::closest(name, all()).or(all().find(|known| Some(city(known)) == by_city));
    };
    let area = suggest::closest(
        area,
        all()
            .filter_map(|known| known.rsplit_once('/'))
            .map(|(area, _)| area),
    )?;
    let there = all().filter_map(|known| {
        known
            .strip_prefix(area)?
            .strip_prefix('/')
            .map(|city| (city, known))
    });
    let cities: Vec<(&str, &'static str)> = there.collect();
    let meant = suggest::closest(city_meant, cities.iter().map(|(city, _)| *city))?;
    cities
        .iter()
        .find(|(city, _)| *city == meant)
        .map(|(_, known)| *known)
}

/// The name that `name`, an old one, stands for.
pub(crate) fn renamed(name: &str) -> Option<&'static str> {
    let pairs = OLD_NAMES.lines().filter_map(|line| line.split_once(' '));
    pairs
        .into_iter()
        .find(|(old, _)| *old == name)
        .map(|(_, new)| new)
}

/// Whether there is a zone or link of this name.
pub(crate) fn is_known(name: &str) -> bool {
    all().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_whole() {
        assert!(all().is_sorted());
        assert!(is_known("Europe/Vienna") && is_known("UTC") && is_known("America/Argentina/Ushuaia"));
        assert!(!is_known("") && !is_known("Europe/Wien") && !is_known("europe/vienna"));
        assert!((500..1000).contains(&all().count()));
    }

    #[test]
    fn old_names_lead_to_new_ones() {
        for line in OLD_NAMES.lines() {
            let (old, new) = line.split_once(' ').unwrap();
            assert!(is_known(old) && is_known(new) && renamed(new).is_none(), "{line}");
        }
        assert_eq!(renamed("US/Pacific"), Some("America/Los_Angeles"));
        assert_eq!(renamed("Asia/Calcutta"), Some("Asia/Kolkata"));
        assert_eq!(renamed("Europe/Vienna"), None);
    }

    #[test]
    fn only_a_slip_is_a_suggestion() {
        for (name, expect) in [
            ("europe/vienna", Some("Europe/Vienna")),
            ("Europe/Vienna ", Some("Europe/Vienna")),
            ("Vienna", Some("Europe/Vienna")),
            ("Eurpoe/Berln", Some("Europe/Berlin")),
            ("America/Argentina/Ushuaja", Some("America/Argentina/Ushuaia")),
            ("UCT+1", None),
            ("Europe/Wien", None),
            ("Europe/Munich", None),
            ("Nowhere", None),
            ("", None),
        ] {
            assert_eq!(closest(name), expect, "{name:?}");
        }
    }
}
