//! Checks of a running card, from the router's side of the cable if that is possible. They change nothing on it.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use super::checks::{equal, Checks};
use super::farm::USER;
use super::guest::Guest;
use super::lab::Lab;
use super::off::text;
use super::qemu::Machine;
use super::router::{FAR4, FAR6, LIFETIME};
use super::table::{table, Row};
use super::Renderer;

/// Every file that could configure an interface.
const NETWORK_FILES: &str =
    "find /etc/systemd /etc/netplan /etc/network -type f -exec sha256sum {} + | sort -k 2";

/// A card that was powered on.
#[derive(Debug)]
pub(crate) struct Card<'a> {
    /// Where it boots.
    pub(crate) lab: &'a Lab,
    /// How to log in to it.
    pub(crate) guest: Guest<'a>,
    /// What it runs in.
    pub(crate) machine: Machine,
    /// Where it should answer.
    predicted: Ipv6Addr,
    /// Who configures its network in the end.
    renderer: Renderer,
}

impl<'a> Card<'a> {
    /// The card in `machine`.
    pub(crate) fn new(lab: &'a Lab, machine: Machine, predicted: Ipv6Addr, renderer: Renderer) -> Self {
        let guest = lab.guest(USER, &predicted.to_string());
        Self {
            lab,
            guest,
            machine,
            predicted,
            renderer,
        }
    }

    /// Check that it answers at the predicted address and accepts the key. An error if not: nothing else can be checked.
    pub(crate) fn answers(&mut self, checks: &mut Checks) -> Result<()> {
        let Self {
            lab,
            guest,
            machine,
            predicted,
            ..
        } = self;
        let deadline = lab.deadline.at_most(1800);
        let reached = deadline.retry(|| {
            machine.still_on()?;
            let answers = lab.router.pings(&guest.address);
            ensure!(answers, "no answer from {predicted}, the predicted address");
            Ok(())
        });
        let observed = reached.and_then(|()| {
            let mac = lab
                .router
                .neighbour(*predicted)
                .context("the router does not know who answered")?;
            equal(&mac, &lab.mac())?;
            Ok(format!("{predicted} at {mac}"))
        });
        let answered = checks.check("the router reaches br0 at the predicted IPv6 address", observed);
        checks.check("the router reaches br0 over IPv4", deadline.retry(|| lab.lease()));
        ensure!(answered, "the card did not answer at {predicted}");
        let login = lab.deadline.at_most(1800).retry(|| guest.sh("id -un"));
        let logged_in = checks.equal("ssh from the router takes the key", login, guest.user);
        ensure!(logged_in, "nobody can log in to the card");
        Ok(())
    }

    /// Wait until cloud-init and the agent are done, by short connections only: the network may change meanwhile.
    pub(crate) fn settles(&mut self, checks: &mut Checks) {
        let guest = &self.guest;
        let cloud_init = self.lab.deadline.at_most(2400).retry(|| {
            // It exits with 1 on errors, and with 2 on those that it recovered from.
            let status = guest.sh_once("test -e /run/cloud-init/result.json", "cloud-init status || true")?;
            ensure!(status.trim() != "status: running", "cloud-init is still running");
            Ok(status)
        });
        checks.equal("cloud-init is done", cloud_init, "status: done");
        let report = self
            .lab
            .report(guest, &mut self.machine, "/boot/firmware/palmfarm-report.json");
        let done = report.and_then(|report| {
            equal(text(&report, "/state"), "done").with_context(|| format!("its report: {report:#}"))
        });
        if !checks.check("the agent is done", done) {
            let journal = "journalctl -b -o short-monotonic -u 'palmfarm*' | tail -n 40";
            checks.note(&guest.root(journal).unwrap_or_default());
        }
    }

    /// Check host name, user, root file system and units.
    pub(crate) fn is_as_declared(&self, checks: &mut Checks) {
        let guest = &self.guest;
        checks.equal(
            "the host name is as declared",
            guest.sh("hostname"),
            &self.lab.host,
        );
        let group = guest.sh("id -nG | tr ' ' '\\n' | grep -x sudo");
        checks.check("the user is in the declared group", group);
        let nobody = guest.root("getent passwd ubuntu || true");
        checks.nothing("the base's own user is not there", nobody);
        let size = guest.sh("df --output=size -B1M / | tail -n 1").and_then(|text| {
            let mib: u64 = text
                .trim()
                .parse()
                .with_context(|| format!("df printed {text:?}"))?;
            // Of the 8 GiB card, half a GiB is the FAT partition's and some the file system's own.
            ensure!(
                mib >= 6 * 1024,
                "the root file system has {mib} MiB of an 8 GiB card"
            );
            Ok(format!("{mib} MiB"))
        });
        checks.check("the root file system has grown", size);
        // LXD confines its containers only then, and programs in them may do less than without.
        checks.equal(
            "AppArmor is on",
            guest.sh("cat /sys/module/apparmor/parameters/enabled"),
            "Y",
        );
        checks.nothing(
            "no unit has failed",
            guest.root("systemctl --failed --plain --no-legend"),
        );
        let cycles =
            "journalctl -b -o cat _PID=1 | grep -i -e 'ordering cycle' -e 'deleted to break' || true";
        checks.nothing("no ordering cycle", guest.root(cycles));
    }

    /// Check that the addresses are where they should be and nowhere else.
    pub(crate) fn has_its_network(&self, checks: &mut Checks) {
        let guest = &self.guest;
        let uplink = addresses(guest, "eth0").map(|found| found.join("\n"));
        checks.nothing("eth0 has no address", uplink);
        checks.show("predicted and observed", &table(&self.side_by_side()));
        let bridge = addresses(guest, "br0").and_then(|found| {
            let all = found.join(" ");
            let global = global(&found);
            let v6 = global.iter().filter(|address| address.contains(':')).count();
            // One IPv4 address, the predicted one, and one from DHCPv6.
            let one_of_each = global.len() == 3 && v6 == 2 && found.contains(&guest.address);
            ensure!(one_of_each, "br0 has {all}");
            // The same MAC forms the second half of both.
            let [_, _, _, _, a, b, c, d] = self.predicted.segments();
            let local = Ipv6Addr::new(0xfe80, 0, 0, 0, a, b, c, d).to_string();
            let mac = self.lab.mac();
            ensure!(
                found.contains(&local),
                "br0's link-local address is not that of {mac}: {all}"
            );
            Ok(all)
        });
        checks.check("br0 has one address of each kind", bridge);
        checks.done("the card reaches hosts behind the router", beyond(guest));
        if self.renderer == Renderer::Ifupdown {
            checks.equal("ifupdown holds br0", guest.root("ifquery --state br0"), "br0=br0");
            let clients = guest
                .root("pgrep -c dhclient || true")
                .and_then(|text| match text.trim() {
                    "0" => bail!("no dhclient runs"),
                    count => Ok(count.to_owned()),
                });
            checks.check("ifupdown's DHCP client runs", clients);
            // Its UDP socket is bound to the interface once networkd holds a lease.
            let second =
                "ss --no-header --udp --listening --processes 'sport = :68' | grep systemd-network || true";
            checks.nothing("networkd's DHCP client does not", guest.root(second));
        }
    }

    /// What `plan` predicted, and what the router observes.
    fn side_by_side(&self) -> Vec<Row> {
        let router = &self.lab.router;
        let found = addresses(&self.guest, "br0").unwrap_or_default();
        let found = global(&found).into_iter().filter(|address| router.pings(address));
        let (own, others): (Vec<&str>, Vec<&str>) = found.partition(|address| *address == self.guest.address);
        let mac = own.first().and_then(|_| router.neighbour(self.predicted));
        let row =
            |what: &str, predicted: &str, observed: &str| [what, predicted, observed].map(str::to_owned);
        let mut rows = vec![
            row("br0, MAC", &self.lab.mac(), &mac.unwrap_or_default()),
            row(
                "br0, from its MAC",
                &self.guest.address,
                own.first().unwrap_or(&""),
            ),
        ];
        rows.extend(others.iter().map(|address| {
            let by = if address.contains(':') { "DHCPv6" } else { "DHCP" };
            row(&format!("br0, by {by}"), "", address)
        }));
        rows
    }

    /// Check for a failure that was once seen: after some minutes the IPv6 default route was gone.
    pub(crate) fn outlasts_three_lifetimes(&self, checks: &mut Checks) {
        checks.note("waiting for three router lifetimes");
        thread::sleep(LIFETIME.saturating_mul(3).saturating_add(Duration::from_secs(5)));
        let guest = &self.guest;
        let route = guest.sh("ip -6 route show default").and_then(|text| {
            let mut routes = text.lines();
            let kept = routes.any(|line| line.starts_with("default via fe80:") && line.contains("dev br0"));
            ensure!(kept, "the default routes are {text:?}");
            Ok(text)
        });
        checks.check(
            "after three router lifetimes the default route is still there",
            route,
        );
        checks.done(
            "after three router lifetimes the card reaches hosts behind the router",
            beyond(guest),
        );
        let address = guest.address.clone();
        let seen = guest.router.pings(&address).then_some(address);
        let seen = seen.with_context(|| format!("no answer from {}", guest.address));
        checks.check("after three router lifetimes the address still answers", seen);
    }

    /// The outcome of a first boot, which must be the same however often the power was cut on the way.
    pub(crate) fn outcome(&self) -> Result<Vec<(&'static str, String)>> {
        let packages = "dpkg-query -W -f '${Status} ${Package} ${Version}\n'; dpkg --audit";
        let keys = "ls /etc/ssh; for key in /etc/ssh/ssh_host_*_key; do \
                    ssh-keygen -y -f $key > /dev/null || echo $key cannot be read; done";
        let settings =
            "readlink /etc/localtime; cat /etc/timezone /etc/default/locale /etc/hostname /etc/hosts; \
                        locale -a | sort";
        let accounts = "cut -d : -f 1,3,4,6,7 /etc/passwd; cut -d : -f 1,3,4 /etc/group; cat /etc/subuid; \
                        grep -hv '^#' /etc/sudoers.d/*; cat /home/*/.ssh/authorized_keys; ls -A /home/*";
        let homes = "find /home -path '*/.cache' -prune -o -type f -printf '%M %u %g %p %s\\n' | sort";
        // Those that differ between any two first boots: keys, numbers and times of the machine, and what tools keep
        // of the time before.
        let contents = "find /etc -xdev -type f ! -name 'ssh_host_*' ! -name machine-id ! -name '*-' \
                        ! -name ld.so.cache -exec sha256sum {} + | sort -k 2";
        let each = [
            ("the homes are", homes),
            ("the contents of /etc are", contents),
            ("the packages are", packages),
            ("the accounts are", accounts),
            ("the settings are", settings),
            ("the SSH host keys are there", keys),
            ("the network's files are", NETWORK_FILES),
            ("the units are", "find /etc/systemd/system | sort"),
            (
                "the empty files in /etc are",
                "find /etc -xdev -type f -empty | sort",
            ),
        ];
        let each = each
            .into_iter()
            .map(|(what, script)| Ok((what, self.guest.root(script)?)));
        each.collect()
    }

    /// What a second boot must not change.
    pub(crate) fn identity(&self) -> Result<Vec<(&'static str, String)>> {
        let guest = &self.guest;
        let accounts = "sha256sum /etc/passwd /etc/shadow /etc/group /home/*/.ssh/authorized_keys";
        Ok(vec![
            (
                "the SSH host keys",
                guest.root("cd /etc/ssh && sha256sum ssh_host_*")?,
            ),
            ("the machine id", guest.sh("cat /etc/machine-id")?),
            ("br0's addresses", addresses(guest, "br0")?.join(" ")),
            ("the accounts", guest.root(accounts)?),
            ("the network's files", guest.root(NETWORK_FILES)?),
        ])
    }
}

/// Whether the card reaches the two addresses of the router that only a default route leads to.
fn beyond(guest: &Guest<'_>) -> Result<()> {
    for (option, address) in [("-4", IpAddr::V4(FAR4)), ("-6", IpAddr::V6(FAR6))] {
        let ping = guest.sh(&format!("ping -n -q -c 2 -W 5 {option} {address}"));
        ping.with_context(|| {
            let state =
                guest.sh("ip route; ip -6 route show table all; ip neigh; ip -6 neigh; ip -s link show br0");
            format!("its routes and neighbours: {}", state.unwrap_or_default())
        })?;
    }
    Ok(())
}

/// Those that are not link-local.
pub(crate) fn global(addresses: &[String]) -> Vec<&str> {
    let addresses = addresses.iter().map(String::as_str);
    addresses
        .filter(|address| !address.starts_with("fe80:"))
        .collect()
}

/// All addresses of `interface`, IPv4 first, each kind sorted.
pub(crate) fn addresses(guest: &Guest<'_>, interface: &str) -> Result<Vec<String>> {
    let text = guest.sh(&format!("ip -json address show dev {interface}"))?;
    let links: Vec<Value> = serde_json::from_str(&text).context("reading what ip printed")?;
    let addresses = links
        .iter()
        .filter_map(|link| link.get("addr_info")?.as_array())
        .flatten();
    let found = addresses.filter_map(|address| address.get("local")?.as_str().map(str::to_owned));
    let mut found: Vec<String> = found.collect();
    found.sort_by_key(|address| (address.contains(':'), address.clone()));
    Ok(found)
}
