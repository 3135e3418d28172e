//! The card that one power cut leaves: whether it is sound, and how far the first boot had come. Never repairs it.

use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use fs_err as fs;
use serde_json::{Map, Value};
use xshell::cmd;

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

/// The agent's state files below `/var/lib/palmfarm/journal`; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    network: String,
    run: String,
}

/// What was found on the card.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) journal: Journal,
    /// The reports that can be read, and where they are.
    reports: Vec<(&'static str, Value)>,
    /// Whether cloud-init has begun.
    cloud_init: bool,
    /// Whether every package that ifupdown needs is installed.
    packages: bool,
    /// Whether ifupdown has the network.
    ifupdown: bool,
}

/// Examine the card `image`. Its root file system is mounted at `mount`, as the next boot would do, and then checked.
pub(crate) fn left(image: &Path, mount: &Path) -> Result<Left> {
    let start = disk::partition_start(image, 1)?;
    let options = format!("loop,offset={start},noatime");
    let shell = sh::shell()?;
    sh::run(cmd!(shell, "mount -t ext4 -o {options} {image} {mount}"))
        .context("mounting it, with the journal's replay")?;
    let found = look(image, mount);
    sh::run(cmd!(shell, "umount {mount}"))?;
    let partition = disk::ext4_partition(image)?;
    sh::run(cmd!(shell, "e2fsck -f -n {partition}")).context("after the journal's replay")?;
    found
}

fn look(image: &Path, mount: &Path) -> Result<Left> {
    let read = |path: &str| fs::read(mount.join(path)).ok();
    let status = read("var/lib/dpkg/status").unwrap_or_default();
    let state = |name: &str| {
        let bytes = read(&format!("var/lib/palmfarm/journal/{name}")).unwrap_or_default();
        String::from_utf8(bytes).with_context(|| format!("reading the agent's {name}"))
    };
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
        // FAT has no journal, so a cut may leave a report there that cannot be read.
        reports.extend(bytes.and_then(|bytes| Some((place, serde_json::from_slice(&bytes).ok()?))));
    }
    Ok(Left {
        journal: Journal {
            network: state("network.json")?,
            run: state("run.json")?,
        },
        reports,
        cloud_init: mount.join("var/lib/cloud/instance").exists(),
        packages: ["ifupdown", "bridge-utils", "isc-dhcp-client"]
            .iter()
            .all(|name| installed(&String::from_utf8_lossy(&status), name)),
        ifupdown: mount.join("var/lib/palmfarm/ifupdown-active").exists(),
    })
}

impl Left {
    /// An error if something is lost or false. `before` and `after` are the journal at the flushes around the cut.
    pub(crate) fn is_sound(&self, before: &Journal, after: &Journal) -> Result<()> {
        self.journal.is_one_of(before, after)?;
        self.journal.follows(before)?;
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
            (self.journal.has("confirmed"), "the network is not confirmed"),
            (self.packages, "a package is not installed"),
            (self.ifupdown, "ifupdown does not have the network"),
        ] {
            ensure!(holds, "{what}");
        }
        Ok(())
    }

    pub(crate) fn stage(&self) -> Stage {
        if self.journal.has("finished") {
            Stage::Done
        } else if self.ifupdown {
            Stage::Report
        } else if self.packages {
            Stage::Ifupdown
        } else if self.journal.has("run") {
            Stage::Packages
        } else if self.journal.has("confirmed") {
            Stage::Network
        } else if self.cloud_init {
            Stage::CloudInit
        } else {
            Stage::Early
        }
    }
}

impl Journal {
    /// Whether a state file has `key`.
    fn has(&self, key: &str) -> bool {
        let says = |text: &String| object(text).is_some_and(|state| state.contains_key(key));
        [&self.network, &self.run].into_iter().any(says)
    }

    /// An error unless each file is as it was before or as it was after.
    fn is_one_of(&self, before: &Self, after: &Self) -> Result<()> {
        for (found, before, after) in [
            (&self.network, &before.network, &after.network),
            (&self.run, &before.run, &after.run),
        ] {
            ensure!(
                found == before || found == after,
                "a state file of the agent is {found:?}, and was {before:?} before the cut and {after:?} after it"
            );
        }
        Ok(())
    }

    /// An error unless each file is JSON and has every key that it had `before`.
    fn follows(&self, before: &Self) -> Result<()> {
        for (now, before) in [(&self.network, &before.network), (&self.run, &before.run)] {
            if now == before {
                continue;
            }
            let Some(state) = object(now) else {
                bail!("a state file of the agent is damaged: {now:?}, and was {before:?}");
            };
            let known = object(before).unwrap_or_default();
            let lost = known.keys().find(|key| !state.contains_key(*key));
            ensure!(
                lost.is_none(),
                "a state file of the agent has lost something: {now:?}, and was {before:?}"
            );
        }
        Ok(())
    }
}

/// The JSON object in a state file.
fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
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

    fn journal(network: &str, run: &str) -> Journal {
        Journal {
            network: network.into(),
            run: run.into(),
        }
    }

    #[test]
    fn stages_follow_each_other() {
        let mut left = Left::default();
        let mut seen = vec![left.stage()];
        left.cloud_init = true;
        seen.push(left.stage());
        left.journal.network = r#"{"confirmed":"n"}"#.into();
        seen.push(left.stage());
        left.journal.run = r#"{"run":1}"#.into();
        seen.push(left.stage());
        left.packages = true;
        seen.push(left.stage());
        left.ifupdown = true;
        seen.push(left.stage());
        left.journal.run = r#"{"document":"d","finished":"done","run":1}"#.into();
        seen.push(left.stage());
        assert!(seen.windows(2).all(|two| two[0] < two[1]), "{seen:?}");
    }

    #[test]
    fn a_journal_that_lost_something_is_found_out() {
        let (one, two) = (r#"{"run":1}"#, r#"{"document":"d","finished":"done","run":1}"#);
        let confirmed = r#"{"confirmed":"n"}"#;
        let (before, after) = (journal("", one), journal(confirmed, two));
        let check = |network: &str, run: &str| {
            let left = Left {
                journal: journal(network, run),
                ..Left::default()
            };
            left.is_sound(&before, &after).is_ok()
        };
        assert!(check("", one));
        assert!(check(confirmed, one));
        assert!(check("", two));
        assert!(check(confirmed, two));
        assert!(!check("", ""));
        assert!(!check("", &two[..two.len() - 3]));
        assert!(!check("{}", one));
        // What the next flush leaves must not have lost anything, either.
        for (network, run) in [("", ""), ("", "{}"), ("", "{\"run\""), ("7", one)] {
            let left = Left {
                journal: journal(network, run),
                ..Left::default()
            };
            assert!(left.is_sound(&before, &left.journal).is_err(), "{network} {run}");
        }
    }

    #[test]
    fn a_report_must_not_be_early() {
        let mut left = Left {
            journal: journal(r#"{"confirmed":"n"}"#, ""),
            reports: vec![("FAT", serde_json::json!({"state": "done"}))],
            packages: true,
            ..Left::default()
        };
        assert!(left.is_sound(&left.journal, &left.journal).is_err());
        left.ifupdown = true;
        assert!(left.is_sound(&left.journal, &left.journal).is_ok());
        left.reports[0].1 = serde_json::json!({"state": "running"});
        left.packages = false;
        assert!(left.is_sound(&left.journal, &left.journal).is_ok());
    }

    #[test]
    fn only_what_is_configured_is_installed() {
        let status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: install ok unpacked\n";
        assert!(installed(status, "a"));
        assert!(!installed(status, "b"));
        assert!(!installed(status, "c"));
    }
}
