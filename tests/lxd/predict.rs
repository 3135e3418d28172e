//! How far the prediction of addresses goes: Debian with each of its four ways of configuring a network.

use std::time::{Duration, Instant};

use palmfarm_spec::report::Container;

use crate::document::{add, address, carry, container, empty};
use crate::image::{self, Client};
use crate::lab::{Lab, Ran};
use crate::router::Service;
use crate::sh;

/// A lab in which `deb`, a Debian with `client`, has been brought up, with the document.
fn debian(client: Client) -> Option<(Lab, palmfarm_spec::firstboot::FirstBoot, Ran)> {
    let mut lab = Lab::new()?;
    let image = match image::debian(client) {
        Ok(image) => image,
        Err(why) => {
            println!("skipped: prediction with {client:?}: {why}");
            return None;
        }
    };
    lab.router.serve(Service::Both);
    lab.put(
        "var/lib/palmfarm/debian.tar.gz",
        &std::fs::read(&image.path).unwrap(),
    );
    let mut farm = empty();
    carry(
        &mut farm,
        "debian",
        "/var/lib/palmfarm/debian.tar.gz",
        &image.fingerprint,
    );
    add(&mut farm, container("deb", 1, "debian"));
    let ran = lab.agent(&farm);
    ran.all_well();
    Some((lab, farm, ran))
}

fn deb(ran: &Ran) -> &Container {
    &ran.report.as_ref().unwrap().containers[0]
}

/// `client` forms the address that was predicted.
fn holds(client: Client) {
    let Some((lab, farm, ran)) = debian(client) else {
        return;
    };
    let deb = deb(&ran);
    assert_eq!(deb.message, "", "{deb:#?}");
    assert!(deb.observed.contains(&deb.predicted[0]), "{deb:#?}");
    let begun = Instant::now();
    while lab.router.get(address(&farm.containers[0]), "/").as_deref() != Some("Debian\n") {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "no answer from {:?}",
            deb.predicted
        );
    }
}

/// `client` forms another address: the report says so with its cure, and `cure` in the container helps.
fn differs(client: Client, cure: &str) {
    let Some((lab, farm, ran)) = debian(client) else {
        return;
    };
    let before = deb(&ran);
    assert!(
        before.message.starts_with("it does not form EUI-64 addresses"),
        "{before:#?}"
    );
    assert!(
        before
            .observed
            .iter()
            .any(|one| one.is_ipv6() && !before.predicted.contains(one)),
        "{before:#?}"
    );
    sh::run(lab.pi.lxc("exec deb -- sh -c").arg(cure));
    sh::run(&mut lab.pi.lxc("restart deb"));
    let begun = Instant::now();
    while lab.router.get(address(&farm.containers[0]), "/").as_deref() != Some("Debian\n") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the cure does not help: {}",
            before.message
        );
    }
    let after = lab.agent(&farm);
    assert_eq!((deb(&after).message.as_str(), after.changes.len()), ("", 0));
}

#[test]
fn networkd_forms_what_was_predicted() {
    holds(Client::Networkd);
}

#[test]
fn ifupdown_forms_what_was_predicted() {
    holds(Client::Ifupdown);
}

#[test]
fn dhcpcd_has_a_cure() {
    differs(
        Client::Dhcpcd,
        "sed -i 's/^slaac private/slaac hwaddr/' /etc/dhcpcd.conf",
    );
}

#[test]
fn networkmanager_has_a_cure() {
    differs(
        Client::NetworkManager,
        "nmcli connection modify 'Wired connection 1' ipv6.addr-gen-mode eui64",
    );
}
