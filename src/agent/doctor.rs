//! `palmfarm-agent doctor`: looks for what people meet when a Pi does not do what its farm says, and says for each what
//! to do. It only reads; the one thing that it sends is a datagram to the router, so that the kernel asks whether it is
//! there.

use std::io::{self, Write};
use std::time::Duration;

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::network::Ipv6;
use palmfarm_protocol::paths::DOCUMENT;
use palmfarm_protocol::report::Outcome;
use serde_json::Value;

use crate::daemon::{find_socket, Daemon};
use crate::program::{query, show};
use crate::root::Root;
use crate::run::ExitStatus;
use crate::{clock, confirm, ip, network, nic, report, status};

/// How long a router may take to answer. The kernel asks three times, a second apart (RFC 4861, section 10).
const ROUTER: Duration = Duration::from_secs(5);

/// With less space than this, in MiB, apt and the container daemon begin to fail: an update of Ubuntu's lists of packages
/// alone takes some 150.
const LEAST_SPACE: u64 = 300;

/// What was found: how it is, or what is wrong and what to do.
type Finding = Result<String, (String, String)>;

/// Look at everything, print a line for each, and say whether all of it is well.
pub fn doctor(root: &Root, document: &FirstBoot) -> ExitStatus {
    let findings = [
        ("network", of_network(root, document)),
        ("addresses", of_addresses(root, document)),
        ("clock", of_clock(root)),
        ("LXD", of_daemon(root, document)),
        ("disk", of_disk(&query("df", &["-P", "-m", "/"]))),
        (
            "units",
            of_units(&query(
                "systemctl",
                &[
                    "list-units",
                    "--state=failed",
                    "--plain",
                    "--no-legend",
                    "--no-pager",
                ],
            )),
        ),
        (
            "cloud-init",
            of_cloud_init(&query("cloud-init", &["status", "--long"])),
        ),
        ("last run", of_run(&last_report(root))),
    ];
    let text: String = findings.iter().map(|(what, found)| line(what, found)).collect();
    // A reader that stops early, as head(1) does, is not a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    if findings.iter().all(|(_, found)| found.is_ok()) {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    }
}

/// `palmfarm-agent log`: what the journal has of the agent's units, oldest first, and then the report of the last run.
pub fn log(root: &Root) -> ExitStatus {
    // The journal may hold none of the earlier boots, or not be readable for this user; the report stays in any case.
    show(
        "journalctl",
        &["--no-pager", "--output=short-iso", "--unit=palmfarm-*"],
    );
    status::once(root, status::Format::Text)
}

fn line(what: &str, found: &Finding) -> String {
    match found {
        Ok(seen) => format!("ok      {what}: {seen}\n"),
        Err((wrong, cure)) => format!("NOT OK  {what}: {wrong}\n            {cure}\n"),
    }
}

fn wrong(what: impl Into<String>, cure: impl Into<String>) -> Finding {
    Err((what.into(), cure.into()))
}

fn of_network(root: &Root, document: &FirstBoot) -> Finding {
    let declared = &document.network;
    if network::outcome(root, declared) == Outcome::RolledBack {
        return wrong(
            "the declared network never reached a router, so this boot has plain DHCP on the uplink",
            "`palmfarm-agent status` says what was missing; correct `network:` in farm.yaml, and apply it",
        );
    }
    match confirm::wait(root, declared, ROUTER) {
        Ok(()) => Ok(format!("{} reaches its router", declared.addressed())),
        Err(missing) => wrong(
            missing.join("; "),
            format!(
                "check the cable and the router; `networkctl status {}` shows what the Pi has",
                declared.addressed()
            ),
        ),
    }
}

/// Whether the host and the containers are where `palmfarm plan` said.
fn of_addresses(root: &Root, document: &FirstBoot) -> Finding {
    let interface = document.network.addressed();
    let mut elsewhere = moved(&last_report(root));
    if document.network.ipv6 == Ipv6::Auto {
        let mac = nic::look(root, &interface).and_then(|nic| nic.mac);
        let (addresses, gateways) = (ip::addresses(&interface), ip::gateways(&interface));
        if mac.is_some_and(|mac| report::is_forming(mac, &addresses, &gateways)) {
            elsewhere.push(format!("{interface} (not the address that follows from its MAC)"));
        }
    }
    if elsewhere.is_empty() {
        return Ok("as predicted, as far as a router announces a prefix".to_owned());
    }
    wrong(
        format!("not as predicted: {}", elsewhere.join(", ")),
        "in a container, dhcpcd and NetworkManager form addresses of another kind: systemd-networkd and ifupdown form \
         those that are predicted",
    )
}

/// The containers that the report saw without an address that was predicted.
fn moved(report: &Value) -> Vec<String> {
    let list = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let is_moved = |container: &Value| {
        let observed = list(container, "observed");
        list(container, "predicted")
            .iter()
            .any(|address| !observed.contains(address))
    };
    let name = |container: &Value| {
        container
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    list(report, "containers")
        .iter()
        .filter(|container| is_moved(container))
        .map(name)
        .collect()
}

fn of_clock(root: &Root) -> Finding {
    if clock::is_synchronized(root) {
        return Ok("synchronised".to_owned());
    }
    if clock::is_before(root, DOCUMENT) {
        return wrong(
            "it shows a time before this card was made",
            "check that the Pi reaches the Internet (UDP port 123); `timedatectl` shows the server",
        );
    }
    Ok("no time server has answered yet, but the time can be right".to_owned())
}

fn of_daemon(root: &Root, document: &FirstBoot) -> Finding {
    let Some(declared) = &document.lxd else {
        return Ok("not declared on this card".to_owned());
    };
    let cure = "`palmfarm-agent run` tries again; `journalctl -u snap.lxd.daemon -u lxd -u incus` shows why";
    let Some(socket) = find_socket(root.dir(), declared.flavour) else {
        return wrong("it is not installed: there is no socket", cure);
    };
    match Daemon::connect(&socket) {
        Ok(_) => Ok("answers".to_owned()),
        Err(error) => wrong(error.to_string(), cure),
    }
}

/// From the second line of `df -P -m /`: name, size, used, available, per cent, mount point.
fn of_disk(df: &str) -> Finding {
    let mut words = df.lines().nth(1).unwrap_or_default().split_whitespace();
    match words.nth(3).and_then(|free| free.parse::<u64>().ok()) {
        None => Ok("df(1) does not say".to_owned()),
        Some(free) if free < LEAST_SPACE => wrong(
            format!("only {free} MiB are free"),
            "`apt-get clean` and `journalctl --vacuum-size=50M` make some room; a larger card makes more",
        ),
        Some(free) => Ok(format!("{free} MiB are free")),
    }
}

fn of_units(systemctl: &str) -> Finding {
    let names: Vec<&str> = systemctl
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    match names.first() {
        None => Ok("none has failed".to_owned()),
        Some(first) => wrong(
            format!("failed: {}", names.join(", ")),
            format!("`systemctl status {first}` shows why"),
        ),
    }
}

/// From `cloud-init status --long`; since 23.4 errors that it recovered from are in `extended_status`.
fn of_cloud_init(status: &str) -> Finding {
    let value = |key: &str| {
        let mut lines = status.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim())
    };
    let extended = value("extended_status").unwrap_or_default();
    match value("status") {
        None => Ok("it says nothing".to_owned()),
        Some(word) if word == "error" || extended.contains("error") || extended.contains("degraded") => wrong(
            format!("it ended with errors ({word})"),
            "/var/log/cloud-init.log has them; `palmfarm-agent status` says what of the card's users is missing",
        ),
        Some(word) => Ok(word.to_owned()),
    }
}

fn of_run(report: &Value) -> Finding {
    let again = "`palmfarm-agent status` shows each step, and `palmfarm-agent run` tries again";
    match report.get("state").and_then(Value::as_str) {
        Some("done") => Ok("all is as declared".to_owned()),
        Some("running") => Ok("it is at work".to_owned()),
        Some(_) => wrong("not everything could be made true", again),
        None => wrong(
            "there was none on this card",
            "`palmfarm-agent run` is what the first boot does",
        ),
    }
}

fn last_report(root: &Root) -> Value {
    let text = status::read(root, status::Format::Json).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_full_disk_is_seen() {
        let df = |free: &str| {
            format!("Filesystem 1048576-blocks Used Available Capacity Mounted on\n/dev/mmcblk0p2 29000 1 {free} 5% /\n")
        };
        assert!(of_disk(&df("20000")).is_ok());
        assert!(of_disk(&df("12")).unwrap_err().0.contains("12 MiB"));
        assert!(of_disk("").is_ok());
    }

    #[test]
    fn failed_units_are_named() {
        assert!(of_units("").is_ok());
        let (wrong, cure) =
            of_units("foo.service loaded failed failed Foo\nbar.mount loaded failed failed Bar\n")
                .unwrap_err();
        assert_eq!(wrong, "failed: foo.service, bar.mount");
        assert_eq!(cure, "`systemctl status foo.service` shows why");
    }

    #[test]
    fn errors_of_cloud_init_are_seen_in_every_release() {
        assert!(of_cloud_init("status: done\ntime: Thu\ndetail:\nDataSourceNoCloud\n").is_ok());
        assert!(of_cloud_init("").is_ok());
        assert!(of_cloud_init("status: error\ndetail: x\n").is_err());
        assert!(of_cloud_init("status: done\nextended_status: degraded done\n").is_err());
    }

    #[test]
    fn a_container_that_is_elsewhere_is_named() {
        let report = json!({"state": "done", "containers": [
            {"name": "web", "predicted": ["2001:db8::1"], "observed": ["2001:db8::1", "2001:db8::2"]},
            {"name": "db", "predicted": ["2001:db8::3"], "observed": ["2001:db8::4"]},
            {"name": "nat", "predicted": [], "observed": []},
        ]});
        assert_eq!(moved(&report), ["db"]);
        assert!(of_run(&report).is_ok());
        assert!(of_run(&json!({"state": "failed"})).is_err());
        assert!(of_run(&Value::Null).is_err());
    }

    #[test]
    fn what_is_wrong_has_what_to_do_below_it() {
        assert_eq!(line("disk", &Ok("fine".into())), "ok      disk: fine\n");
        assert_eq!(
            line("disk", &wrong("full", "make room")),
            "NOT OK  disk: full\n            make room\n"
        );
    }
}
