//! A stand-in for the home: a network namespace whose `lan0` is the router, with dnsmasq for DHCPv4, router
//! advertisements and DHCPv6. Its other end is the `eth0` of the Pi's namespace. Never anything of the host's network.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::image::BUSYBOX;
use crate::netns::Netns;
use crate::sh;

/// The home's IPv6 prefix, out of the block for documentation (RFC 3849).
pub(crate) const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xebbd, 0x2080, 0, 0, 0, 0);

/// What the router hands out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// DHCPv4, router advertisements and DHCPv6.
    Both,
    /// DHCPv4 only.
    Ipv4,
    /// Router advertisements and DHCPv6 only.
    Ipv6,
}

/// The home router.
pub(crate) struct Router {
    netns: Netns,
    dir: PathBuf,
    servers: Vec<Child>,
}

impl Router {
    /// Lay the cable between `netns` and `pi`, as the latter's `eth0`; nothing is handed out yet.
    pub(crate) fn new(netns: Netns, pi: &Netns, dir: &Path) -> Self {
        netns.ip(&format!(
            "link add lan0 type veth peer name eth0 netns {}",
            pi.name()
        ));
        Self::on_lan0(netns, dir)
    }

    /// The same with a switch as `lan0`, to which each of `pis` has a cable.
    pub(crate) fn with_switch(netns: Netns, pis: &[Netns], dir: &Path) -> Self {
        netns.ip("link add lan0 type bridge mcast_snooping 0");
        for (number, pi) in pis.iter().enumerate() {
            netns.ip(&format!(
                "link add port{number} type veth peer name eth0 netns {}",
                pi.name()
            ));
            netns.ip(&format!("link set port{number} master lan0 up"));
        }
        Self::on_lan0(netns, dir)
    }

    fn on_lan0(netns: Netns, dir: &Path) -> Self {
        netns.ip("link set lo up");
        netns.ip("link set lan0 up");
        netns.ip("address add 192.0.2.1/24 dev lan0");
        netns.ip("address add 2001:db8:ebbd:2080::1/64 dev lan0 nodad");
        Self {
            netns,
            dir: dir.into(),
            servers: Vec::new(),
        }
    }

    /// Hand out addresses from now on. May be called once for each of [`Service::Ipv4`] and [`Service::Ipv6`].
    pub(crate) fn serve(&mut self, service: Service) {
        self.serve_later(service, 0);
    }

    /// Hand out addresses once so many seconds have passed.
    pub(crate) fn serve_later(&mut self, service: Service, seconds: u32) {
        let file = |what: &str| self.dir.join(format!("{what}-{}", self.servers.len()));
        let mut dnsmasq = self.netns.command("sh");
        dnsmasq
            .args([
                "-c",
                "sleep $1; shift; exec \"$@\"",
                "sh",
                &seconds.to_string(),
                "dnsmasq",
            ])
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
            ])
            .args([
                "--interface=lan0",
                "--except-interface=lo",
                "--bind-interfaces",
                "--no-ping",
            ])
            .args(["--dhcp-authoritative", "--log-dhcp"])
            .arg(format!("--pid-file={}", file("dnsmasq.pid").display()))
            .arg(format!("--dhcp-leasefile={}", file("dnsmasq.leases").display()))
            .arg(format!("--log-facility={}", file("dnsmasq.log").display()));
        if service != Service::Ipv6 {
            dnsmasq.arg("--dhcp-range=192.0.2.50,192.0.2.250,1h");
        }
        if service != Service::Ipv4 {
            dnsmasq.args([
                "--enable-ra",
                "--ra-param=lan0,10,1800",
                "--dhcp-range=2001:db8:ebbd:2080::1000,2001:db8:ebbd:2080::1fff,slaac,64,1h",
            ]);
        }
        let server = dnsmasq
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.servers.push(server);
    }

    /// `program` on the home's network.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.netns.command(program)
    }

    /// Whether `address` answers to an echo request.
    pub(crate) fn ping(&self, address: Ipv6Addr) -> bool {
        ping(self.netns.name(), address)
    }

    /// The name of its namespace, for [`ping`] on another thread.
    pub(crate) fn netns(&self) -> String {
        self.netns.name().into()
    }

    /// What a web server at `address` answers to a GET of `path`, if it does within two seconds.
    pub(crate) fn get(&self, address: Ipv6Addr, path: &str) -> Option<String> {
        let mut curl = self.netns.command("curl");
        curl.args([
            "--silent",
            "--fail",
            "--max-time",
            "2",
            "--noproxy",
            "*",
            "--globoff",
        ]);
        let done = sh::ended(curl.arg(format!("http://[{address}]:80{path}")));
        let answer = || String::from_utf8_lossy(&done.stdout).into_owned();
        done.status.success().then(answer)
    }
}

/// Whether `address` answers to an echo request out of the namespace `netns`.
pub(crate) fn ping(netns: &str, address: Ipv6Addr) -> bool {
    let mut ping = sh::words("setpriv --pdeathsig KILL ip netns exec");
    ping.args([netns, BUSYBOX, "ping", "-6", "-q", "-c", "1", "-W", "1"]);
    sh::succeeds(ping.arg(address.to_string()))
}

impl Drop for Router {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
