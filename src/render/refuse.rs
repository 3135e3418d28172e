//! What the base has that keeps a card from being made of it and cannot be undone: all of the reasons at once. It plans
//! nothing.

use super::{fstab, undo, Inputs};
use crate::base::{
    Accounts, BaseFacts, BaseRefusal, BlockedModule, CloudSettings, LocaleSetting, SshMatch, SshPasswords,
};
use crate::farm::decode::boot::{NeededBy, NEEDED_MODULES};
use crate::plan::{CardPlan, PlannedUser};

/// Every reason why no card of `plan` is made from `base`.
pub(super) fn reasons(plan: &CardPlan, base: &BaseFacts, inputs: &Inputs) -> Vec<BaseRefusal> {
    let mut reasons = base.refusals.clone();
    reasons.retain(|reason| concerns_the_farm(plan, reason));
    reasons.extend(cloud_settings(&base.hindrances.cloud_settings));
    // One of the farm's own takes the place of the base's.
    if fstab::of_the_farm(plan, inputs).is_none() {
        let faults = fstab::faults(&base.fstab, Some(base)).into_iter();
        reasons.extend(faults.map(BaseRefusal::Fstab));
    }
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
    reasons.extend(masked(plan, base));
    let odd_locale = locales(plan, &odd.locale)
        .filter(|(said, _)| !inputs.bring(plan, &|path| path == said.path.as_str()));
    reasons.extend(odd_locale.map(|(said, locale)| {
        let (said, locale) = (said.clone(), locale.to_owned());
        BaseRefusal::Locale { said, locale }
    }));
    reasons.extend(missing_programs(plan, base));
    reasons.extend(taken(plan, &base.accounts));
    reasons.extend(passwords(plan, &base.accounts));
    reasons.extend(super::cloud::hindrances(plan, base));
    reasons.extend(super::boot::hindrances(plan, base));
    reasons
}

/// Whether a setting of sshd's that keeps people out is for one of the farm's users.
fn concerns_the_farm(plan: &CardPlan, reason: &BaseRefusal) -> bool {
    let BaseRefusal::SshLockout { only_for, .. } = reason else {
        return true;
    };
    let daemon = plan.firstboot.daemon_users.iter();
    match only_for {
        SshMatch::Anybody => true,
        SshMatch::Users(names) => plan.users.iter().any(|user| names.contains(&user.name)),
        // A user's own group has the user's name. Which one the daemon's is depends on the daemon.
        SshMatch::Groups(names) => {
            let mut of_users = plan
                .users
                .iter()
                .flat_map(|user| user.groups.iter().chain([&user.name]));
            let of_daemon = ["incus", "incus-admin", "lxd"];
            of_users.any(|group| names.contains(group))
                || daemon.len() > 0 && names.iter().any(|name| of_daemon.contains(&name.as_str()))
        }
    }
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
    let why = move |module: &str| {
        let (_, by, why) = NEEDED_MODULES.into_iter().find(|(name, ..)| *name == module)?;
        let is_needed = match by {
            NeededBy::All => true,
            NeededBy::Bridges => has_bridge || has_daemon,
            NeededBy::Daemons => has_daemon,
            NeededBy::Ipv6 => wants_ipv6,
            NeededBy::Vlans => has_vlan,
        };
        is_needed.then_some(why)
    };
    blocked
        .iter()
        .filter_map(move |blocked| Some((blocked, why(&blocked.module)?)))
}

/// The settings of a locale that would count in place of the one that the farm declares.
pub(super) fn locales<'a>(
    plan: &'a CardPlan,
    settings: &'a [LocaleSetting],
) -> impl Iterator<Item = (&'a LocaleSetting, &'a str)> {
    let declared = plan.locale.as_deref();
    settings.iter().filter_map(move |said| {
        let locale = declared.filter(|locale| *locale != said.value)?;
        Some((said, locale))
    })
}

/// Units that the card needs and that are masked below `/usr`. An administrator's unit of the same name is in their place.
fn masked(plan: &CardPlan, base: &BaseFacts) -> Vec<BaseRefusal> {
    let odd = &base.hindrances;
    let is_needed = undo::needed(plan);
    let masked = odd.masked_units.iter().filter(|path| {
        let name = path.name();
        is_needed(name) && !base.has_unit(name) && !odd.own_units.contains(name)
    });
    masked
        .map(|path| BaseRefusal::PackagedMask { path: path.clone() })
        .collect()
}

/// What the users of the farm need and the base does not have.
fn missing_programs(plan: &CardPlan, base: &BaseFacts) -> Vec<BaseRefusal> {
    let carries = |names: &[&str]| {
        let mut carried = plan.packages.iter().map(|carried| carried.package.name.as_str());
        carried.any(|name| names.contains(&name))
    };
    let who = |is_meant: &dyn Fn(&PlannedUser) -> bool| -> Vec<String> {
        let users = plan.users.iter().filter(|user| is_meant(user));
        users.map(|user| user.name.clone()).collect()
    };
    let mut found = Vec::new();
    let users = who(&|user| !user.ssh_keys.is_empty());
    if !users.is_empty() && !base.has_ssh_server() && !carries(&["dropbear", "openssh-server", "tinysshd"]) {
        found.push(BaseRefusal::NoSshServer { users });
    }
    let users = who(&|user| user.sudo.is_some());
    if !users.is_empty() && base.accounts.lacks_sudo && !carries(&["sudo", "sudo-rs"]) {
        found.push(BaseRefusal::NoSudo { users });
    }
    found
}

/// Where a unit mounts another filesystem over palmfarm's files: a mount unit is named after its place (systemd.mount(5)).
pub(super) fn mounts_over(unit: &str) -> Option<String> {
    let name = unit.strip_suffix(".mount")?;
    let target = format!("/{}", unescaped(name));
    fstab::hides_ours(&target).then_some(target)
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
}
