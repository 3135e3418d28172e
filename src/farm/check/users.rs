//! Users: their names, numbers, shells and rights, and whether anybody can log in.

use std::collections::{BTreeMap, BTreeSet};

use super::host::once;
use super::{accounts, steps, Judged};
use crate::base::locate::BaseRef;
use crate::farm::credentials::EXAMPLE_KEY;
use crate::farm::host_keys::ON_THE_CARD;
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::{Flavour, Password, Sudo, User};
use palmfarm_protocol::names;

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    users(judged, p);
    login(judged, p);
}

fn users(judged: &Judged<'_>, p: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, user) in judged.farm.users.iter().enumerate() {
        if user.name.is_empty() {
            continue;
        }
        let at = judged.at(steps!["users", index, "name"]);
        let name = quoted(&user.name);
        if !seen.insert(&user.name) {
            p.error(at, format!("user {name} is here twice"));
        }
        if accounts::is_account(judged, &user.name) {
            p.error(at, format!("{name} is an account of the system itself"));
        } else if accounts::is_group(judged, &user.name) {
            p.error(at, format!("{name} is a group of the system itself"))
                .hint("useradd makes a group of the user's name, so it would refuse");
        }
        rights(judged, index, user, p);
        shell(judged, index, user, p);
        let lets_in = user.password.is_some() || !user.ssh_keys.is_empty() || user.is_service();
        if !lets_in && judged.knows(steps!["users", index]) {
            p.warning(at, format!("user {name} has neither an SSH key nor a password"))
                .hint("nobody can log in as this user");
        }
        if judged.knows(steps!["users", index]) {
            nobodys_key(judged, index, user, p);
        }
        old_crypt(judged, index, user, p);
    }
    uids(judged, p);
}

/// No two users have one number, also not by chance: cloud-init makes users in their order, and useradd gives the next number
/// after the highest (`find_new_uid` of shadow).
fn uids(judged: &Judged<'_>, p: &mut Problems) {
    let mut taken: BTreeMap<u32, (&str, bool)> = BTreeMap::new();
    for (index, user) in judged.farm.users.iter().enumerate() {
        if !judged.knows(steps!["users", index]) {
            return;
        }
        let next = taken
            .keys()
            .next_back()
            .map_or(1000, |last| last.saturating_add(1));
        let number = user.uid.unwrap_or(next);
        if let (Some((other, is_declared)), Some(_)) = (taken.get(&number), user.uid) {
            let at = judged.at(steps!["users", index, "uid"]);
            let other = quoted(other);
            if *is_declared {
                p.error(at, format!("{number} is the uid of {other} already"));
            } else {
                let message = format!("{other} is made first, and gets the uid {number}");
                p.error(at, message)
                    .hint(format!("give {other} a `uid`, too, or put it below"));
            }
        }
        taken.insert(number, (&user.name, user.uid.is_some()));
    }
}

/// Shells that Ubuntu's images have, below /bin or /usr/bin, /sbin or /usr/sbin.
const SHELLS: [&str; 9] = [
    "bash",
    "dash",
    "false",
    "nologin",
    "rbash",
    "screen",
    "sh",
    "tmux",
    "git-shell",
];

/// sshd refuses a user whose shell is not there.
fn shell(judged: &Judged<'_>, index: usize, user: &User, p: &mut Problems) {
    let Some(shell) = &user.shell else { return };
    let farm = judged.farm;
    let name = shell.rsplit('/').next().unwrap_or_default();
    let is_known = judged.knows(steps!["users", index, "shell"]) && judged.knows(steps!["packages"]);
    let is_stock = BaseRef::new(&farm.base).is_known() && is_known;
    let may_come = farm.files.contains_key(shell) || !farm.overlays.is_empty();
    if !is_stock || may_come || SHELLS.contains(&name) {
        return;
    }
    let at = judged.at(steps!["users", index, "shell"]);
    let (shell, user) = (quoted(shell), quoted(&user.name));
    if farm
        .packages
        .iter()
        .any(|package| names::package_parts(package).0 == name)
    {
        let message = format!("until the first boot has installed {shell}, ssh refuses {user}");
        p.warning(at, message)
            .hint("wait for the first boot to end, or write /bin/bash and change the shell later (chsh)");
    } else {
        let hint = match p.did_you_mean(name, SHELLS) {
            Some(hint) => hint,
            None => format!("write `packages: [{name}]`, if that is its package, or /bin/bash"),
        };
        p.warning(
            at,
            format!("the base has no shell {shell}, so ssh refuses {user}"),
        )
        .hint(hint);
    }
}

/// Whoever flashes such a card could not log in as this user.
fn nobodys_key(judged: &Judged<'_>, index: usize, user: &User, p: &mut Problems) {
    let is_nobodys = |line: &String| line.contains(EXAMPLE_KEY);
    let mut lines = user.ssh_keys.iter().map(|keys| keys.lines.as_slice());
    let has_another = lines.any(|lines| lines.is_empty() || !lines.iter().all(is_nobodys));
    if user.ssh_keys.is_empty() || has_another || user.password.is_some() {
        return;
    }
    let at = judged.at(steps!["users", index, "ssh_keys", 0]);
    let message = format!(
        "{} has only the key of palmfarm's examples, and nobody has its private half",
        quoted(&user.name)
    );
    p.warning(at, message)
        .hint("put your own public key there, such as {file: ~/.ssh/id_ed25519.pub}");
}

fn rights(judged: &Judged<'_>, index: usize, user: &User, p: &mut Problems) {
    let name = quoted(&user.name);
    let lxd = judged
        .farm
        .lxd
        .as_ref()
        .filter(|_| judged.knows(steps!["lxd", "flavour"]));
    let daemon = lxd.map(|lxd| lxd.flavour);
    once(judged, steps!["users", index, "groups"], &user.groups, p);
    for (item, group) in user.groups.iter().enumerate() {
        let at = judged.at(steps!["users", index, "groups", item]);
        if group == "lxd" && daemon == Some(Flavour::Incus) {
            p.warning(at, "the group of Incus is incus-admin")
                .hint("write incus-admin");
        }
        if group == "incus-admin" && daemon == Some(Flavour::Lxd) {
            p.warning(at, "the group of LXD is lxd").hint("write lxd");
        }
        accounts::known_group(judged, group, at, p);
    }
    let in_group = user
        .groups
        .iter()
        .position(|group| group == "sudo" || group == "admin");
    let asks = match (user.sudo, in_group) {
        (Some(Sudo::Nopasswd), _) | (None, None) => None,
        (Some(Sudo::Password), _) => Some(judged.at(steps!["users", index, "sudo"])),
        (None, Some(item)) => Some(judged.at(steps!["users", index, "groups", item])),
    };
    if let Some(at) = asks {
        if user.password.is_none() && judged.knows(steps!["users", index]) {
            let message = format!("sudo will ask {name} for a password, but {name} has none");
            p.warning(at, message)
                .hint("give the user a `password`, or write `sudo: nopasswd`");
        }
    }
}

/// crypt(3) of glibc, which 18.04 has, verifies SHA-crypt and MD5 only.
fn old_crypt(judged: &Judged<'_>, index: usize, user: &User, p: &mut Problems) {
    let Some(Password::Hash(hash)) = &user.password else {
        return;
    };
    let modern = !hash.starts_with("$6$") && !hash.starts_with("$5$");
    if modern && judged.release() == Some((18, 4)) {
        let at = judged.at(steps!["users", index, "password", "hash"]);
        p.error(at, "18.04 cannot verify a hash of this kind")
            .hint("make one that starts with $6$: openssl passwd -6");
    }
}

/// Whether anyone can log in, since the stock login goes.
fn login(judged: &Judged<'_>, p: &mut Problems) {
    let farm = judged.farm;
    if !judged.knows(steps!["users"]) {
        return;
    }
    if farm.users.is_empty() {
        if !judged.has(steps!["users"]) {
            p.warning(
                judged.at(&[]),
                "the farm has no users, so nobody can log in at the Pi",
            )
            .hint("the login that comes with Ubuntu's image is removed");
        }
        return;
    }
    if farm.ssh.host_keys.is_some() {
        for path in [ON_THE_CARD.to_owned(), format!("{ON_THE_CARD}.pub")] {
            if farm.files.contains_key(&path) {
                let at = judged.key(steps!["files", &path]);
                p.error(at, "`ssh: host_keys:` brings this file, too")
                    .hint("leave it out of `files`");
            }
        }
    }
    let people = || farm.users.iter().filter(|user| !user.is_service());
    if people().next().is_none() {
        let message = "the shell of every user ends at once, so nobody can log in at the Pi";
        p.warning(judged.key(steps!["users"]), message)
            .hint("add a user with another shell");
    }
    let passwords = people().any(|user| user.password.is_some());
    if farm.ssh.password && !passwords {
        let at = judged.at(steps!["ssh", "password"]);
        p.warning(at, "ssh takes passwords, and no user has one");
    }
    let keys = people().any(|user| !user.ssh_keys.is_empty());
    if !keys && !farm.ssh.password && passwords && judged.knows(steps!["ssh"]) {
        let at = judged.key(steps!["users"]);
        p.warning(
            at,
            "nobody can log in over the network, only at keyboard and monitor",
        )
        .hint("give a user `ssh_keys`, or write `ssh: {password: true}`");
    }
}
