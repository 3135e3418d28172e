//! Which configuration keys and devices a container can have, and with which values, by version of the daemon.
//!
//! The keys are those that the sources validate: LXD 3.0.4 `shared/container.go`, 4.0.9 and 5.0.2 `shared/instance.go`,
//! 5.21.3 `lxd/instance/instancetype/instance.go` and `lxd/device/*.go`, Incus `internal/instance/config.go`. Values
//! are judged no stricter than there.

mod tables;

use std::collections::BTreeMap;

use crate::farm::suggest::{did_you_mean, quoted};
use crate::farm::{Flavour, Lxd};
use tables::{DEVICES, KEYS};

/// A daemon whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Daemon {
    /// LXD 3.0: the package of 18.04.
    Lxd30,
    /// LXD 4.0: the snap of 20.04.
    Lxd40,
    /// LXD 5.0: the snap of 22.04.
    Lxd50,
    /// LXD 5.21: what 24.04 installs.
    Lxd521,
    /// Incus 6.
    Incus,
}

/// The track of a channel of a snap.
fn track(channel: &str) -> Option<&str> {
    Some(channel.split_once('/')?.0)
}

/// What is wrong with a key, and what the person can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key; `None`: the device as a whole.
    pub(crate) key: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
    /// What the person can do.
    pub(crate) hint: Option<String>,
}

impl Daemon {
    /// The one that a farm will run on; `None` where neither the channel nor the base tells.
    pub(crate) fn of(base: &str, lxd: &Lxd) -> Option<Self> {
        if lxd.flavour == Flavour::Incus {
            return Some(Self::Incus);
        }
        match lxd.channel.as_deref().and_then(track) {
            None => Self::of_base(base),
            Some("4.0") => Some(Self::Lxd40),
            Some("5.0") => Some(Self::Lxd50),
            Some("5.21") => Some(Self::Lxd521),
            Some(_) => None,
        }
    }

    /// LXD as it comes with the base of that name; `None` if that is not one of Ubuntu's.
    pub(crate) fn of_base(base: &str) -> Option<Self> {
        let release = base.strip_prefix("ubuntu-")?;
        let known = [
            ("18.04", Self::Lxd30),
            ("20.04", Self::Lxd40),
            ("22.04", Self::Lxd50),
            ("24.04", Self::Lxd521),
        ];
        known
            .iter()
            .find(|(version, _)| release.starts_with(version))
            .map(|(_, daemon)| *daemon)
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lxd30 => "LXD 3.0",
            Self::Lxd40 => "LXD 4.0",
            Self::Lxd50 => "LXD 5.0",
            Self::Lxd521 => "LXD 5.21",
            Self::Incus => "Incus",
        }
    }
}

/// Judge one key of configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn config(key: &str, value: &str, daemon: Option<Daemon>) -> Result<(), Wrong> {
    let wrong = |message: String, hint: Option<String>| Wrong {
        key: Some(key.into()),
        message,
        hint,
    };
    if key.starts_with("volatile.") {
        let hint = key
            .ends_with(".hwaddr")
            .then(|| "an address is fixed by `mac`".into());
        return Err(wrong(format!("{} belongs to the daemon", quoted(key)), hint));
    }
    if FREE
        .iter()
        .any(|prefix| key.len() > prefix.len() && key.starts_with(prefix))
    {
        return Ok(());
    }
    let Some(row) = KEYS.iter().find(|row| row.0 == key) else {
        let hint = did_you_mean(key, KEYS.iter().map(|row| row.0));
        return Err(wrong(format!("no daemon knows the key {}", quoted(key)), hint));
    };
    let (_, kind, since) = row;
    if daemon.is_some_and(|daemon| !since.holds(daemon)) {
        let name = daemon.map_or("", Daemon::name);
        return Err(wrong(
            format!(
                "{name}, which the base has, does not know the key {}",
                quoted(key)
            ),
            None,
        ));
    }
    kind.judge(value)
        .map_err(|takes| wrong(format!("`{key}` takes {takes}, not {}", quoted(value)), None))
}

/// Judge one device.
pub(crate) fn device(keys: &BTreeMap<String, String>) -> Vec<Wrong> {
    let whole = |message: String, hint: Option<String>| Wrong {
        key: None,
        message,
        hint,
    };
    let Some(kind) = keys.get("type") else {
        return vec![whole(
            "the device has no `type`".into(),
            Some("a network port is a nic, a folder a disk".into()),
        )];
    };
    let Some((_, known)) = DEVICES.iter().find(|(name, _)| name == kind) else {
        let names: Vec<&str> = DEVICES.iter().map(|(name, _)| *name).collect();
        let hint = did_you_mean(kind, names.iter().copied())
            .unwrap_or_else(|| format!("the types are {}", names.join(", ")));
        let key = Some("type".into());
        let message = format!("{} is not a type of device", quoted(kind));
        return vec![Wrong {
            key,
            message,
            hint: Some(hint),
        }];
    };
    let words: Vec<&str> = known.split(' ').filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for key in keys.keys() {
        let open =
            kind == "nic" && OPEN.iter().any(|prefix| key.starts_with(prefix)) || key.starts_with("user.");
        if key != "type" && !open && !words.contains(&key.as_str()) {
            found.push(Wrong {
                key: Some(key.clone()),
                message: format!("a {kind} has no key {}", quoted(key)),
                hint: did_you_mean(key, words.iter().copied()),
            });
        }
    }
    let has = |key: &str| keys.get(key).is_some_and(|value| !value.is_empty());
    let root = keys.get("path").is_some_and(|path| path == "/");
    let lacks = match kind.as_str() {
        "nic" if !has("nictype") && !has("network") => Some("`nictype` (bridged is usual) and `parent`"),
        "nic" if keys.get("nictype").is_some_and(|kind| kind == "bridged") && !has("parent") => {
            Some("`parent`, the bridge")
        }
        "disk" if !has("path") => Some("`path`, where it is mounted"),
        "disk" if root && !has("pool") => Some("`pool`"),
        "disk" if !root && !has("source") => Some("`source`"),
        "unix-char" | "unix-block" if !has("source") && !has("path") => Some("`source` or `path`"),
        "proxy" => match (has("listen"), has("connect")) {
            (true, true) => None,
            (true, false) => Some("`connect`"),
            (false, true) => Some("`listen`"),
            (false, false) => Some("`listen` and `connect`"),
        },
        _ => None,
    };
    // A key that a device does not have may be the one that it lacks, misspelt.
    let lacks = lacks.filter(|_| found.is_empty());
    found.extend(lacks.map(|lacks| whole(format!("the {kind} lacks {lacks}"), None)));
    found
}

/// Keys that may go on as they like.
const FREE: [&str; 5] = [
    "environment.",
    "user.",
    "image.",
    "limits.kernel.",
    "linux.sysctl.",
];

/// Keys of nics that grow from release to release.
const OPEN: [&str; 4] = ["ipv4.", "ipv6.", "security.", "limits."];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, value: &str, daemon: Option<Daemon>, expect: &str) {
        let found = config(key, value, daemon).map_or_else(|wrong| wrong.message, |()| "ok".into());
        assert_eq!(found, expect, "{key}: {value}");
    }

    #[test]
    fn keys_are_known_and_take_their_values() {
        assert!(KEYS.is_sorted_by_key(|row| row.0));
        for (key, value) in [
            ("limits.memory", "128MB"),
            ("limits.memory", "25%"),
            ("limits.cpu", "2"),
            ("limits.cpu", "0-1,3"),
            ("limits.cpu.allowance", "25ms/100ms"),
            ("limits.processes", "100"),
            ("security.nesting", "Yes"),
            ("environment.PATH", "/bin"),
            ("user.anything", "goes"),
            ("boot.autostart", ""),
        ] {
            check(key, value, None, "ok");
        }
        check(
            "limits.memroy",
            "1GB",
            None,
            "no daemon knows the key \"limits.memroy\"",
        );
        check("user.", "x", None, "no daemon knows the key \"user.\"");
        check(
            "limits.memory",
            "128M",
            None,
            "`limits.memory` takes a size such as 512MiB, or a percentage such as 25%, not \"128M\"",
        );
        check(
            "limits.memory.enforce",
            "maybe",
            None,
            "`limits.memory.enforce` takes hard or soft, not \"maybe\"",
        );
        check(
            "volatile.eth0.hwaddr",
            "x",
            None,
            "\"volatile.eth0.hwaddr\" belongs to the daemon",
        );
        check(
            "limits.cpu",
            "two",
            None,
            "`limits.cpu` takes a number of CPUs such as 2, or a set such as 0-1,3, not \"two\"",
        );
    }

    #[test]
    fn the_version_of_the_base_counts() {
        let lxd = Lxd::default();
        let incus = Lxd {
            flavour: Flavour::Incus,
            ..Lxd::default()
        };
        let bionic = Daemon::of("ubuntu-18.04-armhf", &lxd);
        assert_eq!(bionic, Some(Daemon::Lxd30));
        assert_eq!(Daemon::of("ubuntu-18.04-armhf", &incus), Some(Daemon::Incus));
        assert_eq!(Daemon::of("some/where.img", &lxd), None);
        let channel = |channel: &str| {
            let lxd = Lxd {
                channel: Some(channel.into()),
                ..Lxd::default()
            };
            Daemon::of("ubuntu-22.04-armhf", &lxd)
        };
        assert_eq!(channel("5.21/stable"), Some(Daemon::Lxd521));
        assert_eq!(channel("latest/edge"), None);
        check(
            "snapshots.expiry",
            "1d",
            bionic,
            "LXD 3.0, which the base has, does not know the key \"snapshots.expiry\"",
        );
        check("snapshots.expiry", "1d", Some(Daemon::Lxd40), "ok");
        check("security.syscalls.blacklist", "x", Some(Daemon::Lxd50), "ok");
        assert!(config("security.syscalls.blacklist", "x", Some(Daemon::Lxd521)).is_err());
        assert!(config("security.devlxd", "true", Some(Daemon::Incus)).is_err());
        assert!(config("security.guestapi", "true", Some(Daemon::Lxd521)).is_err());
        check("security.guestapi", "true", Some(Daemon::Incus), "ok");
    }

    #[test]
    fn devices_have_types_and_known_keys() {
        let device = |keys: &[(&str, &str)]| {
            let keys = keys
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect();
            let found: Vec<String> = device(&keys).into_iter().map(|wrong| wrong.message).collect();
            found.join("; ")
        };
        assert_eq!(
            device(&[("type", "nic"), ("nictype", "bridged"), ("parent", "br0")]),
            ""
        );
        assert_eq!(
            device(&[
                ("type", "disk"),
                ("path", "/"),
                ("pool", "default"),
                ("size", "5GB")
            ]),
            ""
        );
        assert_eq!(
            device(&[
                ("type", "nic"),
                ("network", "lxdbr0"),
                ("ipv4.address", "10.77.0.5")
            ]),
            ""
        );
        assert_eq!(device(&[("type", "none")]), "");
        assert_eq!(device(&[("nictype", "bridged")]), "the device has no `type`");
        assert_eq!(device(&[("type", "nick")]), "\"nick\" is not a type of device");
        assert_eq!(
            device(&[("type", "nic"), ("nictype", "bridged"), ("parnet", "br0")]),
            "a nic has no key \"parnet\""
        );
        assert_eq!(
            device(&[("type", "disk"), ("path", "/srv")]),
            "the disk lacks `source`"
        );
        assert_eq!(
            device(&[("type", "proxy"), ("listen", "tcp:0.0.0.0:80")]),
            "the proxy lacks `connect`"
        );
        assert_eq!(
            device(&[("type", "proxy")]),
            "the proxy lacks `listen` and `connect`"
        );
    }
}
