//! The farm on Debian's real LXD, as a package and in a snap, as part of the tests. What it needs is installed; if that fails, the part is skipped and
//! the tally says so.
//!
//! The tests make network namespaces, so their program runs as root, if need be through a sudo that asks no password.
//! cargo must not: everything that it makes stays the user's.

use std::path::Path;
use std::process::Command;

use anyhow::{bail, Result};

use crate::deps::{self, Package, Privilege};
use crate::sh::{self, cargo, search_path};

/// What a lab needs from the distribution.
const LAB: &[Package] = &[
    ("lxd", "lxd"),
    ("lxd-client", "lxc"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("dnsmasq-base", "dnsmasq"),
    // The images are made from it.
    ("busybox-static", "/bin/busybox"),
    ("mmdebstrap", "mmdebstrap"),
    ("curl", "curl"),
    ("iproute2", "ip"),
    ("util-linux", "unshare"),
    ("procps", "sysctl"),
    // LXD's own bridge has NAT, and the daemon looks for these when it starts.
    ("nftables", "nft"),
    ("acl", "setfacl"),
    ("attr", "setfattr"),
    ("uidmap", "newuidmap"),
];

/// One of the test programs that want a lab.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    /// Which of its tests, in libtest's words.
    which: &'static [&'static str],
    /// How many labs run at once: more than there are processors, since a lab mostly waits for addresses and timeouts.
    at_once: &'static str,
}

/// Debian's package of LXD.
pub(crate) const PACKAGE: Program = Program {
    name: "lxd",
    which: &["--skip", "cluster"],
    at_once: "6",
};

/// The same on several cards at once, each with a daemon.
pub(crate) const CLUSTER: Program = Program {
    name: "lxd",
    which: &["cluster"],
    at_once: "2",
};

/// The same LXD in a snap, on a host with systemd and snapd.
pub(crate) const SNAP: Program = Program {
    name: "snap",
    which: &[],
    at_once: "3",
};

/// Whether the tests can run here; an error says why not.
pub(crate) fn ready() -> Result<()> {
    if deps::privilege() == Privilege::None {
        bail!("it needs root, or a sudo that asks no password, for namespaces");
    }
    if sh::find("lxd").is_none() && !is_debian() {
        bail!("it needs Debian's lxd; Ubuntu's package of that name installs the snap");
    }
    deps::ensure(LAB)
}

/// From os-release(5). Derivatives of Debian have packages of their own.
fn is_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
}

/// The tests of `program`, with the agents that are in `agents`.
pub(crate) fn tests(program: Program, agents: &Path) -> Command {
    let mut tests = cargo();
    tests.args(["test", "--test", program.name, "--"]);
    tests.args(["--show-output", "--test-threads", program.at_once]);
    tests.args(program.which);
    tests.env("PALMFARM_AGENT_DIR", agents).env("PATH", search_path());
    if deps::privilege() == Privilege::Sudo {
        for (variable, runner) in runners(agents) {
            tests.env(variable, runner);
        }
    }
    tests
}

/// cargo's variables that name the program which starts a test program: sudo, with the variables that the tests read.
fn runners(agents: &Path) -> Vec<(String, String)> {
    let kept = ["HOME", "PATH", "XDG_CACHE_HOME"];
    let kept = kept
        .iter()
        .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let agents = ("PALMFARM_AGENT_DIR", agents.display().to_string());
    // cargo splits the line at blanks, so a value that has one is left out.
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
