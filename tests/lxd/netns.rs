//! A named network namespace that goes away with its owner.

use std::process::Command;

use crate::cgroup::Cgroup;
use crate::sh;

/// A network namespace of this process.
pub(crate) struct Netns(String);

impl Netns {
    /// Make it; nobody else may have one of that name.
    pub(crate) fn new(name: String) -> Self {
        sh::run(&mut sh::words(&format!("ip netns add {name}")));
        Self(name)
    }

    /// Its name for ip(8).
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// `program` in it, with a sysfs that shows its interfaces. What is spawned is the program itself, and it dies with
    /// the thread that spawned it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = sh::words("setpriv --pdeathsig KILL ip netns exec");
        command.arg(&self.0).arg(program);
        command
    }

    /// `ip` with `line`, in it.
    pub(crate) fn ip(&self, line: &str) {
        sh::run(&mut sh::words(&format!("ip -n {} {line}", self.0)));
    }

    /// Bring up `br0` over the `eth0` that is in it, as it is on a Pi.
    pub(crate) fn bridge(&self) {
        self.bridge_of(0);
    }

    /// The same on one of several Pis on a LAN.
    pub(crate) fn bridge_of(&self, number: u8) {
        self.ip("link set lo up");
        self.ip(&format!(
            "link add br0 address b8:27:eb:6c:02:{:x} type bridge mcast_snooping 0",
            0x88 + number
        ));
        self.ip("link set eth0 master br0 up");
        // The daemon turns forwarding on, after which the kernel listens to routers only if `accept_ra` is 2.
        sh::run(
            self.command("sysctl")
                .args(["-q", "-w", "net.ipv6.conf.br0.accept_ra=2"]),
        );
        self.ip("link set br0 up");
        self.ip(&format!("address add 192.0.2.{}/24 dev br0", 10 + number));
    }
}

/// What starts process 1 of namespaces of its own, in the network `netns` and the control group `cgroup`; options of
/// unshare(1) and its program may follow.
pub(crate) fn namespaces(netns: &Netns, cgroup: &Cgroup) -> Command {
    let enter = r#"until [ "$1" = -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@""#;
    let mut init = sh::words("setpriv --pdeathsig KILL sh -c");
    init.args([enter, "sh"]).args(cgroup.entrances()).arg("--");
    init.args(["ip", "netns", "exec", netns.name(), "unshare"])
        .args(["--mount", "--pid", "--fork", "--kill-child=KILL"])
        .args(["--cgroup", "--ipc", "--uts"]);
    init
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = sh::succeeds(&mut sh::words(&format!("ip netns delete {}", self.0)));
    }
}
