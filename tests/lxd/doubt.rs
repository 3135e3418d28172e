//! What the agent cannot know to be unused: it leaves it, and says so.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use palmfarm_protocol::report::StepState;
use serde_json::{json, Value};

use crate::document::{add, container, file, run, unplugged, with_alpine};
use crate::lab::{Lab, Ran};
use crate::owner::{changed, left, lxc, made, noted};
use crate::proxy::Kill;
use crate::sh;

const RECORD: &str = "var/lib/palmfarm/record.json";

fn change_record(lab: &Lab, change: impl FnOnce(&mut Value)) {
    let mut all: Value = serde_json::from_slice(&fs::read(lab.card().join(RECORD)).unwrap()).unwrap();
    change(&mut all);
    lab.put(RECORD, all.to_string().as_bytes());
}

/// The file `path` of web is still there.
fn kept(lab: &Lab, ran: &Ran, path: &str) {
    sh::succeeds(&mut lab.pi.lxc("start web"));
    let there = sh::succeeds(&mut lab.pi.lxc(&format!("exec web -- test -e {path}")));
    assert!(there, "{}", ran.printed);
}

#[test]
fn a_note_that_outlived_an_aborted_removal_proves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let farm = changed(&made(&lab), "echo 2 > /edition");
    // As a kill leaves it that comes between the note and the request to stop.
    let now = lab.pi.query("/1.0/instances/web");
    change_record(&lab, |all| {
        all["containers"]["web"]["removing"] = now["last_used_at"].clone();
    });
    lxc(&lab, &["exec web -- touch /root/mine", "stop --force web"]);
    let ran = lab.agent(&farm);
    left(&ran, "container web", "palmfarm-agent rebuild web");
    kept(&lab, &ran, "/root/mine");
}

#[test]
fn what_is_put_into_a_template_that_the_agent_has_stopped_stays() {
    let Some(lab) = Lab::new() else { return };
    let farm = changed(&made(&lab), "echo 2 > /edition");
    let ran = lab.agent_until(&farm, Kill::Answered(7));
    assert!(ran.changes[6].ends_with("/web/state"), "{:?}", ran.changes);
    while lab.pi.query("/1.0/instances/web")["status"] != "Stopped" {
        sleep(Duration::from_millis(100));
    }
    while !sh::succeeds(&mut lab.pi.lxc("file push /etc/hostname web/root/mine")) {
        sleep(Duration::from_millis(100));
    }
    let ran = lab.agent(&farm);
    left(&ran, "container web", "palmfarm-agent rebuild web");
    kept(&lab, &ran, "/root/mine");
}

#[test]
fn work_in_a_half_made_container_stays_wherever_it_is() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    for (name, number) in [("web", 1), ("w2", 2)] {
        let mut one = container(name, number, "alpine");
        one.devices = unplugged();
        one.run = vec![run("fail", "exit 1")];
        add(&mut farm, one);
    }
    lab.agent(&farm);
    lxc(
        &lab,
        &[
            "restart --force web",
            "exec web -- touch /root/mine",
            "exec w2 -- mkdir -p /opt/app",
        ],
    );
    let ran = lab.agent(&farm);
    for name in ["web", "w2"] {
        left(&ran, &format!("container {name}"), "somebody has used it since");
    }
    kept(&lab, &ran, "/root/mine");
}

#[test]
fn a_clock_that_was_ahead_hides_no_use() {
    let Some(lab) = Lab::new() else { return };
    let farm = changed(&made(&lab), "echo 2 > /edition");
    for change in [
        // A day ahead when the template was ready, and set right afterwards; then an hour, while nobody looked.
        |web: &mut Value| web["ready"] = json!(web["ready"].as_u64().unwrap() + 86_400),
        |web: &mut Value| {
            web["ready"] = json!(web["ready"].as_u64().unwrap() - 86_400);
            web["ahead"] = json!(web["ahead"].as_u64().unwrap() + 3600);
        },
    ] {
        change_record(&lab, |all| change(&mut all["containers"]["web"]));
        let ran = lab.agent(&farm);
        left(&ran, "container web", "palmfarm-agent rebuild web");
        assert_eq!(
            lab.pi.query("/1.0/instances/web")["status"],
            "Running",
            "{}",
            ran.printed
        );
    }
}

#[test]
fn a_run_that_skips_a_half_made_container_hands_it_over() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    let mut one = container("web", 1, "alpine");
    one.devices = unplugged();
    one.run = vec![run("slow", "sleep 1"), run("second", "sleep 1")];
    add(&mut farm, one);
    let probe = lab.agent_while(&farm, Kill::Never, |_| {});
    lxc(&lab, &["delete --force web"]);
    let at = |end: &str| probe.changes.iter().position(|one| one.ends_with(end)).unwrap();
    let ran = lab.agent_until(
        &farm,
        Kill::Answered(at("/web/exec") + 1 - at("POST /1.0/instances")),
    );
    assert!(
        ran.changes.last().unwrap().ends_with("/web/exec"),
        "{:?}",
        ran.changes
    );
    // The next run cannot make the image, and says so.
    lxc(&lab, &["image delete alpine"]);
    let image = lab.card().join("var/lib/palmfarm/alpine.tar.gz");
    let away = image.with_extension("away");
    fs::rename(&image, &away).unwrap();
    assert_eq!(lab.agent(&farm).step("container web").state, StepState::Skipped);
    lxc(&lab, &["exec web -- touch /root/mine"]);
    fs::rename(&away, &image).unwrap();
    let ran = lab.agent(&farm);
    left(&ran, "container web", "somebody has used it since");
    kept(&lab, &ran, "/root/mine");
}

#[test]
fn a_template_that_somebody_begins_to_use_under_the_eyes_of_the_agent_stays() {
    let Some(lab) = Lab::new() else { return };
    let farm = changed(&made(&lab), "echo 2 > /edition");
    let ran = lab.agent_while(&farm, Kill::Late(7), |changes| {
        if changes == 7 {
            sh::succeeds(&mut lab.pi.lxc("snapshot web mine"));
        }
    });
    left(&ran, "container web", "palmfarm-agent rebuild web");
    lxc(&lab, &["config show web/mine"]);
}

#[test]
fn a_used_template_is_not_published_as_if_it_were_new() {
    let Some(lab) = Lab::new() else { return };
    let farm = made(&lab);
    let snapshots = lab.pi.query("/1.0/instances/web/snapshots");
    let snapshot = snapshots[0]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    lxc(
        &lab,
        &[
            "exec web -- touch /root/secret",
            "image delete web_image",
            &format!("delete web/{snapshot}"),
        ],
    );
    left(
        &lab.agent(&farm),
        "publish web_image",
        "that snapshot is gone and somebody has used web since",
    );
}

#[test]
fn a_daemon_that_was_installed_anew_gets_the_whole_farm() {
    let Some(lab) = Lab::new() else { return };
    let farm = made(&lab);
    lxc(
        &lab,
        &[
            "delete --force web",
            "delete --force w2",
            "image delete web_image",
            "image delete alpine",
            "profile device remove default eth0",
            "profile device remove default root",
            "profile unset default user.palmfarm",
        ],
    );
    change_record(&lab, |all| {
        all["server"]["certificate"] = json!("of another installation");
    });
    lab.agent(&farm).all_well();
    lxc(&lab, &["exec web -- true", "exec w2 -- true"]);
}

#[test]
fn a_pool_that_is_declared_otherwise_is_named() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    let pool = &mut farm.lxd.as_mut().unwrap().preseed.storage_pools[0];
    pool.config.insert("size".into(), "8GB".into());
    noted(&lab.agent(&farm), "preseed", "the farm declares 8GB");
}

#[test]
fn rebuild_keeps_what_would_not_outlive_a_stop() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    farm.containers[1]
        .config
        .insert("boot.autostart".into(), "true".into());
    lab.agent(&farm).all_well();
    lxc(
        &lab,
        &[
            "delete --force w2",
            "launch web_image w2 --ephemeral",
            "config set w2 boot.autostart true",
            "exec w2 -- touch /root/mine",
        ],
    );
    let ran = lab.command(&["rebuild", "--yes", "w2"]);
    let old = lab.pi.query("/1.0/instances/w2-old1");
    assert_eq!(old["config"]["boot.autostart"], "false", "{}", ran.printed);
    lxc(&lab, &["start w2-old1", "exec w2-old1 -- test -e /root/mine"]);
}

#[test]
fn a_document_alone_does_not_stand_for_its_files() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    let mut one = container("web", 1, "alpine");
    one.devices = unplugged();
    let source = "/usr/lib/palmfarm/farm/web/root/x";
    lab.put(source.trim_start_matches('/'), b"old\n");
    one.files = vec![file("/root/x", source, b"new\n", 0o644)];
    add(&mut farm, one);
    lab.put("tmp/new.json", &serde_json::to_vec(&farm).unwrap());
    left(
        &lab.agent(&farm),
        "container web",
        "is not the file that the farm names for web",
    );
    let ran = lab.command(&["apply", "CARD/tmp/new.json"]);
    assert!(
        ran.printed.contains("is not the file that it names"),
        "{}",
        ran.printed
    );
}

#[test]
fn a_program_that_is_missing_ends_with_127() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    let mut one = container("web", 1, "alpine");
    one.devices = unplugged();
    one.run = vec![run(
        "missing",
        "PASSWORD=hunter2; set -x; no-such-program $PASSWORD",
    )];
    add(&mut farm, one);
    let ran = lab.agent(&farm);
    left(&ran, "container web", "it ended with exit code 127");
    assert!(
        ran.printed.contains("no-such-program: not found"),
        "{}",
        ran.printed
    );
    assert!(!ran.printed.contains("hunter2"), "{}", ran.printed);
}
