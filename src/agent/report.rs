//! The report: always on ext4, and in the root of the FAT partition for a person with a card reader.
//!
//! The copy on FAT is written only if something changed that a person would care about: FAT has no journal, and a power
//! cut during a write can cost more than a report.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::network::Ipv6;
use palmfarm_protocol::report::{
    Cluster, Container, Network, Outcome, Report, State, Step, StepState, VERSION,
};

use serde_json::{json, Value};

use crate::ip::Address;
use crate::root::Root;
use crate::{confirm, ip, network, nic};

/// The report on ext4, without `.json` (for programs) or `.txt` (for people).
pub(crate) const PATH: &str = "/var/lib/palmfarm/report";

/// The report of the last run in this boot, which may still be at work.
pub(crate) const LIVE: &str = "/run/palmfarm/report";

/// How long the host's own address may take once everything else is done. A router answers a solicitation within half a
/// second, and the kernel sends three, four seconds apart (RFC 4861, 6.3.7 and 10).
const SETTLING: Duration = Duration::from_secs(16);

/// Its name in the root of the FAT partition.
const NAME: &str = "palmfarm-report";

/// The report of a run that has just begun.
pub(crate) fn begin(root: &Root, document: &FirstBoot, run: u32) -> Report {
    Report {
        version: VERSION,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        card: document.card.clone(),
        hostname: root.line("/proc/sys/kernel/hostname").unwrap_or_default(),
        state: State::Running,
        run,
        network: network_now(root, document),
        steps: Vec::new(),
        doing: None,
        containers: Vec::new(),
        cluster: None,
    }
}

/// The host's network at this moment.
pub(crate) fn network_now(root: &Root, document: &FirstBoot) -> Network {
    let outcome = network::outcome(root, &document.network);
    let interface = match outcome {
        Outcome::RolledBack => document.network.uplink.clone(),
        Outcome::Pending | Outcome::Confirmed => document.network.addressed(),
    };
    let mut addresses: Vec<IpAddr> = ip::addresses(&interface)
        .iter()
        .filter(|address| address.global)
        .map(|address| address.ip)
        .collect();
    addresses.sort_unstable();
    Network {
        mac: nic::look(root, &interface).and_then(|nic| nic.mac),
        interface,
        addresses,
        outcome,
    }
}

/// If the LAN has IPv6 and the farm uses it, wait until the host has the address that follows from its MAC. That is the
/// address that `plan` predicts, and it comes a few seconds after ifupdown has taken the bridge over.
pub(crate) fn settle(root: &Root, document: &FirstBoot) {
    let network = &document.network;
    let declared = network.ipv6 == Ipv6::Auto && network::outcome(root, network) != Outcome::RolledBack;
    let interface = network.addressed();
    let Some(mac) = nic::look(root, &interface).and_then(|nic| nic.mac) else {
        return;
    };
    let end = Instant::now() + SETTLING;
    while declared && is_forming(mac, &ip::addresses(&interface), &ip::gateways(&interface)) {
        if Instant::now() > end {
            return;
        }
        sleep(confirm::PAUSE);
    }
}

/// Whether the address that follows from `mac` can be expected, but is not usable yet.
pub(crate) fn is_forming(mac: Mac, addresses: &[Address], gateways: &[IpAddr]) -> bool {
    let global = || {
        addresses
            .iter()
            .filter(|address| address.global && address.ip.is_ipv6())
    };
    let formed = |address: &Address| match address.ip {
        IpAddr::V6(ip) => address.usable && mac.address_in(ip) == ip,
        IpAddr::V4(_) => false,
    };
    let lan_has_ipv6 = global().next().is_some() || gateways.iter().any(IpAddr::is_ipv6);
    lan_has_ipv6 && !global().any(formed)
}

/// The state of a card whose run has ended with this report. A running container without an address that was predicted is
/// not as declared.
pub(crate) fn state(report: &Report) -> State {
    let bad = |step: &Step| matches!(step.state, StepState::Failed | StepState::Skipped);
    let lacks = |one: &Container| {
        one.predicted
            .iter()
            .any(|address| !one.observed.contains(address))
    };
    let away = |one: &Container| one.state == "Running" && !one.message.is_empty() && lacks(one);
    if report.steps.iter().any(bad) || report.containers.iter().any(away) {
        State::Failed
    } else {
        State::Done
    }
}

/// Write the report for `palmfarm-agent status`, for this boot only.
pub(crate) fn show(root: &Root, report: &Report) {
    Stored::new(report).put(root, LIVE);
}

/// Write the report durably, also to the FAT partition. It is not an error if that is missing or read-only.
pub(crate) fn publish(root: &Root, document: &FirstBoot, report: &Report) {
    let stored = Stored::new(report);
    stored.put(root, LIVE);
    stored.put(root, PATH);
    let mount = document.boot_mount.trim_end_matches('/');
    if !root
        .line("/proc/self/mountinfo")
        .is_some_and(|mounts| is_mounted(&mounts, mount))
    {
        say!("{mount} is not mounted, so the report is only at {PATH}.txt");
        return;
    }
    let stem = format!("{mount}/{NAME}");
    let old = root.read(&format!("{stem}.json")).unwrap_or_default();
    if !root.has(&format!("{stem}.txt")) || essence(&old) != essence(&stored.json) {
        stored.put(root, &stem);
    }
}

/// A report as it is stored.
struct Stored {
    json: String,
    text: String,
}

impl Stored {
    fn new(report: &Report) -> Self {
        Self {
            // All parts of a report can be written as JSON, so there is always a text.
            json: serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
            text: prose(report),
        }
    }

    fn put(&self, root: &Root, stem: &str) {
        for (end, text) in [("json", &self.json), ("txt", &self.text)] {
            let path = format!("{stem}.{end}");
            if root.read(&path).ok().as_ref() == Some(text) {
                continue;
            }
            if let Err(error) = root.write(&path, text.as_bytes()) {
                say!("writing {path}: {error}");
            }
        }
    }
}

/// The part of a report's JSON that a person cares about: neither the number of the run, nor whether a step had to change
/// something. This works on text, since parsing it into types would make the agent 20 KB larger.
fn essence(json: &str) -> String {
    let lines = json.lines().filter(|line| !line.starts_with("  \"run\":"));
    let lines: Vec<&str> = lines.collect();
    let text = lines.join("\n");
    text.replace("\"state\": \"changed\"", "\"state\": \"unchanged\"")
}

/// Whether proc(5)'s mountinfo has a mount at `target`: its fifth field, with blanks as `\040`.
fn is_mounted(mountinfo: &str, target: &str) -> bool {
    let escaped = target.replace('\\', "\\134").replace(' ', "\\040");
    mountinfo
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&escaped))
}

/// The report in words, for people.
pub(crate) fn prose(report: &Report) -> String {
    let network = &report.network;
    let outcome = match network.outcome {
        Outcome::Pending => "has not reached a router yet",
        Outcome::Confirmed => "confirmed",
        Outcome::RolledBack => "ROLLED BACK to plain DHCP until the next boot",
    };
    let mac = network.mac.map(|mac| format!(" {mac}")).unwrap_or_default();
    let mut text = format!(
        "palmfarm {} on {}: {}\ncard {}, run {}\n\nnetwork {}{mac}: {outcome}\n",
        report.agent,
        report.hostname,
        match report.state {
            State::Done => "done",
            State::Running => "running",
            State::Failed => "NOT done, see below; the next boot tries again",
        },
        report.card,
        report.run,
        network.interface,
    );
    for address in &network.addresses {
        text.push_str(&format!("    {address}\n"));
    }
    text.push_str("\nsteps\n");
    for step in &report.steps {
        let state = match step.state {
            StepState::Unchanged | StepState::Changed => "ok",
            StepState::Failed => "FAILED",
            StepState::Skipped => "skipped",
        };
        text.push_str(&format!("    {state:<9} {}", step.name));
        if !step.message.is_empty() {
            text.push_str(&format!(": {}", step.message));
        }
        text.push('\n');
        for line in &step.output {
            text.push_str(&format!("              | {line}\n"));
        }
    }
    if let Some(name) = &report.doing {
        text.push_str(&format!("    {:<9} {name}\n", "…"));
    }
    if !report.containers.is_empty() {
        text.push_str("\ncontainers\n");
    }
    for container in &report.containers {
        text.push_str(&of_container(container));
    }
    if let Some(cluster) = &report.cluster {
        text.push_str(&of_cluster(cluster));
    }
    text
}

/// The line above what a report says of the cluster, which is its last part.
const CLUSTER: &str = "\ncluster\n";

fn of_cluster(cluster: &Cluster) -> String {
    let mut text = CLUSTER.to_owned();
    if !cluster.message.is_empty() {
        text.push_str(&format!("    {}\n", cluster.message));
    }
    for member in &cluster.members {
        let line = [
            &member.name,
            ": ",
            &member.state,
            " since ",
            &member.since,
            "; ",
            &member.roles.join(", "),
            "; containers ",
            &member.containers.join(" "),
        ];
        text.push_str(&format!("    {}\n", line.concat()));
    }
    text
}

/// Put what became of the cluster since into the reports that a run has left. Nothing is written if nothing changed.
pub(crate) fn set_cluster(root: &Root, document: &FirstBoot, cluster: &Cluster) {
    let on_fat = format!("{}/{NAME}", document.boot_mount.trim_end_matches('/'));
    for stem in [LIVE, PATH, &on_fat] {
        let read = |end: &str| root.read(&format!("{stem}.{end}")).ok();
        let (Some(json), Some(text)) = (read("json"), read("txt")) else {
            continue;
        };
        let Ok(mut report) = serde_json::from_str::<Value>(&json) else {
            continue;
        };
        let now = json!(cluster);
        if report["cluster"] == now {
            continue;
        }
        report["cluster"] = now;
        let before = text.split(CLUSTER).next().unwrap_or_default();
        let stored = Stored {
            json: format!("{report:#}\n"),
            text: format!("{before}{}", of_cluster(cluster)),
        };
        stored.put(root, stem);
    }
}

fn of_container(container: &Container) -> String {
    let list = |addresses: &[IpAddr]| {
        let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        words.join(" ")
    };
    let place = container.location.as_deref().unwrap_or_default();
    let on = if place.is_empty() { "" } else { " on " };
    let mut text = format!(
        "    {} {}: {}{on}{place}\n",
        container.name, container.mac, container.state
    );
    for (what, addresses) in [
        ("predicted", &container.predicted),
        ("observed", &container.observed),
    ] {
        if !addresses.is_empty() {
            text.push_str(&format!("        {what} {}\n", list(addresses)));
        }
    }
    if !container.message.is_empty() {
        text.push_str(&format!("        {}\n", container.message));
    }
    text
}

#[cfg(test)]
mod tests {
    use palmfarm_protocol::network::{Ipv4, Ipv6};

    use super::*;
    use crate::confirm::tests::network;
    use crate::root::scratch::Scratch;

    fn document() -> FirstBoot {
        FirstBoot {
            version: 1,
            card: "palm1".into(),
            hostname: "palm".into(),
            network: network(Ipv4::Dhcp, Ipv6::Auto),
            packages: Vec::new(),
            carried: std::collections::BTreeMap::new(),
            daemon_users: Vec::new(),
            lxd: None,
            containers: Vec::new(),
            boot_mount: "/boot/firmware".into(),
        }
    }

    fn step(name: &str, state: StepState, message: &str) -> Step {
        Step {
            name: name.into(),
            state,
            message: message.into(),
            output: Vec::new(),
        }
    }

    const MOUNTED: (&str, &str) = (
        "/proc/self/mountinfo",
        "22 1 179:2 / / rw shared:1 - ext4 /dev/mmcblk0p2 rw\n\
         40 22 179:1 / /boot/firmware rw,relatime shared:20 - vfat /dev/mmcblk0p1 rw\n",
    );

    #[test]
    fn the_address_of_the_mac_is_waited_for_if_there_is_ipv6() {
        let mac: Mac = "b8:27:eb:12:34:56".parse().unwrap();
        let check = |addresses: &[(&str, bool)], gateways: &[&str], expect: bool| {
            let addresses: Vec<Address> = addresses
                .iter()
                .map(|(ip, usable)| Address {
                    ip: ip.parse().unwrap(),
                    global: !ip.starts_with("fe80"),
                    usable: *usable,
                })
                .collect();
            let gateways: Vec<IpAddr> = gateways.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(is_forming(mac, &addresses, &gateways), expect, "{addresses:?}");
        };
        let (own, link) = ("2001:db8::ba27:ebff:fe12:3456", "fe80::ba27:ebff:fe12:3456");
        check(&[("192.0.2.7", true), (link, true)], &["192.0.2.1"], false);
        check(&[("192.0.2.7", true), ("2001:db8::1dca", true)], &[], true);
        check(&[(link, true)], &["fe80::1"], true);
        check(&[(own, false), ("2001:db8::1dca", true)], &["fe80::1"], true);
        check(&[(own, true), ("2001:db8::1dca", true)], &["fe80::1"], false);
    }

    #[test]
    fn a_mount_is_seen() {
        assert!(is_mounted(MOUNTED.1, "/boot/firmware"));
        assert!(!is_mounted(MOUNTED.1, "/boot"));
        assert!(is_mounted("1 2 3:4 / /a\\040b rw - vfat x rw\n", "/a b"));
        assert!(!is_mounted("", "/"));
    }

    #[test]
    fn a_second_boot_leaves_the_fat_alone() {
        let scratch = Scratch::new("report", &[MOUNTED, ("/proc/sys/kernel/hostname", "palm\n")]);
        let root = &scratch.0;
        let mut first = begin(root, &document(), 1);
        first.state = State::Done;
        first.steps.push(step("network", StepState::Changed, ""));
        publish(root, &document(), &first);
        let read = |path: &str| root.read(path).unwrap();
        let parsed = |path: &str| serde_json::from_str::<Report>(&read(path)).unwrap();
        let fat = "/boot/firmware/palmfarm-report.json";
        assert_eq!(parsed(fat), first);
        let text = read("/boot/firmware/palmfarm-report.txt");
        assert!(text.starts_with("palmfarm"), "{text}");

        let mut second = first.clone();
        second.run = 2;
        second.steps[0].state = StepState::Unchanged;
        publish(root, &document(), &second);
        assert_eq!(parsed(fat), first);
        assert_eq!(parsed("/var/lib/palmfarm/report.json"), second);

        second.state = State::Failed;
        publish(root, &document(), &second);
        assert_eq!(parsed(fat), second);
        let names = ["palmfarm-report.json", "palmfarm-report.txt"];
        assert_eq!(root.names("/boot/firmware"), names);
    }

    #[test]
    fn without_the_fat_there_is_still_a_report() {
        let scratch = Scratch::new("report-only", &[]);
        let report = begin(&scratch.0, &document(), 1);
        publish(&scratch.0, &document(), &report);
        assert!(!scratch.0.has("/boot/firmware"));
        assert!(scratch.0.has("/var/lib/palmfarm/report.txt"));
    }

    #[test]
    fn what_is_skipped_or_failed_is_not_done() {
        let scratch = Scratch::new("report-state", &[]);
        let mut report = begin(&scratch.0, &document(), 1);
        let mut of = |states: &[StepState]| {
            report.steps = states.iter().map(|state| step("x", *state, "")).collect();
            state(&report)
        };
        assert_eq!(of(&[StepState::Unchanged, StepState::Changed]), State::Done);
        assert_eq!(of(&[StepState::Changed, StepState::Failed]), State::Failed);
        assert_eq!(of(&[StepState::Skipped]), State::Failed);
        report.steps.clear();
        report.containers.push(Container {
            name: "web".into(),
            state: "Running".into(),
            mac: Mac([0; 6]),
            predicted: vec!["2001:db8::1".parse().unwrap()],
            observed: Vec::new(),
            message: "it has no global IPv6 address".into(),
            location: None,
        });
        assert_eq!(state(&report), State::Failed);
        // Its owner stopped it.
        report.containers[0].state = "Stopped".into();
        assert_eq!(state(&report), State::Done);
    }

    #[test]
    fn people_can_read_it() {
        let scratch = Scratch::new("prose", &[("/proc/sys/kernel/hostname", "palm\n")]);
        let mut report = begin(&scratch.0, &document(), 3);
        report.state = State::Failed;
        report.network.addresses = vec!["192.0.2.57".parse().unwrap()];
        report.steps.push(step("network", StepState::Unchanged, ""));
        let mut failed = step(
            "packages",
            StepState::Failed,
            "installing lxd: apt-get ended with 100",
        );
        failed.output.push("E: no network".into());
        report.steps.push(failed);
        assert_eq!(
            prose(&report).replace(env!("CARGO_PKG_VERSION"), "V"),
            "palmfarm V on palm: NOT done, see below; the next boot tries again\ncard palm1, run 3\n\n\
             network br0: has not reached a router yet\n    192.0.2.57\n\nsteps\n    ok        network\n    \
             FAILED    packages: installing lxd: apt-get ended with 100\n              | E: no network\n"
        );
    }
}
