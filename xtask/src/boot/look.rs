//! Looking at a running card, from the router's side of the cable wherever that is possible.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde_json::Value;

use super::checks::{equal, nothing, Checks};
use super::deadline::Deadline;
use super::guest::Guest;
use super::qemu::Machine;
use super::router::{FAR4, FAR6, LIFETIME};
use super::table::{table, Row};
use super::Renderer;
use super::HOST;

/// Every file of everybody who could configure an interface.
const NETWORK_FILES: &str =
    "find /etc/systemd /etc/netplan /etc/network -type f -exec sha256sum {} + | sort -k 2";

/// A card that was powered on.
#[derive(Debug)]
pub(crate) struct Card<'a> {
    /// How to log in to it.
    pub(crate) guest: Guest<'a>,
    /// What it runs in.
    pub(crate) machine: &'a mut Machine,
    /// Where it should answer.
    pub(crate) predicted: Ipv6Addr,
    /// Of its NIC.
    pub(crate) mac: &'static str,
    /// Who configures its network in the end.
    pub(crate) renderer: Renderer,
    /// The end of the trial.
    pub(crate) deadline: Deadline,
}

impl Card<'_> {
    /// It answers at the predicted address and takes the key; without that, there is nothing more to see.
    pub(crate) fn answers(&mut self, checks: &mut Checks) -> Result<()> {
        let router = self.guest.router;
        let (predicted, nic) = (self.predicted, self.mac);
        let deadline = self.deadline.at_most(1800);
        let reached = deadline.retry(|| {
            self.machine.still_on()?;
            if !router.pings(&predicted.to_string()) {
                bail!("no answer from {predicted}, the predicted address");
            }
            Ok(())
        });
        let observed = reached.and_then(|()| {
            let mac = router
                .neighbour(predicted)
                .context("nothing is known of who answered")?;
            equal(&mac, self.mac)?;
            Ok(format!("{predicted} at {mac}"))
        });
        let answered = checks.check("the router reaches br0 at the predicted IPv6 address", observed);
        let leased = deadline.retry(|| {
            let lease = router.lease(nic).with_context(|| format!("no lease for {nic}"))?;
            if !router.pings(&lease.to_string()) {
                bail!("no answer from {lease}");
            }
            Ok(lease.to_string())
        });
        checks.check("the router reaches br0 over IPv4", leased);
        if !answered {
            bail!("the card did not answer at {predicted}");
        }
        let guest = &self.guest;
        let login = self.deadline.at_most(900).retry(|| guest.sh("id -un"));
        if !checks.check(
            "ssh from the router takes the key",
            login.and_then(|user| equal(&user, guest.user)),
        ) {
            bail!("nobody can log in to the card");
        }
        Ok(())
    }

    /// cloud-init and the agent are through. Short questions only: the network may change hands meanwhile.
    pub(crate) fn settles(&mut self, checks: &mut Checks) {
        let deadline = self.deadline.at_most(2400);
        let guest = &self.guest;
        let cloud_init = deadline.retry(|| {
            // It exits with 1 on errors, and with 2 on those that it got over.
            let status = guest.sh("cloud-init status || true")?;
            match status.trim() {
                "status: not run" | "status: not started" | "status: running" => {
                    bail!("cloud-init is not through")
                }
                _ => Ok(status),
            }
        });
        checks.check(
            "cloud-init is done",
            cloud_init.and_then(|text| equal(&text, "status: done")),
        );
        let machine = &mut *self.machine;
        let agent = deadline.retry(|| {
            machine.still_on()?;
            let question =
                "systemctl show --value --property=ExecMainExitTimestampMonotonic palmfarm-firstboot.service";
            match guest.sh(question)?.trim() {
                "" | "0" => bail!("the agent is still at work"),
                _ => guest.root("cat /boot/firmware/palmfarm-report.json"),
            }
        });
        let done = agent.and_then(|text| {
            let report: Value = serde_json::from_str(&text).context("reading palmfarm-report.json")?;
            let state = report.get("state").and_then(Value::as_str).unwrap_or("missing");
            equal(state, "done").with_context(|| format!("its report: {report:#}"))
        });
        if !checks.check("the agent is done", done) {
            let journal = "journalctl -b -o short-monotonic -u 'palmfarm*' | tail -n 40";
            checks.note(&guest.root(journal).unwrap_or_default());
        }
    }

    /// Host name, user, root file system, units.
    pub(crate) fn is_as_declared(&self, checks: &mut Checks) {
        let guest = &self.guest;
        checks.check(
            "the host name is as declared",
            guest.sh("hostname").and_then(|name| equal(&name, HOST)),
        );
        checks.check(
            "the user is in the declared group",
            guest.sh("id -nG | tr ' ' '\\n' | grep -x sudo"),
        );
        let nobody = guest
            .root("getent passwd ubuntu || true")
            .and_then(|text| nothing(&text));
        checks.check("the base's own user is not there", nobody);
        let size = guest.sh("df --output=size -B1M / | tail -n 1").and_then(|text| {
            let mib: u64 = text
                .trim()
                .parse()
                .with_context(|| format!("df printed {text:?}"))?;
            // Of the 8 GiB card, half a GiB is the FAT partition's and some the file system's own.
            if mib < 6 * 1024 {
                bail!("the root file system has {mib} MiB of an 8 GiB card");
            }
            Ok(format!("{mib} MiB"))
        });
        checks.check("the root file system has grown", size);
        let failed = guest
            .root("systemctl --failed --plain --no-legend")
            .and_then(|text| nothing(&text));
        checks.check("no unit has failed", failed);
        let cycles =
            "journalctl -b -o cat _PID=1 | grep -i -e 'ordering cycle' -e 'deleted to break' || true";
        checks.check(
            "no ordering cycle",
            guest.root(cycles).and_then(|text| nothing(&text)),
        );
    }

    /// Addresses where they should be and nowhere else.
    pub(crate) fn has_its_network(&self, checks: &mut Checks) {
        let guest = &self.guest;
        let uplink = addresses(guest, "eth0").and_then(|found| nothing(&found.join("\n")));
        checks.check("eth0 carries no address", uplink);
        checks.show("predicted and observed", &table(&self.side_by_side()));
        let bridge = addresses(guest, "br0").and_then(|found| {
            let global: Vec<&String> = found
                .iter()
                .filter(|address| !address.starts_with("fe80:"))
                .collect();
            let v6 = global.iter().filter(|address| address.contains(':')).count();
            // IPv4, the predicted one, and the one that DHCPv6 gave.
            if global.len() != 3 || v6 != 2 || !found.contains(&self.predicted.to_string()) {
                bail!("br0 has {}", found.join(" "));
            }
            // The same MAC forms the second half of both.
            let [_, _, _, _, a, b, c, d] = self.predicted.segments();
            let local = Ipv6Addr::new(0xfe80, 0, 0, 0, a, b, c, d);
            if !found.contains(&local.to_string()) {
                bail!(
                    "br0's link-local address is not that of {}: {}",
                    self.mac,
                    found.join(" ")
                );
            }
            Ok(found.join(" "))
        });
        checks.check("br0 carries one address of each kind", bridge);
        checks.check("the card reaches what lies behind the router", beyond(guest));
        if self.renderer == Renderer::Ifupdown {
            checks.check(
                "ifupdown holds br0",
                guest
                    .root("ifquery --state br0")
                    .and_then(|text| equal(&text, "br0=br0")),
            );
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
            checks.check(
                "networkd's DHCP client does not",
                guest.root(second).and_then(|text| nothing(&text)),
            );
        }
    }

    /// What the router sees beside what `plan` had said.
    fn side_by_side(&self) -> Vec<Row> {
        let router = self.guest.router;
        let found: Vec<IpAddr> = addresses(&self.guest, "br0")
            .unwrap_or_default()
            .iter()
            .filter(|address| !address.starts_with("fe80:") && router.pings(address))
            .filter_map(|address| address.parse().ok())
            .collect();
        let predicted = IpAddr::V6(self.predicted);
        let seen = found.iter().find(|address| **address == predicted);
        let own = seen.and_then(|_| router.neighbour(self.predicted));
        let others = found.iter().filter(|address| **address != predicted);
        let mut rows = vec![
            Row::predicted("br0, MAC", self.mac, own.as_deref()),
            Row::predicted(
                "br0, from its MAC",
                &predicted.to_string(),
                seen.map(ToString::to_string).as_deref(),
            ),
        ];
        rows.extend(others.map(|address| {
            let by = if address.is_ipv4() { "DHCP" } else { "DHCPv6" };
            Row::given(&format!("br0, by {by}"), &address.to_string())
        }));
        rows
    }

    /// The article's failure: after some minutes the IPv6 default route was gone.
    pub(crate) fn outlasts_three_lifetimes(&self, checks: &mut Checks) {
        checks.note("waiting for three router lifetimes");
        thread::sleep(LIFETIME.saturating_mul(3).saturating_add(Duration::from_secs(5)));
        let guest = &self.guest;
        let route = guest.sh("ip -6 route show default").and_then(|text| {
            if !text
                .lines()
                .any(|line| line.starts_with("default via fe80:") && line.contains("dev br0"))
            {
                bail!("the default routes are {text:?}");
            }
            Ok(text.lines().next().unwrap_or_default().to_owned())
        });
        checks.check("after three router lifetimes the default route stands", route);
        checks.check(
            "after three router lifetimes the card reaches what lies behind the router",
            beyond(guest),
        );
        let predicted = self.predicted.to_string();
        let answered = guest.router.pings(&predicted);
        let seen = if answered {
            Ok(predicted)
        } else {
            Err(anyhow::anyhow!("no answer from {predicted}"))
        };
        checks.check("after three router lifetimes the address stands", seen);
    }

    /// What a first boot must come to, however often the power was cut on the way.
    pub(crate) fn outcome(&self) -> Result<Vec<(&'static str, String)>> {
        let guest = &self.guest;
        let keys = "ls /etc/ssh; for key in /etc/ssh/ssh_host_*_key; do \
                    ssh-keygen -y -f $key > /dev/null || echo $key cannot be read; done";
        let settings =
            "readlink /etc/localtime; cat /etc/timezone /etc/default/locale /etc/hostname /etc/hosts; \
                        locale -a | sort";
        let accounts = "cut -d : -f 1,3,4,6,7 /etc/passwd; cut -d : -f 1,3,4 /etc/group; cat /etc/subuid; \
                        grep -hv '^#' /etc/sudoers.d/*; cat /home/*/.ssh/authorized_keys; ls -A /home/*";
        Ok(vec![
            (
                "the packages are",
                guest.root("dpkg-query -W -f '${Status} ${Package} ${Version}\n'; dpkg --audit")?,
            ),
            ("the accounts are", guest.root(accounts)?),
            ("the settings are", guest.root(settings)?),
            ("the SSH host keys are there", guest.root(keys)?),
            ("the network's files are", guest.root(NETWORK_FILES)?),
            ("the units are", guest.root("find /etc/systemd/system | sort")?),
            (
                "nothing in /etc is empty that is not",
                guest.root("find /etc -xdev -type f -empty | sort")?,
            ),
        ])
    }

    /// What a second boot must not change.
    pub(crate) fn identity(&self) -> Result<Vec<(&'static str, String)>> {
        let guest = &self.guest;
        Ok(vec![
            (
                "the SSH host keys",
                guest.root("cd /etc/ssh && sha256sum ssh_host_*")?,
            ),
            ("the machine id", guest.sh("cat /etc/machine-id")?),
            ("br0's addresses", addresses(guest, "br0")?.join(" ")),
            (
                "the accounts",
                guest.root("sha256sum /etc/passwd /etc/shadow /etc/group /home/*/.ssh/authorized_keys")?,
            ),
            ("the network's files", guest.root(NETWORK_FILES)?),
        ])
    }
}

/// The router has two more addresses that are on nobody's link, so only a default route leads to them.
fn beyond(guest: &Guest<'_>) -> Result<String> {
    for (option, address) in [("-4", FAR4.to_string()), ("-6", FAR6.to_string())] {
        let ping = guest.sh(&format!("ping -n -q -c 2 -W 5 {option} {address}"));
        ping.with_context(|| {
            let state =
                guest.sh("ip route; ip -6 route show table all; ip neigh; ip -6 neigh; ip -s link show br0");
            format!("its routes and neighbours: {}", state.unwrap_or_default())
        })?;
    }
    Ok(String::new())
}

/// All addresses of `interface`, IPv4 first, each kind sorted.
pub(crate) fn addresses(guest: &Guest<'_>, interface: &str) -> Result<Vec<String>> {
    let text = guest.sh(&format!("ip -json address show dev {interface}"))?;
    let links: Value = serde_json::from_str(&text).context("reading what ip printed")?;
    let mut found: Vec<String> = links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| link.get("addr_info")?.as_array())
        .flatten()
        .filter_map(|address| address.get("local")?.as_str().map(str::to_owned))
        .collect();
    found.sort_by_key(|address| (address.contains(':'), address.clone()));
    Ok(found)
}
