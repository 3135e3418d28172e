//! The article, end to end, from farm.yaml: alpine; web, provisioned and published; its replicas; a container in which
//! Docker may run. Then a container more, brought onto the running card.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use palmfarm_protocol::report::StepState;

use crate::card::{accounts, Workstation, HEAD};
use crate::image;
use crate::lab::Lab;
use crate::router::{Service, PREFIX};
use crate::sh;

/// The article's farm after [`HEAD`].
const FARM: &str = r#"lxd:
  storage: {driver: btrfs, size: 4GB}
images:
  alpine: {file: alpine.tar.gz}
containers:
  w: {image: web_image, replicas: 2..10}
  alpine: {image: alpine}
  web:
    image: alpine
    files: {/var/www/cgi-bin/name: site/name.cgi}
    run: ["chmod 755 /var/www/cgi-bin/name", {script: web-setup.sh}]
    publish: web_image
  docker1: {image: alpine, nesting: true}
"#;

/// What each web server answers: who it is.
const NAME_CGI: &[u8] = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhostname\n";

const WEB_SETUP: &[u8] = b"echo '::respawn:/bin/httpd -f -p 80 -h /var/www' >> /etc/inittab\nkill -HUP 1\n";

/// The article's farm on a workstation; its image is a plain root filesystem.
fn workstation() -> Workstation {
    let rootfs = std::fs::read(image::busybox_rootfs()).unwrap();
    Workstation::new(&[
        ("farm.yaml", format!("{HEAD}{FARM}").as_bytes()),
        ("site/name.cgi", NAME_CGI),
        ("web-setup.sh", WEB_SETUP),
        ("alpine.tar.gz", &rootfs),
    ])
}

/// The ten web servers answer with their names at the addresses in `plan`.
fn all_ten_answer(lab: &Lab, plan: &BTreeMap<String, Vec<Ipv6Addr>>) {
    let servers: Vec<_> = plan.iter().filter(|(name, _)| name.starts_with('w')).collect();
    assert_eq!(servers.len(), 10);
    let begun = Instant::now();
    for (name, addresses) in servers {
        let answer = loop {
            let answer = lab.router.get(addresses[0], "/cgi-bin/name");
            if answer.is_some() || begun.elapsed() > Duration::from_secs(60) {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        assert_eq!(
            answer.as_deref().map(str::trim_end),
            Some(name.as_str()),
            "{}",
            lab.pi.log()
        );
    }
}

#[test]
fn the_article_end_to_end() {
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Both);
    let workstation = workstation();
    let plan = workstation.plan(&format!("{PREFIX}/64"));
    workstation.build(&lab);
    accounts(&lab);

    let begun = Instant::now();
    let first = lab.command(&["run"]);
    first.all_well();
    all_ten_answer(&lab, &plan);
    let whole = begun.elapsed();
    let groups = std::fs::read_to_string(lab.card().join("etc/group")).unwrap();
    assert!(groups.contains("lxd:x:110:craig\n"), "{groups}");
    let docker = lab.pi.query("/1.0/instances/docker1");
    assert_eq!(docker["config"]["security.nesting"], "true");
    // What the report observes is what was planned, for every container.
    for container in &first.report.as_ref().unwrap().containers {
        let planned = std::net::IpAddr::V6(plan[&container.name][0]);
        assert_eq!(container.predicted, [planned], "{container:#?}");
        assert!(container.observed.contains(&planned), "{container:#?}");
        assert_eq!(container.message, "");
    }

    let before = (lab.pi.dump(), quiet_list(&lab));
    let second = lab.command(&["run"]);
    second.all_well();
    assert_eq!(second.changes, [""; 0]);
    assert_eq!((lab.pi.dump(), quiet_list(&lab)), before);
    println!(
        "the article took {:.1} s until all ten answered, {} changes; a second run {:.1} s and none; the agent had {} \
         KiB resident, the ten web servers use {} KiB",
        whole.as_secs_f32(),
        first.changes.len(),
        second.took.as_secs_f32(),
        first.resident_kib,
        memory(&lab) / 1024,
    );
    one_more(&lab, &workstation);
}

/// A container more in farm.yaml, with a file of its own, appears on the running card; what was there is left alone.
fn one_more(lab: &Lab, workstation: &Workstation) {
    sh::run(&mut lab.pi.lxc("exec w7 -- touch /root/mine"));
    workstation.put("site/motd", b"mail\n");
    let more = format!("{HEAD}{FARM}  mail: {{image: web_image, files: {{/etc/motd: site/motd}}}}\n");
    workstation.put("farm.yaml", more.as_bytes());
    workstation.bundle(lab);
    let applied = lab.command(&["apply", "CARD/root/palm.tar"]);
    applied.all_well();
    assert_eq!(applied.step("container mail").state, StepState::Changed);
    assert_eq!(applied.step("container w7").state, StepState::Unchanged);
    assert_eq!(sh::output(&mut lab.pi.lxc("file pull mail/etc/motd -")), "mail\n");
    sh::run(&mut lab.pi.lxc("exec w7 -- test -e /root/mine"));
    assert_eq!(
        std::fs::read_dir(lab.card().join("var/lib/palmfarm/apply"))
            .unwrap()
            .count(),
        0
    );
    let again = lab.command(&["run"]);
    assert_eq!(again.changes, [""; 0]);
    let status = lab.command(&["status", "--json", "--follow"]);
    assert!(
        status.status.success() && status.printed.contains("\"name\":\"mail\""),
        "{}",
        status.printed
    );

    // Another card's is refused, and nothing changes.
    let document = || std::fs::read(lab.card().join("etc/palmfarm/firstboot.json")).unwrap();
    let before = document();
    workstation.put(
        "farm.yaml",
        more.replace("hostname: palm", "hostname: other").as_bytes(),
    );
    workstation.bundle(lab);
    let refused = lab.command(&["apply", "CARD/root/palm.tar"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.printed);
    assert!(
        refused
            .printed
            .contains("it is for the card other, and this is palm"),
        "{}",
        refused.printed
    );
    assert_eq!((refused.changes.len(), document() == before), (0, true));
}

/// `lxc list`, once two seconds have changed nothing: addresses still come in for a while.
fn quiet_list(lab: &Lab) -> String {
    let list = || sh::output(&mut lab.pi.lxc("list"));
    let mut now = list();
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(2));
        let then = std::mem::replace(&mut now, list());
        if then == now {
            break;
        }
    }
    now
}

/// Bytes of memory that web and its replicas use.
fn memory(lab: &Lab) -> u64 {
    let all = lab.pi.query("/1.0/instances?recursion=2");
    let servers = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["name"].as_str().unwrap().starts_with('w'));
    servers
        .filter_map(|one| one["state"]["memory"]["usage"].as_u64())
        .fold(0, u64::saturating_add)
}
