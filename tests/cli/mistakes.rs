//! The mistakes of people who use palmfarm for the first time. Each message says what is wrong, where, and why, and the
//! farm that follows its hint is right. Mistakes with a device are in tests/flash, with the network in tests/download.

use std::fs;
use std::path::Path;
use std::process::Output;

use expect_test::{expect, Expect};

use super::{palmfarm, told};

/// A farm without a mistake; line 4 is the last of its head.
pub(super) const FARM: &str = r#"farm: 1
base: ubuntu-24.04-arm64
hostname: palm
users: [{name: craig, sudo: nopasswd, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICorqWM4j0btbLPu4wPY2u0bjp/o/qDYBsuvzSlZKXx8 craig@laptop"]}]
network:
  ipv4: dhcp
  ipv6: auto
containers:
  web: {image: "images:alpine/3.23"}
  w: {image: "images:alpine/3.23", replicas: 2..4}
"#;

fn check(dir: &Path, text: &str) -> Output {
    fs::write(dir.join("farm.yaml"), text).unwrap();
    palmfarm(dir, &["check", "farm.yaml"])
}

/// `wrong`, in the place of `right`, is answered by `expect`; `followed` is what its hint says to write.
#[track_caller]
fn mistake(right: &str, wrong: &str, followed: &str, expect: &Expect) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("motd.txt"), "welcome\n").unwrap();
    assert!(FARM.contains(right), "{right}");
    let out = check(dir.path(), &FARM.replace(right, wrong));
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(out.stdout.is_empty(), "{}", told(&out));
    expect.assert_eq(&String::from_utf8(out.stderr).unwrap());
    let out = check(dir.path(), &FARM.replace(right, followed));
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert!(out.stderr.is_empty(), "{}", told(&out));
}

#[test]
fn a_typo() {
    mistake(
        "hostname: palm",
        "hostnmae: palm",
        "hostname: palm",
        &expect![[r#"
        farm.yaml:3:1: error: unknown key "hostnmae" in the farm
          3 | hostnmae: palm
            | ^^^^^^^^
        hint: did you mean "hostname"?
    "#]],
    );
    mistake(
        "ipv4: dhcp",
        "ipv4: dchp",
        "ipv4: dhcp",
        &expect![[r#"
        farm.yaml:6:9: error: `ipv4` is dhcp, none or a mapping with a fixed address, not "dchp"
          6 |   ipv4: dchp
            |         ^^^^
        hint: did you mean "dhcp"?
    "#]],
    );
    mistake(
        "hostname: palm",
        "hostname: palm\ntimezone: Europe/Wien",
        "hostname: palm\ntimezone: Europe/Vienna",
        &expect![[r#"
            farm.yaml:4:11: error: "Europe/Wien" is not a time zone
              4 | timezone: Europe/Wien
                |           ^^^^^^^^^^^
            hint: time zones have names such as Europe/Vienna; `timedatectl list-timezones` lists them
        "#]],
    );
}

#[test]
fn indentation_by_blanks_and_tabs() {
    mistake(
        "  ipv6: auto",
        "   ipv6: auto",
        "  ipv6: auto",
        &expect![[r"
        farm.yaml:7:4: error: this line is indented by 3, and the key above it by 2 (`ipv4` in line 6)
          7 |    ipv6: auto
            |    ^^^^
        hint: indent it by 2, too: a key with a value in its line has no keys below it
    "]],
    );
    mistake(
        "  ipv6: auto",
        " ipv6: auto",
        "  ipv6: auto",
        &expect![[r"
        farm.yaml:7:2: error: this line is indented by 1, and the keys above it by 2 (`ipv4` in line 6)
          7 |  ipv6: auto
            |  ^^^^
        hint: indent it by 2 if it belongs with them, or by 0 (`network` in line 5)
    "]],
    );
    mistake(
        "  ipv6: auto",
        "\tipv6: auto",
        "  ipv6: auto",
        &expect![[r"
        farm.yaml:6:9: error: this is not YAML: while scanning a plain scalar, found a tab
          6 |   ipv4: dhcp
            |         ^
        hint: YAML is indented by spaces, never by tabs
    "]],
    );
    mistake(
        "  w: {image",
        "w: {image",
        "  w: {image",
        &expect![[r#"
        farm.yaml:10:1: error: unknown key "w" in the farm
          10 | w: {image: "images:alpine/3.23", replicas: 2..4}
             | ^
        hint: indent it further if it belongs to `containers`; the keys here are farm, base, sha256, hostname, timezone, locale, users, ssh, boot, lxd, images, containers, packages, carry, files, overlays, rc_local, dns, cluster, network, cards
    "#]],
    );
}

#[test]
fn no_colon_and_no_bracket() {
    mistake(
        "base: ubuntu-24.04-arm64",
        "base ubuntu-24.04-arm64",
        "base: ubuntu-24.04-arm64",
        &expect![[r"
        farm.yaml:2:1: error: there is no colon after `base`
          2 | base ubuntu-24.04-arm64
            | ^^^^^^^^^^^^^^^^^^^^^^^
        hint: write `base: …`
    "]],
    );
    mistake(
        "replicas: 2..4}",
        "replicas: 2..4",
        "replicas: 2..4}",
        &expect![[r#"
            farm.yaml:10:6: error: `{` is never closed
              10 |   w: {image: "images:alpine/3.23", replicas: 2..4
                 |      ^
            hint: write `}` where the mapping ends
        "#]],
    );
}

#[test]
fn addresses() {
    mistake(
        "ipv6: auto",
        "ipv6: {address: 2001:db8::10/64, gateway: fe80::}",
        "ipv6: {address: 2001:db8::10/64, gateway: \"fe80::\"}",
        &expect![[r#"
            farm.yaml:7:45: error: this value ends in a colon, which makes a key of it
              7 |   ipv6: {address: 2001:db8::10/64, gateway: fe80::}
                |                                             ^^^^^^
            hint: put the value in quotes, as an IPv6 address such as "fe80::"
        "#]],
    );
    mistake(
        "ipv4: dhcp",
        "ipv4: {address: 192.168.1.10, gateway: 192.168.1.1, dns: [192.168.1.1]}",
        "ipv4: {address: 192.168.1.10/24, gateway: 192.168.1.1, dns: [192.168.1.1]}",
        &expect![[r#"
            farm.yaml:6:19: error: "192.168.1.10" has no prefix length; is it 192.168.1.10/24?
              6 |   ipv4: {address: 192.168.1.10, gateway: 192.168.1.1, dns: [192.168.1.1]}
                |                   ^^^^^^^^^^^^
        "#]],
    );
    mistake(
        "ipv4: dhcp",
        "ipv4: 192.168.1.10/24",
        "ipv4: {address: 192.168.1.10/24, gateway: 192.168.1.1, dns: [192.168.1.1]}",
        &expect![[r#"
            farm.yaml:6:9: error: `ipv4` is dhcp, none or a mapping with a fixed address, not "192.168.1.10/24"
              6 |   ipv4: 192.168.1.10/24
                |         ^^^^^^^^^^^^^^^
            hint: write {address: 192.168.1.10/24, gateway: 192.168.1.1, dns: [192.168.1.1]}, with your router's address as gateway and resolver
        "#]],
    );
    mistake(
        "ipv6: auto",
        "ipv6: 2001:db8::10",
        "ipv6: {address: \"2001:db8::10/64\"}",
        &expect![[r#"
            farm.yaml:7:9: error: `ipv6` is auto, none or a mapping with a fixed address, not "2001:db8::10"
              7 |   ipv6: 2001:db8::10
                |         ^^^^^^^^^^^^
            hint: a fixed address is written {address: "2001:db8::10/64"}
        "#]],
    );
    mistake(
        "ipv6: auto",
        "ipv6: dhcp",
        "ipv6: auto",
        &expect![[r#"
        farm.yaml:7:9: error: `ipv6` is auto, none or a mapping with a fixed address, not "dhcp"
          7 |   ipv6: dhcp
            |         ^^^^
        hint: write auto
    "#]],
    );
}

#[test]
fn a_file_that_is_not_there() {
    mistake(
        "network:\n",
        "files: {/etc/motd: mtd.txt}\nnetwork:\n",
        "files: {/etc/motd: motd.txt}\nnetwork:\n",
        &expect![[r#"
            farm.yaml:5:20: error: there is no file "mtd.txt"
              5 | files: {/etc/motd: mtd.txt}
                |                    ^^^^^^^
            hint: did you mean "motd.txt"?
        "#]],
    );
    mistake(
        "network:\n",
        "files: {/etc/motd: greeting}\nnetwork:\n",
        "files: {/etc/motd: ./motd.txt}\nnetwork:\n",
        &expect![[r#"
            farm.yaml:5:20: error: there is no file "greeting"
              5 | files: {/etc/motd: greeting}
                |                    ^^^^^^^^
            hint: names of files begin at the folder of the farm file
        "#]],
    );
    mistake(
        "ssh_keys: [\"",
        "ssh_keys: [{file: ~/.ssh/not-here.pub}, \"",
        "ssh_keys: [\"",
        &expect![[r#"
            farm.yaml:4:57: error: there is no file "~/.ssh/not-here.pub"
              4 | users: [{name: craig, sudo: nopasswd, ssh_keys: [{file: ~/.ssh/not-here.pub}, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICorqWM4j0btbLPu4wPY2u0bjp/o/qDYBsuvzSl
                |                                                         ^^^^^^^^^^^^^^^^^^^
            hint: name a public key of yours (ls ~/.ssh/*.pub), or make one: ssh-keygen -t ed25519
        "#]],
    );
}

#[test]
fn names_that_are_taken() {
    mistake(
        "  w: {image",
        "  web: {image: \"images:alpine/3.23\"}\n  w: {image",
        "  web2: {image: \"images:alpine/3.23\"}\n  wx: {image",
        &expect![[r#"
            farm.yaml:10:3: error: "web" is here twice
              10 |   web: {image: "images:alpine/3.23"}
                 |   ^^^
        "#]],
    );
    mistake(
        "  w: {image",
        "  w3: {image: \"images:alpine/3.23\"}\n  w: {image",
        "  x3: {image: \"images:alpine/3.23\"}\n  w: {image",
        &expect![[r#"
            farm.yaml:11:3: error: the name "w3" is taken by the container "w3"
              11 |   w: {image: "images:alpine/3.23", replicas: 2..4}
                 |   ^
            hint: each host and container of a farm has a name of its own
        "#]],
    );
}

#[test]
fn a_base_that_does_not_exist() {
    mistake(
        "base: ubuntu-24.04-arm64",
        "base: ubuntu-24.04-amr64",
        "base: ubuntu-24.04-arm64",
        &expect![[r#"
        farm.yaml:2:7: error: there is no base called "ubuntu-24.04-amr64"
          2 | base: ubuntu-24.04-amr64
            |       ^^^^^^^^^^^^^^^^^^
        hint: did you mean "ubuntu-24.04-arm64"?
    "#]],
    );
}

#[test]
fn a_key_that_was_forgotten() {
    mistake(
        "base: ubuntu-24.04-arm64\n",
        "",
        "base: ubuntu-24.04-arm64\n",
        &expect![[r"
        farm.yaml:1:1: error: the farm has no `base`
          1 | farm: 1
            | ^
        hint: write `base: ubuntu-24.04-arm64`; `palmfarm base suggest` says which base suits which Pi
    "]],
    );
    mistake(
        "hostname: palm\n",
        "",
        "hostname: palm\n",
        &expect![[r"
        farm.yaml:1:1: error: the farm has no `hostname`
          1 | farm: 1
            | ^
        hint: write `hostname: palm`, or another name of your own
    "]],
    );
    mistake(
        "hostname: palm\n",
        "hostname: palm.example.net\n",
        "hostname: palm\ndns: {zone: example.net}\n",
        &expect![[r#"
            farm.yaml:3:11: error: "palm.example.net" is not a host name: it holds '.'
              3 | hostname: palm.example.net
                |           ^^^^^^^^^^^^^^^^
            hint: write palm; the domain goes to `dns: {zone: example.net}`
        "#]],
    );
}

#[test]
fn a_single_value_in_the_place_of_a_mapping() {
    mistake(
        "{image: \"images:alpine/3.23\"}",
        "\"images:alpine/3.23\"",
        "{image: \"images:alpine/3.23\"}",
        &expect![[r#"
            farm.yaml:9:8: error: container "web" is a mapping of keys, not a single value
              9 |   web: "images:alpine/3.23"
                |        ^^^^^^^^^^^^^^^^^^^^
            hint: write {image: "images:alpine/3.23"}
        "#]],
    );
    mistake(
        "network:\n",
        "dns: home.example.net\nnetwork:\n",
        "dns: {zone: \"home.example.net\"}\nnetwork:\n",
        &expect![[r#"
            farm.yaml:5:6: error: `dns` is a mapping of keys, not a single value
              5 | dns: home.example.net
                |      ^^^^^^^^^^^^^^^^
            hint: write {zone: "home.example.net"}
        "#]],
    );
    mistake(
        "network:\n",
        "lxd: {storage: {driver: btrfs, size: 15}}\nnetwork:\n",
        "lxd: {storage: {driver: btrfs, size: 15GB}}\nnetwork:\n",
        &expect![[r"
            farm.yaml:5:38: error: a pool takes at least 128 MiB
              5 | lxd: {storage: {driver: btrfs, size: 15}}
                |                                      ^^
            hint: without a unit it is a number of bytes: write 15GB
        "]],
    );
}

#[test]
fn what_a_farm_does_not_have() {
    mistake(
        "network:\n",
        "wifi: {ssid: home}\nnetwork:\n",
        "network:\n",
        &expect![[r#"
        farm.yaml:5:1: error: unknown key "wifi" in the farm
          5 | wifi: {ssid: home}
            | ^^^^
        hint: a farm holds no password of a Wi-Fi, and an access point drops what containers send: connect the Pi by cable; without containers on the LAN, write `network: {uplink: wlan0, bridge: none}`, and let an overlay bring the wpa_supplicant configuration
    "#]],
    );
    mistake(
        "network:\n",
        "keyboard: de\nnetwork:\n",
        "network:\n",
        &expect![[r#"
        farm.yaml:5:1: error: unknown key "keyboard" in the farm
          5 | keyboard: de
            | ^^^^^^^^
        hint: a farm has no key for it; the file /etc/default/keyboard, under `files`, sets the layout (keyboard(5))
    "#]],
    );
}

#[test]
fn one_mistake_is_one_message() {
    mistake(
        "ssh_keys: [\"ssh-",
        "ssh_keys: [\"ssh",
        "ssh_keys: [\"ssh-",
        &expect![[r#"
        farm.yaml:4:50: error: this is not a public SSH key: it does not start with a key type such as ssh-ed25519
          4 | users: [{name: craig, sudo: nopasswd, ssh_keys: ["sshed25519 AAAAC3NzaC1lZDI1NTE5AAAAICorqWM4j0btbLPu4wPY2u0bjp/o/qDYBsuvzSlZKXx8 craig@laptop"]}]
            |                                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    mistake(
        "network:\n",
        "lxd: {storage: {driver: zfs, size: 15GB}}\nnetwork:\n",
        "lxd: {storage: {driver: btrfs, size: 15GB}}\nnetwork:\n",
        &expect![[r#"
            farm.yaml:5:25: error: `driver` is btrfs or dir, not "zfs"
              5 | lxd: {storage: {driver: zfs, size: 15GB}}
                |                         ^^^
        "#]],
    );
    mistake(
        "sudo: nopasswd",
        "sudo: yes, groups: [sudo]",
        "sudo: nopasswd, groups: [sudo]",
        &expect![[r#"
        farm.yaml:4:29: error: `sudo` is password or nopasswd, not "yes"
          4 | users: [{name: craig, sudo: yes, groups: [sudo], ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICorqWM4j0btbLPu4wPY2u0bjp/o/qDYBsuvzSlZKXx8 craig@laptop
            |                             ^^^
    "#]],
    );
}

#[test]
fn files_of_other_programs() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for text in [
        "network:\n  version: 2\n  ethernets:\n    eth0: {dhcp4: true}\n",
        "services:\n  web: {image: nginx, ports: [\"80:80\"]}\nvolumes: {data: {}}\n",
        "#cloud-config\nusers: [default]\npackages: [git]\nhostname: palm\n",
        "config: {}\ndescription: x\ndevices: {eth0: {name: eth0, type: nic}}\nname: default\nused_by: []\n",
        "config: {}\nnetworks: []\nstorage_pools: []\nprofiles: []\n",
        "architecture: aarch64\nconfig: {image.os: Alpine}\ndevices: {}\nephemeral: false\nprofiles: [default]\n",
    ] {
        let out = check(dir.path(), text);
        assert_eq!(out.status.code(), Some(1), "{}", told(&out));
        said.push_str(&String::from_utf8(out.stderr).unwrap());
    }
    expect![[r"
        farm.yaml:1:1: error: this is a netplan file, and not a farm
          1 | network:
            | ^
        hint: a farm says `network: {uplink: eth0, bridge: br0, ipv4: dhcp, ipv6: auto}`; `palmfarm init` writes a farm to start from
        farm.yaml:1:1: error: this is a compose file of Docker, and not a farm
          1 | services:
            | ^
        hint: name it under `files` of a container with `nesting: true`, as examples/docker.yaml shows; `palmfarm init` writes a farm to start from
        farm.yaml:2:1: error: this is a cloud-config of cloud-init, and not a farm
          2 | users: [default]
            | ^
        hint: a farm has `users`, `packages`, `files` and `rc_local` of its own; `palmfarm init` writes a farm to start from
        farm.yaml:1:1: error: this is a profile of LXD (`lxc profile show`), and not a farm
          1 | config: {}
            | ^
        hint: paste it below its name under `lxd: profiles:`; `palmfarm init` writes a farm to start from
        farm.yaml:1:1: error: this is a preseed of `lxd init`, and not a farm
          1 | config: {}
            | ^
        hint: a farm says it under `lxd:`, in `storage`, `nat` and `profiles`; `palmfarm init` writes a farm to start from
        farm.yaml:1:1: error: this is the configuration of a container (`lxc config show`), and not a farm
          1 | architecture: aarch64
            | ^
        hint: paste it below a name under `containers:`, with an `image`; `palmfarm init` writes a farm to start from
    "]].assert_eq(&said);
}
