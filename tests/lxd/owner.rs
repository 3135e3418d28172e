//! What an owner does between two runs: the agent destroys none of it, and says what it left alone.

use std::thread::sleep;
use std::time::Duration;

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::report::StepState;

use crate::document::{add, container, run, unplugged, with_alpine, BRIDGED};
use crate::lab::{Lab, Ran};
use crate::sh;

/// Declare the unplugged container `name`, which publishes `alias` if one is given.
pub(crate) fn declare(farm: &mut FirstBoot, name: &str, number: u8, image: &str, alias: Option<&str>) {
    farm.containers.retain(|one| one.name != name);
    let mut one = container(name, number, image);
    one.devices = unplugged();
    one.publish = alias.map(str::to_owned);
    add(farm, one);
}

/// A farm with the template `web` and its replica `w2`, which has been made.
pub(crate) fn made(lab: &Lab) -> FirstBoot {
    let mut farm = with_alpine(lab);
    declare(&mut farm, "web", 1, "alpine", Some("web_image"));
    declare(&mut farm, "w2", 2, "web_image", None);
    lab.agent(&farm).all_well();
    farm
}

/// The same farm with another `run` in the template.
pub(crate) fn changed(farm: &FirstBoot, script: &str) -> FirstBoot {
    let mut farm = farm.clone();
    let mut web = farm.containers.remove(0);
    web.run = vec![run("change", script)];
    add(&mut farm, web);
    farm.containers.rotate_right(1);
    farm
}

/// The step `name` failed with a message that has `part` in it.
#[track_caller]
pub(crate) fn left(ran: &Ran, name: &str, part: &str) {
    let step = ran.step(name);
    assert_eq!(step.state, StepState::Failed, "{}", ran.printed);
    assert!(step.message.contains(part), "{}", step.message);
}

/// The step `name` changed nothing, and says `part`.
#[track_caller]
pub(crate) fn noted(ran: &Ran, name: &str, part: &str) {
    let step = ran.step(name);
    assert_eq!(step.state, StepState::Unchanged, "{}", ran.printed);
    assert!(step.message.contains(part), "{}", step.message);
}

/// `lxc` with each of the lines.
pub(crate) fn lxc(lab: &Lab, lines: &[&str]) {
    for line in lines {
        sh::run(&mut lab.pi.lxc(line));
    }
}

#[test]
fn publish_that_is_added_deletes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    declare(&mut farm, "web", 1, "alpine", None);
    declare(&mut farm, "tpl", 2, "alpine", Some("tpl_image"));
    lab.agent(&farm).all_well();
    for name in ["web", "tpl"] {
        lxc(
            &lab,
            &[
                &format!("exec {name} -- touch /root/mine"),
                &format!("snapshot {name} mine"),
            ],
        );
    }
    declare(&mut farm, "web", 1, "alpine", Some("web_image"));
    declare(&mut farm, "tpl", 2, "alpine", Some("other_image"));
    // What is published does not change what a container holds.
    lab.agent(&farm).all_well();
    let mut changed = farm.clone();
    changed.containers.clear();
    for mut one in farm.containers {
        one.run = vec![run("change", "true")];
        add(&mut changed, one);
    }
    let ran = lab.agent(&changed);
    for name in ["web", "tpl"] {
        left(&ran, &format!("container {name}"), "has been left as it is");
        lxc(
            &lab,
            &[
                &format!("exec {name} -- test -e /root/mine"),
                &format!("config show {name}/mine"),
            ],
        );
    }
    lxc(
        &lab,
        &[
            "image info web_image",
            "image info tpl_image",
            "image info other_image",
        ],
    );
}

#[test]
fn a_template_is_rebuilt_only_if_nobody_has_used_it() {
    let Some(lab) = Lab::new() else { return };
    let farm = made(&lab);
    let farm = changed(&farm, "echo 2 > /edition");
    lab.agent(&farm).all_well();
    lxc(
        &lab,
        &["exec web -- grep 2 /edition", "exec web -- touch /root/mine"],
    );
    let farm = changed(&farm, "echo 3 > /edition");
    left(&lab.agent(&farm), "container web", "palmfarm-agent rebuild web");
    lxc(&lab, &["exec web -- test -e /root/mine"]);
    // The command in the message does it, and loses nothing.
    let asked = lab.command(&["rebuild", "web"]);
    assert_eq!(asked.status.code(), Some(1), "{}", asked.printed);
    let rebuilt = lab.command(&["rebuild", "web", "--yes"]);
    rebuilt.all_well();
    lxc(
        &lab,
        &[
            "exec web -- grep 3 /edition",
            "start web-old1",
            "exec web-old1 -- test -e /root/mine",
        ],
    );
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
}

#[test]
fn an_image_of_the_owner_stays() {
    let Some(lab) = Lab::new() else { return };
    let farm = made(&lab);
    // It inherits the properties of the image from which w2 was made.
    lxc(
        &lab,
        &[
            "exec w2 -- touch /root/mine",
            "stop --force w2",
            "publish w2 --alias mine",
            "start w2",
        ],
    );
    let fingerprint = |alias: &str| {
        let alias = lab.pi.query(&format!("/1.0/images/aliases/{alias}"));
        alias["target"].as_str().unwrap().to_owned()
    };
    let (mine, ours) = (fingerprint("mine"), fingerprint("web_image"));
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
    lab.agent(&changed(&farm, "true")).all_well();
    assert_eq!(fingerprint("mine"), mine);
    assert!(![&mine, &ours].contains(&&fingerprint("web_image")));
    // The owner points the farm's alias to the own image.
    lxc(
        &lab,
        &[
            "image alias delete web_image",
            &format!("image alias create web_image {mine}"),
        ],
    );
    left(
        &lab.agent(&changed(&farm, "echo 3")),
        "publish web_image",
        "palmfarm did not put there",
    );
    assert_eq!(fingerprint("web_image"), mine);
    // An alias that is gone is made again.
    lxc(&lab, &["image alias delete web_image"]);
    lab.agent(&changed(&farm, "echo 3")).all_well();
    assert_ne!(fingerprint("web_image"), mine);
}

#[test]
fn copies_and_renamed_containers_are_left_alone() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    // A copy at a name that is declared later.
    lxc(&lab, &["copy w2 w3", "start w3", "exec w3 -- touch /root/mine"]);
    declare(&mut farm, "w3", 3, "web_image", None);
    // A copy in the place of the container.
    lxc(&lab, &["stop --force w2", "rename w2 w9", "copy w9 w2"]);
    let ran = lab.agent(&farm);
    left(&ran, "container w3", "it may be a copy");
    left(&ran, "container w2", "is not the one that palmfarm made");
    assert_eq!(ran.changes, [""; 0], "{}", ran.printed);
    // Another name.
    lxc(&lab, &["stop --force web", "rename web web9", "delete w2"]);
    let ran = lab.agent(&farm);
    left(&ran, "container web", "web is now called web9");
    assert_eq!(ran.changes, [""; 0], "{}", ran.printed);
    lxc(&lab, &["exec w3 -- test -e /root/mine"]);
    // Following the hints.
    lxc(
        &lab,
        &["rename web9 web", "rename w9 w2", "start web", "start w2"],
    );
    lxc(&lab, &["stop --force w3", "rename w3 copy"]);
    lab.agent(&farm).all_well();
    lxc(&lab, &["config show copy"]);
}

#[test]
fn a_restored_container_is_not_provisioned_again() {
    let Some(lab) = Lab::new() else { return };
    let farm = made(&lab);
    // Its configuration says that it is unfinished, as in a snapshot that was taken in the middle of a run.
    lxc(
        &lab,
        &[
            "config set w2 user.palmfarm.state new",
            "snapshot w2 early",
            "config set w2 user.palmfarm.state ready",
            "exec w2 -- touch /root/mine",
            "snapshot w2 late",
            "stop --force w2",
            "restore w2 early",
        ],
    );
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
    lxc(
        &lab,
        &["restore w2 late", "start w2", "exec w2 -- test -e /root/mine"],
    );
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
}

#[test]
fn settings_change_with_the_declaration_only() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    let disk = [
        ("type".into(), "disk".into()),
        ("source".into(), "/tmp".into()),
        ("path".into(), "/mnt".into()),
    ];
    let w2 = &mut farm.containers[1];
    w2.config.insert("security.nesting".into(), "true".into());
    w2.config.insert("limits.processes".into(), "200".into());
    w2.devices.insert("data".into(), disk.into());
    let preseed = &mut farm.lxd.as_mut().unwrap().preseed;
    preseed.profiles[1]
        .config
        .insert("limits.processes".into(), "300".into());
    preseed.networks[0]
        .config
        .insert("ipv4.dhcp.expiry".into(), "2h".into());
    lab.agent(&farm).all_well();
    let w2 = || lab.pi.query("/1.0/instances/w2");
    assert_eq!(w2()["config"]["security.nesting"], "true");
    assert_eq!(w2()["devices"]["data"]["path"], "/mnt");

    // The owner adds a profile and a key, and changes a key of the farm.
    lxc(
        &lab,
        &[
            "profile create mine",
            "profile add w2 mine",
            "config set w2 limits.processes 250",
            "config set w2 user.mine 1",
            "config set w2 user.both 1",
            "profile set default limits.processes 400",
        ],
    );
    // The daemon restarts its DHCP server for each change, and the one before may not have ended yet.
    let mut tries = 0..50;
    assert!(tries.any(|_| {
        sleep(Duration::from_millis(200));
        sh::succeeds(&mut lab.pi.lxc("network set lxdbr0 ipv4.dhcp.expiry 3h"))
    }));
    let ran = lab.agent(&farm);
    assert_eq!(ran.all_well().changes, [""; 0]);
    noted(
        &ran,
        "container w2",
        "somebody has changed limits.processes, profiles of w2",
    );
    noted(&ran, "preseed", "ipv4.dhcp.expiry of the network lxdbr0");

    // The farm takes back what it declared, and no more.
    let declared = &mut farm.containers[1];
    declared.config.clear();
    declared.config.insert("limits.processes".into(), "260".into());
    declared.config.insert("user.both".into(), "1".into());
    declared.devices.remove("data");
    declared.mac = Mac([0x00, 0x16, 0x3e, 0x6c, 0x02, 0x77]);
    declared.profiles.remove(1);
    let preseed = &mut farm.lxd.as_mut().unwrap().preseed;
    preseed.profiles[1].config.clear();
    preseed.networks[0]
        .config
        .insert("ipv4.dhcp.expiry".into(), "4h".into());
    let ran = lab.agent(&farm);
    ran.all_well();
    let message = &ran.step("container w2").message;
    assert!(
        message.contains("limits.processes") && !message.contains("user.both"),
        "{message}"
    );
    let now = w2();
    assert_eq!(now["config"]["security.nesting"], serde_json::Value::Null);
    assert_eq!(now["config"]["limits.processes"], "250");
    assert_eq!(now["config"]["user.mine"], "1");
    assert_eq!(now["config"]["user.both"], "1");
    assert_eq!(now["devices"]["data"], serde_json::Value::Null);
    assert_eq!(now["profiles"], serde_json::json!([BRIDGED[0], "mine"]));
    let profile =
        |name: &str| lab.pi.query(&format!("/1.0/profiles/{name}"))["config"]["limits.processes"].take();
    assert_eq!(
        (profile("extbridge"), profile("default")),
        (serde_json::Value::Null, "400".into())
    );
    assert_eq!(
        lab.pi.query("/1.0/networks/lxdbr0")["config"]["ipv4.dhcp.expiry"],
        "3h"
    );
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
    // What is declared no longer stays, and is named.
    farm.containers.remove(1);
    let ran = lab.agent(&farm);
    assert_eq!(ran.all_well().changes, [""; 0]);
    noted(&ran, "container w2", "no longer declared");
}

#[test]
fn a_changed_hardware_address_is_applied() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    add(&mut farm, container("web", 1, "alpine"));
    lab.agent(&farm);
    farm.containers[0].mac = Mac([0x00, 0x16, 0x3e, 0x6c, 0x02, 0x77]);
    let ran = lab.agent(&farm);
    let address = |ran: &Ran| ran.report.as_ref().unwrap().containers[0].mac;
    assert_eq!(
        ran.step("container web").state,
        StepState::Changed,
        "{}",
        ran.printed
    );
    assert_eq!(address(&ran), farm.containers[0].mac);
    // The report has the address that is there.
    lxc(
        &lab,
        &[
            "config set web volatile.eth0.hwaddr 00:16:3e:6c:02:78",
            "restart --force web",
        ],
    );
    let ran = lab.agent(&farm);
    noted(&ran, "container web", "somebody has changed volatile.eth0.hwaddr");
    assert_eq!(address(&ran), Mac([0x00, 0x16, 0x3e, 0x6c, 0x02, 0x78]));
    assert!(!ran.status.success());
}
