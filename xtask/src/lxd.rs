//! The farm on Debian's real LXD, as part of the tests: what it needs is installed; if that cannot be had, the part is
//! skipped visibly.
//!
//! The tests make network namespaces, so their program runs as root, if need be through a sudo that asks nothing;
//! cargo itself and everything it makes stay the user's.

use std::path::Path;
use std::process::Command;

use crate::deps::{self, command, path, Package, Privilege, Ready};
use crate::sh::{self, cargo, search_path};

/// What a lab needs from the distribution.
const LAB: &[Package] = &[
    command("lxd", "lxd"),
    command("lxd-client", "lxc"),
    command("btrfs-progs", "mkfs.btrfs"),
    command("dnsmasq-base", "dnsmasq"),
    // The images are made from it.
    path("busybox-static", "/bin/busybox"),
    command("mmdebstrap", "mmdebstrap"),
    command("curl", "curl"),
    command("iproute2", "ip"),
    command("util-linux", "unshare"),
    command("procps", "sysctl"),
    // LXD's own bridge has NAT, and the daemon looks for these when it starts.
    command("nftables", "nft"),
    command("acl", "setfacl"),
    command("attr", "setfattr"),
    command("uidmap", "newuidmap"),
];

/// How many labs are up at once. Most of a lab's time is waiting for addresses and timeouts, so this is more than
/// there are processors.
const AT_ONCE: &str = "6";

/// Whether the tests can run here.
pub(crate) fn ready() -> Ready {
    if deps::privilege() == Privilege::None {
        return Ready::Skip("it needs root, or a sudo that asks no password, for namespaces".into());
    }
    if sh::find("lxd").is_none() && !is_debian() {
        return Ready::Skip("it needs Debian's lxd; Ubuntu's package of that name installs the snap".into());
    }
    deps::ensure(LAB)
}

/// os-release(5); what is only like Debian has packages of its own.
fn is_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
}

/// The tests, with the agents that are in `agents`.
pub(crate) fn tests(agents: &Path) -> Command {
    let mut tests = cargo();
    tests.args(["test", "--test", "lxd", "--"]);
    tests.args(["--show-output", "--test-threads", AT_ONCE]);
    tests.env("PALMFARM_AGENT_DIR", agents).env("PATH", search_path());
    if deps::privilege() == Privilege::Sudo {
        for (variable, runner) in runners(agents) {
            tests.env(variable, runner);
        }
    }
    tests
}

/// cargo's variables for the program that starts a test program, here sudo with the variables that the tests read.
fn runners(agents: &Path) -> Vec<(String, String)> {
    let kept = ["HOME", "PATH", "XDG_CACHE_HOME"];
    let kept = kept
        .iter()
        .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let agents = ("PALMFARM_AGENT_DIR", agents.display().to_string());
    // cargo splits the line at blanks, so a value that has one stays behind.
    let words = kept
        .chain([agents])
        .filter(|(_, value)| !value.contains(char::is_whitespace))
        .map(|(name, value)| format!(" {name}={value}"));
    let line = format!("sudo -n env{}", words.collect::<String>());
    let triple = |arch: crate::agents::Arch| arch.triple().to_uppercase().replace('-', "_");
    crate::agents::Arch::ALL
        .iter()
        .map(|arch| (format!("CARGO_TARGET_{}_RUNNER", triple(*arch)), line.clone()))
        .collect()
}
