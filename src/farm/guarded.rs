//! Which files have a secret or need a mode by their very path, and which texts hold a private key: a mode that nobody
//! declares must not show them. It knows names and bytes, and reads no file.

/// What a file at a path of the card or of a container may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// Its mode if none is declared.
    pub(super) usual: u16,
    /// The most permission bits that it may have.
    pub(super) most: u16,
}

/// For its owner alone. The programs that read such a file refuse one that others can read.
const OWNER: Guard = Guard {
    usual: 0o600,
    most: 0o600,
};

/// For its owner, and for a group if the farm says so.
const GROUP: Guard = Guard {
    usual: 0o600,
    most: 0o640,
};

/// Paths, in which `*` stands for any text without a slash; without a slash in front they are in any folder. The last
/// part decides first.
const GUARDED: [(&str, Guard); 32] = [
    ("/etc/shadow", GROUP),
    ("/etc/shadow-", GROUP),
    ("/etc/gshadow", GROUP),
    ("/etc/gshadow-", GROUP),
    // sudo(8) refuses what others may write, before 1.9 also another mode.
    ("/etc/sudoers", SUDOERS),
    ("/etc/sudoers.d/*", SUDOERS),
    // sshd(8) and ssh(1), "Permissions are too open".
    ("/etc/ssh/ssh_host_*_key", OWNER),
    (".ssh/id_*", OWNER),
    ("/etc/wireguard/*", GROUP),
    // NetworkManager's documentation, nm-settings-keyfile(5).
    ("/etc/NetworkManager/system-connections/*", OWNER),
    ("/etc/wpa_supplicant/*.conf", GROUP),
    ("/etc/ssl/private/*", GROUP),
    ("/etc/krb5.keytab", GROUP),
    ("/etc/ppp/chap-secrets", GROUP),
    ("/etc/ppp/pap-secrets", GROUP),
    ("/etc/ipsec.secrets", GROUP),
    (".netrc", OWNER),
    (".my.cnf", OWNER),
    // PostgreSQL's documentation, "The Password File".
    (".pgpass", OWNER),
    (".git-credentials", OWNER),
    (".gnupg/private-keys-v1.d/*", OWNER),
    (".aws/credentials", OWNER),
    (".npmrc", GROUP),
    (".docker/config.json", GROUP),
    (".kube/config", GROUP),
    ("rclone.conf", GROUP),
    (".msmtprc", OWNER),
    ("/etc/msmtprc", GROUP),
    ("/etc/hostapd/*.conf", GROUP),
    ("*.p12", GROUP),
    ("*.pfx", GROUP),
    // cron(8): Debian's takes a crontab with this mode alone.
    ("/var/spool/cron/crontabs/*", OWNER),
];

const SUDOERS: Guard = Guard {
    usual: 0o440,
    most: 0o440,
};

/// What a file at `path`, an absolute path, may have; `None`: whatever its owner wants.
pub(super) fn guard(path: &str) -> Option<Guard> {
    let is_public = ["/README", ".pub"].iter().any(|end| path.ends_with(end));
    let found = GUARDED.iter().find(|(pattern, _)| matches(pattern, path));
    found
        .map(|(_, guard)| *guard)
        .filter(|guard| !is_public || *guard == SUDOERS)
}

fn matches(pattern: &str, path: &str) -> bool {
    let parts = |text: &'_ str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (parts(pattern), parts(path));
    // An absolute pattern begins with an empty part, as an absolute path does.
    let is_absolute = pattern.first().is_some_and(String::is_empty);
    if pattern.len() > path.len() || is_absolute && pattern.len() != path.len() {
        return false;
    }
    pattern
        .iter()
        .rev()
        .zip(path.iter().rev())
        .all(|(pattern, part)| match pattern.split_once('*') {
            Some((start, end)) => {
                part.len() >= start.len() + end.len() && part.starts_with(start) && part.ends_with(end)
            }
            None => pattern == part,
        })
}

/// The most bytes of a text that is looked through for a key: keys are short, and files may be large.
const LONGEST: usize = 1 << 20;

/// Whether `content` is a text with a private key in it (RFC 7468, section 10, and what `ssh-keygen`, `openssl` and `gpg` write).
pub(super) fn has_private_key(content: &[u8]) -> bool {
    const BEGIN: &str = "-----BEGIN ";
    let is_short = content.len() <= LONGEST;
    let Some(text) = std::str::from_utf8(content).ok().filter(|_| is_short) else {
        return false;
    };
    // What age-keygen and PuTTYgen write.
    if text.contains("AGE-SECRET-KEY-1") || text.starts_with("PuTTY-User-Key-File-") {
        return true;
    }
    text.split(BEGIN).skip(1).any(|after| {
        let kind = after.split_once("-----").map_or("", |(kind, _)| kind);
        let is_kind = |kind: &str| kind.bytes().all(|byte| byte == b' ' || byte.is_ascii_uppercase());
        let kind = kind.strip_suffix(" BLOCK").unwrap_or(kind);
        kind.ends_with("PRIVATE KEY") && is_kind(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_open_is_known_by_its_path() {
        let check = |path: &str, expect: Option<u16>| {
            assert_eq!(guard(path).map(|guard| guard.usual), expect, "{path}");
        };
        for path in [
            "/etc/shadow",
            "/etc/gshadow-",
            "/etc/ssh/ssh_host_ed25519_key",
            "/home/craig/.ssh/id_ed25519",
            "/root/.ssh/id_rsa",
            "/etc/wireguard/wg0.conf",
            "/etc/ssl/private/palm.key",
            "/root/.netrc",
            "/srv/web/.pgpass",
            "/root/.config/rclone/rclone.conf",
            "/srv/web/site.p12",
            "/var/spool/cron/crontabs/root",
        ] {
            check(path, Some(0o600));
        }
        check("/etc/sudoers", Some(0o440));
        check("/etc/sudoers.d/nina", Some(0o440));
        check("/etc/sudoers.d/README", Some(0o440));
        for path in [
            "/etc/passwd",
            "/srv/etc/shadow",
            "/etc/ssh/ssh_host_ed25519_key.pub",
            "/etc/ssh/sshd_config",
            "/home/craig/.ssh/id_ed25519.pub",
            "/home/craig/.ssh/config",
            "/home/craig/.ssh/id_x/y",
            "/etc/sudoers.d/a/b",
            "/etc/ssl/private/README",
            "/netrc",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn keys_are_known_by_their_first_line() {
        // Not a key of anybody, and put together here so that nobody takes this file for one.
        let pem = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n");
        for kind in ["PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
            assert!(has_private_key(pem(kind).as_bytes()), "{kind}");
            let within = format!("{{\"key\": \"{}\"}}", pem(kind).replace('\n', "\\n"));
            assert!(has_private_key(within.as_bytes()), "{kind}");
        }
        for kind in ["PUBLIC KEY", "CERTIFICATE", "%s PRIVATE KEY", ""] {
            assert!(!has_private_key(pem(kind).as_bytes()), "{kind}");
        }
        assert!(has_private_key(
            format!("# public key: age1x\n{}-1QQQ\n", "AGE-SECRET-KEY").as_bytes()
        ));
        assert!(has_private_key(b"PuTTY-User-Key-File-3: ssh-ed25519\n"));
        assert!(!has_private_key(b"a PRIVATE KEY-----"));
    }
}
