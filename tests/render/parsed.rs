//! Every rendered file read again: units and network files by a reader that takes nothing systemd would skip, YAML by
//! `serde_yaml`, and both say what the farm declares.

use palmfarm::base::BaseFacts;
use palmfarm::edit::tree::{Node, Tree, Volume};
use serde_yaml::Value;

use crate::farms::{file, rendered, root_file};
use crate::{bases, ini};

const ARTICLE: &str = include_str!("article.yaml");

const FIXED: &str = "hostname: palm
network:
  bridge: none
  vlan: 42
  ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1, dns: [192.0.2.1, 192.0.2.2]}
  ipv6: {address: \"2001:db8::10/64\", gateway: \"fe80::1\", dns: [\"2001:db8::1\"]}
";

/// Farms that render every template in every way.
const FARMS: [&str; 6] = [
    ARTICLE,
    FIXED,
    "hostname: palm\nnetwork: {renderer: ifupdown}\n",
    "hostname: palm\nnetwork: {renderer: ifupdown, vlan: 7, ipv6: none, ipv4: {address: 192.0.2.9/24, dns: [192.0.2.1]}}\n",
    "hostname: palm\nnetwork: {vlan: 7}\nrc_local: [\"true\"]\nlxd: {nat: none}\n",
    "hostname: palm\nnetwork: {ipv4: none, ipv6: {address: \"2001:db8::10/64\"}}\nboot: {config: {gpu_mem: 16}, cmdline: [quiet]}\n",
];

fn all_bases() -> [BaseFacts; 3] {
    [bases::bionic(), bases::jammy(), bases::resolute()]
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The values of `key` in `section` of the file at `path`.
fn values(tree: &Tree, path: &str, section: &str, key: &str) -> Vec<String> {
    let text = root_file(tree, path).unwrap_or_else(|| panic!("there is no {path}"));
    let entries = ini::parse(path, &text).unwrap();
    let found = entries
        .iter()
        .filter(|entry| (entry.section, entry.key) == (section, key));
    found.map(|entry| entry.value.to_owned()).collect()
}

#[test]
fn every_file_is_read_again() {
    for base in all_bases() {
        for farm in FARMS {
            let tree = rendered(farm, &base);
            let mut read = 0;
            for (_, path, planned) in tree.iter() {
                let Node::File { content, .. } = &planned.node else {
                    continue;
                };
                let (path, text) = (path.as_str(), String::from_utf8_lossy(content));
                let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
                let is_ini = ends(&[".network", ".netdev", ".service"])
                    || (path.starts_with("/etc/systemd/") && path.strip_suffix(".conf").is_some());
                if is_ini {
                    ini::parse(path, &text).unwrap_or_else(|why| panic!("{path}: {why}\n{text}"));
                    read += 1;
                } else if ends(&["user-data", "meta-data", "network-config", ".yaml", ".cfg"]) {
                    assert!(yaml(&text).is_mapping(), "{path}");
                    read += 1;
                }
            }
            assert!(read > 8, "{read}: {farm}");
        }
    }
}

#[test]
fn what_the_farm_declares_is_what_the_network_files_say() {
    let check = |farm: &str, path: &str, section: &str, key: &str, expect: &[&str]| {
        for base in all_bases() {
            assert_eq!(
                values(&rendered(farm, &base), path, section, key),
                expect,
                "{path} {key}"
            );
        }
    };
    let dir = "/etc/systemd/network";
    let host = format!("{dir}/05-palmfarm-eth0.42.network");
    check(FIXED, &host, "Match", "Name", &["eth0.42"]);
    check(FIXED, &host, "Network", "DHCP", &["no"]);
    check(
        FIXED,
        &host,
        "Network",
        "Address",
        &["192.0.2.10/24", "2001:db8::10/64"],
    );
    check(FIXED, &host, "Network", "Gateway", &["192.0.2.1", "fe80::1"]);
    check(
        FIXED,
        &host,
        "Network",
        "DNS",
        &["192.0.2.1", "192.0.2.2", "2001:db8::1"],
    );
    check(
        FIXED,
        &format!("{dir}/05-palmfarm-eth0.network"),
        "Network",
        "VLAN",
        &["eth0.42"],
    );
    let vlan = format!("{dir}/05-palmfarm-eth0.42.netdev");
    check(FIXED, &vlan, "NetDev", "Kind", &["vlan"]);
    check(FIXED, &vlan, "VLAN", "Id", &["42"]);
    let host = format!("{dir}/05-palmfarm-br0.network");
    check(ARTICLE, &host, "Match", "Name", &["br0"]);
    check(ARTICLE, &host, "Network", "DHCP", &["yes"]);
    check(
        ARTICLE,
        &format!("{dir}/05-palmfarm-eth0.network"),
        "Network",
        "Bridge",
        &["br0"],
    );
    let netdev = "/usr/lib/palmfarm/network/05-palmfarm-br0.netdev";
    check(ARTICLE, netdev, "NetDev", "Kind", &["bridge"]);
    check(ARTICLE, netdev, "NetDev", "MACAddress", &["@MAC@"]);
}

#[test]
fn units_run_what_they_should() {
    let units = "/etc/systemd/system";
    let tree = rendered("hostname: palm\nrc_local: [\"true\"]\n", &bases::bionic());
    let check = |unit: &str, section: &str, key: &str, expect: &[&str]| {
        assert_eq!(
            values(&tree, &format!("{units}/{unit}"), section, key),
            expect,
            "{unit}"
        );
    };
    let agent = |command: &str| format!("/usr/lib/palmfarm/palmfarm-agent {command}");
    for (unit, command) in [
        ("firstboot", "run"),
        ("network", "network"),
        ("bridge", "bridge"),
        ("seed", "seed"),
    ] {
        let unit = format!("palmfarm-{unit}.service");
        check(&unit, "Service", "ExecStart", &[&agent(command)]);
    }
    check(
        "palmfarm-network.service",
        "Install",
        "WantedBy",
        &["multi-user.target"],
    );
    check(
        "palmfarm-bridge.service",
        "Unit",
        "Before",
        &["network-pre.target systemd-networkd.service shutdown.target"],
    );
    check(
        "palmfarm-rc-local.service",
        "Service",
        "ExecStart",
        &["-/etc/rc.local start", "/usr/lib/palmfarm/rc-local"],
    );
    check(
        "systemd-networkd-wait-online.service.d/90-palmfarm.conf",
        "Service",
        "ExecStart",
        &[
            "",
            "/lib/systemd/systemd-networkd-wait-online --interface=br0 --timeout=60",
        ],
    );
}

#[test]
fn small_files_have_their_lines() {
    let lines = |tree: &Tree, volume, path: &str| -> Vec<String> {
        let text = file(tree, volume, path).unwrap_or_else(|| panic!("there is no {path}"));
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let tree = rendered(FARMS[5], &bases::jammy());
    assert_eq!(
        lines(&tree, Volume::Boot, "/config.txt"),
        [
            "[all]",
            "kernel=vmlinuz",
            "cmdline=cmdline.txt",
            "[all]",
            "gpu_mem=16"
        ]
    );
    let farm = "hostname: palm\nboot: {config: [dtoverlay=b, dtoverlay=a, [pi4], over_voltage: 2]}\n";
    assert_eq!(
        lines(&rendered(farm, &bases::jammy()), Volume::Boot, "/config.txt")[3..],
        [
            "[all]",
            "dtoverlay=b",
            "dtoverlay=a",
            "[pi4]",
            "over_voltage=2",
            "[all]"
        ]
    );
    assert_eq!(lines(&tree, Volume::Root, "/etc/hostname"), ["palm"]);
    assert_eq!(
        lines(&tree, Volume::Root, "/etc/hosts"),
        [
            "127.0.0.1 localhost",
            "127.0.1.1 palm",
            "::1 localhost ip6-localhost ip6-loopback",
            "ff02::1 ip6-allnodes",
            "ff02::2 ip6-allrouters"
        ]
    );
    let mut base = bases::jammy();
    base.units.insert("networking.service".into());
    let tree = rendered(FARMS[5], &base);
    assert_eq!(
        lines(&tree, Volume::Root, "/etc/network/interfaces"),
        ["auto lo", "iface lo inet loopback"]
    );
    let tree = rendered(FARMS[3], &base);
    assert_eq!(
        lines(&tree, Volume::Root, "/etc/sysctl.d/90-palmfarm.conf"),
        [
            "net.ipv6.conf.br0.accept_ra = 0",
            "net.ipv6.conf.br0.autoconf = 0"
        ]
    );
    let resolved = "/etc/systemd/resolved.conf.d/90-palmfarm.conf";
    assert_eq!(values(&tree, resolved, "Resolve", "DNS"), ["192.0.2.1"]);
}

/// `value` without what is empty: a preseed once left empty mappings out.
fn without_empty(value: &Value) -> Value {
    match value {
        Value::Mapping(map) => Value::Mapping(
            map.iter()
                .map(|(key, value)| (key.clone(), without_empty(value)))
                .filter(|(_, value)| !matches!(value, Value::Mapping(map) if map.is_empty()))
                .collect(),
        ),
        Value::Sequence(items) => Value::Sequence(items.iter().map(without_empty).collect()),
        other => other.clone(),
    }
}

#[test]
fn yaml_says_what_it_said_as_a_template() {
    let tree = rendered(ARTICLE, &bases::jammy());
    for (volume, path, earlier) in [
        (
            Volume::Root,
            "/var/lib/cloud/seed/nocloud-net/user-data",
            include_str!("earlier/user-data"),
        ),
        (
            Volume::Root,
            "/var/lib/cloud/seed/nocloud-net/meta-data",
            include_str!("earlier/meta-data"),
        ),
        (
            Volume::Root,
            "/etc/palmfarm/lxd-preseed.yaml",
            include_str!("earlier/lxd-preseed.yaml"),
        ),
        (
            Volume::Boot,
            "/user-data",
            include_str!("earlier/stock-user-data"),
        ),
        (
            Volume::Boot,
            "/meta-data",
            include_str!("earlier/stock-meta-data"),
        ),
        (
            Volume::Boot,
            "/network-config",
            include_str!("earlier/stock-network-config"),
        ),
    ] {
        let text = file(&tree, volume, path).unwrap();
        let (now, then) = (yaml(&text), yaml(earlier));
        assert_eq!(without_empty(&now), without_empty(&then), "{path}");
        assert_eq!(
            text.starts_with("#cloud-config\n"),
            earlier.starts_with("#cloud-config\n"),
            "{path}"
        );
    }
}
