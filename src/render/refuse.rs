//! What the base has that keeps a card from being made of it and cannot be undone: all of the reasons at once. It plans
//! nothing.

use crate::base::mounts::{self, FstabLine};
use crate::base::{Accounts, BaseFacts, BaseRefusal, BlockedModule, CloudSettings, SshPasswords};
use crate::plan::{CardPlan, PlannedUser};

/// Places where every card has files of palmfarm's.
const OURS: [&str; 5] = [
    "/etc/palmfarm/firstboot.json",
    "/etc/systemd/network/05-palmfarm",
    "/etc/systemd/system/palmfarm-firstboot.service",
    "/usr/lib/palmfarm/palmfarm-agent",
    "/var/lib/cloud/seed/nocloud-net",
];

/// Folders in which the Pi keeps what it makes, or people what they have: its containers, its record of them, homes.
const KEPT: [&str; 8] = [
    "/home",
    "/root",
    "/var/lib/cloud",
    "/var/lib/incus",
    "/var/lib/lxd",
    "/var/lib/palmfarm",
    "/var/lib/snapd",
    "/var/snap",
];

/// Every reason why no card of `plan` is made from `base`.
pub(super) fn reasons(plan: &CardPlan, base: &BaseFacts) -> Vec<BaseRefusal> {
    let mut reasons = base.refusals.clone();
    reasons.extend(cloud_settings(&base.hindrances.cloud_settings));
    reasons.extend(fstab(plan, base));
    let odd = &base.hindrances;
    let units = base.units.iter().chain(&odd.own_units);
    reasons.extend(units.filter_map(|unit| {
        let target = mounts_over(unit)?;
        let unit = unit.clone();
        Some(BaseRefusal::MountUnit { unit, target })
    }));
    reasons.extend(needed_modules(plan, &odd.blocked_modules).map(|(blocked, what)| {
        let BlockedModule { module, path, line } = blocked.clone();
        BaseRefusal::BlockedModule {
            path,
            line,
            module,
            what,
        }
    }));
    reasons.extend(taken(plan, &base.accounts));
    reasons.extend(passwords(plan, &base.accounts));
    reasons.extend(super::cloud::hindrances(plan, base));
    reasons.extend(super::boot::hindrances(plan, base));
    reasons
}

/// Settings of cloud-init's that a card must not have.
fn cloud_settings(all: &[CloudSettings]) -> Vec<BaseRefusal> {
    let mut reasons = Vec::new();
    for settings in all {
        let (path, keys) = (
            settings.path.clone(),
            [&settings.acts[..], &settings.withholds].concat(),
        );
        if !keys.is_empty() {
            reasons.push(BaseRefusal::CloudSettings { path, keys });
        }
        let (path, keys) = (settings.path.clone(), settings.overrules.clone());
        if !keys.is_empty() {
            reasons.push(BaseRefusal::OverruledSettings { path, keys });
        }
    }
    reasons
}

/// The blocked modules that a card of `plan` needs, each with what does not work without it.
pub(super) fn needed_modules<'m>(
    plan: &CardPlan,
    blocked: &'m [BlockedModule],
) -> impl Iterator<Item = (&'m BlockedModule, &'static str)> {
    let network = &plan.firstboot.network;
    let (has_bridge, has_daemon) = (network.bridge.is_some(), plan.firstboot.lxd.is_some());
    let has_vlan = network.vlan.is_some();
    let wants_ipv6 = super::undo::wants_ipv6(plan);
    let why = move |module: &str| match module {
        // What the bridge is made of.
        "bridge" | "stp" | "llc" if has_bridge || has_daemon => Some("there is no bridge"),
        "8021q" | "garp" | "mrp" if has_vlan => Some("there is no VLAN"),
        "veth" if has_daemon => Some("no container has a network"),
        // What snaps are mounted from, and images of LXD's are unpacked from.
        "squashfs" | "loop" if has_daemon => Some("no snap is mounted, LXD's neither"),
        "ipv6" if wants_ipv6 => Some("nothing has an IPv6 address"),
        "ext4" => Some("the root filesystem is not mounted"),
        "vfat" | "fat" => Some("the FAT partition is not mounted, and has no report"),
        _ => None,
    };
    blocked
        .iter()
        .filter_map(move |blocked| Some((blocked, why(&blocked.module)?)))
}

/// Where a unit mounts another filesystem over palmfarm's files: a mount unit is named after its place (systemd.mount(5)).
pub(super) fn mounts_over(unit: &str) -> Option<String> {
    let name = unit.strip_suffix(".mount")?;
    let target = format!("/{}", unescaped(name));
    hides_ours(&target).then_some(target)
}

/// Whether what is mounted at `target` hides files of palmfarm's.
pub(super) fn hides_ours(target: &str) -> bool {
    let is_over = |path: &&str| {
        let rest = path.strip_prefix(target);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    !target.is_empty() && OURS.iter().any(is_over)
}

/// Whether `target` is a folder that must outlast a boot, or has one in it, or is one of those that a program makes there.
fn is_kept(target: &str) -> bool {
    let is_below = |path: &str, folder: &str| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let of_people = |kept: &str| ["/home", "/root"].contains(&kept);
    KEPT.iter()
        .any(|kept| is_below(kept, target) || is_below(target, kept) && !of_people(kept))
}

/// The path in the name of a unit, without the slash at its beginning (systemd-escape(1)).
fn unescaped(name: &str) -> String {
    let mut path = Vec::new();
    let mut rest = name.as_bytes();
    while let [first, more @ ..] = rest {
        let code = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        rest = more;
        match (first, more) {
            (b'-', _) => path.push(b'/'),
            (b'\\', [b'x', high, low, after @ ..]) => {
                if let Some(byte) = code(&[*high, *low]) {
                    path.push(byte);
                    rest = after;
                }
            }
            _ => path.push(*first),
        }
    }
    String::from_utf8_lossy(&path).into_owned()
}

/// Lines of fstab whose filesystem is not on the card, and without which the boot would stop. A fstab of the farm's own
/// takes the place of the base's.
fn fstab(plan: &CardPlan, base: &BaseFacts) -> Vec<BaseRefusal> {
    if plan.files.iter().any(|file| file.path.as_str() == "/etc/fstab") {
        return Vec::new();
    }
    let is_missing = |mount: &FstabLine| {
        let names = match mount.target.as_str() {
            "" => &base.names.root,
            target if target == base.boot_mount => &base.names.boot,
            _ if mount.has_option(&["nofail", "noauto"]) => return false,
            // Whatever else is mounted must be on the card as well. `/dev/sda1` is on another disk, unless the Pi starts from it.
            _ => {
                let on_card = [&base.names.root, &base.names.boot]
                    .iter()
                    .any(|names| has(names, &mount.source));
                return is_name(&mount.source) && (!on_card || mount.source.starts_with("/dev/sd"));
            }
        };
        // The initial ramdisk knows the root filesystem under this name.
        !names.is_empty()
            && is_name(&mount.source)
            && mount.source != "/dev/root"
            && !has(names, &mount.source)
    };
    let refusal = |mount: FstabLine| {
        if mount.target.is_empty() && mount.has_option(&["ro"]) {
            return Some(BaseRefusal::ReadOnly(mount.options));
        }
        if hides_ours(&mount.target) {
            return Some(BaseRefusal::MountsOver(mount.target));
        }
        if ["ramfs", "tmpfs"].contains(&mount.kind.as_str()) && is_kept(&mount.target) {
            return Some(BaseRefusal::InMemory(mount.target));
        }
        is_missing(&mount).then(|| BaseRefusal::NoSuchFilesystem {
            source_name: mount.source.clone(),
            target: if mount.target.is_empty() {
                "/".into()
            } else {
                mount.target.clone()
            },
        })
    };
    mounts::lines(&base.fstab)
        .into_iter()
        .filter_map(refusal)
        .collect()
}

/// Whether `source`, as fstab and `root=` have it, means a certain filesystem or partition. Swap in memory is none.
pub(super) fn is_name(source: &str) -> bool {
    ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=", "ID=", "/dev/"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
        && !source.starts_with("/dev/zram")
}

/// Whether `source` is one of `names`. Linux takes a label as it is written, and UUIDs in either case.
pub(super) fn has(names: &[String], source: &str) -> bool {
    let source = match source
        .strip_prefix("/dev/disk/by-")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((kind, name)) => format!("{}={name}", kind.to_ascii_uppercase()),
        None => number(source).map_or_else(|| source.to_owned(), |number| format!("number {number}")),
    };
    names.iter().any(|name| {
        if name.starts_with("LABEL=") {
            *name == source
        } else {
            name.eq_ignore_ascii_case(&source)
        }
    })
}

/// The number of the partition in `/dev/mmcblk0p2` or `/dev/sda2`.
fn number(source: &str) -> Option<u32> {
    let device = source.strip_prefix("/dev/")?;
    let digits = device.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number = match device.get(..2)? {
        "mm" | "nv" => device.rsplit_once('p')?.1,
        "sd" | "vd" => digits,
        _ => return None,
    };
    number.parse().ok()
}

/// Users whose names the base has taken: cloud-init leaves an existing account as it is, without the groups and the shell
/// that the farm declares, and useradd makes no user beside a group of the same name. A home that is there it leaves to its
/// owner, and sshd does not believe keys in another's home.
fn taken(plan: &CardPlan, accounts: &Accounts) -> Vec<BaseRefusal> {
    let name = |name: &String| {
        if accounts.users.contains(name) {
            Some(BaseRefusal::Account(name.clone()))
        } else if accounts.groups.contains(name) {
            Some(BaseRefusal::Group(name.clone()))
        } else if accounts.homes.contains(name) {
            Some(BaseRefusal::Home(name.clone()))
        } else {
            None
        }
    };
    let number = |user: &PlannedUser| {
        let number = user.uid?;
        let name = accounts.numbers.get(&number)?.clone();
        let user = user.name.clone();
        Some(BaseRefusal::Number { number, name, user })
    };
    let names = plan.users.iter().filter_map(|user| name(&user.name));
    names.chain(plan.users.iter().filter_map(number)).collect()
}

/// Lines of sshd's settings that say of passwords what the farm does not.
fn passwords(plan: &CardPlan, accounts: &Accounts) -> Vec<BaseRefusal> {
    let password = plan.ssh.password;
    let refusal = |said: &SshPasswords| {
        // cloud-init turns passwords on and off, and never keyboard-interactive.
        let is_wrong = if password {
            said.key == "PasswordAuthentication" && !said.allows
        } else {
            said.allows
        };
        let SshPasswords { path, line, key, .. } = said.clone();
        is_wrong.then_some(BaseRefusal::SshPasswords {
            path,
            line,
            key,
            password,
        })
    };
    accounts.ssh_passwords.iter().filter_map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_unit_is_named_after_its_place() {
        let check = |unit: &str, expect: Option<&str>| {
            assert_eq!(mounts_over(unit).as_deref(), expect, "{unit}");
        };
        check("var.mount", Some("/var"));
        check("etc-systemd-system.mount", Some("/etc/systemd/system"));
        check("var-lib-cloud-seed-nocloud\\x2dnet.mount", None);
        check("etc-palm\\x66arm.mount", Some("/etc/palmfarm"));
        for other in [
            "-.mount",
            "var.automount",
            "boot-firmware.mount",
            "tmp.mount",
            "etc-palmfarm2.mount",
            "a\\x.mount",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn names_of_filesystems_are_compared_as_linux_does() {
        let names: Vec<String> = ["LABEL=writable", "UUID=ab-cd", "PARTUUID=70616c6d-02", "number 2"]
            .map(Into::into)
            .into();
        for good in [
            "LABEL=writable",
            "UUID=AB-CD",
            "PARTUUID=70616C6D-02",
            "/dev/mmcblk0p2",
            "/dev/sda2",
            "/dev/nvme0n1p2",
            "/dev/disk/by-label/writable",
        ] {
            assert!(is_name(good) && has(&names, good), "{good}");
        }
        for bad in [
            "LABEL=Writable",
            "UUID=ab-ce",
            "/dev/mmcblk0p1",
            "/dev/sda3",
            "/dev/disk/by-uuid/1",
        ] {
            assert!(is_name(bad) && !has(&names, bad), "{bad}");
        }
        for bad in ["/dev/mapper/data", "/dev/md0", "/dev/vg/lv", "PARTLABEL=data"] {
            assert!(is_name(bad) && !has(&names, bad), "{bad}");
        }
        for unknown in ["tmpfs", "/swapfile", "/dev/zram0", "proc", "nas:/export"] {
            assert!(!is_name(unknown), "{unknown}");
        }
    }
}
