//! What can go wrong on a Pi: each time the report says what, where and how to fix it, and the rest of the farm is up.

use std::cell::Cell;
use std::net::IpAddr;

use palmfarm_protocol::firstboot::{FirstBoot, ImageRef};
use palmfarm_protocol::report::{Container, StepState};

use crate::document::{add, carry, container, file, run, with_alpine};
use crate::image;
use crate::lab::{Lab, Ran};
use crate::proxy::Kill;
use crate::router::Service;
use crate::sh;

/// A farm with the image `alpine` and the bridged container `other`, which must come up whatever happens.
fn farm(lab: &Lab) -> FirstBoot {
    let mut farm = with_alpine(lab);
    add(&mut farm, container("other", 0x50, "alpine"));
    farm
}

/// A lab with a router that hands out everything.
fn lab() -> Option<Lab> {
    let mut lab = Lab::new()?;
    lab.router.serve(Service::Both);
    Some(lab)
}

/// The report on the container `name`.
fn about<'a>(ran: &'a Ran, name: &str) -> &'a Container {
    let all = &ran
        .report
        .as_ref()
        .unwrap_or_else(|| panic!("no report\n{}", ran.printed))
        .containers;
    all.iter().find(|one| one.name == name).unwrap()
}

/// The step `name` ended in `state` with a message that has `part` in it.
#[track_caller]
fn says(ran: &Ran, name: &str, state: StepState, part: &str) {
    let step = ran.step(name);
    assert_eq!(step.state, state, "{}", ran.printed);
    assert!(step.message.contains(part), "{}", step.message);
}

/// `other` is up at its address, and the run as a whole has failed.
#[track_caller]
fn rest_is_up(ran: &Ran) {
    assert!(!ran.status.success());
    let other = about(ran, "other");
    assert_eq!(
        (other.state.as_str(), other.message.as_str()),
        ("Running", ""),
        "{}",
        ran.printed
    );
    assert!(other.observed.contains(&other.predicted[0]));
}

#[test]
fn a_missing_image_stops_what_is_made_from_it() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    carry(
        &mut farm,
        "gone",
        "/var/lib/palmfarm/gone.tar.gz",
        &"0".repeat(64),
    );
    lab.put("var/lib/palmfarm/damaged.tar.gz", b"not what was packed");
    carry(
        &mut farm,
        "damaged",
        "/var/lib/palmfarm/damaged.tar.gz",
        &"1".repeat(64),
    );
    add(&mut farm, container("one", 1, "gone"));
    add(&mut farm, container("two", 2, "damaged"));
    let mut template = container("three", 3, "gone");
    template.publish = Some("three_image".into());
    add(&mut farm, template);
    add(&mut farm, container("four", 4, "three_image"));
    add(&mut farm, container("five", 5, "nobody_made_it"));
    let ran = lab.agent(&farm);
    says(
        &ran,
        "image gone",
        StepState::Failed,
        "gone.tar.gz, the image gone of the card: No such file",
    );
    says(
        &ran,
        "image damaged",
        StepState::Failed,
        "importing the image damaged",
    );
    says(
        &ran,
        "image damaged",
        StepState::Failed,
        "if /var/lib/palmfarm/damaged.tar.gz is damaged, put it there again",
    );
    for (name, why) in [
        ("one", "gone"),
        ("two", "damaged"),
        ("three", "gone"),
        ("four", "three_image"),
    ] {
        says(
            &ran,
            &format!("container {name}"),
            StepState::Skipped,
            &format!("its image {why} could not be made"),
        );
        assert_eq!(about(&ran, name).state, "missing");
    }
    says(
        &ran,
        "container five",
        StepState::Failed,
        "its image is nobody_made_it of the daemon's own store",
    );
    rest_is_up(&ran);
    // Once the image is there, the next run makes good for it.
    let busybox = image::busybox();
    farm.lxd
        .as_mut()
        .unwrap()
        .images
        .retain(|image| image.alias == "alpine");
    carry(
        &mut farm,
        "gone",
        "/var/lib/palmfarm/alpine.tar.gz",
        &busybox.fingerprint,
    );
    farm.containers
        .retain(|one| !matches!(one.name.as_str(), "two" | "five"));
    lab.agent(&farm).all_well();
}

#[test]
fn an_image_server_that_is_away_stops_one_container() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    let lxd = farm.lxd.as_mut().unwrap();
    lxd.remotes
        .insert("images".into(), "https://images.invalid".into());
    let mut far = container("far", 1, "");
    far.image = ImageRef::Remote {
        remote: "images".into(),
        alias: "alpine/3.20".into(),
    };
    add(&mut farm, far);
    let ran = lab.agent(&farm);
    says(&ran, "container far", StepState::Failed, "making far");
    says(
        &ran,
        "container far",
        StepState::Failed,
        "check that the Pi reaches https://images.invalid, and that it has alpine/3.20 for this machine (it drops a release",
    );
    println!(
        "an image server that is away: {}",
        ran.step("container far").message
    );
    rest_is_up(&ran);
}

#[test]
fn a_command_that_fails_is_shown_with_its_output() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    let mut web = container("web", 1, "alpine");
    web.run = vec![
        run("set it up", "echo one; echo two >&2; exit 3"),
        run("never", "touch /never"),
    ];
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    add(&mut farm, container("w2", 2, "web_image"));
    let mut slow = container("slow", 3, "alpine");
    slow.run = vec![run("wait", "sleep 1000")];
    slow.run[0].timeout_seconds = 2;
    slow.run[0].retries = 1;
    add(&mut farm, slow);
    let ran = lab.agent(&farm);
    says(
        &ran,
        "container web",
        StepState::Failed,
        "running set it up in web failed 1 time(s)",
    );
    says(&ran, "container web", StepState::Failed, "exit code 3");
    assert_eq!(ran.step("container web").output, ["one", "two"]);
    says(
        &ran,
        "container w2",
        StepState::Skipped,
        "its image web_image could not be made",
    );
    says(
        &ran,
        "container slow",
        StepState::Failed,
        "failed 2 time(s): it was still running after 2 s",
    );
    rest_is_up(&ran);
    let never = sh::ended(&mut lab.pi.lxc("exec web -- ls /never"));
    assert!(!never.status.success());
    // Mended, it starts again from a fresh container.
    farm.containers[1].run[0].script = "test ! -e /tmp/was-here && touch /tmp/was-here".into();
    farm.containers.retain(|one| one.name != "slow");
    lab.agent(&farm).all_well();
}

#[test]
fn what_the_user_made_is_left_alone() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    lab.agent(&farm).all_well();
    sh::run(&mut lab.pi.lxc("launch alpine web -p default"));
    sh::run(&mut lab.pi.lxc("profile create small"));
    sh::run(&mut lab.pi.lxc("profile set small limits.processes 100"));
    sh::run(
        &mut lab
            .pi
            .lxc("network create lxdbr1 ipv4.address=10.78.0.1/24 ipv6.address=none"),
    );
    let theirs = || lab.pi.query("/1.0/instances/web");
    let before = theirs();
    let network = lab.pi.query("/1.0/networks/lxdbr1");
    let mut web = container("web", 1, "alpine");
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    add(&mut farm, container("w2", 2, "web_image"));
    let mut limited = container("limited", 3, "alpine");
    limited.profiles.push("small".into());
    add(&mut farm, limited);
    let preseed = &mut farm.lxd.as_mut().unwrap().preseed;
    let mut small = preseed.profiles[1].clone();
    small.name = "small".into();
    preseed.profiles.push(small);
    let mut clash = preseed.networks[0].clone();
    clash.name = "lxdbr1".into();
    preseed.networks.push(clash);
    let ran = lab.agent(&farm);
    says(
        &ran,
        "container web",
        StepState::Failed,
        "a container called web exists that palmfarm did not make",
    );
    says(
        &ran,
        "container w2",
        StepState::Skipped,
        "its image web_image could not be made",
    );
    says(
        &ran,
        "preseed",
        StepState::Failed,
        "the profile small was not made by palmfarm",
    );
    says(
        &ran,
        "preseed",
        StepState::Failed,
        "the network lxdbr1 was not made by palmfarm",
    );
    says(
        &ran,
        "container limited",
        StepState::Skipped,
        "its profile small could not be made",
    );
    assert_eq!(theirs(), before);
    assert_eq!(lab.pi.query("/1.0/networks/lxdbr1"), network);
    assert_eq!(
        lab.pi.query("/1.0/profiles/small")["config"]["limits.processes"],
        "100"
    );
    rest_is_up(&ran);
}

#[test]
fn a_container_comes_back_and_what_was_added_appears() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    add(&mut farm, container("one", 1, "alpine"));
    lab.agent(&farm).all_well();
    sh::run(&mut lab.pi.lxc("delete --force one"));
    sh::run(&mut lab.pi.lxc("exec other -- touch /root/mine"));
    let again = lab.agent(&farm);
    again.all_well();
    assert_eq!(again.step("container one").state, StepState::Changed);
    assert_eq!(again.step("container other").state, StepState::Unchanged);
    add(&mut farm, container("two", 2, "alpine"));
    farm.containers[0]
        .config
        .insert("limits.processes".into(), "200".into());
    let more = lab.agent(&farm);
    more.all_well();
    assert_eq!(more.step("container two").state, StepState::Changed);
    assert_eq!(about(&more, "two").state, "Running");
    // A setting is changed in place: what the container holds is its owner's.
    assert_eq!(
        lab.pi.query("/1.0/instances/other")["config"]["limits.processes"],
        "200"
    );
    sh::run(&mut lab.pi.lxc("exec other -- test -e /root/mine"));
    // So is a container that would have to be recreated.
    farm.containers[0].run = vec![run("more", "true")];
    farm.containers[0].digest = "2".repeat(64);
    let ran = lab.agent(&farm);
    says(
        &ran,
        "container other",
        StepState::Failed,
        "has been left as it is",
    );
    sh::run(&mut lab.pi.lxc("exec other -- test -e /root/mine"));
}

#[test]
fn a_lan_without_ipv6_is_said() {
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Ipv4);
    let farm = farm(&lab);
    let ran = lab.agent(&farm);
    // The container is up, but not where it was planned.
    assert!(!ran.status.success(), "{}", ran.printed);
    assert_eq!(ran.step("container other").state, StepState::Changed);
    let other = about(&ran, "other");
    assert!(other
        .message
        .contains("it has no global IPv6 address, so 2001:db8:ebbd:2080:216:3eff:fe6c:250"));
    assert!(
        other.message.contains("check that the router announces a prefix"),
        "{}",
        other.message
    );
    assert!(other.observed.iter().any(IpAddr::is_ipv4), "{:?}", other.observed);
}

#[test]
fn dhcp_that_is_ten_seconds_late_is_waited_for() {
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Ipv6);
    let mut farm = farm(&lab);
    let mut web = container("web", 1, "alpine");
    web.run = vec![run(
        "needs IPv4",
        "ip -4 address show dev eth0 | grep -q 'inet 192.0.2.'",
    )];
    add(&mut farm, web);
    lab.router.serve_later(Service::Ipv4, 10);
    let ran = lab.agent(&farm);
    ran.all_well();
    assert!(about(&ran, "web").observed.iter().any(IpAddr::is_ipv4));
}

#[test]
fn a_daemon_that_is_restarted_is_waited_for() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    lab.put("etc/palmfarm/files/page", b"page\n");
    for number in 1..=3 {
        let mut one = container(&format!("c{number}"), number, "alpine");
        one.files = vec![file("/srv/page", "/etc/palmfarm/files/page", b"page\n", 0o644)];
        add(&mut farm, one);
    }
    let restarts = Cell::new(0);
    // In the middle of making a container, and again while another is started.
    let ran = lab.agent_while(&farm, Kill::Never, |changes| {
        if (restarts.get() == 0 && changes >= 11) || (restarts.get() == 1 && changes >= 15) {
            lab.pi.stop();
            lab.pi.start();
            restarts.set(restarts.get() + 1);
        }
    });
    assert_eq!(restarts.get(), 2);
    ran.all_well();
    for name in ["other", "c1", "c2", "c3"] {
        assert_eq!(
            (
                about(&ran, name).state.as_str(),
                about(&ran, name).message.as_str()
            ),
            ("Running", "")
        );
    }
    assert_eq!(lab.agent(&farm).changes, [""; 0]);
}

#[test]
fn a_daemon_that_stays_away_is_said_once() {
    let Some(lab) = lab() else { return };
    let mut farm = farm(&lab);
    for number in 1..=3 {
        add(&mut farm, container(&format!("c{number}"), number, "alpine"));
    }
    let stopped = Cell::new(false);
    let ran = lab.agent_while(&farm, Kill::Never, |changes| {
        if !stopped.get() && changes >= 12 {
            lab.pi.stop();
            stopped.set(true);
        }
    });
    assert!(!ran.status.success());
    let steps = &ran.report.as_ref().unwrap().steps;
    let failed: Vec<_> = steps
        .iter()
        .filter(|step| step.state == StepState::Failed)
        .collect();
    assert_eq!(failed.len(), 1, "{steps:#?}");
    assert!(
        failed[0].message.contains("the container daemon does not answer"),
        "{failed:?}"
    );
    assert!(
        failed[0]
            .message
            .contains("start it, then run palmfarm-agent run"),
        "{failed:?}"
    );
    says(
        &ran,
        "container c3",
        StepState::Skipped,
        "the container daemon does not answer",
    );
    assert_eq!(about(&ran, "c3").state, "unknown");
    lab.pi.start();
    lab.agent(&farm).all_well();
}
