//! What a base has that belongs to one machine: accounts with logins, keys of hosts and of people, and what earlier boots
//! left behind. Cards of a base that was booted would share it, and whoever knows the base could log in.

use std::collections::BTreeSet;

use super::sshd::{self, KEYS};
use super::{present, SurveyError, View};
use crate::base::{Accounts, BaseRefusal, Remains};
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Files that let somebody into an account, below its home directory, and what they wrote there.
const OF_A_PERSON: [(&str, &str); 7] = [
    (KEYS, "the base's own key for logging in"),
    (".ssh/authorized_keys2", "the base's own key for logging in"),
    (".ssh/environment", "changes what runs when somebody logs in"),
    (".ssh/rc", "runs whenever somebody logs in"),
    (".rhosts", "lets other hosts log in"),
    (".shosts", "lets other hosts log in"),
    (".bash_history", "what somebody typed on the base"),
];

/// What useradd(8) copies into each new home.
const SKELETON: &str = "etc/skel";

/// Files of one machine.
const OF_A_MACHINE: [(&str, &str); 6] = [
    (
        "var/lib/systemd/random-seed",
        "the seed of another machine's random numbers",
    ),
    (
        "var/lib/systemd/credential.secret",
        "the secret of another machine",
    ),
    (
        "etc/sudoers.d/90-cloud-init-users",
        "sudo for the users that cloud-init made on the base",
    ),
    ("etc/hosts.equiv", "lets other hosts log in"),
    ("etc/ssh/shosts.equiv", "lets other hosts log in"),
    ("var/lib/cloud/instance", "cloud-init's memory of another machine"),
];

/// Files that keep people out.
pub(super) const IN_THE_WAY: [(&str, &str); 2] = [
    ("etc/nologin", "keeps everybody but root from logging in"),
    // A condition of Debian's ssh.service.
    ("etc/ssh/sshd_not_to_be_run", "keeps sshd from starting"),
];

/// Folders with files of one machine, by prefix and ending of the names.
const FOLDERS: [(&str, &str, &str, &str); 4] = [
    ("etc/ssh", "ssh_host_", "", "the host key of another machine"),
    ("var/lib/dhcp", "", ".leases", "the lease of another machine"),
    ("var/lib/dhcpcd", "", ".lease", "the lease of another machine"),
    // What cloud-init does once in the life of an image, whatever the card (its `helpers.py`).
    (
        "var/lib/cloud/sem",
        "",
        "",
        "keeps cloud-init from doing a part of its work on this card",
    ),
];

/// The databases of container daemons, which know containers and trusted clients.
const DAEMONS: [&str; 5] = [
    "var/lib/lxd/database/local.db",
    "var/lib/lxd/lxd.db",
    "var/snap/lxd/common/lxd/database/local.db",
    "var/lib/incus/database/local.db",
    "var/lib/lxd/server.crt",
];

/// What an earlier use of the base left behind.
#[derive(Default)]
pub(super) struct Identity {
    pub(super) accounts: Accounts,
    pub(super) remains: Vec<Remains>,
    pub(super) refusals: Vec<BaseRefusal>,
}

pub(super) fn survey(volumes: &View<'_>) -> Result<Identity, SurveyError> {
    let mut found = Identity::default();
    let passwd = text(volumes, "etc/passwd")?;
    let group = text(volumes, "etc/group")?;
    let shadow = text(volumes, "etc/shadow")?;
    for fields in lines(&passwd) {
        let name = first(&fields);
        if fields
            .get(1)
            .is_some_and(|password| *password != "x" && !is_locked(password))
        {
            found.refusals.push(BaseRefusal::PasswordInPasswd(name.clone()));
        }
        if let Some(home) = home(&fields) {
            for (file, what) in OF_A_PERSON {
                let path = format!("{home}/{file}");
                found.remains.extend(present(volumes, &[(&path, what)])?);
            }
        }
        if let Some(number) = fields.get(2).and_then(|number| number.parse().ok()) {
            found.accounts.numbers.insert(number, name.clone());
        }
        found.accounts.users.insert(name);
    }
    found.accounts.homes = volumes.names("home")?.into_iter().collect();
    found.accounts.groups = lines(&group).map(|fields| first(&fields)).collect();
    found.accounts.with_password = with_password(&shadow);
    if !shadow.is_empty() {
        let stat = volumes.stat("etc/shadow")?;
        let is_file = stat.as_ref().is_some_and(|stat| stat.kind == FileKind::File);
        if !is_file && !found.accounts.with_password.is_empty() {
            // Locked accounts would go to the link's place, and the file behind it would keep its passwords.
            found.refusals.push(BaseRefusal::InTheWay {
                path: CardPath::new("etc/shadow")?,
                what:
                    "is not a regular file, so palmfarm cannot lock the accounts that have a password there",
                hint: "put the file itself at",
            });
        }
        let access = stat.filter(|_| is_file).and_then(|stat| stat.access);
        found.accounts.shadow = access.map(|access| (shadow.into(), access));
    }
    // Every user of the farm would get a copy.
    let copied = OF_A_PERSON.map(|(file, what)| (format!("{SKELETON}/{file}"), what));
    let copied = copied.each_ref().map(|(path, what)| (path.as_str(), *what));
    found.remains.extend(present(volumes, &copied)?);
    found.remains.extend(present(volumes, &OF_A_MACHINE)?);
    for (dir, prefix, ending, what) in FOLDERS {
        for name in volumes.names(dir)? {
            if name.starts_with(prefix) && name.ends_with(ending) {
                let path = format!("{dir}/{name}");
                found.remains.extend(present(volumes, &[(&path, what)])?);
            }
        }
    }
    ssh(volumes, &mut found)?;
    if text(volumes, "etc/hosts.deny")?.lines().any(says_something) {
        found.refusals.push(BaseRefusal::InTheWay {
            path: CardPath::new("etc/hosts.deny")?,
            what: "refuses connections",
            hint: "remove the lines of",
        });
    }
    if text(volumes, "etc/default/useradd")?.lines().any(makes_others) {
        found.refusals.push(BaseRefusal::InTheWay {
            path: CardPath::new("etc/default/useradd")?,
            what: "has EXPIRE, HOME, INACTIVE or SKEL, so that new users would not be as the farm declares them",
            hint: "remove these lines from",
        });
    }
    if text(volumes, "etc/overlayroot.conf")?.lines().any(is_in_memory) {
        found.refusals.push(BaseRefusal::InTheWay {
            path: CardPath::new("etc/overlayroot.conf")?,
            what: "keeps everything that the Pi makes in memory, so that each reboot loses it",
            hint: "write `overlayroot=\"\"` into",
        });
    }
    for path in DAEMONS {
        if volumes.has(path)? {
            found.refusals.push(BaseRefusal::UsedDaemon(CardPath::new(path)?));
        }
    }
    Ok(found)
}

/// What sshd is told.
fn ssh(volumes: &View<'_>, found: &mut Identity) -> Result<(), SurveyError> {
    let file = |path: &str| volumes.text(Volume::Root, path);
    let main = file(sshd::MAIN)?;
    let mut drop_ins = Vec::new();
    for name in volumes.names(sshd::DROP_INS)? {
        drop_ins.extend(file(&format!("{}/{name}", sshd::DROP_INS))?);
    }
    found.refusals.extend(sshd::refusals(main.as_ref(), &drop_ins));
    found.accounts.ssh_passwords = sshd::passwords(main.as_ref(), &drop_ins);
    // What is here goes before all files.
    let has_options = |line: &str| {
        line.trim()
            .strip_prefix("SSHD_OPTS=")
            .is_some_and(|value| !is_empty(value))
    };
    if text(volumes, "etc/default/ssh")?.lines().any(has_options) {
        found.refusals.push(BaseRefusal::InTheWay {
            path: CardPath::new("etc/default/ssh")?,
            what: "gives sshd options, and palmfarm does not know who could log in with them",
            hint: "write `SSHD_OPTS=` into",
        });
    }
    Ok(())
}

/// Whether a value of a file for shells is empty.
fn is_empty(value: &str) -> bool {
    value.trim().trim_matches(['"', '\'']).is_empty()
}

/// Whether a line of `/etc/default/useradd` (useradd(8)) makes users that cannot log in, or gives them other files than
/// those of `/etc/skel`.
fn makes_others(line: &str) -> bool {
    let Some((key, value)) = line.trim().split_once('=') else {
        return false;
    };
    let is_one_of =
        |those: &[&str]| is_empty(value) || those.contains(&value.trim().trim_matches(['"', '\'']));
    match key.trim() {
        "EXPIRE" => !is_empty(value),
        "HOME" => !is_one_of(&["/home"]),
        "INACTIVE" => !is_one_of(&["-1"]),
        "SKEL" => !is_one_of(&["/etc/skel"]),
        _ => false,
    }
}

/// Whether a line of a file with comments is not one.
fn says_something(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

/// Whether a line of overlayroot.conf lays a filesystem in memory over the root filesystem.
fn is_in_memory(line: &str) -> bool {
    line.trim()
        .strip_prefix("overlayroot=")
        .map(|value| value.trim_matches(['"', '\'']))
        .is_some_and(|value| !value.is_empty() && value != "disabled")
}

fn text(volumes: &View<'_>, path: &str) -> Result<String, SurveyError> {
    let found = volumes.text(Volume::Root, path)?;
    Ok(found.map(|found| found.text).unwrap_or_default())
}

/// The fields of each line of passwd(5) and its kin.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() > 1)
}

fn first(fields: &[&str]) -> String {
    fields.first().copied().unwrap_or_default().to_owned()
}

/// The home directory of an account. Those of services count, too: `nologin` does not keep a key from forwarding ports.
fn home(fields: &[&str]) -> Option<String> {
    let home = fields.get(5)?.trim_end_matches('/');
    CardPath::new(&format!("{home}/x")).ok().map(|_| home.to_owned())
}

/// Those whose field in shadow(5) lets them log in: with the password that it is the hash of, or with none if it is
/// empty.
fn with_password(shadow: &str) -> BTreeSet<String> {
    lines(shadow)
        .filter(|fields| fields.get(1).is_some_and(|hash| !is_locked(hash)))
        .map(|fields| first(&fields))
        .collect()
}

/// No password has a hash that begins with these characters.
fn is_locked(hash: &str) -> bool {
    hash.starts_with(['!', '*'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_whatever_is_not_locked() {
        let shadow =
            "root:*:1::\na:!:1::\nb:!*:1::\nc:$6$x$y:1::\nd::1::\ne:*LK*:1::\nf:ab12CD34ef56g:1::\nno line\n";
        let found: Vec<String> = with_password(shadow).into_iter().collect();
        assert_eq!(found, ["c", "d", "f"]);
    }

    #[test]
    fn a_setting_of_useradd_makes_other_users() {
        for odd in [
            "EXPIRE=2020-01-01",
            "INACTIVE=0",
            " SKEL=/srv/skel",
            "HOME=\"/srv\"",
        ] {
            assert!(makes_others(odd), "{odd}");
        }
        for stock in [
            "SHELL=/bin/sh",
            "# EXPIRE=",
            "EXPIRE=",
            "INACTIVE=-1",
            "SKEL=/etc/skel",
            "HOME=/home",
        ] {
            assert!(!makes_others(stock), "{stock}");
        }
    }

    #[test]
    fn a_home_is_a_path_of_a_card() {
        let check = |line: &str, expect: Option<&str>| {
            let fields: Vec<&str> = line.split(':').collect();
            assert_eq!(home(&fields).as_deref(), expect, "{line}");
        };
        check("ubuntu:x:1000:1000::/home/ubuntu:/bin/bash", Some("/home/ubuntu"));
        check("root:x:0:0::/root/:/bin/bash", Some("/root"));
        check("a:x:1:1::/:/bin/sh", Some(""));
        check("bin:x:2:2:bin:/bin:/usr/sbin/nologin", Some("/bin"));
        check("x:x:2:2:x:../up:/bin/sh", None);
        check("short:x", None);
    }
}
