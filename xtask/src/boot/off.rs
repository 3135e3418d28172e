//! Looking at a card after the power is off, as a person with a card reader would.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{bail, Context, Result};
use serde_json::Value;

use super::checks::{equal, Checks};
use super::farm::HOST;
use super::lab::Lab;
use super::qemu;
use crate::sh;

/// The report in the root of the FAT partition.
pub(crate) fn report(lab: &Lab) -> Result<Value> {
    let text = qemu::fat_file(&lab.card(), "palmfarm-report.txt")?;
    if text.trim().is_empty() {
        bail!("palmfarm-report.txt is empty");
    }
    let json = qemu::fat_file(&lab.card(), "palmfarm-report.json")?;
    serde_json::from_str(&json).context("reading palmfarm-report.json")
}

/// Whether the report tells what was seen from outside.
pub(crate) fn agrees(report: &Value, predicted: Ipv6Addr) -> Result<String> {
    let text = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("missing")
            .to_owned()
    };
    for (pointer, expect) in [
        ("/state", "done"),
        ("/hostname", HOST),
        ("/network/interface", "br0"),
        ("/network/mac", super::lab::MAC),
        ("/network/outcome", "confirmed"),
    ] {
        equal(&text(pointer), expect).with_context(|| format!("its {pointer}"))?;
    }
    let addresses: Vec<IpAddr> = report
        .pointer("/network/addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|address| address.as_str()?.parse().ok())
        .collect();
    if !addresses.contains(&IpAddr::V6(predicted)) {
        bail!("it lists {addresses:?}, not {predicted}");
    }
    Ok(format!("{} addresses, {predicted} among them", addresses.len()))
}

/// Steps that did something, one a line.
pub(crate) fn actions(report: &Value) -> String {
    let steps = report
        .pointer("/steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let acted = steps.filter(|step| step.get("state").and_then(Value::as_str) != Some("unchanged"));
    acted.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Whether both file systems were left clean; nothing is repaired.
pub(crate) fn file_systems(lab: &Lab, checks: &mut Checks) {
    let ext4 = qemu::partition_start(&lab.card(), 1).and_then(|start| {
        let device = format!("{}?offset={start}", lab.card().display());
        sh::output(&mut sh::cmd("e2fsck", ["-f", "-n", &device])).map(|_| String::new())
    });
    checks.check("e2fsck finds nothing on the root file system", ext4);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREDICTED: &str = "2001:db8:ebbd:2080:ba27:ebff:fe12:3456";

    fn sample() -> Value {
        serde_json::json!({
            "state": "done",
            "hostname": "palm",
            "network": {
                "interface": "br0",
                "mac": "b8:27:eb:12:34:56",
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
            agrees(&report, PREDICTED.parse().unwrap()).is_ok()
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
        assert!(actions(&sample()).contains("network"));
        assert!(!actions(&sample()).contains("bridge"));
    }
}
