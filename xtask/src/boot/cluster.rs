//! Cards of one farm, each in a machine of its own on the same LAN, that form a cluster by themselves. They are switched
//! on at about the same time, switched off together, and switched on once more in the other order.
//!
//! Only the router asks the containers, and each card's own LXD says who is in the cluster. Nothing is done on a card to
//! help it in.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use xshell::cmd;

use super::checks::{equal, nothing, Checks};
use super::farm::{self, Declared, LONG_ROLLBACK, SSH};
use super::lab::Lab;
use super::look::Card;
use super::lxd;
use super::off::{self, text};
use super::qemu::Disk;
use super::Renderer;
use crate::base::Base;
use crate::sh;

/// The farm without its network: a container on each card, and one where the rule puts it. Each tells its name.
const FARM: &str = "\
lxd:
  storage: {driver: btrfs, size: 2GB}
cluster: {keys: farm.keys, first: palm1}
images:
  tiny: {file: tiny.tar.gz}
containers:
  w:
    image: tiny
    replicas: 1..@MEMBERS@
    spread: true
    run: [\"uname -n > /var/www/name\"]
  web:
    image: tiny
    run: [\"uname -n > /var/www/name\"]
";

/// Seconds that a card may take to see what became of the others: LXD tells it once a minute, and it looks once a minute.
const SEEN: u64 = 900;

/// A container, and where `palmfarm plan` says that it is.
struct Planned {
    name: String,
    card: String,
    address: Ipv6Addr,
}

/// Build the cards, boot them twice, and check each.
pub(crate) fn trial(lab: &mut Lab, members: u8, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    lab.cores = 1;
    lab.host = "palm1".into();
    let beside = (1..members).map(|socket| lab.beside(format!("palm{}", socket.saturating_add(1)), socket));
    let mut beside = beside.collect::<Result<Vec<Lab>>>()?;
    let plans = build(lab, &beside, base, tool)?;
    let farm = Farm {
        base,
        planned: planned(&plans)?,
        plans,
    };
    for Planned { name, card, address } in &farm.planned {
        checks.note(&format!("plan predicts {name} on {card} at {address}"));
    }
    let mut labs: Vec<&mut Lab> = std::iter::once(lab).chain(&mut beside).collect();
    let first = farm.boot(&mut labs, checks)?;
    labs.reverse();
    let second = farm.boot(&mut labs, checks)?;
    checks.of("all");
    let kept = equal(&second, first.trim());
    checks.check("the second boot left every container alone", kept);
    for lab in labs {
        checks.of(&lab.host);
        // To wait for the others is a step, too.
        let idle = off::latest_run(lab).and_then(|report| nothing(&off::actions(&report, "cluster")));
        checks.check("the agent's second run found nothing to do", idle);
    }
    Ok(())
}

/// Write the farm, make the keys of its cluster, and let the tool plan and make all cards; returns the plans.
fn build(lab: &Lab, beside: &[Lab], base: &Base, tool: &Path) -> Result<Vec<Value>> {
    lxd::image(base, &lab.dir)?;
    let members = beside.len().saturating_add(1);
    let more = FARM.replace("@MEMBERS@", &members.to_string());
    let declared = Declared {
        network: &["uplink: eth0", LONG_ROLLBACK],
        names_mac: true,
        ssh: SSH,
        more: &more,
    };
    let farm = farm::write(lab, beside, base, declared)?;
    let (sh, dir) = (sh::shell()?, &lab.dir);
    cmd!(sh, "{tool} keys new {farm}").run()?;
    let labs = || std::iter::once(lab).chain(beside);
    let plans = labs().map(|lab| farm::plan(lab, tool, &farm));
    let plans = plans.collect::<Result<_>>()?;
    cmd!(sh, "{tool} build {farm} -o {dir}").run()?;
    labs().try_for_each(Lab::pad)?;
    Ok(plans)
}

/// The containers of all cards.
fn planned(plans: &[Value]) -> Result<Vec<Planned>> {
    let all = plans.iter().flat_map(|plan| {
        let card = text(plan, "/host/name");
        let here = plan["containers"].as_array().into_iter().flatten();
        here.map(move |one| {
            let (name, address) = (text(one, "/name"), text(one, "/addresses/0"));
            let wrong = || format!("plan predicts {address} for {name}");
            Ok(Planned {
                name: name.to_owned(),
                card: card.to_owned(),
                address: address.parse().with_context(wrong)?,
            })
        })
    });
    all.collect()
}

/// The farm, and what is planned for its cards.
struct Farm<'a> {
    base: &'a Base,
    plans: Vec<Value>,
    planned: Vec<Planned>,
}

impl Farm<'_> {
    /// Switch the cards on in this order, check that they are one cluster, and switch them off; returns what another boot
    /// must not change.
    fn boot(&self, labs: &mut [&mut Lab], checks: &mut Checks) -> Result<String> {
        let mut cards = self.switch_on(labs, checks)?;
        for card in &mut cards {
            checks.of(&card.lab.host);
            card.answers(checks)?;
        }
        for card in &mut cards {
            checks.of(&card.lab.host);
            card.settles(checks);
            card.is_as_declared(checks);
        }
        for card in &cards {
            checks.of(&card.lab.host);
            self.is_a_member(card, checks);
            for one in self.on(&card.lab.host) {
                lxd::serves(card.lab, one.address, "name", &one.name, checks);
            }
            let figures = card.guest.root(FIGURES);
            checks.show(
                "in figures",
                &figures.unwrap_or_else(|error| format!("{error:#}")),
            );
        }
        let kept = cards.iter().map(|card| card.guest.root(KEPT));
        let kept = kept.collect::<Result<String>>()?;
        switch_off(cards, checks);
        for lab in labs {
            checks.of(&lab.host);
            off::file_systems(lab, checks);
            let report = off::report(lab).and_then(|report| self.agrees(&report, &lab.host));
            checks.check("the report on the FAT partition says the same", report);
        }
        Ok(kept)
    }

    fn switch_on<'a>(&self, labs: &'a mut [&mut Lab], checks: &mut Checks) -> Result<Vec<Card<'a>>> {
        let cards = labs.iter_mut().map(|lab| {
            let plan = self
                .plans
                .iter()
                .find(|plan| text(plan, "/host/name") == lab.host);
            let address = farm::host(plan.context("a card has no plan")?)?;
            let machine = lab.power_on(self.base, Disk::Plain)?;
            checks.note(&format!("{} is switched on, boot {}", lab.host, lab.boots));
            Ok(Card::new(lab, machine, address, Renderer::Networkd))
        });
        cards.collect()
    }

    /// The containers that are planned on the card `host`.
    fn on<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Planned> {
        self.planned.iter().filter(move |one| one.card == host)
    }

    /// `what` of every card, as [`listed`] shows it.
    fn each_card(&self, what: &str) -> String {
        let names = self.plans.iter().map(|plan| text(plan, "/host/name"));
        let mut each: Vec<String> = names.map(|name| format!("{name} {what}")).collect();
        each.sort();
        each.join(", ")
    }

    /// Check what LXD on this card says of the cluster, and what the card's report says of it.
    fn is_a_member(&self, card: &Card<'_>, checks: &mut Checks) {
        let (deadline, guest) = (card.lab.deadline.at_most(SEEN), &card.guest);
        let members = deadline.retry(|| {
            let members = lxd::asked(guest, "/1.0/cluster/members?recursion=1")?;
            equal(
                &listed(&members, &["/server_name", "/status"]),
                &self.each_card("Online"),
            )
        });
        checks.check("LXD lists every member as online", members);
        let places = self
            .planned
            .iter()
            .map(|one| format!("{} {} Running", one.name, one.card));
        let mut places: Vec<String> = places.collect();
        places.sort();
        let once = deadline.retry(|| {
            let all = lxd::asked(guest, "/1.0/instances?recursion=1")?;
            let found = listed(&all, &["/name", "/location", "/status"]);
            equal(&found, &places.join(", "))
        });
        checks.check("LXD lists every container once, where it was planned", once);
        let report = deadline.retry(|| {
            let report = guest.root("cat /boot/firmware/palmfarm-report.json")?;
            let report = serde_json::from_str(&report).context("reading the report")?;
            self.agrees(&report, &card.lab.host)
        });
        checks.check("the report has all members, and its containers", report);
    }

    /// Whether the report of the card `host` says that all members are online, and that its containers are where they were
    /// predicted.
    fn agrees(&self, report: &Value, host: &str) -> Result<String> {
        equal(text(report, "/state"), "done")?;
        let members = report.pointer("/cluster/members").unwrap_or(&Value::Null);
        let seen = equal(&listed(members, &["/name", "/state"]), &self.each_card("online"));
        let seen = seen.with_context(|| format!("it says {}", report["cluster"]))?;
        let found = report["containers"].as_array().into_iter().flatten();
        let found: Vec<&Value> = found.collect();
        let planned: Vec<&Planned> = self.on(host).collect();
        let (has, expect) = (found.len(), planned.len());
        ensure!(
            has == expect,
            "it has {has} containers, and {expect} were planned"
        );
        for one in planned {
            let found = found.iter().find(|found| text(found, "/name") == one.name);
            let found = found.with_context(|| format!("it does not have {}", one.name))?;
            lxd::is_where_predicted(found, one.address)?;
            equal(text(found, "/location"), host)?;
        }
        Ok(seen)
    }
}

/// Switch off all cards before any of them is off.
fn switch_off(cards: Vec<Card<'_>>, checks: &mut Checks) {
    for card in &cards {
        // The connection may break before ssh reports success.
        let _ = card.guest.root("systemctl poweroff");
    }
    for card in cards {
        checks.of(&card.lab.host);
        let restarts = card.machine.restarts().map(|count| count.to_string());
        checks.equal("it never restarted by itself", restarts, "0");
        let off = card.machine.wait_off(card.lab.deadline.at_most(900));
        checks.done("it powers off", off);
    }
}

/// What makes each container the same one as before: when it was made, and what LXD made up for it then.
const KEPT: &str = "lxc query '/1.0/instances?recursion=1' | grep -e '\"name\"' -e created_at -e volatile.uuid -e hwaddr | sort";

/// What the cluster costs a card, and what its database and its network had to complain about.
const FIGURES: &str = "uptime; free -m; ps -C lxd -o etime,time,rss,args; \
                       journalctl -b -o cat -u palmfarm-cluster.service | sort | uniq -c | sort -n | tail -n 8; \
                       grep -c -i heartbeat /var/log/lxd/lxd.log; tail -n 25 /var/log/lxd/lxd.log";

/// The texts at these places in each of `all`, sorted.
fn listed(all: &Value, pointers: &[&str]) -> String {
    let one = |one: &Value| {
        pointers
            .iter()
            .map(|at| text(one, at))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut all: Vec<String> = all.as_array().into_iter().flatten().map(one).collect();
    all.sort();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_only_if_all_is_in_it() {
        let plans: Vec<Value> = vec![
            serde_json::json!({"host": {"name": "palm1"}, "containers": [{"name": "w1", "addresses": ["2001:db8::1"]}]}),
            serde_json::json!({"host": {"name": "palm2"}, "containers": []}),
        ];
        let base = Base {
            image: "".into(),
            machine: &[],
            kernel: "".into(),
            initrd: "".into(),
            packages: "".into(),
            stand_in: String::new(),
            lxd: None,
        };
        let farm = Farm {
            base: &base,
            planned: planned(&plans).unwrap(),
            plans,
        };
        let sample = serde_json::json!({
            "state": "done",
            "cluster": {"members": [{"name": "palm2", "state": "online"}, {"name": "palm1", "state": "online"}]},
            "containers": [{
                "name": "w1", "state": "Running", "message": "", "location": "palm1",
                "predicted": ["2001:db8::1"], "observed": ["2001:db8::1"],
            }],
        });
        let check = |report: &Value| farm.agrees(report, "palm1").is_ok();
        assert!(check(&sample));
        for (at, wrong) in [
            ("/state", "failed".into()),
            ("/cluster/members/1/state", "offline".into()),
            ("/containers/0/location", "palm2".into()),
            ("/containers/0/observed", serde_json::json!([])),
            ("/containers", serde_json::json!([])),
            ("/cluster/members", serde_json::json!([])),
        ] {
            let mut report = sample.clone();
            *report.pointer_mut(at).unwrap() = wrong;
            assert!(!check(&report), "{at}");
        }
    }
}
