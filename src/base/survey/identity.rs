//! What a base has that belongs to one machine: accounts with logins, keys of hosts and of people, and what earlier boots
//! left behind. Cards of a base that was booted would share it, and whoever knows the base could log in.

use std::collections::BTreeSet;

use super::{present, SurveyError, View};
use crate::base::{Accounts, BaseRefusal, Remains};
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Where sshd finds a person's keys, below the home directory.
const KEYS: &str = ".ssh/authorized_keys";

/// Files that let somebody into an account, below its home directory, and what they wrote there.
const OF_A_PERSON: [(&str, &str); 5] = [
    (KEYS, "the base's own key for logging in"),
    (".ssh/authorized_keys2", "the base's own key for logging in"),
    (".rhosts", "lets other hosts log in"),
    (".shosts", "lets other hosts log in"),
    (".bash_history", "what somebody typed on the base"),
];

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
const FOLDERS: [(&str, &str, &str, &str); 3] = [
    ("etc/ssh", "ssh_host_", "", "the host key of another machine"),
    ("var/lib/dhcp", "", ".leases", "the lease of another machine"),
    ("var/lib/dhcpcd", "", ".lease", "the lease of another machine"),
];

/// The databases of container daemons, which know containers and trusted clients.
const DAEMONS: [&str; 5] = [
    "var/lib/lxd/database/local.db",
    "var/lib/lxd/lxd.db",
    "var/snap/lxd/common/lxd/database/local.db",
    "var/lib/incus/database/local.db",
    "var/lib/lxd/server.crt",
];

/// The folder that the `sshd_config` of Debian and Ubuntu includes.
const SSHD_DROP_INS: &str = "etc/ssh/sshd_config.d";

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
    found.remains.extend(present(volumes, &OF_A_MACHINE)?);
    for (dir, prefix, ending, what) in FOLDERS {
        for name in volumes.names(dir)? {
            if name.starts_with(prefix) && name.ends_with(ending) {
                let path = format!("{dir}/{name}");
                found.remains.extend(present(volumes, &[(&path, what)])?);
            }
        }
    }
    let mut sshd = vec!["etc/ssh/sshd_config".to_owned()];
    let drop_ins = volumes.names(SSHD_DROP_INS)?;
    sshd.extend(drop_ins.iter().map(|name| format!("{SSHD_DROP_INS}/{name}")));
    for path in sshd {
        for line in text(volumes, &path)?.lines() {
            let path = CardPath::new(&path)?;
            found.refusals.extend(match logins(line) {
                Some(Logins::Others(key)) => Some(BaseRefusal::SshLogin { path, key }),
                Some(Logins::Fewer(key)) => Some(BaseRefusal::SshLockout { path, key }),
                None => None,
            });
        }
    }
    if text(volumes, "etc/hosts.deny")?.lines().any(says_something) {
        found.refusals.push(BaseRefusal::InTheWay {
            path: CardPath::new("etc/hosts.deny")?,
            what: "refuses connections",
            hint: "remove the lines of",
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

/// What a line of `sshd_config(5)` does, by its key.
#[derive(Debug, PartialEq, Eq)]
enum Logins {
    /// It may let in others than those who have a key in their home directories.
    Others(&'static str),
    /// It may keep out somebody who has a key there.
    Fewer(&'static str),
}

fn logins(line: &str) -> Option<Logins> {
    let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
    let key = words.next()?;
    let values: Vec<&str> = words.collect();
    let only = |harmless: &[&str]| values.iter().all(|value| harmless.contains(value));
    let others = [
        ("AuthorizedKeysCommand", only(&["none"])),
        ("AuthorizedKeysFile", values.iter().all(|value| is_removed(value))),
        ("AuthorizedPrincipalsCommand", only(&["none"])),
        // Its files are looked at. Those of other folders are not.
        ("Include", values.iter().all(|value| is_drop_in(value))),
        ("PermitEmptyPasswords", only(&["no"])),
        ("TrustedUserCAKeys", only(&["none"])),
    ];
    let fewer = [
        ("AddressFamily", only(&["any"])),
        ("AllowGroups", false),
        ("AllowUsers", false),
        ("AuthenticationMethods", only(&["any"]) || only(&["publickey"])),
        (
            "AuthorizedKeysFile",
            values.iter().any(|value| in_home(value) == KEYS),
        ),
        ("DenyGroups", only(&["root"])),
        ("DenyUsers", only(&["root"])),
        ("ListenAddress", only(&["0.0.0.0", "::"])),
        ("Port", only(&["22"])),
        ("PubkeyAuthentication", only(&["yes"])),
    ];
    let odd = |keys: &[(&'static str, bool)]| {
        let found = keys
            .iter()
            .find(|(known, is_harmless)| known.eq_ignore_ascii_case(key) && !is_harmless);
        found.map(|(known, _)| *known)
    };
    odd(&others)
        .map(Logins::Others)
        .or_else(|| odd(&fewer).map(Logins::Fewer))
}

/// A pattern of `AuthorizedKeysFile` below a home directory.
fn in_home(pattern: &str) -> &str {
    pattern.strip_prefix("%h/").unwrap_or(pattern)
}

/// Whether `pattern` of `AuthorizedKeysFile` leads to nothing but files of [`OF_A_PERSON`], or to nothing at all.
fn is_removed(pattern: &str) -> bool {
    pattern == "none" || OF_A_PERSON.iter().any(|(known, _)| *known == in_home(pattern))
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

/// Whether `pattern` of `Include` leads to nothing but files of [`SSHD_DROP_INS`].
fn is_drop_in(pattern: &str) -> bool {
    let name = pattern
        .strip_prefix('/')
        .unwrap_or(pattern)
        .strip_prefix(SSHD_DROP_INS)
        .or_else(|| pattern.strip_prefix("sshd_config.d"))
        .and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/'))
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
    fn sshd_lets_in_whom_its_file_says() {
        let check = |line: &str, expect: Option<Logins>| assert_eq!(logins(line), expect, "{line}");
        for harmless in [
            "",
            "#TrustedUserCAKeys /etc/ssh/ca.pub",
            "trustedusercakeys=none",
            "PasswordAuthentication yes",
            "AuthorizedKeysFile %h/.ssh/authorized_keys .ssh/authorized_keys2",
            "Include /etc/ssh/sshd_config.d/*.conf",
            "Include sshd_config.d/*.conf",
            "Port 22",
            "ListenAddress ::",
            "PubkeyAuthentication yes",
            "DenyUsers root",
        ] {
            check(harmless, None);
        }
        for (line, key) in [
            ("TrustedUserCAKeys /etc/ssh/ca.pub", "TrustedUserCAKeys"),
            ("PermitEmptyPasswords yes", "PermitEmptyPasswords"),
            ("Include /etc/ssh/x/*.conf", "Include"),
            ("Include /etc/ssh/sshd_config.d/x/*.conf", "Include"),
            ("Include /etc/ssh/sshd_config.d2/*.conf", "Include"),
        ] {
            check(line, Some(Logins::Others(key)));
        }
        for other in [
            "/etc/keys",
            "%h/keys",
            "keys",
            "/etc/ssh/keys/%u",
            "\"/etc/keys\"",
            "%h/%h/.rhosts",
        ] {
            check(
                &format!("AuthorizedKeysFile .ssh/authorized_keys {other}"),
                Some(Logins::Others("AuthorizedKeysFile")),
            );
        }
        for (line, key) in [
            ("AuthorizedKeysFile none", "AuthorizedKeysFile"),
            ("AuthorizedKeysFile .ssh/authorized_keys2", "AuthorizedKeysFile"),
            ("allowusers ubuntu", "AllowUsers"),
            ("DenyUsers root craig", "DenyUsers"),
            ("ListenAddress 192.168.77.1", "ListenAddress"),
            ("Port 2222", "Port"),
            ("PubkeyAuthentication no", "PubkeyAuthentication"),
            ("AddressFamily inet", "AddressFamily"),
            (
                "AuthenticationMethods publickey,password",
                "AuthenticationMethods",
            ),
        ] {
            check(line, Some(Logins::Fewer(key)));
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
