//! A stand-in for the home router: one network of its own with DHCPv4, router advertisements and stateful DHCPv6.
//!
//! Everything runs in a nameless network and process namespace that ends with this process, however that ends: the
//! first process in it reads from a pipe that only we hold open. So nothing is left behind, nothing of the host's
//! network is touched, and any number of runs can go on at once.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};

use crate::deps::{command, Package};
use crate::sh;

/// What the router needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    command("util-linux", "unshare"),
    command("iproute2", "ip"),
    command("dnsmasq-base", "dnsmasq"),
    command("iputils-ping", "ping"),
    command("busybox-static", "busybox"),
];

/// The prefix on the home network, from the documentation range (RFC 3849).
pub(crate) const PREFIX: &str = "2001:db8:ebbd:2080::/64";
/// The router itself (RFC 5737).
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// How long a router advertisement makes this the default router. Home routers say 1800 s; with less, the failure
/// that takes five minutes there shows here after half a minute.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);
/// The network card that QEMU is given.
pub(crate) const TAP: &str = "tap0";

/// Addresses of the router that are on nobody's link: only a default route leads there.
pub(crate) const FAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The same for IPv6.
pub(crate) const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xfa, 0, 0, 0, 0, 1);

const BRIDGE: &str = "lan0";
const ADDRESS6: &str = "2001:db8:ebbd:2080::1/64";

/// Another network that a farm may mean, with the router's address in it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network {
    /// On the cable as it is; nobody gives addresses there.
    Untagged(Ipv4Addr),
    /// In the VLAN of this number, with DHCP.
    Vlan(u16, Ipv4Addr),
}

/// The running router.
#[derive(Debug)]
pub(crate) struct Router {
    namespace: Namespace,
    dir: PathBuf,
    helpers: Vec<Child>,
}

impl Router {
    /// Set up the network; logs and leases go to `dir`, and images in it go when the router does.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let mut router = Self {
            namespace: Namespace::new(dir)?,
            dir: dir.to_owned(),
            helpers: Vec::new(),
        };
        // Or it answers neighbour solicitations as a host, and the card rightly drops its default route (RFC 4861, 7.2.5).
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        sh::run(router.cmd("sh").args(["-c", forward])).context("making the router a router")?;
        router.ip(&["link", "set", "lo", "up"])?;
        router.ip(&["address", "add", &format!("{FAR4}/32"), "dev", "lo"])?;
        router.ip(&["address", "add", &format!("{FAR6}/128"), "dev", "lo"])?;
        router.ip(&[
            "link",
            "add",
            BRIDGE,
            "type",
            "bridge",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ])?;
        router.ip(&["address", "add", &format!("{ADDRESS}/24"), "dev", BRIDGE])?;
        router.ip(&["address", "add", ADDRESS6, "dev", BRIDGE, "nodad"])?;
        router.ip(&["tuntap", "add", "dev", TAP, "mode", "tap"])?;
        router.ip(&["link", "set", TAP, "master", BRIDGE, "up"])?;
        router.ip(&["link", "set", BRIDGE, "up"])?;
        router.speak()?;
        Ok(router)
    }

    /// `program`, on the router.
    pub(crate) fn cmd(&self, program: &str) -> Command {
        self.namespace.cmd(program)
    }

    /// Whether one of three echo requests to `address` is answered.
    pub(crate) fn pings(&self, address: &str) -> bool {
        sh::succeeds(
            self.cmd("ping")
                .args(["-n", "-q", "-c", "3", "-i", "0.3", "-W", "2", address]),
        )
    }

    /// The IPv4 address that was given to the card with this MAC.
    pub(crate) fn lease(&self, mac: &str) -> Option<Ipv4Addr> {
        lease(&fs::read_to_string(self.leases()).ok()?, mac)
    }

    /// The link-layer address at which `address` was last heard.
    pub(crate) fn neighbour(&self, address: Ipv6Addr) -> Option<String> {
        let text = sh::output(
            self.cmd("ip")
                .args(["-6", "neighbour", "show", &address.to_string()]),
        )
        .ok()?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    /// Serve the files under `dir` over HTTP on the router's address.
    pub(crate) fn serve(&mut self, dir: &Path) -> Result<()> {
        let mut busybox = self.cmd("busybox");
        busybox
            .args(["httpd", "-f", "-p", &format!("{ADDRESS}:80"), "-h"])
            .arg(dir);
        self.keep("httpd", busybox)
    }

    /// Fall silent: no advertisements and no DHCP, as a router that is still off. The cable stays in.
    pub(crate) fn fall_silent(&mut self) -> Result<()> {
        let pid = self.dir.join("dnsmasq.pid");
        let pid = fs::read_to_string(&pid).with_context(|| format!("reading {}", pid.display()))?;
        // Its number counts in the namespace, so it is ended from there.
        // By the shell's own `kill`, which every system has.
        sh::run(self.cmd("sh").args(["-c", "kill \"$0\"", pid.trim()])).context("ending dnsmasq")
    }

    /// Come back as it was.
    pub(crate) fn speak(&mut self) -> Result<()> {
        let slaac = "2001:db8:ebbd:2080::1000,2001:db8:ebbd:2080::1fff,slaac,64";
        let ranges = ["192.0.2.100,192.0.2.199,255.255.255.0", slaac];
        self.dnsmasq("dnsmasq", BRIDGE, &ranges)
    }

    /// Be on another network of the same cable as well.
    pub(crate) fn join(&mut self, network: Network) -> Result<()> {
        match network {
            Network::Untagged(router) => self.ip(&["address", "add", &format!("{router}/24"), "dev", BRIDGE]),
            Network::Vlan(id, router) => {
                let link = format!("{BRIDGE}.{id}");
                let id = id.to_string();
                self.ip(&[
                    "link", "add", "link", BRIDGE, "name", &link, "type", "vlan", "id", &id,
                ])?;
                self.ip(&["address", "add", &format!("{router}/24"), "dev", &link])?;
                self.ip(&["link", "set", &link, "up"])?;
                let [a, b, c, _] = router.octets();
                let range = format!("{a}.{b}.{c}.100,{a}.{b}.{c}.199,255.255.255.0");
                self.dnsmasq("dnsmasq-vlan", &link, &[&range])
            }
        }
    }

    fn leases(&self) -> PathBuf {
        self.dir.join("dnsmasq.leases")
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        sh::run(self.cmd("ip").args(args)).context("setting up the router's network")
    }

    /// Give addresses of `ranges` on `interface`, and advertise what is IPv6 among them.
    fn dnsmasq(&mut self, name: &str, interface: &str, ranges: &[&str]) -> Result<()> {
        let file = |end: &str| self.dir.join(format!("{name}.{end}")).display().to_string();
        let mut dnsmasq = self.cmd("dnsmasq");
        dnsmasq
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
                "--log-dhcp",
                "--no-resolv",
                "--no-hosts",
                "--no-ping",
                "--dhcp-authoritative",
                "--enable-ra",
                "--bind-dynamic",
            ])
            .arg(format!("--interface={interface}"))
            .arg(format!("--pid-file={}", file("pid")))
            .arg(format!("--log-facility={}", file("log")))
            .arg(format!("--dhcp-leasefile={}", file("leases")))
            .args(ranges.iter().map(|range| format!("--dhcp-range={range},2m")))
            .arg(format!("--ra-param={interface},10,{}", LIFETIME.as_secs()))
            .arg(format!("--address=/router.lan/{ADDRESS}"));
        self.keep(name, dnsmasq)
    }

    /// Start a helper; one that ends at once had a reason.
    fn keep(&mut self, name: &str, mut command: Command) -> Result<()> {
        let log = self.dir.join(format!("{name}.out"));
        let out = fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let errors = out
            .try_clone()
            .with_context(|| format!("opening {} again", log.display()))?;
        let mut child = command
            .stdout(out)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        thread::sleep(Duration::from_millis(300));
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("looking after {name}"))?
        {
            bail!(
                "{name} ended with {status}: {}",
                fs::read_to_string(&log).unwrap_or_default().trim()
            );
        }
        self.helpers.push(child);
        Ok(())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.namespace.end();
        for helper in &mut self.helpers {
            // It was killed with its namespace; this only takes its exit code.
            let _ = helper.wait();
        }
    }
}

/// A network and a process namespace, alive as long as this is.
#[derive(Debug)]
struct Namespace {
    holder: Child,
    /// The first process in it, as the host counts.
    pid: u32,
}

impl Namespace {
    /// With it go the images in `scratch`: they are large, and an interrupt ends this process before its destructors.
    fn new(scratch: &Path) -> Result<Self> {
        // Through the host's /proc a process sees its number on the host. Nothing is ever written to the pipe: its
        // end is the end of everything in the namespace.
        let script =
            "read -r pid rest < /proc/self/stat; echo \"$pid\"; cat > /dev/null; rm -f \"$0\"/*.img*";
        let mut unshare = sh::cmd("unshare", ["--net", "--pid", "--fork", "--kill-child"]);
        let mut holder = unshare
            .args(["sh", "-c", script])
            .arg(scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting unshare")?;
        let mut line = String::new();
        if let Some(out) = holder.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .context("reading the namespace's process number")?;
        }
        let Ok(pid) = line.trim().parse() else {
            let _ = holder.kill();
            let _ = holder.wait();
            bail!("unshare made no network namespace (it needs root)");
        };
        Ok(Self { holder, pid })
    }

    fn cmd(&self, program: &str) -> Command {
        let mut nsenter = sh::cmd(
            "nsenter",
            ["--net", "--pid", "--target", &self.pid.to_string(), "--"],
        );
        nsenter.arg(sh::find(program).unwrap_or_else(|| PathBuf::from(program)));
        nsenter
    }

    fn end(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end();
    }
}

/// A line of dnsmasq's lease file: expiry, MAC, address, name, client identifier.
fn lease(leases: &str, mac: &str) -> Option<Ipv4Addr> {
    leases.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next()? == mac).then_some(())?;
        fields.next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lease_of_one_card() {
        let text = "1700000000 52:54:00:00:00:01 192.0.2.150 other *\n\
                    1700000000 b8:27:eb:12:34:56 192.0.2.163 palm 01:b8:27:eb:12:34:56\n\
                    duid 00:01:00:01:2e:00:00:00:52:54:00:00:00:01\n\
                    1700000000 309605846 2001:db8:ebbd:2080::1abc palm 00:02:00:00:ab:11\n";
        let check =
            |mac: &str, expect: Option<[u8; 4]>| assert_eq!(lease(text, mac), expect.map(Ipv4Addr::from));
        check("b8:27:eb:12:34:56", Some([192, 0, 2, 163]));
        check("b8:27:eb:12:34:57", None);
        check("309605846", None);
    }
}
