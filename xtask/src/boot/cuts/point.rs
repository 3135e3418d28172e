//! What one power cut left on a card: whether it is sound, and how far the first boot had come.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::boot::disk;
use crate::sh;

/// How far a first boot had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// cloud-init has not begun.
    Early,
    /// cloud-init is at work.
    CloudInit,
    /// The network is confirmed, and the agent's run has not begun.
    Network,
    /// The agent installs packages.
    Packages,
    /// ifupdown takes over.
    Ifupdown,
    /// ifupdown has taken over, and the report does not say so yet.
    Report,
    /// All is done.
    Done,
}

impl Stage {
    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Early => "before cloud-init",
            Self::CloudInit => "while cloud-init was at work",
            Self::Network => "when the network was confirmed",
            Self::Packages => "while packages were installed",
            Self::Ifupdown => "while ifupdown took over",
            Self::Report => "before the report was done",
            Self::Done => "when all was done",
        }
    }
}

/// What was found on the card.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The agent's journal.
    pub(crate) journal: String,
    /// Reports that can be read, with where they lie.
    reports: Vec<(&'static str, Value)>,
    /// Whether cloud-init has begun.
    cloud_init: bool,
    /// Whether every package that ifupdown needs is installed.
    packages: bool,
    /// Whether ifupdown has the network.
    ifupdown: bool,
}

/// Look at the card `image`; its root file system is mounted at `mount`, as the next boot would, and checked then.
pub(crate) fn left(image: &Path, mount: &Path) -> Result<Left> {
    let start = disk::partition_start(image, 1)?;
    let options = format!("loop,offset={start},noatime");
    sh::run(
        sh::cmd("mount", ["-t", "ext4", "-o", &options])
            .arg(image)
            .arg(mount),
    )
    .context("mounting it, with the journal's replay")?;
    let found = look(image, mount);
    sh::run(&mut sh::cmd("umount", [mount]))?;
    sh::output(&mut sh::cmd(
        "e2fsck",
        ["-f", "-n", &disk::ext4_partition(image)?],
    ))
    .context("after the journal's replay")?;
    found
}

fn look(image: &Path, mount: &Path) -> Result<Left> {
    let read = |path: &str| fs::read(mount.join(path)).ok();
    let status = read("var/lib/dpkg/status").unwrap_or_default();
    let mut reports = Vec::new();
    for (place, bytes) in [
        ("ext4", read("var/lib/palmfarm/report.json")),
        (
            "FAT",
            disk::fat_file(image, "palmfarm-report.json")
                .ok()
                .map(String::into_bytes),
        ),
    ] {
        // FAT has no journal: what a cut leaves of a report there may be no report at all.
        reports.extend(bytes.and_then(|bytes| Some((place, serde_json::from_slice(&bytes).ok()?))));
    }
    Ok(Left {
        journal: String::from_utf8(read("var/lib/palmfarm/journal").unwrap_or_default())
            .context("reading the agent's journal")?,
        reports,
        cloud_init: mount.join("var/lib/cloud/instance").exists(),
        packages: ["ifupdown", "bridge-utils", "isc-dhcp-client"]
            .iter()
            .all(|name| installed(&String::from_utf8_lossy(&status), name)),
        ifupdown: mount.join("var/lib/palmfarm/ifupdown-active").exists(),
    })
}

impl Left {
    /// Whether nothing is lost and nothing is false; `durable` is the journal as it was flushed last.
    pub(crate) fn is_sound(&self, durable: &str) -> Result<()> {
        ensure!(
            self.journal.starts_with(durable),
            "the agent's journal has lost lines:\n{}\nwas\n{durable}",
            self.journal
        );
        let lines: Vec<&str> = self.journal.split_inclusive('\n').collect();
        for (number, line) in lines.iter().enumerate() {
            let torn = number.saturating_add(1) == lines.len();
            ensure!(
                entry(line).is_some() || torn,
                "line {number} of the agent's journal is damaged: {line:?}"
            );
        }
        for (place, report) in &self.reports {
            if report.get("state").and_then(Value::as_str) == Some("done") {
                self.is_done()
                    .with_context(|| format!("the report on {place} says done"))?;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> Result<()> {
        for (holds, what) in [
            (self.has("confirmed"), "the network is not confirmed"),
            (self.packages, "a package is not installed"),
            (self.ifupdown, "ifupdown does not have the network"),
        ] {
            ensure!(holds, "{what}");
        }
        Ok(())
    }

    /// How far the first boot had come.
    pub(crate) fn stage(&self) -> Stage {
        if self.has("finished") {
            Stage::Done
        } else if self.ifupdown {
            Stage::Report
        } else if self.packages {
            Stage::Ifupdown
        } else if self.has("run") {
            Stage::Packages
        } else if self.has("confirmed") {
            Stage::Network
        } else if self.cloud_init {
            Stage::CloudInit
        } else {
            Stage::Early
        }
    }

    fn has(&self, key: &str) -> bool {
        let entries = self.journal.lines().filter_map(entry);
        entries.into_iter().any(|entry| entry.get(key).is_some())
    }
}

/// What a line of the journal says: a CRC-32 in eight hexadecimal digits, a space, and JSON that has this checksum.
fn entry(line: &str) -> Option<Value> {
    let (sum, text) = line.trim_end_matches('\n').split_once(' ')?;
    (u32::from_str_radix(sum, 16).ok()? == crc32(text.as_bytes())).then_some(())?;
    serde_json::from_str(text).ok()
}

/// As in IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1 == 1;
            crc >>= 1;
            if carry {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}

/// Whether dpkg's status file says that `name` is installed.
fn installed(status: &str, name: &str) -> bool {
    let heading = format!("Package: {name}");
    status.split("\n\n").any(|package| {
        package.lines().any(|line| line == heading)
            && package.lines().any(|line| line == "Status: install ok installed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        format!("{:08x} {text}\n", crc32(text.as_bytes()))
    }

    fn journal(texts: &[&str]) -> String {
        texts.iter().map(|text| line(text)).collect()
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn stages_follow_each_other() {
        let mut left = Left::default();
        let mut seen = vec![left.stage()];
        left.cloud_init = true;
        seen.push(left.stage());
        left.journal = journal(&[r#"{"confirmed":"n"}"#]);
        seen.push(left.stage());
        left.journal.push_str(&line(r#"{"run":1}"#));
        seen.push(left.stage());
        left.packages = true;
        seen.push(left.stage());
        left.ifupdown = true;
        seen.push(left.stage());
        left.journal
            .push_str(&line(r#"{"finished":"done","document":"d"}"#));
        seen.push(left.stage());
        assert!(seen.windows(2).all(|two| two[0] < two[1]), "{seen:?}");
    }

    #[test]
    fn a_journal_that_lost_something_is_found_out() {
        let whole = journal(&[r#"{"run":1}"#, r#"{"confirmed":"n"}"#]);
        let check = |journal: &str, durable: &str| {
            let left = Left {
                journal: journal.into(),
                ..Left::default()
            };
            left.is_sound(durable).is_ok()
        };
        assert!(check(&whole, ""));
        assert!(check(&whole, &whole));
        assert!(check(&whole[..whole.len() - 3], &line(r#"{"run":1}"#)));
        assert!(!check(&line(r#"{"run":1}"#), &whole));
        assert!(!check(&whole.replacen("run", "ran", 1), ""));
    }

    #[test]
    fn a_report_must_not_be_early() {
        let mut left = Left {
            journal: journal(&[r#"{"confirmed":"n"}"#]),
            reports: vec![("FAT", serde_json::json!({"state": "done"}))],
            packages: true,
            ..Left::default()
        };
        assert!(left.is_sound("").is_err());
        left.ifupdown = true;
        assert!(left.is_sound("").is_ok());
        left.reports[0].1 = serde_json::json!({"state": "running"});
        left.packages = false;
        assert!(left.is_sound("").is_ok());
    }

    #[test]
    fn only_what_is_configured_is_installed() {
        let status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: install ok unpacked\n";
        assert!(installed(status, "a"));
        assert!(!installed(status, "b"));
        assert!(!installed(status, "c"));
    }
}
