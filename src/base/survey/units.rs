//! The units of a base, and what somebody put in their place.

use std::collections::BTreeSet;

use super::{SurveyError, Volumes};
use crate::edit::block::ReadAt;
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Where units are; on a base whose `/usr` is not merged, systemd's own are in `/lib`.
const UNITS: [&str; 2] = ["usr/lib/systemd/system", "lib/systemd/system"];

/// Where an administrator's units are, which override packages' units of the same name (systemd.unit(5)).
const OWN: [&str; 2] = ["etc/systemd/system", "usr/local/lib/systemd/system"];

/// The aliases that a unit may be: another unit in its place that does the same.
const ALIASES: [(&str, &str); 3] = [
    ("dbus.service", "dbus-broker.service"),
    ("default.target", "graphical.target"),
    ("default.target", "multi-user.target"),
];

/// Keys of a drop-in with which a unit may not start, or starts something else.
const DECISIVE: [&str; 5] = [
    "Condition",
    "Assert",
    "ExecStart=",
    "ExecCondition=",
    "RefuseManualStart=",
];

/// The units of packages that somebody replaced or masked, and the drop-ins that decide whether a unit starts.
pub(super) struct Changed {
    pub(super) units: BTreeSet<CardPath>,
    pub(super) drop_ins: Vec<(String, CardPath)>,
}

/// The units of packages by name, without those that a package masks.
pub(super) fn packaged<M: ReadAt + Clone + 'static>(
    volumes: &Volumes<M>,
) -> Result<BTreeSet<String>, SurveyError> {
    let mut units = BTreeSet::new();
    for dir in UNITS {
        units.extend(volumes.names(dir)?);
    }
    Ok(units)
}

/// What an administrator has in the place of `units`, and drop-ins for whatever unit.
pub(super) fn changed<M: ReadAt + Clone + 'static>(
    volumes: &Volumes<M>,
    units: &BTreeSet<String>,
) -> Result<Changed, SurveyError> {
    let mut changed = Changed {
        units: BTreeSet::new(),
        drop_ins: Vec::new(),
    };
    for dir in OWN {
        for name in volumes.names(dir)? {
            let path = format!("{dir}/{name}");
            if let Some(of) = name.strip_suffix(".d") {
                for file in volumes.names(&path)? {
                    let file = format!("{path}/{file}");
                    let text = volumes.text(Volume::Root, &file)?.map(|found| found.text);
                    if file.strip_suffix(".conf").is_some() && text.is_some_and(|text| decides(&text)) {
                        changed.drop_ins.push((of.to_owned(), CardPath::new(&file)?));
                    }
                }
            } else if units.contains(&name) && replaces(volumes, &path)? {
                changed.units.insert(CardPath::new(&path)?);
            }
        }
    }
    Ok(changed)
}

/// Whether a link of `systemctl enable` starts sshd or its socket.
pub(super) fn starts_ssh<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<bool, SurveyError> {
    for dir in OWN.into_iter().chain(UNITS) {
        for link in [
            "multi-user.target.wants/ssh.service",
            "sockets.target.wants/ssh.socket",
        ] {
            if volumes.stat(&format!("{dir}/{link}"))?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn decides(drop_in: &str) -> bool {
    drop_in
        .lines()
        .any(|line| DECISIVE.iter().any(|key| line.trim_start().starts_with(key)))
}

/// Whether the file or link at `path` masks the unit or is another text for it. A link to a package's unit is an alias.
fn replaces<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>, path: &str) -> Result<bool, SurveyError> {
    Ok(match volumes.stat(path)?.map(|stat| stat.kind) {
        Some(FileKind::Symlink(target)) => {
            let target = String::from_utf8_lossy(&target).into_owned();
            let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let (unit, other) = (name(path), name(&target));
            let is_alias = unit == other || ALIASES.contains(&(unit.as_str(), other.as_str()));
            !(is_alias && UNITS.iter().any(|dir| target.contains(dir)))
        }
        Some(FileKind::File) => true,
        _ => false,
    })
}
