//! The units of a base, and what somebody put in their place.

use std::collections::{BTreeMap, BTreeSet};

use super::{unbroken, SurveyError, View};
use crate::base::facts::SSH_SERVERS;
use crate::base::Remains;
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Where units are; on a base whose `/usr` is not merged, systemd's own are in `/lib`.
const UNITS: [&str; 2] = ["usr/lib/systemd/system", "lib/systemd/system"];

/// Where an administrator's units are, which override packages' units of the same name (systemd.unit(5)).
const OWN: [&str; 4] = [
    "etc/systemd/system",
    "etc/systemd/system.control",
    "etc/systemd/system.attached",
    "usr/local/lib/systemd/system",
];

/// Where scripts are of which systemd makes services (systemd-sysv-generator(8)).
const SCRIPTS: &str = "etc/init.d";

/// The aliases that a unit may be: another unit in its place that does the same.
const ALIASES: [(&str, &str); 3] = [
    ("dbus.service", "dbus-broker.service"),
    ("default.target", "graphical.target"),
    ("default.target", "multi-user.target"),
];

/// Keys of a drop-in with which a unit starts and works as without it. Ubuntu's images have a drop-in with
/// `RequiresMountsFor=`.
const HARMLESS: [&str; 37] = [
    "After",
    "CPUAccounting",
    "CPUShares",
    "CPUWeight",
    "Description",
    "Documentation",
    "Environment",
    "IOAccounting",
    "IOSchedulingClass",
    "IOSchedulingPriority",
    "IOWeight",
    "LimitCORE",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "LimitNPROC",
    "LogLevelMax",
    "LogRateLimitBurst",
    "LogRateLimitIntervalSec",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemorySwapMax",
    "Nice",
    "OOMPolicy",
    "OOMScoreAdjust",
    "RequiresMountsFor",
    "Restart",
    "RestartSec",
    "SyslogFacility",
    "SyslogIdentifier",
    "SyslogLevel",
    "SyslogLevelPrefix",
    "TasksAccounting",
    "TasksMax",
    "Wants",
];

/// The units of packages that somebody replaced or masked, the drop-ins that may keep a unit from its work, and the units
/// that no package has.
pub(super) struct Changed {
    pub(super) replaced: BTreeSet<CardPath>,
    pub(super) drop_ins: Vec<(String, CardPath)>,
    pub(super) own: BTreeSet<String>,
}

/// The units of packages by name, without those in `masked`.
pub(super) fn packaged(
    volumes: &View<'_>,
    masked: &BTreeSet<CardPath>,
) -> Result<BTreeSet<String>, SurveyError> {
    let mut units = BTreeSet::new();
    for dir in UNITS {
        units.extend(volumes.names(dir)?);
    }
    for path in masked {
        units.remove(path.name());
    }
    Ok(units)
}

/// Links to `/dev/null` in the place of packages' units. Debian's packages have some for scripts in `/etc/init.d`.
pub(super) fn masked(volumes: &View<'_>) -> Result<BTreeSet<CardPath>, SurveyError> {
    // By name: if `/usr` is merged, `/lib` is `/usr/lib`.
    let mut found = BTreeMap::new();
    for dir in UNITS.into_iter().rev() {
        for name in volumes.links(dir)? {
            let path = format!("{dir}/{name}");
            if let Place::Mask = in_place(volumes, &path)? {
                found.insert(name, CardPath::new(&path)?);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// What an administrator has in the place of packages' units, and drop-ins for whatever unit.
pub(super) fn changed(
    volumes: &View<'_>,
    is_packaged: &dyn Fn(&str) -> bool,
) -> Result<Changed, SurveyError> {
    let mut changed = Changed {
        replaced: BTreeSet::new(),
        drop_ins: Vec::new(),
        own: BTreeSet::new(),
    };
    let scripts = volumes.names(SCRIPTS)?;
    changed
        .own
        .extend(scripts.iter().map(|name| format!("{name}.service")));
    // Links of `NAME.requires`, with NAME and with the unit that NAME does not start without.
    let mut required = Vec::new();
    for dir in OWN {
        for name in volumes.names(dir)? {
            let path = format!("{dir}/{name}");
            if let Some(of) = name.strip_suffix(".requires") {
                for unit in volumes.names(&path)? {
                    let link = CardPath::new(&format!("{path}/{unit}"))?;
                    required.push((of.to_owned(), link));
                }
                continue;
            }
            if let Some(of) = name.strip_suffix(".d") {
                for file in volumes.names(&path)? {
                    let file = format!("{path}/{file}");
                    let text = volumes.text(Volume::Root, &file)?.map(|found| found.text);
                    if file.strip_suffix(".conf").is_some() && text.is_some_and(|text| decides(&text)) {
                        changed.drop_ins.push((of.to_owned(), CardPath::new(&file)?));
                    }
                }
                continue;
            }
            match in_place(volumes, &path)? {
                // A link that a package has left behind is none.
                Place::Unit if !is_packaged(&name) => changed.own.extend(volumes.has(&path)?.then_some(name)),
                // The mask of a unit that is installed later would hold, too.
                Place::Unit | Place::Mask => changed.replaced.extend([CardPath::new(&path)?]),
                Place::Nothing => {}
            }
        }
    }
    let is_there = |unit: &str| is_packaged(unit) || changed.own.contains(unit);
    required.retain(|(_, link)| is_file_of_its_own(link.name()) && !is_there(&template(link.name())));
    changed.drop_ins.extend(required);
    Ok(changed)
}

/// Whether systemd needs a file for a unit of this kind: it makes the others of fstab and of what the kernel finds.
fn is_file_of_its_own(unit: &str) -> bool {
    let kind = unit.rsplit('.').next().unwrap_or_default();
    ["path", "service", "socket", "target", "timer"].contains(&kind)
}

/// The name of the file of a unit: `getty@.service` for `getty@tty1.service`.
fn template(unit: &str) -> String {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((name, _)), Some((_, kind))) => format!("{name}@.{kind}"),
        _ => unit.to_owned(),
    }
}

/// Units and drop-ins that let whoever sits at a console in without a password (agetty(8)).
pub(super) fn logins(volumes: &View<'_>) -> Result<Vec<Remains>, SurveyError> {
    let mut found = Vec::new();
    for dir in OWN {
        for name in volumes.names(dir)?.iter().filter(|name| name.contains("getty@")) {
            let path = format!("{dir}/{name}");
            let drop_ins = volumes
                .names(&path)?
                .into_iter()
                .map(|file| format!("{path}/{file}"));
            for path in drop_ins.chain([path.clone()]) {
                let text = volumes.text(Volume::Root, &path)?;
                found.extend(text.filter(|file| logs_in(&file.text)).map(|file| Remains {
                    path: file.path,
                    what: "lets whoever sits at the console in without a password",
                }));
            }
        }
    }
    Ok(found)
}

/// Whether a unit starts getty for somebody who is not asked for a password.
fn logs_in(unit: &str) -> bool {
    let commands = unbroken(unit);
    let mut commands = commands
        .lines()
        .filter(|line| line.trim_start().starts_with("ExecStart"));
    commands.any(|line| {
        let mut words = line.split_whitespace();
        words.any(|word| word == "-a" || word.starts_with("--autologin"))
    })
}

/// Whether a link of `systemctl enable` starts an SSH server, or its socket. What a package has left behind starts
/// nothing.
pub(super) fn starts_ssh(volumes: &View<'_>, is_there: &dyn Fn(&str) -> bool) -> Result<bool, SurveyError> {
    for dir in OWN.into_iter().chain(UNITS) {
        for target in ["multi-user.target.wants", "sockets.target.wants"] {
            for unit in SSH_SERVERS.into_iter().filter(|unit| is_there(unit)) {
                if volumes.stat(&format!("{dir}/{target}/{unit}"))?.is_some() {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// What somebody put in the place of generators of packages (systemd.generator(7)), so that units are not made: without
/// systemd's own, nothing of fstab is mounted.
pub(super) fn generators(volumes: &View<'_>) -> Result<Vec<Remains>, SurveyError> {
    let mut found = Vec::new();
    for dir in [
        "etc/systemd/system-generators",
        "usr/local/lib/systemd/system-generators",
    ] {
        for name in volumes.names(dir)? {
            let path = format!("{dir}/{name}");
            let Some(stat) = volumes.stat(&path)? else {
                continue;
            };
            let is_mask = matches!(&stat.kind, FileKind::Symlink(target) if target.ends_with(b"dev/null"));
            let mut is_packaged = name.starts_with("systemd-") || name == "cloud-init-generator";
            for packaged in [
                "usr/lib/systemd/system-generators",
                "lib/systemd/system-generators",
            ] {
                is_packaged |= volumes.has(&format!("{packaged}/{name}"))?;
            }
            if stat.kind != FileKind::Dir && (is_mask || is_packaged) {
                let (path, what) = (
                    CardPath::new(&path)?,
                    "keeps a generator of a package from making its units",
                );
                found.push(Remains { path, what });
            }
        }
    }
    Ok(found)
}

/// Whether a drop-in may keep its unit from its work: a condition, a dependency that is not there, another command, a
/// place from which it sees nothing. What is not known to be harmless may.
fn decides(drop_in: &str) -> bool {
    let keys = drop_in
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0.trim()));
    keys.filter(|key| !key.starts_with(['#', ';']))
        .any(|key| !HARMLESS.contains(&key))
}

/// What an administrator has in the place of a unit.
enum Place {
    /// Another text.
    Unit,
    /// A link to `/dev/null`.
    Mask,
    /// Nothing, or a link to a package's unit, which is an alias.
    Nothing,
}

fn in_place(volumes: &View<'_>, path: &str) -> Result<Place, SurveyError> {
    Ok(match volumes.stat(path)?.map(|stat| stat.kind) {
        Some(FileKind::Symlink(target)) => {
            let target = String::from_utf8_lossy(&target).into_owned();
            let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let (unit, other) = (name(path), name(&target));
            let is_alias = unit == other || ALIASES.contains(&(unit.as_str(), other.as_str()));
            if target.ends_with("dev/null") {
                Place::Mask
            } else if is_alias && UNITS.iter().any(|dir| target.contains(dir)) {
                Place::Nothing
            } else {
                Place::Unit
            }
        }
        Some(FileKind::File) => Place::Unit,
        _ => Place::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_logs_somebody_in() {
        let exec = "[Service]\nExecStart=\nExecStart=-/sbin/agetty";
        assert!(logs_in(&format!("{exec} --autologin pi --noclear %I $TERM\n")));
        assert!(logs_in(&format!("{exec} \\\n  -a root %I\n")));
        assert!(!logs_in(&format!(
            "{exec} --noclear %I $TERM\n# --autologin pi\n"
        )));
    }

    #[test]
    fn an_instance_has_the_file_of_its_template() {
        assert_eq!(template("getty@tty1.service"), "getty@.service");
        assert_eq!(template("ssh.service"), "ssh.service");
        assert!(is_file_of_its_own("none.service"));
        assert!(!is_file_of_its_own("srv-data.mount"));
    }

    #[test]
    fn a_drop_in_decides_unless_it_is_known_to_be_harmless() {
        let check = |text: &str, expect: bool| assert_eq!(decides(text), expect, "{text}");
        check("[Unit]\nRequiresMountsFor=/boot/firmware\n", false);
        check("[Service]\n# ExecStart=\nMemoryMax = 1G\nRestartSec=2\n", false);
        check("", false);
        for odd in [
            "ExecStart=",
            "ExecStart = /bin/true",
            " ExecStartPre=/bin/false",
            "ConditionPathExists=/nowhere",
            "Requires=nowhere.service",
            "BindsTo=nowhere.service",
            "PrivateNetwork=yes",
            "IPAddressDeny=any",
        ] {
            check(&format!("[Service]\nNice=1\n{odd}\n"), true);
        }
    }
}
