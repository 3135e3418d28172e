//! What shows that somebody has used a container, and what the agent does if its record is lost, if it dies in between, or
//! if somebody else is faster.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use palmfarm_protocol::report::StepState;

use crate::document::{add, container, run, unplugged, with_alpine};
use crate::lab::{Lab, Ran};
use crate::owner::{changed, declare, left, lxc, made, noted};
use crate::proxy::Kill;
use crate::sh;

#[test]
fn a_half_made_container_that_somebody_has_used_stays() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    for (name, number) in [("web", 1), ("w2", 2)] {
        let mut one = container(name, number, "alpine");
        one.devices = unplugged();
        one.run = vec![run("fail", "exit 1")];
        add(&mut farm, one);
    }
    left(&lab.agent(&farm), "container web", "exit code 1");
    lxc(&lab, &["exec web -- touch /root/mine", "snapshot w2 mine"]);
    let ran = lab.agent(&farm);
    for name in ["web", "w2"] {
        left(&ran, &format!("container {name}"), "somebody has used it since");
    }
    // After a boot, too. What the start itself writes does not count.
    lxc(&lab, &["exec web -- test -e /root/mine", "restart --force web"]);
    left(&lab.agent(&farm), "container web", "somebody has used it since");
    // Following the hints.
    lxc(
        &lab,
        &["config set web user.palmfarm.state ready", "delete w2/mine"],
    );
    let ran = lab.agent(&farm);
    assert_eq!(
        ran.step("container web").state,
        StepState::Unchanged,
        "{}",
        ran.printed
    );
    left(&ran, "container w2", "exit code 1");
    lxc(&lab, &["exec web -- test -e /root/mine", "restart --force w2"]);
    left(&lab.agent(&farm), "container w2", "exit code 1");
}

#[test]
fn a_container_that_does_not_start_is_tried_again() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    // As when the daemon's own hook of a start is given too little time: it fails so often.
    let (hook, left_to_fail) = (lab.card().join("hook"), lab.card().join("fail"));
    let script = format!(
        "#!/bin/sh\nread n < {0}; echo $((n - 1)) > {0}; test $n -le 0\n",
        left_to_fail.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fail = |times: &str| std::fs::write(&left_to_fail, times).unwrap();
    let mut web = container("web", 1, "alpine");
    web.devices = unplugged();
    web.run = vec![run("write", "echo made > /root/made")];
    web.config.insert(
        "raw.lxc".into(),
        format!("lxc.hook.pre-start = {}", hook.display()),
    );
    add(&mut farm, web);
    fail("99");
    left(&lab.agent(&farm), "container web", "starting web");
    left(&lab.agent(&farm), "container web", "starting web");
    // Nobody has used it, so the next run makes it, although its first start fails.
    fail("1");
    lab.agent(&farm).all_well();
    lxc(&lab, &["exec web -- test -e /root/made", "delete --force web"]);
    // Somebody has put a file into it meanwhile.
    fail("99");
    left(&lab.agent(&farm), "container web", "starting web");
    lxc(&lab, &["file push /etc/hostname web/root/mine"]);
    fail("0");
    left(&lab.agent(&farm), "container web", "somebody has used it since");
    lxc(&lab, &["exec web -- test -e /root/mine"]);
}

#[test]
fn a_template_that_a_run_was_about_to_delete_may_be_used() {
    let Some(lab) = Lab::new() else { return };
    let farm = changed(&made(&lab), "echo 2 > /edition");
    // The seventh request stops it, after two that look into it, and two after each that remove what it printed.
    let ran = lab.agent_until(&farm, Kill::Answered(7));
    assert!(ran.changes[6].ends_with("/web/state"), "{:?}", ran.changes);
    // The daemon goes on stopping it.
    while lab.pi.query("/1.0/instances/web")["status"] != "Stopped" {
        sleep(Duration::from_millis(100));
    }
    while !sh::succeeds(&mut lab.pi.lxc("start web")) {
        sleep(Duration::from_millis(100));
    }
    lxc(&lab, &["exec web -- touch /root/mine", "stop --force web"]);
    left(&lab.agent(&farm), "container web", "palmfarm-agent rebuild web");
    lxc(&lab, &["start web", "exec web -- test -e /root/mine"]);
}

#[test]
fn each_way_of_using_a_template_counts() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    let old = "exec web -- touch -d @1000000000 /root/mine";
    let ways = [
        ("exec web -- touch /etc/mine", "exec web -- test -e /etc/mine"),
        // A file that was unpacked with its old time.
        (old, "exec web -- test -e /root/mine"),
        ("exec web -- chmod 700 /srv", "exec web -- test -d /srv"),
        ("snapshot web mine", "config show web/mine"),
        ("config set web user.mine 1", "config get web user.mine"),
        (
            "config device add web mine none",
            "config device get web mine type",
        ),
        ("profile remove web extbridge", "config show web"),
        ("stop --force web", "config show web"),
    ];
    for (number, (way, still)) in ways.into_iter().enumerate() {
        let uuid = || lab.pi.query("/1.0/instances/web")["config"]["volatile.uuid"].take();
        let before = uuid();
        lxc(&lab, &[way]);
        farm = changed(&farm, &format!("mkdir -p /srv; echo {number}"));
        left(&lab.agent(&farm), "container web", "palmfarm-agent rebuild web");
        assert_eq!(uuid(), before, "{way}");
        lxc(&lab, &[still, "delete --force web"]);
        lab.agent(&farm).all_well();
    }
}

#[test]
fn without_a_record_nothing_is_deleted() {
    let Some(lab) = Lab::new() else { return };
    let farm = made(&lab);
    let record = lab.card().join("var/lib/palmfarm/record.json");
    let forget = || std::fs::write(&record, "{\"version\":1,\"containers\":").unwrap();
    forget();
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
    left(
        &lab.agent(&changed(&farm, "true")),
        "container web",
        "palmfarm-agent rebuild web",
    );
    forget();
    let ran = lab.agent(&changed(&farm, "true"));
    left(&ran, "container web", "it may be a copy");
    assert_eq!(ran.changes, [""; 0]);
    assert_eq!(lab.agent(&farm).all_well().changes, [""; 0]);
}

#[test]
fn who_is_faster_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    // Run the agent, and this line while its first request for a change is on its way.
    let during = |farm: &_, line: &str| {
        let acted = Cell::new(false);
        let ran = lab.agent_while(farm, Kill::Late(1), |changes| {
            if changes == 1 && !acted.replace(true) {
                lxc(&lab, &[line]);
            }
        });
        assert!(
            acted.get() && ran.changes[0] == ran.changes[1],
            "{:?}",
            ran.changes
        );
        ran
    };
    farm.containers[1]
        .config
        .insert("limits.processes".into(), "200".into());
    during(&farm, "config set w2 user.mine 1").all_well();
    let w2 = lab.pi.query("/1.0/instances/w2");
    assert_eq!(
        (&w2["config"]["user.mine"], &w2["config"]["limits.processes"]),
        (&"1".into(), &"200".into())
    );
    let preseed = &mut farm.lxd.as_mut().unwrap().preseed;
    preseed.profiles[1]
        .config
        .insert("limits.processes".into(), "300".into());
    during(&farm, "profile set extbridge user.mine 1").all_well();
    let profile = lab.pi.query("/1.0/profiles/extbridge");
    assert_eq!(
        (
            &profile["config"]["user.mine"],
            &profile["config"]["limits.processes"]
        ),
        (&"1".into(), &"300".into())
    );
    let preseed = &mut farm.lxd.as_mut().unwrap().preseed;
    preseed.networks[0]
        .config
        .insert("ipv4.dhcp.expiry".into(), "2h".into());
    during(&farm, "network set lxdbr0 user.mine 1").all_well();
    let network = lab.pi.query("/1.0/networks/lxdbr0");
    assert_eq!(
        (
            &network["config"]["user.mine"],
            &network["config"]["ipv4.dhcp.expiry"]
        ),
        (&"1".into(), &"2h".into())
    );
}

#[test]
fn what_is_no_longer_declared_is_named() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = made(&lab);
    let whole = farm.clone();
    let preseed = &mut farm.lxd.as_mut().unwrap().preseed;
    let mut small = preseed.profiles[1].clone();
    small.name = "small".into();
    preseed.profiles.push(small);
    let mut other = preseed.networks[0].clone();
    other.name = "lxdbr1".into();
    other.config = [
        ("ipv4.address".into(), "none".into()),
        ("ipv6.address".into(), "none".into()),
    ]
    .into();
    preseed.networks.push(other);
    lab.agent(&farm).all_well();
    let mut none = whole;
    none.containers.clear();
    let ran = lab.agent(&none);
    assert_eq!(ran.all_well().changes, [""; 0]);
    let hints = [
        ("container web", "delete --force web"),
        ("container w2", "delete --force w2"),
        ("image web_image", "image delete web_image"),
        ("profile small", "profile delete small"),
        ("network lxdbr1", "network delete lxdbr1"),
    ];
    for (step, hint) in hints {
        noted(&ran, step, &format!("to delete it: lxc {hint}"));
        lxc(&lab, &[hint]);
    }
    let ran = lab.agent(&none);
    assert_eq!(ran.all_well().changes, [""; 0]);
    let steps = &ran.report.as_ref().unwrap().steps;
    assert!(steps.iter().all(|one| one.message.is_empty()), "{steps:#?}");
}

#[test]
fn a_rebuild_that_is_killed_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut farm = with_alpine(&lab);
    declare(&mut farm, "web", 1, "alpine", None);
    lab.agent(&farm).all_well();
    let ended = |ran: &Ran| ran.status.success();
    let mut number = 0;
    // It stops the old container, frees its address and renames it; then a run makes the new one.
    for kill in [Kill::Sent, Kill::Answered] {
        for n in 1..=6 {
            number += 1;
            lxc(&lab, &[&format!("exec web -- touch /root/mine-{number}")]);
            let killed = lab.command_until(&["rebuild", "web", "--yes"], kill(n));
            assert!(!ended(&killed), "{}", killed.printed);
            // Whatever is there now, a run changes nothing of it, and the command may be given again.
            lab.agent(&farm);
            lab.command(&["rebuild", "web", "--yes"]).all_well();
            let all = lab.pi.query("/1.0/instances");
            let pull = |one: &serde_json::Value| {
                let name = one.as_str().unwrap().rsplit('/').next().unwrap();
                let mut pull = lab.pi.lxc(&format!("file pull {name}/root/mine-{number} -"));
                pull.output().unwrap()
            };
            let pulled: Vec<_> = all.as_array().unwrap().iter().map(pull).collect();
            assert!(
                pulled.iter().any(|one| one.status.success()),
                "{number}: {:?}\n{pulled:#?}",
                killed.changes
            );
        }
    }
    lxc(&lab, &["exec web -- true"]);
}
