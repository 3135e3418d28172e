//! `palmfarm find` on the home's network, beside a Pi whose containers come up.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use palmfarm::base::Arch;
use palmfarm::farm::lxd_image;
use serde_json::Value;

use crate::card::{accounts, Workstation, HEAD};
use crate::image;
use crate::lab::Lab;
use crate::router::{Service, PREFIX};
use crate::sh;

const CONTAINERS: &str = "lxd: {storage: {driver: btrfs, size: 4GB}}
images: {alpine: {file: alpine.tar.gz, metadata: alpine.metadata.tar}}
containers:
  web: {image: alpine, replicas: 1..2}
  hidden: {image: alpine, profiles: [default]}
";

/// The events of that kind in lines of JSON.
pub(crate) fn events(printed: &str, kind: &str) -> Vec<Value> {
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    let events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

#[test]
fn find_sees_the_host_and_its_containers_come_up() {
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Both);
    let rootfs = std::fs::read(image::busybox_rootfs()).unwrap();
    // As `palmfarm image fetch` leaves them: the network is what the metadata's inittab starts.
    let metadata = lxd_image::metadata_for("alpine", Arch::Amd64, None, 1, lxd_image::ALPINE).unwrap();
    let workstation = Workstation::new(&[
        ("farm.yaml", format!("{HEAD}{CONTAINERS}").as_bytes()),
        ("alpine.tar.gz", &rootfs),
        ("alpine.metadata.tar", &metadata),
    ]);
    let plan = workstation.plan(&format!("{PREFIX}/64"));
    workstation.build(&lab);
    accounts(&lab);

    // The Pi is there and its containers are not. This user may not ping, so the kernel's own questions find the Pi.
    let once = sh::ended(
        workstation
            .on(&mut lab.router.command(env!("CARGO_BIN_EXE_palmfarm")))
            .args(["find", "--once", "--json"]),
    );
    let printed = String::from_utf8_lossy(&once.stdout);
    assert_eq!(once.status.code(), Some(5), "{printed}");
    let [host] = &events(&printed, "found")[..] else {
        panic!("{printed}")
    };
    assert_eq!(
        (&host["name"], &host["kind"], &host["by"]),
        (&"palm".into(), &"host".into(), &"address".into())
    );
    assert_eq!(host["addresses"], serde_json::json!(["192.0.2.10"]));
    assert!(
        events(&printed, "error")[0]["message"]
            .as_str()
            .unwrap()
            .ends_with("(2 of 3)"),
        "{printed}"
    );

    // It waits for them. What is behind NAT is not waited for.
    let log = lab.card().join("find.log");
    let mut find = lab.router.command(env!("CARGO_BIN_EXE_palmfarm"));
    workstation
        .on(&mut find)
        .args(["find", "--json", "--timeout", "5m"]);
    let mut find = find
        .stdout(File::create(&log).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    lab.command(&["run"]).all_well();
    assert!(find.wait().unwrap().success());
    let mut printed = String::new();
    File::open(&log).unwrap().read_to_string(&mut printed).unwrap();
    let found = events(&printed, "found");
    let names: Vec<&str> = found.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3, "{printed}");
    for name in ["web1", "web2"] {
        let one = found.iter().find(|one| one["name"] == name).unwrap();
        let planned = plan[name][0].to_string();
        assert_eq!(
            (one["addresses"][0].as_str(), one["by"].as_str()),
            (Some(&*planned), Some("mac")),
            "{printed}"
        );
        assert_eq!(one["interface"], "lan0");
    }

    let inittab = lab.pi.printed("web1", "cat /etc/inittab");
    assert!(inittab.contains("::sysinit:/sbin/ifup -a"), "{inittab}");

    // Who may ping finds a Pi of which nothing is known.
    sh::run(
        lab.router
            .command("sysctl")
            .args(["-q", "-w", "net.ipv4.ping_group_range=0 2147483647"]),
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let printed = sh::output(
        lab.router
            .command(env!("CARGO_BIN_EXE_palmfarm"))
            .args(["find", "--json", "--once"])
            .current_dir(elsewhere.path()),
    );
    let [pi] = &events(&printed, "found")[..] else {
        panic!("{printed}")
    };
    assert_eq!(
        (pi["mac"].as_str(), pi["by"].as_str()),
        (Some("b8:27:eb:6c:02:88"), Some("raspberry-pi"))
    );
}
