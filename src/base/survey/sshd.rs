//! What `sshd_config(5)` of a base says about who may log in, and with which host keys. It knows every key that a card can
//! have as it is; any other is told of by its name. It reads no file itself.

use crate::base::{BaseRefusal, BaseText, SshMatch, SshPasswords};
use crate::edit::tree::CardPath;

/// The settings of the package.
pub(super) const MAIN: &str = "etc/ssh/sshd_config";

/// The folder that the `sshd_config` of Debian and Ubuntu includes.
pub(super) const DROP_INS: &str = "etc/ssh/sshd_config.d";

/// Where cloud-init writes whether passwords may be used for logging in (its `ssh_util.py`). Of several values the first
/// counts, and files are read in the order of their names.
const OF_CLOUD_INIT: &str = "50-cloud-init.conf";

/// Where sshd finds a person's keys, below the home directory.
pub(super) const KEYS: &str = ".ssh/authorized_keys";
const MORE_KEYS: &str = ".ssh/authorized_keys2";

/// Keys that, whatever their values, neither let somebody in nor keep somebody out; in small letters. The last eight
/// are of old versions, and sshd passes over them.
const HARMLESS: [&str; 82] = [
    "acceptenv",
    "allowagentforwarding",
    "allowstreamlocalforwarding",
    "allowtcpforwarding",
    "authorizedkeyscommanduser",
    "authorizedprincipalscommanduser",
    "authorizedprincipalsfile",
    "banner",
    "casignaturealgorithms",
    "channeltimeout",
    "ciphers",
    "clientalivecountmax",
    "clientaliveinterval",
    "compression",
    "debianbanner",
    "disableforwarding",
    "exposeauthinfo",
    "fingerprinthash",
    "gatewayports",
    "gssapicleanupcredentials",
    "gssapikexalgorithms",
    "gssapistorecredentialsonrekey",
    "gssapistrictacceptorcheck",
    "hostbasedacceptedalgorithms",
    "hostbasedacceptedkeytypes",
    "hostbasedusesnamefrompacketonly",
    "hostkeyalgorithms",
    "ignoreuserknownhosts",
    "ipqos",
    "kerberosgetafstoken",
    "kerberosorlocalpasswd",
    "kerberosticketcleanup",
    "kexalgorithms",
    "loglevel",
    "logverbose",
    "logingracetime",
    "macs",
    "match",
    "maxauthtries",
    "maxsessions",
    "maxstartups",
    "modulifile",
    "permitlisten",
    "permitopen",
    "permitrootlogin",
    "permittunnel",
    "permituserenvironment",
    "permituserrc",
    "persourcemaxstartups",
    "persourcenetblocksize",
    "persourcepenalties",
    "persourcepenaltyexemptlist",
    "pidfile",
    "printlastlog",
    "printmotd",
    "pubkeyacceptedalgorithms",
    "pubkeyacceptedkeytypes",
    "rekeylimit",
    "requiredrsasize",
    "securitykeyprovider",
    "setenv",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "strictmodes",
    "subsystem",
    "syslogfacility",
    "tcpkeepalive",
    "unusedconnectiontimeout",
    "usedns",
    "versionaddendum",
    "x11displayoffset",
    "x11forwarding",
    "x11uselocalhost",
    "xauthlocation",
    "dsaauthentication",
    "keyregenerationinterval",
    "protocol",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "serverkeybits",
    "uselogin",
    "useprivilegeseparation",
];

/// Keys for logging in with a password. What the farm says of that has to hold.
const PASSWORDS: [&str; 4] = [
    "PasswordAuthentication",
    "KbdInteractiveAuthentication",
    "ChallengeResponseAuthentication",
    "SkeyAuthentication",
];

/// A line with a key.
struct Line<'a> {
    path: &'a CardPath,
    /// From 1.
    number: usize,
    key: &'a str,
    values: Vec<&'a str>,
    /// Whether it is below a `Match`, and for whom that is.
    block: Option<SshMatch>,
}

/// Why no card has these settings: those of the package, and those of [`DROP_INS`] in the order of their names.
pub(super) fn refusals(main: Option<&BaseText>, drop_ins: &[BaseText]) -> Vec<BaseRefusal> {
    let lines = in_order(main, drop_ins);
    let mut found: Vec<_> = lines.iter().filter_map(refusal).collect();
    let mut host_keys = lines.iter().filter(|line| line.is("HostKey"));
    if let Some(first) = host_keys.next() {
        let is_farms = |line: &Line<'_>| line.values.contains(&"/etc/ssh/ssh_host_ed25519_key");
        if !is_farms(first) && !host_keys.any(is_farms) {
            found.push(first.refused("HostKey", Effect::HostKey));
        }
    }
    found.dedup();
    found
}

/// What they say of logging in with a password that cloud-init does not overrule.
pub(super) fn passwords(main: Option<&BaseText>, drop_ins: &[BaseText]) -> Vec<SshPasswords> {
    let lines = in_order(main, drop_ins);
    let mut found = Vec::new();
    let said = |key: &'static str, line: &Line<'_>| SshPasswords {
        path: line.path.clone(),
        line: line.number,
        key,
        allows: line.values.first() == Some(&"yes"),
    };
    for key in PASSWORDS {
        let (conditional, mut others): (Vec<_>, Vec<_>) = lines
            .iter()
            .filter(|line| line.is(key))
            .partition(|line| line.block.is_some());
        others.truncate(1);
        if key == PASSWORDS[0] {
            others.retain(|line| comes_first(main, line));
        }
        found.extend(conditional.into_iter().chain(others).map(|line| said(key, line)));
    }
    found
}

/// Whether sshd reads `line` before what cloud-init writes. If nothing is included, cloud-init changes the line itself.
fn comes_first(main: Option<&BaseText>, line: &Line<'_>) -> bool {
    match main {
        Some(main) if main.path == *line.path => {
            let mut lines = lines_of(main);
            lines.any(|other| other.includes_drop_ins() && other.number > line.number)
        }
        _ => line.path.name() < OF_CLOUD_INIT,
    }
}

/// All lines in the order in which sshd reads them. Those of a folder that nothing includes come last.
fn in_order<'a>(main: Option<&'a BaseText>, drop_ins: &'a [BaseText]) -> Vec<Line<'a>> {
    let mut own: Vec<_> = main.into_iter().flat_map(lines_of).collect();
    let at = own.iter().position(Line::includes_drop_ins).unwrap_or(own.len());
    own.splice(at..at, drop_ins.iter().flat_map(lines_of));
    own
}

fn lines_of(file: &BaseText) -> impl Iterator<Item = Line<'_>> {
    let mut block = None;
    file.text.lines().enumerate().filter_map(move |(index, line)| {
        let mut words = line.split([' ', '\t', '=', '\r']).filter(|word| !word.is_empty());
        let key = words.next().filter(|key| !key.starts_with('#'))?;
        let line = Line {
            path: &file.path,
            number: index + 1,
            key,
            values: words.take_while(|word| !word.starts_with('#')).collect(),
            block: block.clone(),
        };
        if line.is("Match") {
            block = Some(whom(&line.values));
        }
        Some(line)
    })
}

/// For whom a `Match` with these words is. All of its criteria have to hold, so one that nobody of the farm's meets is
/// enough.
fn whom(words: &[&str]) -> SshMatch {
    let names = |criterion: &str| {
        let at = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case(criterion))?;
        let names: Vec<String> = words.get(at + 1)?.split(',').map(str::to_owned).collect();
        let is_name = |name: &String| !name.is_empty() && !name.contains(['*', '?', '!', '"']);
        names.iter().all(is_name).then_some(names)
    };
    match (names("User"), names("Group")) {
        (Some(users), _) => SshMatch::Users(users),
        (None, Some(groups)) => SshMatch::Groups(groups),
        (None, None) => SshMatch::Anybody,
    }
}

/// What a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It may let in others than those who have a key in their home directories.
    Others,
    /// It may keep out somebody who has a key there.
    Fewer,
    /// sshd has another host key than the card's own.
    HostKey,
}

impl Line<'_> {
    fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key)
    }

    fn includes_drop_ins(&self) -> bool {
        self.is("Include") && self.values.iter().any(|value| is_drop_in(value))
    }

    fn refused(&self, key: &'static str, effect: Effect) -> BaseRefusal {
        let path = self.path.clone();
        match effect {
            Effect::Others => BaseRefusal::SshLogin { path, key },
            Effect::Fewer => BaseRefusal::SshLockout {
                path,
                key,
                only_for: self.block.clone().unwrap_or(SshMatch::Anybody),
            },
            Effect::HostKey => BaseRefusal::SshHostKey { path, key },
        }
    }
}

fn refusal(line: &Line<'_>) -> Option<BaseRefusal> {
    let known = PASSWORDS.iter().any(|key| line.is(key))
        || HARMLESS.contains(&line.key.to_ascii_lowercase().as_str());
    if known {
        return None;
    }
    let mut is_known = false;
    for (key, effect, is_harmless) in valued(line) {
        if line.is(key) {
            is_known = true;
            if !is_harmless {
                return Some(line.refused(key, effect));
            }
        }
    }
    let (path, key) = (line.path.clone(), line.key.to_owned());
    (!is_known).then_some(BaseRefusal::SshUnknown { path, key })
}

/// Keys whose value matters: whether that of `line` is harmless.
fn valued(line: &Line<'_>) -> [(&'static str, Effect, bool); 30] {
    use Effect::{Fewer, HostKey, Others};
    let values = &line.values;
    let only = |harmless: &[&str]| values.iter().all(|value| harmless.contains(value));
    [
        ("AuthorizedKeysCommand", Others, only(&["none"])),
        (
            "AuthorizedKeysFile",
            Others,
            values.iter().all(|value| is_removed(value)),
        ),
        ("AuthorizedPrincipalsCommand", Others, only(&["none"])),
        ("GSSAPIAuthentication", Others, only(&["no"])),
        ("GSSAPIKeyExchange", Others, only(&["no"])),
        ("HostbasedAuthentication", Others, only(&["no"])),
        ("IgnoreRhosts", Others, only(&["yes"])),
        // Its files are looked at. Those of other folders are not.
        ("Include", Others, values.iter().all(|value| is_drop_in(value))),
        ("KerberosAuthentication", Others, only(&["no"])),
        ("PermitEmptyPasswords", Others, only(&["no"])),
        ("TrustedUserCAKeys", Others, only(&["none"])),
        ("AddressFamily", Fewer, only(&["any"])),
        ("AllowGroups", Fewer, false),
        ("AllowUsers", Fewer, false),
        (
            "AuthenticationMethods",
            Fewer,
            only(&["any"]) || only(&["publickey"]),
        ),
        (
            "AuthorizedKeysFile",
            Fewer,
            values.iter().any(|value| in_home(value) == KEYS),
        ),
        ("ChrootDirectory", Fewer, only(&["none"])),
        ("DenyGroups", Fewer, only(&["root"])),
        ("DenyUsers", Fewer, only(&["root"])),
        ("ForceCommand", Fewer, only(&["none"])),
        ("ListenAddress", Fewer, only(&["0.0.0.0", "::"])),
        ("PermitTTY", Fewer, only(&["yes"])),
        ("Port", Fewer, only(&["22"])),
        ("PubkeyAuthOptions", Fewer, only(&["none"])),
        ("PubkeyAuthentication", Fewer, only(&["yes"])),
        ("RevokedKeys", Fewer, only(&["none"])),
        // Without PAM sshd refuses an account whose password is locked, also with a key (its `auth.c`).
        ("UsePAM", Fewer, only(&["yes"])),
        ("HostCertificate", HostKey, only(&["none"])),
        (
            "HostKey",
            HostKey,
            values.iter().all(|value| is_own_host_key(value)),
        ),
        ("HostKeyAgent", HostKey, only(&["none"])),
    ]
}

/// Whether `path` is that of a host key that each card makes for itself, or that the farm brings.
fn is_own_host_key(path: &str) -> bool {
    let kind = path
        .strip_prefix("/etc/ssh/ssh_host_")
        .and_then(|rest| rest.strip_suffix("_key"));
    kind.is_some_and(|kind| !kind.contains('/'))
}

/// A pattern of `AuthorizedKeysFile` below a home directory.
fn in_home(pattern: &str) -> &str {
    pattern.strip_prefix("%h/").unwrap_or(pattern)
}

/// Whether `pattern` of `AuthorizedKeysFile` leads to nothing but files that are removed, or to nothing at all.
fn is_removed(pattern: &str) -> bool {
    pattern == "none" || [KEYS, MORE_KEYS].contains(&in_home(pattern))
}

/// Whether `pattern` of `Include` leads to nothing but files of [`DROP_INS`].
fn is_drop_in(pattern: &str) -> bool {
    let name = pattern
        .strip_prefix('/')
        .unwrap_or(pattern)
        .strip_prefix(DROP_INS)
        .or_else(|| pattern.strip_prefix("sshd_config.d"))
        .and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/'))
}

#[cfg(test)]
mod tests;
