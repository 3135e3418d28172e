//! The same farm steps on Incus 6: other socket, other headers, `/1.0/instances` only, its own prefix of addresses.

use std::time::{Duration, Instant};

use palmfarm::farm::Flavour;

use crate::document::{add, address, container, file, run, with_alpine};
use crate::lab::Lab;
use crate::router::Service;

#[test]
fn incus_takes_the_same_farm() {
    let Some(mut lab) = Lab::incus() else { return };
    lab.router.serve(Service::Both);
    lab.put("etc/palmfarm/files/page", b"of incus\n");
    let mut farm = with_alpine(&lab);
    farm.lxd.as_mut().unwrap().flavour = Flavour::Incus;
    let mut web = container("web", 1, "alpine");
    web.files = vec![file(
        "/var/www/index.html",
        "/etc/palmfarm/files/page",
        b"of incus\n",
        0o640,
    )];
    web.run = vec![run(
        "install the web server",
        "echo '::respawn:/bin/httpd -f -p 80 -h /var/www' >> /etc/inittab\nkill -HUP 1\n",
    )];
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    for number in 2..=3 {
        add(&mut farm, container(&format!("w{number}"), number, "web_image"));
    }
    let mut docker = container("docker1", 0x30, "alpine");
    docker.config.insert("security.nesting".into(), "true".into());
    add(&mut farm, docker);

    let first = lab.agent(&farm);
    first.all_well();
    let begun = Instant::now();
    for one in farm.containers.iter().filter(|one| one.name.starts_with('w')) {
        while lab.router.get(address(one), "/").as_deref() != Some("of incus\n") {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{}\n{}",
                one.name,
                lab.pi.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let docker = lab.pi.query("/1.0/instances/docker1");
    assert_eq!(docker["config"]["security.nesting"], "true");
    let version = lab.pi.query("/1.0");
    println!(
        "Incus {}: {:.1} s, {} changes",
        version["environment"]["server_version"],
        first.took.as_secs_f32(),
        first.changes.len()
    );
    let second = lab.agent(&farm);
    second.all_well();
    assert_eq!(second.changes, [""; 0]);
}
