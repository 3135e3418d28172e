//! One wrong value is one mistake: nothing is concluded from what was itself refused.

use std::collections::BTreeSet;
use std::path::Path;

use serde_yaml::Value;

use super::files::fill;
use super::{brief, no_environment, parse, HASH, KEY};

/// Farms that between them have every key, and that lean on every default which a refused value is replaced by.
const FARMS: [&str; 5] = [
    include_str!("example.yaml"),
    r#"farm: 1
base: mini
hostname: palm
users:
  - {name: craig, groups: [sudo, incus-admin], ssh_keys: ["ANY_KEY"]}
  - {name: dora, password: {env: SOME_VARIABLE}, sudo: password, groups: [incus-admin]}
network: {uplink: wlan0, bridge: none, ipv4: none, ipv6: {address: "2001:db8::10/64", gateway: "fe80::1", dns: ["2001:db8::1"]}}
lxd:
  flavour: incus
  remotes: {own: "https://images.linuxcontainers.org"}
  storage: {name: pool, driver: btrfs, size: 15GB}
  nat: {bridge: natbr, ipv4: none, ipv6: "fd42:78::1/64"}
  profiles:
    default: {devices: {root: {type: disk, path: /, pool: pool}, eth0: {type: nic, nictype: bridged, parent: natbr}}}
containers:
  web: {image: "own:alpine/3.23", profiles: [default], mac: "00:16:3e:6c:02:07", publish: web_image}
  two: {image: web_image, config: {security.nesting: "true"}, nesting: true}
"#,
    r#"farm: 1
base: http://example.net/ubuntu.img.xz
sha256: 5f2b1c9a4d3e8f7061524334a5b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e
users:
  - {name: craig, password: {env: SOME_VARIABLE}, sudo: password}
ssh: {password: true}
network: {ipv6: none, ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}
boot: {cmdline: [ipv6.disable=1]}
lxd:
  nat: {bridge: br1, ipv4: 10.0.0.1/24, ipv6: none}
  storage: {driver: btrfs, size: 15GB}
  profiles:
    lan: {devices: {root: {type: disk, path: /, pool: default}, eth0: {type: nic, nictype: bridged, parent: br0}}}
images:
  tiny: {file: a.tar.xz}
containers:
  a: {image: tiny, profiles: [lan]}
  b: {image: tiny, profiles: [default, extbridge], devices: {eth1: {type: nic, nictype: bridged, parent: br1}}}
cards:
  one: {containers: [a], network: {ipv4: {address: 192.0.2.11/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}}
  two: {containers: [b], hostname: zwei, network: {ipv4: {address: 192.0.2.12/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}}
"#,
    r#"farm: 1
base: mini
hostname: palm
users: []
network: {bridge: br7, uplink: eth1}
carry: {lxd: [{file: core_16.snap, dangerous: true}, lxd.snap]}
lxd: {nat: none, profiles: {default: {devices: {root: {type: disk, path: /, pool: default}}}}}
containers:
  a: {image: "images:alpine/3.23"}
  b: {image: "images:alpine/3.23", profiles: [default], devices: {eth0: {type: nic, nictype: bridged, parent: br7}}}
"#,
    r#"farm: 1
base: mini
hostname: palm
users: [{name: craig, password: {env: SOME_VARIABLE}, groups: [sudo]}]
ssh: {password: true}
network: {uplink: eth1, vlan: 7, bridge: none, ipv4: {address: 10.77.1.5/24, gateway: 10.77.1.1, dns: [10.77.1.1]}, ipv6: none}
lxd: {nat: {ipv4: 10.77.2.1/24, ipv6: none}}
containers:
  c: {image: "images:alpine/3.23", devices: {eth1: {type: nic, nictype: macvlan, parent: eth1.7}}}
"#,
];

/// What stands in the place of a value. Hardly any key takes one of them.
const WRONG: [&str; 6] = [
    "'% refused'",
    "~ # refused",
    "{'% refused': 1}",
    "[[refused]]",
    "99999999999 # refused",
    "yes # refused",
];

/// Every document that has `MARK` in the place of one value or key of `value`.
fn marked(value: &Value) -> Vec<Value> {
    let mark = || Value::String("MARK".into());
    let mut found = vec![mark()];
    match value {
        Value::Mapping(entries) => {
            for (key, below) in entries {
                for changed in marked(below) {
                    let mut whole = entries.clone();
                    whole.insert(key.clone(), changed);
                    found.push(Value::Mapping(whole));
                }
                let renamed = entries.iter().map(|(other, below)| {
                    let key = if other == key { mark() } else { other.clone() };
                    (key, below.clone())
                });
                found.push(Value::Mapping(renamed.collect()));
            }
        }
        Value::Sequence(items) => {
            for (index, below) in items.iter().enumerate() {
                for changed in marked(below) {
                    let mut whole = items.clone();
                    whole[index] = changed;
                    found.push(Value::Sequence(whole));
                }
            }
        }
        _ => {}
    }
    found
}

/// What is said of the farm in `text`: the line, and all of it.
fn said(text: &str, dir: &Path) -> Vec<(usize, String)> {
    let text = text.replace("ANY_KEY", KEY).replace("ANY_HASH", HASH);
    let said = brief(&parse("farm.yaml", text.as_bytes(), dir, &no_environment, None));
    said.lines()
        .map(|problem| {
            let (line, rest) = problem.split_once(':').unwrap();
            (line.parse().unwrap(), rest.split_once(' ').unwrap().1.to_owned())
        })
        .collect()
}

#[test]
fn nothing_follows_from_a_value_that_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fill(
        dir,
        &[
            "images/alpine-armhf.tar.xz",
            "a.tar.xz",
            "site/index.html",
            "web-setup.sh",
            "docker-setup.sh",
            "motd.txt",
            "extra.tar",
            "debs/jq.deb",
            "core_16.snap",
            "lxd.snap",
            "lxd.assert",
        ],
    );
    std::fs::create_dir_all(dir.join("overlays/site")).unwrap();
    let (mut followed, mut tried) = (BTreeSet::new(), 0);
    for farm in FARMS {
        let farm: Value = serde_yaml::from_str(farm).unwrap();
        let before: BTreeSet<String> = said(&serde_yaml::to_string(&farm).unwrap(), dir)
            .into_iter()
            .map(|(_, problem)| problem)
            .collect();
        assert!(
            !before.iter().any(|problem| problem.starts_with("error")),
            "{before:?}"
        );
        for changed in marked(&farm) {
            let text = serde_yaml::to_string(&changed).unwrap();
            let line = 1 + text.lines().position(|line| line.contains("MARK")).unwrap();
            let is_key = text.contains("MARK:");
            for wrong in WRONG.into_iter().take(if is_key { 1 } else { WRONG.len() }) {
                let text = text.replace("MARK", wrong);
                let all = said(&text, dir);
                let is_here = |at: &usize, problem: &str| *at == line && problem.starts_with("error");
                if !all.iter().any(|(at, problem)| is_here(at, problem)) {
                    continue;
                }
                tried += 1;
                for (at, problem) in all {
                    // A key that is not there any more may be missed.
                    let is_missed = is_key && problem.contains(" has no `");
                    if at != line && !before.contains(&problem) && !is_missed {
                        let place: Vec<&str> = text.lines().collect();
                        followed.insert(format!("{} => {}: {problem}", place[line - 1], place[at - 1]));
                    }
                }
            }
        }
    }
    assert!(tried > 1000, "{tried}");
    let list: Vec<String> = followed.into_iter().collect();
    assert!(list.is_empty(), "{} follow:\n{}", list.len(), list.join("\n"));
}
