//! Docker inside unprivileged containers, as in examples/docker.yaml: one in which Docker is set up, and another made
//! from its image. Both serve a page out of a Docker container, each at its own predicted address. No registry is
//! asked: the Docker image is imported from a root filesystem that the card carries.

use std::time::{Duration, Instant};

use palmfarm_protocol::report::StepState;

use crate::card::{accounts, Workstation, HEAD};
use crate::common::skipped;
use crate::image;
use crate::lab::Lab;
use crate::router::{Service, PREFIX};
use crate::sh;

/// The example's farm after [`HEAD`]; its image and what the first container serves are carried.
const FARM: &str = r"lxd:
  storage: {name: default, driver: btrfs, size: 15GB}
images:
  debian: {file: debian.tar.gz}
containers:
  docker1:
    image: debian
    nesting: true
    files:
      /etc/docker/daemon.json: daemon.json
      /root/busybox.tar.gz: busybox.tar.gz
      /srv/www/cgi-bin/name: name.cgi
    run: [{script: web.sh, timeout: 2m}, {script: docker-setup.sh, retries: 2, timeout: 20m}]
    publish: docker_image
  docker2: {image: docker_image, nesting: true}
";

/// On a pool of btrfs, Debian 12's Docker keeps its layers in subvolumes, which become plain directories in a published
/// image: what runs starts again from it, but no container can be made from such a layer any more.
const DAEMON: &[u8] = b"{\"storage-driver\": \"overlay2\"}\n";

/// Who answers: Docker's container has the host name of LXD's.
const NAME_CGI: &[u8] = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhostname\n";

/// An image and a container of Docker's, on Docker's own bridge.
const WEB: &[u8] = b"set -eu
chmod 755 /srv/www/cgi-bin/name
systemctl start docker
docker import /root/busybox.tar.gz web
docker run --detach --restart always --name web --publish 80:80 --uts host --volume /srv/www:/www:ro \
    web /bin/httpd -f -p 80 -h /www
";

/// The example's script without what needs a network: Docker is in the image already.
fn setup() -> String {
    let script = include_str!("../../examples/docker-setup.sh").lines();
    script
        .filter(|line| !line.starts_with("apt-get "))
        .fold(String::new(), |script, line| script + line + "\n")
}

/// What `docker` with `line` prints in the container `name`.
fn docker(lab: &Lab, name: &str, line: &str) -> String {
    lab.pi.printed(name, &format!("docker {line}"))
}

#[test]
fn docker_serves_from_both_containers() {
    let Some(mut lab) = Lab::new() else { return };
    let debian = match image::docker() {
        Ok(image) => image,
        Err(why) => {
            skipped(why);
            return;
        }
    };
    lab.router.serve(Service::Both);
    let workstation = Workstation::new(&[
        ("farm.yaml", format!("{HEAD}{FARM}").as_bytes()),
        ("debian.tar.gz", &std::fs::read(&debian.path).unwrap()),
        ("busybox.tar.gz", &std::fs::read(image::busybox_rootfs()).unwrap()),
        ("daemon.json", DAEMON),
        ("name.cgi", NAME_CGI),
        ("web.sh", WEB),
        ("docker-setup.sh", setup().as_bytes()),
    ]);
    let plan = workstation.plan(&format!("{PREFIX}/64"));
    workstation.build(&lab);
    accounts(&lab);

    let begun = Instant::now();
    let first = lab.command(&["run"]);
    first.all_well();
    for name in ["docker1", "docker2"] {
        // LXD says that a container runs when its init does; Docker in it takes a few seconds more.
        let since = Instant::now();
        while lab.router.get(plan[name][0], "/cgi-bin/name") != Some(format!("{name}\n")) {
            let logs = || sh::ended(&mut lab.pi.lxc(&format!("exec {name} -- journalctl --unit docker")));
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "{name} does not answer at {}\n{}",
                plan[name][0],
                String::from_utf8_lossy(&logs().stdout)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let whole = begun.elapsed();
    for container in &first.report.as_ref().unwrap().containers {
        let planned = std::net::IpAddr::V6(plan[&container.name][0]);
        assert_eq!(container.predicted, [planned], "{container:#?}");
        assert!(container.observed.contains(&planned), "{container:#?}");
        assert_eq!(container.message, "");
    }

    // Each is a Docker of its own that makes more containers of the image.
    let ask = "info --format {{.ID}}/{{.Driver}}";
    let (one, other) = (docker(&lab, "docker1", ask), docker(&lab, "docker2", ask));
    assert!(
        one.ends_with("/overlay2\n") && other.ends_with("/overlay2\n") && one != other,
        "{one}{other}"
    );
    for name in ["docker1", "docker2"] {
        assert_eq!(docker(&lab, name, "run --rm web /bin/echo ran"), "ran\n");
        // A kernel without AppArmor lets Docker mount without it, too.
        let instance = lab.pi.query(&format!("/1.0/instances/{name}"));
        assert_eq!(instance["config"]["security.nesting"], "true");
    }

    let second = lab.command(&["run"]);
    second.all_well();
    assert_eq!(second.changes, [""; 0]);
    assert_eq!(second.step("container docker2").state, StepState::Unchanged);
    let memory = ["docker1", "docker2"].map(|name| {
        let state = lab.pi.query(&format!("/1.0/instances/{name}/state"));
        state["memory"]["usage"].as_u64().unwrap_or_default() >> 20
    });
    println!(
        "Docker {} in LXD: {:.1} s until both answered; the two have {} and {} MiB of memory, caches included; the \
         carried image has {} MB, and the agent had {} KiB resident",
        docker(&lab, "docker2", "version --format {{.Server.Version}}").trim_end(),
        whole.as_secs_f32(),
        memory[0],
        memory[1],
        std::fs::metadata(&debian.path).unwrap().len() / 1_000_000,
        first.resident_kib,
    );
}
