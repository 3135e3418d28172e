//! Farms that would cut the Pi off, and a router that is off: the card stays reachable, and reports why.
//!
//! Each mistake is booted twice. The first boot must end on plain DHCP. The second must try the declared network again,
//! and keep it if the LAN now matches the farm. Touches the card's network only through the router.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use super::checks::{equal, Checks};
use super::farm::{build, Declared, SSH, USER};
use super::guest::Guest;
use super::lab::Lab;
use super::look::{addresses, global};
use super::off::{self, text};
use super::qemu::{Disk, Machine};
use super::router::Network;
use crate::base::Base;

/// How long the network may take before the agent gives it up. Under emulation the services take that long to start.
const LIMIT: &str = "rollback: 60s";

/// How long the router stays away from a card that has been confirmed.
const ABSENCE: Duration = Duration::from_mins(10);

/// The card's link-local address, formed from the MAC of `virt`: it answers whatever the router does.
const LINK_LOCAL: &str = "fe80::ba27:ebff:fe12:3456%lan0";

/// A farm that fits the LAN.
const SOUND: Declared<'_> = Declared {
    network: &["uplink: eth0", LIMIT],
    names_mac: false,
    ssh: SSH,
    more: "",
};

/// A farm that does not fit the LAN.
struct Mistake {
    name: &'static str,
    network: &'static [&'static str],
    /// What the report and the console must contain.
    why: &'static str,
    /// How the LAN changes before the second boot, and the address of the card after that.
    mended: Option<(Network, &'static str)>,
}

const MISTAKES: [Mistake; 3] = [
    Mistake {
        name: "a wrong uplink",
        network: &["uplink: eth9", LIMIT],
        why: "there is no interface eth9",
        mended: None,
    },
    Mistake {
        name: "an address in the wrong net",
        network: &[
            "uplink: eth0",
            "ipv4: {address: 198.51.100.10/24, gateway: 198.51.100.254}",
            "ipv6: none",
            LIMIT,
        ],
        why: "the gateway 198.51.100.254 does not answer on br0",
        mended: Some((
            Network::Untagged(Ipv4Addr::new(198, 51, 100, 254)),
            "198.51.100.10",
        )),
    },
    Mistake {
        name: "a VLAN that is not there",
        network: &["uplink: eth0", "vlan: 42", LIMIT],
        why: "br0 has no address from DHCPv4",
        mended: Some((Network::Vlan(42, Ipv4Addr::new(203, 0, 113, 1)), LINK_LOCAL_VLAN)),
    },
];

/// The same address in the VLAN.
const LINK_LOCAL_VLAN: &str = "fe80::ba27:ebff:fe12:3456%lan0.42";

/// Every mistake, and the router's absence.
pub(crate) fn trials(base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    for (number, mistake) in MISTAKES.iter().enumerate() {
        Lab::with(&format!("rollback{number}"), 5400, |lab| {
            checks.note(&format!("a farm with {}", mistake.name));
            trial(lab, base, tool, mistake, checks)
        })?;
    }
    Lab::with("late", 5400, |lab| late(lab, base, tool, checks))?;
    Lab::with("absence", 5400, |lab| absence(lab, base, tool, checks))
}

fn trial(lab: &mut Lab, base: &Base, tool: &Path, mistake: &Mistake, checks: &mut Checks) -> Result<()> {
    let declared = Declared {
        network: mistake.network,
        names_mac: false,
        ssh: SSH,
        more: "",
    };
    build(lab, base, tool, declared)?;
    let first = rolled_back(lab, base, mistake, checks)?;
    let mended = mistake.mended.filter(|(network, _)| {
        let joined = lab.router.join(*network);
        if let Err(error) = &joined {
            checks.note(&format!(
                "skipped: the LAN cannot be changed to match the farm: {error:#}"
            ));
        }
        joined.is_ok()
    });
    if let Some((_, address)) = mended {
        checks.note("the LAN now matches the farm");
        let mut machine = lab.power_on(base, Disk::Plain)?;
        let guest = at(lab, address);
        let kept = settled(&guest, &mut machine, lab).and_then(|report| {
            let outcome = equal(text(&report, "/network/outcome"), "confirmed");
            outcome.with_context(|| format!("its report: {report:#}"))?;
            Ok(addresses(&guest, "br0")?.join(" "))
        });
        checks.check("the next boot tries the bridge again, and keeps it", kept);
        lab.power_off(&guest, machine, checks);
    } else {
        let second = rolled_back(lab, base, mistake, checks)?;
        let tried = || {
            ensure!(first != second, "both reports are of boot {first}");
            Ok(())
        };
        checks.done("the next boot tried the bridge again", tried());
    }
    Ok(())
}

/// Boot a card whose network must be given up, and check it; returns the boot's identifier.
fn rolled_back(lab: &mut Lab, base: &Base, mistake: &Mistake, checks: &mut Checks) -> Result<String> {
    let mut machine = lab.power_on(base, Disk::Plain)?;
    let lease = lab.deadline.at_most(1800).retry(|| {
        machine.still_on()?;
        lab.lease()
    })?;
    let guest = at(lab, &lease);
    let login = lab.deadline.at_most(900).retry(|| guest.sh("id -un"));
    checks.check(
        "the uplink is on DHCP, and ssh from the router works",
        login.map(|_| lease.clone()),
    );
    let report = settled(&guest, &mut machine, lab).and_then(|report| says_why(&report, mistake.why));
    checks.check(
        "the report says that the network was rolled back, and why",
        report,
    );
    let uplink = addresses(&guest, "eth0").and_then(|found| {
        let found = found.join(" ");
        ensure!(found.contains(&lease), "it has {found:?}");
        Ok(found)
    });
    checks.check("eth0 carries the addresses", uplink);
    let bridge = "ip -o address show dev br0 scope global 2> /dev/null || true";
    checks.nothing("br0 carries none", guest.sh(bridge));
    let boot = guest.sh("cat /proc/sys/kernel/random/boot_id")?;
    let console = || {
        let printed = machine.printed();
        let line = printed
            .lines()
            .find(|line| line.contains("did not reach a router"));
        let line = line.context("the console does not say it")?;
        ensure!(
            line.contains(mistake.why),
            "it says {line:?}, not {:?}",
            mistake.why
        );
        Ok(line.to_owned())
    };
    checks.check("the console says why", console());
    lab.power_off(&guest, machine, checks);
    let report = off::report(lab).and_then(|report| says_why(&report, mistake.why));
    checks.check("so does the report on the FAT partition", report);
    Ok(boot)
}

/// A router that starts only after the network's time limit, while a switch keeps the link up: the agent tries the declared
/// network again, and then applies the farm.
fn late(lab: &mut Lab, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    checks.note("a new card, and a router that comes late");
    build(lab, base, tool, SOUND)?;
    lab.router.fall_silent()?;
    let mut machine = lab.power_on(base, Disk::Plain)?;
    let back = machine.wait_for("back to the declared network", lab.deadline.at_most(1800));
    checks.done("without a router the card goes back to its network", back);
    lab.router.speak()?;
    let confirmed = lab.deadline.at_most(900).retry(|| {
        machine.still_on()?;
        at(lab, LINK_LOCAL).root("grep -o 'confirmed' /var/lib/palmfarm/journal/network.json")
    });
    checks.check("when the router is there, the bridge is confirmed", confirmed);
    let report = settled(&at(lab, LINK_LOCAL), &mut machine, lab);
    let confirmed = report.and_then(|report| {
        equal(text(&report, "/state"), "done")?;
        equal(text(&report, "/network/outcome"), "confirmed")
    });
    checks.check("the agent's last run is done", confirmed);
    lab.power_off(&at(lab, LINK_LOCAL), machine, checks);
    Ok(())
}

/// A network that was confirmed once stays, however long the router is away.
fn absence(lab: &mut Lab, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    checks.note("a card that was confirmed, and a router that stays away");
    build(lab, base, tool, SOUND)?;
    for visit in ["with", "without"] {
        let alone = visit == "without";
        if alone {
            lab.router.fall_silent()?;
        }
        let mut machine = lab.power_on(base, Disk::Plain)?;
        let guest = at(lab, LINK_LOCAL);
        let report = settled(&guest, &mut machine, lab);
        let confirmed = report.and_then(|report| equal(text(&report, "/network/outcome"), "confirmed"));
        checks.check(&format!("the bridge is confirmed {visit} the router"), confirmed);
        if alone {
            checks.note("the router stays away for ten minutes more");
            thread::sleep(ABSENCE);
            let port = guest.sh("readlink /sys/class/net/eth0/master");
            checks.check(
                "eth0 is still a port of br0",
                port.and_then(|link| equal(link.rsplit('/').next().unwrap_or_default(), "br0")),
            );
            let files = guest.sh("ls /run/systemd/network | grep rollback || true");
            checks.nothing("nothing was rolled back", files);
            lab.router.speak()?;
            let lease = lab.deadline.at_most(600).retry(|| {
                let found = addresses(&at(lab, LINK_LOCAL), "br0")?;
                ensure!(global(&found).len() >= 3, "br0 has {}", found.join(" "));
                Ok(found.join(" "))
            });
            checks.check("when the router is back, br0 has its addresses", lease);
        }
        lab.power_off(&at(lab, LINK_LOCAL), machine, checks);
    }
    Ok(())
}

fn at<'a>(lab: &'a Lab, address: &str) -> Guest<'a> {
    lab.guest(USER, address)
}

/// The report once the agent's run has ended.
fn settled(guest: &Guest<'_>, machine: &mut Machine, lab: &Lab) -> Result<Value> {
    lab.report(guest, machine, "/var/lib/palmfarm/report.json")
}

fn says_why(report: &Value, why: &str) -> Result<String> {
    equal(text(report, "/network/outcome"), "rolled_back")?;
    equal(text(report, "/state"), "failed")?;
    ensure!(
        report.to_string().contains(why),
        "it does not say {why:?}: {report:#}"
    );
    Ok(why.to_owned())
}
