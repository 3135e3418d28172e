//! What sshd_config(5) of a base says about who may log in, and with which host keys. It knows every key that a card can
//! have as it is; any other is told of by its name. It reads no file itself.

use crate::base::{BaseRefusal, BaseText, SshPasswords};
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
    /// Whether it is below a `Match`.
    is_conditional: bool,
}

/// Why no card has these settings: those of the package, and those of [`DROP_INS`] in the order of their names.
pub(super) fn refusals(main: Option<&BaseText>, drop_ins: &[BaseText]) -> Vec<BaseRefusal> {
    let lines = in_order(main, drop_ins);
    let mut found: Vec<_> = lines.iter().filter_map(refusal).collect();
    let mut host_keys = lines.iter().filter(|line| line.is("HostKey"));
    if let Some(first) = host_keys.next() {
        let is_farms = |line: &Line<'_>| {
            line.values
                .iter()
                .any(|value| *value == "/etc/ssh/ssh_host_ed25519_key")
        };
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
            .partition(|line| line.is_conditional);
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
    let mut is_conditional = false;
    file.text.lines().enumerate().filter_map(move |(index, line)| {
        let mut words = line.split([' ', '\t', '=', '\r']).filter(|word| !word.is_empty());
        let key = words.next().filter(|key| !key.starts_with('#'))?;
        let line = Line {
            path: &file.path,
            number: index + 1,
            key,
            values: words.take_while(|word| !word.starts_with('#')).collect(),
            is_conditional,
        };
        is_conditional |= line.is("Match");
        Some(line)
    })
}

/// What a line does.
#[derive(Debug, PartialEq, Eq)]
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
            Effect::Fewer => BaseRefusal::SshLockout { path, key },
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
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> BaseText {
        BaseText {
            path: CardPath::new(path).unwrap(),
            text: text.into(),
        }
    }

    /// What a line of the package's file does, and its key as messages have it.
    fn said(line: &str) -> Option<(Effect, String)> {
        let refusals = refusals(Some(&file(MAIN, line)), &[]);
        assert!(refusals.len() < 2, "{line}");
        refusals.into_iter().next().map(|refusal| match refusal {
            BaseRefusal::SshLogin { key, .. } => (Effect::Others, key.into()),
            BaseRefusal::SshLockout { key, .. } => (Effect::Fewer, key.into()),
            BaseRefusal::SshHostKey { key, .. } => (Effect::HostKey, key.into()),
            other => panic!("{line}: {other}"),
        })
    }

    #[test]
    fn the_list_of_harmless_keys_is_in_small_letters() {
        assert!(HARMLESS
            .iter()
            .all(|key| key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())));
        for key in PASSWORDS {
            assert!(!HARMLESS.contains(&key.to_ascii_lowercase().as_str()), "{key}");
        }
    }

    /// Those of Ubuntu 18.04 to 26.04, without comments.
    #[test]
    fn what_ubuntu_has_is_harmless() {
        for text in [
            "ChallengeResponseAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\n\
             Subsystem\tsftp\t/usr/lib/openssh/sftp-server\nPasswordAuthentication no\n",
            "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\n\
             PrintMotd no\nAcceptEnv LANG LC_* COLORTERM NO_COLOR\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
        ] {
            let main = file(MAIN, text);
            let drop_ins = [
                file("etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n"),
                file("etc/ssh/sshd_config.d/60-cloudimg-settings.conf", "PasswordAuthentication no\n"),
            ];
            assert_eq!(refusals(Some(&main), &drop_ins), []);
            let said = passwords(Some(&main), &drop_ins);
            assert!(said.iter().all(|said| said.key != "PasswordAuthentication" && !said.allows), "{said:?}");
        }
    }

    #[test]
    fn sshd_lets_in_whom_its_file_says() {
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
            "UsePAM yes # as Debian has it",
            "  ciphers  aes128-ctr",
            "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key",
        ] {
            assert_eq!(said(harmless), None, "{harmless}");
        }
        let check = |line: &str, effect: Effect, key: &str| {
            assert_eq!(said(line), Some((effect, key.into())), "{line}")
        };
        for (line, key) in [
            ("TrustedUserCAKeys /etc/ssh/ca.pub", "TrustedUserCAKeys"),
            ("PermitEmptyPasswords yes", "PermitEmptyPasswords"),
            ("HostbasedAuthentication yes", "HostbasedAuthentication"),
            ("Include /etc/ssh/x/*.conf", "Include"),
            ("Include /etc/ssh/sshd_config.d/x/*.conf", "Include"),
            ("Include /etc/ssh/sshd_config.d2/*.conf", "Include"),
        ] {
            check(line, Effect::Others, key);
        }
        for other in [
            "/etc/keys",
            "%h/keys",
            "keys",
            "/etc/ssh/keys/%u",
            "\"/etc/keys\"",
            "%h/%h/.rhosts",
        ] {
            let line = format!("AuthorizedKeysFile .ssh/authorized_keys {other}");
            check(&line, Effect::Others, "AuthorizedKeysFile");
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
            ("UsePAM no", "UsePAM"),
            ("ForceCommand internal-sftp", "ForceCommand"),
        ] {
            check(line, Effect::Fewer, key);
        }
        for (line, key) in [
            (
                "HostKey /etc/ssh/my_key\nHostKey /etc/ssh/ssh_host_ed25519_key",
                "HostKey",
            ),
            // The one key that a farm can bring is of the other kind.
            ("HostKey /etc/ssh/ssh_host_rsa_key", "HostKey"),
            ("HostKeyAgent SSH_AUTH_SOCK", "HostKeyAgent"),
        ] {
            check(line, Effect::HostKey, key);
        }
        let path = CardPath::new(MAIN).unwrap();
        let key = "LetAnybodyIn".to_owned();
        assert_eq!(
            refusals(Some(&file(MAIN, "LetAnybodyIn yes\n")), &[]),
            [BaseRefusal::SshUnknown { path, key }]
        );
    }

    #[test]
    fn of_several_values_the_first_counts() {
        let include = "Include /etc/ssh/sshd_config.d/*.conf\n";
        let check = |main: &str, drop_ins: &[(&str, &str)], expect: &[(&str, usize, &str, bool)]| {
            let files: Vec<_> = drop_ins
                .iter()
                .map(|(name, text)| file(&format!("{DROP_INS}/{name}"), text))
                .collect();
            let main = file(MAIN, main);
            let said = passwords(Some(&main), &files);
            let said: Vec<_> = said
                .iter()
                .map(|said| (said.path.name(), said.line, said.key, said.allows))
                .collect();
            assert_eq!(said, expect, "{drop_ins:?}");
        };
        let (password, interactive) = ("PasswordAuthentication", "KbdInteractiveAuthentication");
        check(
            include,
            &[("10-a.conf", "#\npasswordauthentication yes\n")],
            &[("10-a.conf", 2, password, true)],
        );
        check(include, &[("60-a.conf", "PasswordAuthentication yes\n")], &[]);
        // cloud-init changes this one, and this is not read before its own.
        check("PasswordAuthentication yes\n", &[], &[]);
        check(&format!("{include}PasswordAuthentication yes\n"), &[], &[]);
        check(
            &format!("PasswordAuthentication no\n{include}"),
            &[("10-a.conf", "PasswordAuthentication yes\n")],
            &[("sshd_config", 1, password, false)],
        );
        check(
            &format!("{include}KbdInteractiveAuthentication yes\n"),
            &[("70-a.conf", "KbdInteractiveAuthentication no\n")],
            &[("70-a.conf", 1, interactive, false)],
        );
        check(
            &format!("{include}Match User a\nPasswordAuthentication yes\n"),
            &[("10-a.conf", "PasswordAuthentication no\n")],
            &[
                ("sshd_config", 3, password, true),
                ("10-a.conf", 1, password, false),
            ],
        );
    }
}
