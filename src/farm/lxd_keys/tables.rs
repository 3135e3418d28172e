//! The tables: keys, what they take, who knows them. One row per key, so that a new release is a few lines.

use super::Daemon;
use crate::farm::decode::values;

/// Which daemons know a key.
#[derive(Clone, Copy)]
pub(super) struct Known {
    since: Daemon,
    until: Daemon,
    incus: bool,
}

impl Known {
    pub(super) fn holds(self, daemon: Daemon) -> bool {
        match daemon {
            Daemon::Incus => self.incus,
            lxd => self.since <= lxd && lxd <= self.until,
        }
    }
}

const fn known(since: Daemon, until: Daemon, incus: bool) -> Known {
    Known { since, until, incus }
}

const ALL: Known = known(Daemon::Lxd30, Daemon::Lxd521, true);
const FROM_40: Known = known(Daemon::Lxd40, Daemon::Lxd521, true);
const FROM_50: Known = known(Daemon::Lxd50, Daemon::Lxd521, true);
const FROM_521: Known = known(Daemon::Lxd521, Daemon::Lxd521, true);
const OLD: Known = known(Daemon::Lxd30, Daemon::Lxd50, true);
const LXD_ONLY: Known = known(Daemon::Lxd30, Daemon::Lxd521, false);
const LXD_FROM_40: Known = known(Daemon::Lxd40, Daemon::Lxd521, false);
const LXD_FROM_521: Known = known(Daemon::Lxd521, Daemon::Lxd521, false);
const INCUS_ONLY: Known = known(Daemon::Incus, Daemon::Incus, true);

/// What a key takes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Any,
    Truth,
    Integer,
    Natural,
    Priority,
    Size,
    Memory,
    Cpus,
    Allowance,
    Words(&'static [&'static str]),
}

impl Kind {
    /// `Err`: what it takes.
    pub(super) fn judge(self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Ok(());
        }
        let (fine, takes) = match self {
            Self::Any => (true, ""),
            Self::Truth => {
                let words = ["true", "false", "yes", "no", "1", "0", "on", "off"];
                (
                    words.contains(&value.to_ascii_lowercase().as_str()),
                    "true or false",
                )
            }
            Self::Integer => (value.parse::<i64>().is_ok(), "a whole number"),
            Self::Natural => (
                value.parse::<u32>().is_ok(),
                "a whole number from 0 to 4294967295",
            ),
            Self::Priority => (
                value.parse::<u8>().is_ok_and(|number| number <= 10),
                "a number from 0 to 10",
            ),
            Self::Size => (values::size(value).is_ok(), "a size such as 512MiB"),
            Self::Memory => {
                let percent = value
                    .strip_suffix('%')
                    .and_then(|number| number.parse::<u64>().ok());
                let bytes = percent.or_else(|| values::size(value).ok());
                (
                    bytes.is_some_and(|bytes| bytes > 0),
                    "a size such as 512MiB, or a percentage such as 25%",
                )
            }
            Self::Cpus => (cpus(value), "a number of CPUs such as 2, or a set such as 0-1,3"),
            Self::Allowance => (
                allowance(value),
                "a percentage such as 50%, or a share of time such as 25ms/100ms",
            ),
            Self::Words(words) => {
                let known = words.contains(&value);
                return known.then_some(()).ok_or_else(|| words.join(" or "));
            }
        };
        if fine {
            Ok(())
        } else {
            Err(takes.into())
        }
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn cpus(value: &str) -> bool {
    value.split(',').all(|part| match part.split_once('-') {
        Some((low, high)) => digits(low) && digits(high),
        None => digits(part),
    })
}

fn allowance(value: &str) -> bool {
    if let Some(percent) = value.strip_suffix('%') {
        return digits(percent);
    }
    let milliseconds = |part: &str| part.strip_suffix("ms").is_some_and(digits);
    value
        .split_once('/')
        .is_some_and(|(used, of)| milliseconds(used) && milliseconds(of))
}

/// Every key of a container, what it takes, and who knows it.
pub(super) const KEYS: &[(&str, Kind, Known)] = &[
    ("boot.autostart", Kind::Truth, ALL),
    ("boot.autostart.delay", Kind::Integer, ALL),
    ("boot.autostart.priority", Kind::Integer, ALL),
    ("boot.host_shutdown_timeout", Kind::Integer, ALL),
    ("boot.stop.priority", Kind::Integer, ALL),
    ("cloud-init.network-config", Kind::Any, FROM_50),
    ("cloud-init.user-data", Kind::Any, FROM_50),
    ("cloud-init.vendor-data", Kind::Any, FROM_50),
    (
        "cluster.evacuate",
        Kind::Words(&["auto", "migrate", "live-migrate", "stop"]),
        FROM_50,
    ),
    ("limits.cpu", Kind::Cpus, ALL),
    ("limits.cpu.allowance", Kind::Allowance, ALL),
    ("limits.cpu.nodes", Kind::Cpus, FROM_521),
    ("limits.cpu.priority", Kind::Priority, ALL),
    ("limits.disk.priority", Kind::Priority, ALL),
    ("limits.hugepages.1GB", Kind::Size, FROM_40),
    ("limits.hugepages.1MB", Kind::Size, FROM_40),
    ("limits.hugepages.2MB", Kind::Size, FROM_40),
    ("limits.hugepages.64KB", Kind::Size, FROM_40),
    ("limits.memory", Kind::Memory, ALL),
    ("limits.memory.enforce", Kind::Words(&["hard", "soft"]), ALL),
    ("limits.memory.swap", Kind::Truth, ALL),
    ("limits.memory.swap.priority", Kind::Priority, ALL),
    ("limits.network.priority", Kind::Priority, OLD),
    ("limits.processes", Kind::Integer, ALL),
    ("linux.kernel_modules", Kind::Any, ALL),
    (
        "linux.kernel_modules.load",
        Kind::Words(&["boot", "ondemand"]),
        LXD_FROM_521,
    ),
    ("migration.incremental.memory", Kind::Truth, ALL),
    ("migration.incremental.memory.goal", Kind::Natural, ALL),
    ("migration.incremental.memory.iterations", Kind::Natural, ALL),
    ("nvidia.driver.capabilities", Kind::Any, FROM_40),
    ("nvidia.require.cuda", Kind::Any, FROM_40),
    ("nvidia.require.driver", Kind::Any, FROM_40),
    ("nvidia.runtime", Kind::Truth, ALL),
    ("raw.apparmor", Kind::Any, ALL),
    ("raw.idmap", Kind::Any, ALL),
    ("raw.lxc", Kind::Any, ALL),
    ("raw.seccomp", Kind::Any, ALL),
    ("security.devlxd", Kind::Truth, LXD_ONLY),
    ("security.devlxd.images", Kind::Truth, LXD_FROM_40),
    ("security.guestapi", Kind::Truth, INCUS_ONLY),
    ("security.guestapi.images", Kind::Truth, INCUS_ONLY),
    ("security.idmap.base", Kind::Natural, ALL),
    ("security.idmap.isolated", Kind::Truth, ALL),
    ("security.idmap.size", Kind::Natural, ALL),
    ("security.nesting", Kind::Truth, ALL),
    ("security.privileged", Kind::Truth, ALL),
    ("security.protection.delete", Kind::Truth, FROM_40),
    ("security.protection.shift", Kind::Truth, FROM_40),
    ("security.protection.start", Kind::Truth, LXD_FROM_521),
    ("security.syscalls.allow", Kind::Any, FROM_40),
    ("security.syscalls.blacklist", Kind::Any, OLD),
    ("security.syscalls.blacklist_compat", Kind::Truth, OLD),
    ("security.syscalls.blacklist_default", Kind::Truth, OLD),
    ("security.syscalls.deny", Kind::Any, FROM_40),
    ("security.syscalls.deny_compat", Kind::Truth, FROM_40),
    ("security.syscalls.deny_default", Kind::Truth, FROM_40),
    ("security.syscalls.intercept.bpf", Kind::Truth, FROM_50),
    ("security.syscalls.intercept.bpf.devices", Kind::Truth, FROM_50),
    ("security.syscalls.intercept.mknod", Kind::Truth, FROM_40),
    ("security.syscalls.intercept.mount", Kind::Truth, FROM_40),
    ("security.syscalls.intercept.mount.allowed", Kind::Any, FROM_40),
    ("security.syscalls.intercept.mount.fuse", Kind::Any, FROM_40),
    ("security.syscalls.intercept.mount.shift", Kind::Truth, FROM_40),
    (
        "security.syscalls.intercept.sched_setscheduler",
        Kind::Truth,
        FROM_50,
    ),
    ("security.syscalls.intercept.setxattr", Kind::Truth, FROM_40),
    ("security.syscalls.intercept.sysinfo", Kind::Truth, FROM_521),
    ("security.syscalls.whitelist", Kind::Any, OLD),
    ("snapshots.expiry", Kind::Any, FROM_40),
    ("snapshots.pattern", Kind::Any, FROM_40),
    ("snapshots.schedule", Kind::Any, FROM_40),
    ("snapshots.schedule.stopped", Kind::Truth, FROM_40),
];

/// Every type of device and its keys; those of nics are open to more (see `OPEN`).
pub(super) const DEVICES: &[(&str, &str)] = &[
    ("disk", "boot.priority ceph.cluster_name ceph.user_name limits.max limits.read limits.write optional path pool propagation raw.mount.options readonly recursive required shift size size.state source"),
    ("gpu", "gid gputype id mdev mig.ci mig.gi mig.uuid mode pci productid uid vendorid"),
    ("infiniband", "hwaddr mtu name nictype parent"),
    ("nic", "acceleration boot.priority gvrp host_name hwaddr io.bus maas.subnet.ipv4 maas.subnet.ipv6 mode mtu name nested network nictype parent queue.tx.length vlan vlan.tagged vrf"),
    ("none", ""),
    ("pci", "address"),
    ("proxy", "bind connect gid listen mode nat proxy_protocol security.gid security.uid uid"),
    ("tpm", "path pathrm"),
    ("unix-block", "gid major minor mode path required source uid"),
    ("unix-char", "gid major minor mode path required source uid"),
    ("unix-hotplug", "gid mode ownership.inherit productid required subsystem uid vendorid"),
    ("usb", "busnum dev devnum gid mode productid required serial uid vendorid"),
];
