//! A stand-in for the home router: one network of its own with DHCPv4, router advertisements and stateful DHCPv6.
//!
//! Everything runs in a nameless network and process namespace that ends with this process, however that ends: the first
//! process in it reads from a pipe that only this process holds open. So nothing is left behind, the host's network is not
//! touched, and several runs can work at the same time.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use xshell::{cmd, Cmd, Shell};

use super::mdns;
use crate::deps::Package;
use crate::sh;

/// What the router needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    ("util-linux", "unshare"),
    ("iproute2", "ip"),
    ("dnsmasq-base", "dnsmasq"),
    ("iputils-ping", "ping"),
    ("busybox-static", "busybox"),
];

/// The prefix on the home network, from the documentation range (RFC 3849).
pub(crate) const PREFIX: &str = "2001:db8:ebbd:2080::/64";
/// The router itself (RFC 5737).
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// How long a router advertisement makes this the default router. Home routers announce 1800 s. With less, a failure that
/// takes five minutes there takes half a minute here.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);
/// Addresses of the router that are on no link: only a default route leads there.
pub(crate) const FAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The same for IPv6.
pub(crate) const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xfa, 0, 0, 0, 0, 1);

const BRIDGE: &str = "lan0";
const ADDRESS6: &str = "2001:db8:ebbd:2080::1/64";

/// Another network that a farm may declare, and the router's address in it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network {
    /// On the cable without a VLAN, and without DHCP.
    Untagged(Ipv4Addr),
    /// In the VLAN of this number, with DHCP.
    Vlan(u16, Ipv4Addr),
}

/// The network interface for QEMU of a socket, from 0.
pub(crate) fn tap(socket: u8) -> String {
    format!("tap{socket}")
}

/// The running router.
#[derive(Debug)]
pub(crate) struct Router {
    namespace: Namespace,
    dir: PathBuf,
    helpers: RefCell<Vec<Child>>,
}

impl Router {
    /// Set up the network. Logs and leases are written to `dir`, and the images in it are removed at the router's end.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let router = Self {
            namespace: Namespace::new(dir)?,
            dir: dir.to_owned(),
            helpers: RefCell::default(),
        };
        // Otherwise it answers neighbour solicitations as a host, and the card drops its default route (RFC 4861, 7.2.5).
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        sh::run(cmd!(router, "sh -c {forward}")).context("making the router a router")?;
        router.ip(&format!(
            "link set lo up
             address add {FAR4}/32 dev lo
             address add {FAR6}/128 dev lo
             link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0
             address add {ADDRESS}/24 dev {BRIDGE}
             address add {ADDRESS6} dev {BRIDGE} nodad
             link set {BRIDGE} up
             route add 224.0.0.0/4 dev {BRIDGE}\n"
        ))?;
        router.plug(0)?;
        router.speak()?;
        Ok(router)
    }

    /// Make another socket for a cable.
    pub(crate) fn plug(&self, socket: u8) -> Result<()> {
        let tap = tap(socket);
        self.ip(&format!(
            "tuntap add dev {tap} mode tap
             link set {tap} master {BRIDGE} up\n"
        ))
    }

    /// `program`, on the router; the name is the one that [`cmd!`] calls.
    pub(crate) fn cmd(&self, program: impl AsRef<Path>) -> Cmd<'_> {
        let Namespace { shell, pid, .. } = &self.namespace;
        cmd!(shell, "nsenter --net --pid --target {pid} --").arg(program.as_ref())
    }

    /// Whether one of three echo requests to `address` is answered.
    pub(crate) fn pings(&self, address: &str) -> bool {
        sh::succeeds(cmd!(self, "ping -n -q -c 3 -i 0.3 -W 2 {address}"))
    }

    /// Whether anybody is at the other end of the cable.
    pub(crate) fn has_carrier(&self) -> bool {
        let link = sh::output(cmd!(self, "ip -oneline link show dev {BRIDGE}"));
        link.is_ok_and(|link| link.contains("LOWER_UP"))
    }

    /// The IPv4 address that was given to the card with this MAC.
    pub(crate) fn lease(&self, mac: &str) -> Option<Ipv4Addr> {
        lease(&fs::read_to_string(self.dir.join("dnsmasq.leases")).ok()?, mac)
    }

    /// The link-layer address of `address`, as the router last saw it.
    pub(crate) fn neighbour(&self, address: Ipv6Addr) -> Option<String> {
        let address = address.to_string();
        let text = sh::output(cmd!(self, "ip -6 neighbour show {address}")).ok()?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    /// The addresses for which `name` is answered for on the home network by multicast DNS: A over IPv4, AAAA over IPv6.
    pub(crate) fn answers_for(&self, name: &str) -> Result<Vec<IpAddr>> {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.namespace.pid))?;
        // Only this thread enters the network of the router, and it ends.
        let asked = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)
                    .context("entering the router's network")?;
                let mut found = mdns::addresses4(name, ADDRESS)?;
                found.extend(mdns::addresses6(name, BRIDGE)?);
                Ok(found)
            });
            asking.join()
        });
        asked.unwrap_or_else(|_| bail!("asking for {name} panicked"))
    }

    /// Serve the files under `dir` over HTTP on the router's address.
    pub(crate) fn serve(&self, dir: &Path) -> Result<()> {
        let listen = format!("{ADDRESS}:80");
        self.keep("httpd", |router| {
            cmd!(router, "busybox httpd -f -p {listen} -h {dir}")
        })
    }

    /// Stop advertisements and DHCP, as if the router were still off. The cable stays in.
    pub(crate) fn fall_silent(&self) -> Result<()> {
        let pid = fs::read_to_string(self.dir.join("dnsmasq.pid"))?;
        let pid = pid.trim();
        // The process number counts in the namespace, so it is ended from there, by the `kill` that every shell has.
        let kill = "kill \"$0\"";
        sh::run(cmd!(self, "sh -c {kill} {pid}")).context("ending dnsmasq")
    }

    /// Start advertisements and DHCP, at first or again.
    pub(crate) fn speak(&self) -> Result<()> {
        let slaac = "2001:db8:ebbd:2080::1000,2001:db8:ebbd:2080::1fff,slaac,64";
        let ranges = ["192.0.2.100,192.0.2.199,255.255.255.0", slaac];
        self.dnsmasq("dnsmasq", BRIDGE, &ranges)
    }

    /// Be on another network of the same cable as well.
    pub(crate) fn join(&self, network: Network) -> Result<()> {
        match network {
            Network::Untagged(router) => self.ip(&format!("address add {router}/24 dev {BRIDGE}\n")),
            Network::Vlan(id, router) => {
                let link = format!("{BRIDGE}.{id}");
                self.ip(&format!(
                    "link add link {BRIDGE} name {link} type vlan id {id}
                     address add {router}/24 dev {link}
                     link set {link} up\n"
                ))?;
                let [a, b, c, _] = router.octets();
                let range = format!("{a}.{b}.{c}.100,{a}.{b}.{c}.199,255.255.255.0");
                self.dnsmasq("dnsmasq-vlan", &link, &[&range])
            }
        }
    }

    /// Run `commands` of ip(8), one a line.
    fn ip(&self, commands: &str) -> Result<()> {
        let ip = cmd!(self, "ip -batch -").stdin(commands);
        ip.quiet().run().context("setting up the router's network")
    }

    /// Serve addresses of `ranges` on `interface`, and advertise those that are IPv6.
    fn dnsmasq(&self, name: &str, interface: &str, ranges: &[&str]) -> Result<()> {
        let file = self.dir.join(name).display().to_string();
        let ranges = ranges.iter().map(|range| format!("--dhcp-range={range},2m"));
        let (lifetime, address) = (LIFETIME.as_secs().to_string(), ADDRESS.to_string());
        self.keep(name, |router| {
            cmd!(
                router,
                "dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --log-dhcp --no-resolv --no-hosts
                    --no-ping --dhcp-authoritative --enable-ra --bind-dynamic --interface={interface}
                    --pid-file={file}.pid --log-facility={file}.log --dhcp-leasefile={file}.leases {ranges...}
                    --ra-param={interface},10,{lifetime} --address=/router.lan/{address}"
            )
        })
    }

    /// Start a helper. If it ends at once, it has failed.
    fn keep(&self, name: &str, command: impl FnOnce(&Self) -> Cmd<'_>) -> Result<()> {
        let log = self.dir.join(format!("{name}.out"));
        let mut child = sh::start_logged(command(self), &log)?;
        thread::sleep(Duration::from_millis(300));
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("{name} ended with {status}: {}", said.trim());
        }
        self.helpers.borrow_mut().push(child);
        Ok(())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        drop(self.namespace.holder.stdin.take());
        // All of them were killed with their namespace; this only reads their exit codes.
        for process in std::iter::once(&mut self.namespace.holder).chain(self.helpers.get_mut()) {
            let _ = process.wait();
        }
    }
}

/// A network and a process namespace. They end when the standard input of `holder` is closed.
#[derive(Debug)]
struct Namespace {
    holder: Child,
    /// The host's number of the first process in it.
    pid: String,
    shell: Shell,
}

impl Namespace {
    /// At its end the images in `scratch` are removed: they are large, and an interrupt ends this process before its
    /// destructors run.
    fn new(scratch: &Path) -> Result<Self> {
        let shell = sh::shell()?;
        // Through the host's /proc a process sees its number on the host. Nothing is written to the pipe: when it closes,
        // everything in the namespace ends.
        let script =
            "read -r pid rest < /proc/self/stat; echo \"$pid\"; cat > /dev/null; rm -f \"$0\"/*.img*";
        let unshare = cmd!(
            shell,
            "unshare --net --pid --fork --kill-child sh -c {script} {scratch}"
        );
        let mut unshare = std::process::Command::from(unshare);
        let holder = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut holder = holder.context("starting unshare")?;
        let mut pid = String::new();
        if let Some(out) = holder.stdout.take() {
            BufReader::new(out)
                .read_line(&mut pid)
                .context("reading the namespace's process number")?;
        }
        let pid = pid.trim().to_owned();
        if pid.parse::<u32>().is_err() {
            let _ = holder.kill();
            let _ = holder.wait();
            bail!("unshare made no network namespace (it needs root)");
        }
        Ok(Self { holder, pid, shell })
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
