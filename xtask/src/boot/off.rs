//! Checks of a card whose power is off, as a person with a card reader would make them. They change nothing on it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use xshell::cmd;

use super::checks::{equal, nothing, Checks};
use super::disk;
use super::lab::Lab;
use crate::sh;

/// The report in the root of the FAT partition.
pub(crate) fn report(lab: &Lab) -> Result<Value> {
    let text = disk::fat_file(&lab.card(), "palmfarm-report.txt")?;
    ensure!(!text.trim().is_empty(), "palmfarm-report.txt is empty");
    let json = disk::fat_file(&lab.card(), "palmfarm-report.json")?;
    serde_json::from_str(&json).context("reading palmfarm-report.json")
}

/// The report of the agent's latest run. The one on the FAT partition is that of the latest run that changed something.
pub(crate) fn latest_run(lab: &Lab) -> Result<Value> {
    let json = disk::ext4_file(&lab.card(), "/var/lib/palmfarm/report.json")?;
    serde_json::from_str(&json).context("reading /var/lib/palmfarm/report.json")
}

/// The text at `pointer` in a report or in another document.
pub(crate) fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("missing")
}

/// Whether the report agrees with what was seen from outside.
pub(crate) fn agrees(report: &Value, host: &str, mac: &str, predicted: Ipv6Addr) -> Result<String> {
    for (pointer, expect) in [
        ("/state", "done"),
        ("/hostname", host),
        ("/network/interface", "br0"),
        ("/network/mac", mac),
        ("/network/outcome", "confirmed"),
    ] {
        equal(text(report, pointer), expect).with_context(|| format!("its {pointer}"))?;
    }
    let addresses = report.pointer("/network/addresses").and_then(Value::as_array);
    let addresses = addresses
        .into_iter()
        .flatten()
        .filter_map(|address| address.as_str()?.parse().ok());
    let addresses: Vec<IpAddr> = addresses.collect();
    ensure!(
        addresses.contains(&IpAddr::V6(predicted)),
        "it lists {addresses:?}, not {predicted}"
    );
    Ok(format!("{} addresses, {predicted} among them", addresses.len()))
}

/// Whether `report` is that of the agent's second run, and that run changed nothing.
pub(crate) fn changed_nothing(report: &Value) -> Result<String> {
    let run = report.get("run").and_then(Value::as_u64);
    ensure!(
        run == Some(2),
        "it is the report of run {run:?}, not of the second"
    );
    nothing(&actions(report, ""))
}

/// Steps that did something, one a line, without the step `beside`.
pub(crate) fn actions(report: &Value, beside: &str) -> String {
    let steps = report
        .get("steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let acted = steps.filter(|step| text(step, "/state") != "unchanged" && text(step, "/name") != beside);
    acted.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Check that both file systems were left clean, without a repair.
pub(crate) fn file_systems(lab: &Lab, checks: &mut Checks) {
    let ext4 = || {
        let (sh, partition) = (sh::shell()?, disk::ext4_partition(&lab.card())?);
        sh::run(cmd!(sh, "e2fsck -f -n {partition}"))
    };
    checks.done("e2fsck finds nothing on the root file system", ext4());
    let fat = || {
        let (sh, image) = (sh::shell()?, disk::fat_image(&lab.card(), &lab.dir)?);
        sh::run(cmd!(sh, "fsck.vfat -n {image}"))
    };
    checks.done("fsck.vfat finds nothing on the FAT partition", fat());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "b8:27:eb:12:34:56";
    const PREDICTED: &str = "2001:db8:ebbd:2080:ba27:ebff:fe12:3456";

    fn sample() -> Value {
        serde_json::json!({
            "state": "done",
            "hostname": "palm",
            "network": {
                "interface": "br0",
                "mac": MAC,
                "outcome": "confirmed",
                "addresses": ["192.0.2.163", PREDICTED],
            },
            "steps": [{"name": "bridge", "state": "unchanged"}, {"name": "network", "state": "changed"}],
        })
    }

    #[test]
    fn every_part_of_the_report_counts() {
        let check = |pointer: &str, value: &str| {
            let mut report = sample();
            *report.pointer_mut(pointer).unwrap() = value.into();
            agrees(&report, "palm", MAC, PREDICTED.parse().unwrap()).is_ok()
        };
        assert!(check("/hostname", "palm"));
        for pointer in [
            "/state",
            "/hostname",
            "/network/mac",
            "/network/outcome",
            "/network/addresses",
        ] {
            assert!(!check(pointer, "other"), "{pointer}");
        }
    }

    #[test]
    fn only_what_acted_is_told() {
        assert!(actions(&sample(), "").contains("network"));
        assert_eq!(actions(&sample(), "network"), "");
        assert!(!actions(&sample(), "").contains("bridge"));
    }

    #[test]
    fn only_a_second_run_shows_that_nothing_was_left_to_do() {
        let mut report = sample();
        report["steps"][1]["state"] = "unchanged".into();
        report["run"] = 1.into();
        assert!(changed_nothing(&report).is_err());
        report["run"] = 2.into();
        assert!(changed_nothing(&report).is_ok());
        assert!(changed_nothing(&sample()).is_err());
    }
}
