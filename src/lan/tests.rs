//! What counts as found, from what was seen.

use super::*;
use crate::host::interfaces::Address;

const PI: Mac = Mac([0xb8, 0x27, 0xeb, 1, 2, 3]);

/// A computer on `wlan0`, with these addresses of 64 bits.
fn sight(own: &[&str]) -> Sight {
    let address = |ip: &&str| Address {
        ip: ip.parse().unwrap(),
        prefix: 64,
        deprecated: false,
    };
    Sight {
        interfaces: vec![Interface {
            index: 3,
            name: "wlan0".into(),
            addresses: own.iter().map(address).collect(),
        }],
        ..Sight::default()
    }
}

fn neighbour(ip: &str, reachable: bool) -> Neighbour {
    Neighbour {
        interface: 3,
        ip: ip.parse().unwrap(),
        mac: PI,
        reachable,
    }
}

fn shown(found: Option<Found>) -> Option<(Sign, Vec<String>)> {
    found.map(|found| (found.sign, found.places.iter().map(Place::to_string).collect()))
}

fn places(sign: Sign, places: &[&str]) -> (Sign, Vec<String>) {
    (sign, places.iter().map(|one| (*one).to_owned()).collect())
}

#[test]
fn a_mac_that_answers_is_found() {
    let wanted = Wanted {
        mac: Some(PI),
        ..Wanted::default()
    };
    let mut sight = sight(&["fe80::7", "2001:db8::7"]);
    assert_eq!(sight.find(&wanted), None);
    // The kernel remembers hosts that are gone.
    sight.neighbours = vec![neighbour("fe80::9", false), neighbour("2001:db8::9", false)];
    assert_eq!(sight.find(&wanted), None);
    // Where there is a prefix, an address in it will come.
    sight.echoes.insert((3, "fe80::9".parse().unwrap()));
    assert_eq!(sight.find(&wanted), None);
    sight
        .neighbours
        .push(neighbour("2001:db8::ba27:ebff:fe01:203", true));
    sight.neighbours.push(neighbour("2001:db8::8", true));
    let expect = ["2001:db8::ba27:ebff:fe01:203", "2001:db8::8", "fe80::9%wlan0"];
    assert_eq!(shown(sight.find(&wanted)), Some(places(Sign::Mac, &expect)));
    assert_eq!(
        shown(sight.raspberry_pis().pop()),
        Some(places(Sign::RaspberryPi, &expect))
    );
}

#[test]
fn without_a_prefix_the_link_will_do() {
    let wanted = Wanted {
        mac: Some(PI),
        ..Wanted::default()
    };
    let mut sight = sight(&["fe80::7", "192.0.2.7"]);
    sight.neighbours = vec![neighbour("fe80::9", true)];
    assert_eq!(
        shown(sight.find(&wanted)),
        Some(places(Sign::Mac, &["fe80::9%wlan0"]))
    );
}

#[test]
fn an_echo_without_a_scope_counts_behind_every_interface() {
    let wanted = Wanted {
        mac: Some(PI),
        ..Wanted::default()
    };
    let mut sight = sight(&["fe80::7", "2001:db8::7"]);
    sight.neighbours = vec![neighbour("2001:db8::9", false)];
    sight.echoes.insert((0, "2001:db8::9".parse().unwrap()));
    assert_eq!(
        shown(sight.find(&wanted)),
        Some(places(Sign::Mac, &["2001:db8::9"]))
    );
}

#[test]
fn names_and_fixed_addresses_are_found() {
    let wanted = Wanted {
        mac: None,
        name: Some("palm.local".into()),
        fixed: vec!["192.0.2.10".parse().unwrap()],
    };
    let mut sight = sight(&["192.0.2.7"]);
    sight.neighbours = vec![neighbour("192.0.2.10", true)];
    assert_eq!(
        shown(sight.find(&wanted)),
        Some(places(Sign::Address, &["192.0.2.10"]))
    );
    let place = |ip: &str| Place {
        ip: ip.parse().unwrap(),
        interface: "wlan0".into(),
    };
    sight.names.insert(("palm.local".into(), place("fe80::9")));
    sight.names.insert(("palm.local".into(), place("192.0.2.10")));
    sight.names.insert(("palm.local".into(), place("fd00::9")));
    let found = sight.find(&wanted).unwrap();
    assert_eq!(found.mac, Some(PI));
    let expect = Some(places(Sign::Name, &["fd00::9", "192.0.2.10", "fe80::9%wlan0"]));
    assert_eq!(shown(Some(found)), expect);
    let other = Wanted {
        name: Some("palm2.local".into()),
        ..Wanted::default()
    };
    assert_eq!(sight.find(&other), None);
}
