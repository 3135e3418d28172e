//! The names of the tz database, compiled in: the workstation may have none, or another than the card.
//!
//! `timezones.txt` comes from tzdata 2025b, zones and links, by
//! `awk '$1 == "Z" { print $2 } $1 == "L" { print $3 }' /usr/share/zoneinfo/tzdata.zi | LC_ALL=C sort -u`.

const NAMES: &str = include_str!("timezones.txt");

/// Every name, in the order of bytes.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    NAMES.lines()
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
}
