//! The article, end to end: alpine; web, provisioned and published; its replicas; a container in which Docker may run.

use std::time::{Duration, Instant};

use palmfarm_spec::firstboot::FirstBoot;

use crate::document::{add, address, carry, container, empty, file, run};
use crate::image;
use crate::lab::Lab;
use crate::router::Service;

/// What each web server answers: who it is.
const NAME_CGI: &[u8] = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhostname\n";

/// The article's farm; its files are put on the card of `lab`.
fn article(lab: &Lab) -> FirstBoot {
    let busybox = image::busybox();
    lab.put(
        "var/lib/palmfarm/alpine.tar.gz",
        &std::fs::read(&busybox.path).unwrap(),
    );
    lab.put("etc/palmfarm/files/name", NAME_CGI);
    let mut farm = empty();
    carry(
        &mut farm,
        "alpine",
        "/var/lib/palmfarm/alpine.tar.gz",
        &busybox.fingerprint,
    );
    add(&mut farm, container("alpine", 0x20, "alpine"));
    let mut web = container("web", 1, "alpine");
    web.files = vec![file(
        "/var/www/cgi-bin/name",
        "/etc/palmfarm/files/name",
        NAME_CGI,
        0o755,
    )];
    web.run = vec![run(
        "install the web server",
        "echo '::respawn:/bin/httpd -f -p 80 -h /var/www' >> /etc/inittab\nkill -HUP 1\n",
    )];
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    for number in 2..=10 {
        add(&mut farm, container(&format!("w{number}"), number, "web_image"));
    }
    let mut docker = container("docker1", 0x30, "alpine");
    docker.config.insert("security.nesting".into(), "true".into());
    add(&mut farm, docker);
    farm
}

#[test]
fn the_article_end_to_end() {
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Both);
    let farm = article(&lab);
    let first = lab.agent(&farm);
    first.all_well();
    let begun = Instant::now();
    let servers: Vec<_> = farm
        .containers
        .iter()
        .filter(|one| one.name.starts_with('w'))
        .collect();
    assert_eq!(servers.len(), 10);
    for server in servers {
        let answer = loop {
            let answer = lab.router.get(address(server), "/cgi-bin/name");
            if answer.is_some() || begun.elapsed() > Duration::from_secs(30) {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        assert_eq!(
            answer.as_deref().map(str::trim_end),
            Some(server.name.as_str()),
            "{}",
            lab.pi.log()
        );
    }
    let docker = lab.pi.query("/1.0/instances/docker1");
    assert_eq!(docker["config"]["security.nesting"], "true");

    let before = (lab.pi.dump(), quiet_list(&lab));
    let second = lab.agent(&farm);
    second.all_well();
    assert_eq!(second.changes, [""; 0]);
    assert_eq!((lab.pi.dump(), quiet_list(&lab)), before);
    println!(
        "the article took {:.1} s, a second run {:.1} s; the agent had {} KiB resident, the ten web servers use {} KiB",
        first.took.as_secs_f32(),
        second.took.as_secs_f32(),
        first.resident_kib,
        memory(&lab) / 1024,
    );
}

/// `lxc list`, once two seconds have changed nothing: addresses still come in for a while.
fn quiet_list(lab: &Lab) -> String {
    let list = || crate::sh::output(&mut lab.pi.lxc("list"));
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
