//! `plan --prefix auto`: the prefixes that this computer has on its LAN, in network namespaces with real addresses. The
//! namespace of a test ends with the program in it.

use std::path::Path;
use std::process::{Command, Output};

use super::common::{have, have_root};
use super::{command, farm_in, told, PALMFARM};

/// Run `palmfarm plan farm.yaml` with `args` in a namespace that `setup`, lines of shell, has furnished.
fn plan(dir: &Path, setup: &str, args: &str) -> Output {
    let script = format!("set -e\n{setup}\nexec {PALMFARM} plan farm.yaml {args}");
    let inside = command(dir);
    let mut outside = Command::new("unshare");
    outside.args(["--net", "sh", "-c", &script]).current_dir(dir);
    for (name, value) in inside.get_envs() {
        outside.env(name, value.unwrap_or_default());
    }
    outside.output().unwrap()
}

fn can_run() -> bool {
    have(&["unshare", "ip"]) && have_root()
}

/// Two interfaces, of which a router is on one.
const LAN: &str = "\
ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up
ip link add br9 type bridge; ip link set br9 up
ip link add guest0 type veth peer name guest1; ip link set guest0 master br9 up; ip link set guest1 up
ip address add 2001:db8:1:2::5/64 dev lan0 nodad
ip address add 2001:db8:9:9::5/64 dev lan0 nodad preferred_lft 0
ip address add fd00:1:2:3::5/64 dev lan0 nodad
ip address add fd42:77::1/64 dev br9 nodad
ip -6 route add default via fe80::1 dev lan0";

#[test]
fn every_prefix_of_the_lan_is_taken_and_said() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let out = plan(dir.path(), LAN, "--prefix auto --format hosts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let prefixes: Vec<&str> = said.lines().filter(|line| line.starts_with("prefix ")).collect();
    assert_eq!(
        prefixes,
        [
            "prefix 2001:db8:1:2::/64, from lan0",
            "prefix fd00:1:2:3::/64, from lan0"
        ]
    );
    let hosts = String::from_utf8(out.stdout).unwrap();
    assert!(
        hosts.contains("\n2001:db8:1:2:216:3eff:fe03:ad8a web\nfd00:1:2:3:216:3eff:fe03:ad8a web\n"),
        "{hosts}"
    );
    assert!(!hosts.contains("db8:9:9") && !hosts.contains("fd42"), "{hosts}");
    // Given, too, it counts once.
    let again = plan(
        dir.path(),
        LAN,
        "--prefix fd00:1:2:3::/64 --prefix auto --format hosts",
    );
    assert_eq!(
        String::from_utf8_lossy(&again.stdout).matches(" web\n").count(),
        2,
        "{}",
        told(&again)
    );
}

#[test]
fn without_a_prefix_the_line_that_would_do_is_proposed() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let out = plan(dir.path(), LAN, "--format zone");
    let proposed =
        "hint: the prefix of this computer's LAN shows the addresses: palmfarm plan farm.yaml --prefix auto \
                    (2001:db8:1:2::/64 from lan0, fd00:1:2:3::/64 from lan0)\n";
    assert!(told(&out).contains(proposed), "{}", told(&out));
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn without_any_it_is_said_what_to_do() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    for (setup, expect) in [
        ("", "palmfarm: this computer has no global or unique local IPv6 address on its LAN\nhint: give the prefix: --prefix P/64; "),
        (
            "ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up; ip address add 2001:db8::5/128 dev lan0 nodad",
            "palmfarm: this computer has no lasting IPv6 address with a prefix of 64 bits on its LAN, only 2001:db8::5/128 on lan0\nhint: ",
        ),
    ] {
        let out = plan(dir.path(), setup, "--prefix auto");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains(expect) && out.stdout.is_empty(), "{}", told(&out));
        assert_eq!(out.status.code(), Some(1));
    }
}
