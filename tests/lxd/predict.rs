//! How far the prediction of addresses goes: Debian with each of its four ways of configuring a network.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::{Container, StepState};

use crate::common::skipped;
use crate::document::{add, address, carry, container, empty};
use crate::image::{self, Client};
use crate::lab::{Lab, Ran};
use crate::router::Service;
use crate::sh;

/// A lab in which `deb`, a Debian with `client`, has been brought up while the router offered `service`; the document
/// and the run.
fn debian(client: Client, service: Service) -> Option<(Lab, FirstBoot, Ran)> {
    let mut lab = Lab::new()?;
    let image = match image::debian(client) {
        Ok(image) => image,
        Err(why) => {
            skipped(why);
            return None;
        }
    };
    lab.router.serve(service);
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
    assert_eq!(
        ran.step("container deb").state,
        StepState::Changed,
        "{}",
        ran.printed
    );
    Some((lab, farm, ran))
}

fn deb(ran: &Ran) -> &Container {
    &ran.report.as_ref().unwrap().containers[0]
}

/// `client` forms the address that was predicted.
fn holds(client: Client) {
    let Some((lab, farm, ran)) = debian(client, Service::Both) else {
        return;
    };
    let deb = deb(&ran);
    assert!(ran.status.success(), "{}", ran.printed);
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

/// `client`, which runs as `unit`, forms another address: the report says so with its cure, and `cure` in the container
/// helps.
fn differs(client: Client, unit: &str, cure: &str) {
    // If there is a router before the client is up, the kernel has formed an address by then, and that stays for a
    // while; so the router comes later.
    let Some((mut lab, farm, _)) = debian(client, Service::Ipv4) else {
        return;
    };
    let begun = Instant::now();
    while !sh::succeeds(&mut lab.pi.lxc(&format!("exec deb -- systemctl is-active {unit}"))) {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{unit} does not start"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    lab.router.serve(Service::Ipv6);
    let seen = loop {
        let seen = lab.agent(&farm);
        if deb(&seen).observed.iter().any(IpAddr::is_ipv6) {
            break seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "{:#?}", deb(&seen));
    };
    let before = deb(&seen);
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
        "dhcpcd",
        "sed -i 's/^slaac private/slaac hwaddr/' /etc/dhcpcd.conf",
    );
}

#[test]
fn networkmanager_has_a_cure() {
    differs(
        Client::NetworkManager,
        "NetworkManager",
        "nmcli connection modify 'Wired connection 1' ipv6.addr-gen-mode eui64",
    );
}
