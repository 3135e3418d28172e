//! What happens to snapd and to LXD's snap while the agent is at work.

use palmfarm_protocol::firstboot::{FirstBoot, Refresh, Snap};
use palmfarm_protocol::report::StepState;

use crate::common::deb::{control, deb};
use crate::document::{add, address, container, empty, run, with_alpine};
use crate::lab::{Lab, LXD_DIR};

/// The agent starts while snapd is not there yet; snapd starts itself anew while the agent waits, and the snap is
/// unpacked after that. Then a whole farm comes up, and refreshes are held back meanwhile.
#[test]
fn a_farm_comes_up_although_the_snap_comes_late() {
    let Some(lab) = Lab::boot(12) else { return };
    let mut document = with_alpine(&lab);
    document.daemon_users = vec!["nina".into()];
    let mut web = container("web", 0x41, "alpine");
    web.run = vec![run(
        "run[0]",
        "mkdir -p /www && echo palm > /www/index.html && printf '::respawn:/bin/httpd -f -p 80 -h /www\\n' >> /etc/inittab && \
         kill -HUP 1",
    )];
    add(&mut document, web.clone());
    let mut unpacking = None;
    let mut held = None;
    let ran = lab.agent(&document, |printed| {
        if unpacking.is_none() && printed.contains("lxd …") {
            lab.done("systemctl restart snapd.service");
            lab.install("core");
            unpacking = Some(lab.start("snap install --dangerous /srv/lxd.snap"));
        }
        if held.is_none() && printed.contains("preseed …") {
            held = Some(lab.done("snap get system refresh.hold"));
        }
    });
    unpacking.unwrap().wait().unwrap();
    ran.all_well();
    assert_eq!(ran.step("people").state, StepState::Changed);
    assert!(lab.done("getent group lxd").trim().ends_with(":nina"));
    assert!(lab.lxc("list --format=csv --columns=ns").contains("web,RUNNING"));
    let answer = (0..20).find_map(|_| lab.router().get(address(&web), "/"));
    assert_eq!(answer.as_deref(), Some("palm\n"));
    // Refreshes are as they were before, and the farm is as declared.
    // snapd itself holds them for two hours after it has unpacked the snaps of an image.
    let held = held.unwrap();
    assert!(held.trim().ends_with('Z'));
    assert_ne!(lab.done("snap get system refresh.hold"), held);
    let again = lab.agent(&document, |_| {});
    let changed = again.all_well().report.steps.iter();
    assert_eq!(changed.filter(|step| step.state == StepState::Changed).count(), 0);
}

/// A refresh that begins while a container is being made takes the daemon away for longer than any restart takes.
#[test]
fn a_refresh_in_the_middle_of_a_run_is_waited_for() {
    let Some(lab) = Lab::with_lxd() else { return };
    lab.done("snap set system refresh.hold=2026-01-01T00:00:00Z");
    let mut document = with_alpine(&lab);
    let mut slow = container("slow", 0x42, "alpine");
    slow.run = vec![run("run[0]", "sleep 20")];
    add(&mut document, slow);
    let mut refresh = None;
    let ran = lab.agent(&document, |printed| {
        if refresh.is_none() && printed.contains("container slow …") {
            // Longer than the agent waits for a daemon that restarts.
            lab.put("/run/slow", b"130");
            refresh = Some(lab.start("snap install --dangerous /srv/next.snap"));
        }
    });
    assert!(refresh.unwrap().wait().unwrap().success());
    ran.all_well();
    assert!(lab.done("snap list lxd").contains("5.0.1"));
    assert_eq!(
        lab.done("snap get system refresh.hold").trim(),
        "2026-01-01T00:00:00Z"
    );
    assert!(lab.lxc("list --format=csv --columns=ns").contains("slow,RUNNING"));
}

/// Without a store the agent says so, and finds what somebody else is installing meanwhile; once the snap is removed it
/// tries to install it again.
#[test]
fn without_a_store_the_snap_may_come_from_elsewhere() {
    let Some(lab) = Lab::boot(0) else { return };
    lab.install("core");
    // Nobody sets the clock.
    lab.done("rm /run/systemd/timesync/synchronized");
    let document = with_alpine(&lab);
    let failed = "installing the snap lxd: snap install lxd ended with 1";
    let mut install = None;
    let ran = lab.agent(&document, |printed| {
        if install.is_none() && printed.contains(failed) {
            // Still at work at the next try, 15 s later.
            lab.put("/run/slow", b"25");
            install = Some(lab.start("snap install --dangerous /srv/lxd.snap"));
        }
    });
    assert!(install.unwrap().wait().unwrap().success());
    ran.all_well();
    assert_eq!(
        ran.printed.matches("installing the snap lxd:").count(),
        1,
        "{}",
        ran.printed
    );
    assert!(ran.step("clock").message.contains("no time server has answered"));
    lab.done("rm /run/slow");
    // The hooks of the real snap do this, with its daemon.
    lab.done("systemctl stop snap.lxd.daemon.unix.socket snap.lxd.daemon.service");
    for mounted in ["storage-pools/default", "shmounts", "devlxd"] {
        lab.succeeds(&format!("umount --lazy {LXD_DIR}/{mounted}"));
    }
    lab.done("snap remove lxd");
    let printed = lab.agent_until(&document, |_| {}, |printed| printed.contains(failed));
    assert!(printed.contains(failed), "{printed}");
}

/// A card that carries the snaps, a package and what that needs comes up where there is neither store nor archive.
#[test]
fn what_the_card_carries_is_installed_without_a_store() {
    let Some(lab) = Lab::boot(0) else { return };
    let mut document = with_alpine(&lab);
    let snap = |name: &str| Snap {
        name: name.into(),
        path: format!("/srv/{name}.snap"),
        assertions: None,
    };
    document.lxd.as_mut().unwrap().snaps = vec![snap("core"), snap("lxd")];
    for (name, version, needs) in [("palm-tree", "1:1", "palm-seed (= 2)"), ("palm-seed", "2", "")] {
        let path = format!("/var/lib/palmfarm/carried/{name}_all.deb");
        lab.put(&path, &deb(&control(name, version, "all", needs)));
        document.carried.insert(format!("{name}={version}"), path);
    }
    document.packages = vec!["palm-tree".into()];
    // snapd takes no assertion that nobody signed.
    let mut forged = document.clone();
    lab.put("/srv/lxd.assert", b"type: account-key\n\nnobody\n");
    forged.lxd.as_mut().unwrap().snaps[0].assertions = Some("/srv/lxd.assert".into());
    let refused = "snap ack /srv/lxd.assert ended with 1";
    let printed = lab.agent_until(&forged, |_| {}, |printed| printed.contains(refused));
    assert!(printed.contains(refused), "{printed}");

    let ran = lab.agent(&document, |_| {});
    ran.all_well();
    assert_eq!(ran.step("lxd").state, StepState::Changed);
    // The first run has installed the packages, without asking an archive: that would have failed, and been said.
    assert!(!printed.contains("apt-get"), "{printed}");
    let shown = lab.done("dpkg-query --show palm-tree palm-seed");
    assert_eq!(shown, "palm-seed\t2\npalm-tree\t1:1\n");
    let again = lab.agent(&document, |_| {});
    let changed = again.all_well().report.steps.iter();
    assert_eq!(changed.filter(|step| step.state == StepState::Changed).count(), 0);
}

/// A channel is taken from the store, and never an older one; refreshes are held for good in the way of a snapd that
/// cannot hold back one snap, and given back.
#[test]
fn channel_and_refreshes_are_as_declared() {
    let Some(lab) = Lab::with_lxd() else { return };
    let mut document = empty();
    let lxd = |document: &mut FirstBoot, channel: Option<&str>, refresh| {
        let lxd = document.lxd.as_mut().unwrap();
        (lxd.channel, lxd.refresh) = (channel.map(str::to_owned), refresh);
    };
    lxd(&mut document, Some("4.0/stable"), Refresh::Hold);
    let first = lab.agent(&document, |_| {});
    let refused = &first.step("lxd").message;
    assert!(
        refused.starts_with("LXD 5.0 is installed, and LXD cannot go back to 4.0/stable"),
        "{refused}"
    );
    // Debian's snapd is of that age.
    let held = lab.done("snap get system refresh.hold");
    let refreshes = first.step("refreshes");
    assert_eq!(refreshes.state, StepState::Changed);
    assert!(
        refreshes.message.contains(held.trim()),
        "{} {held}",
        refreshes.message
    );
    lxd(&mut document, None, Refresh::Hold);
    let second = lab.agent(&document, |_| {});
    assert_eq!(second.all_well().step("refreshes").state, StepState::Unchanged);
    assert!(lab.done("snap get system refresh.hold") > held);
    lxd(&mut document, None, Refresh::Auto);
    let third = lab.agent(&document, |_| {});
    assert_eq!(third.all_well().step("refreshes").state, StepState::Changed);
    assert!(!lab.succeeds("snap get system refresh.hold"));
    lxd(&mut document, Some("5.21/stable"), Refresh::Auto);
    let asked = "changing the channel of the snap lxd: snap refresh lxd --channel=5.21/stable ended with";
    let printed = lab.agent_until(&document, |_| {}, |printed| printed.contains(asked));
    assert!(printed.contains(asked), "{printed}");
}
