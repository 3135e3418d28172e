//! Which texts are public SSH keys and hashes of passwords. They are secret or let somebody in, so no message repeats any
//! part of them.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use ssh_key::public::KeyData;
use ssh_key::{Error, HashAlg, PublicKey};

use crate::edit::block::length;
use crate::farm::suggest::quoted;

/// A line of `authorized_keys` (sshd(8), "`AUTHORIZED_KEYS` FILE FORMAT"): perhaps options, then type, key, perhaps a
/// comment. The key must parse and be of the type that is written before it.
///
/// # Errors
/// Why `line` is not one.
pub(crate) fn ssh_key(line: &str) -> Result<(), String> {
    if line.contains("PRIVATE KEY") {
        return Err(
            "it is a private key, which must stay secret; the public one is in the file that ends in .pub"
                .into(),
        );
    }
    if line.chars().any(char::is_control) {
        return Err("it has more than one line".into());
    }
    let line = line.trim_start();
    if line.starts_with('#') {
        return Err("sshd takes a line that starts with # for a comment".into());
    }
    let (mut rest, mut options) = (line, "");
    let mut kind = word(&mut rest);
    if !KINDS.contains(&kind) && kind != DSS && !rest.is_empty() {
        (options, rest) = split_options(line)?;
        kind = word(&mut rest);
    }
    if kind == DSS {
        return Err("OpenSSH refuses DSA keys since 7.0; `ssh-keygen -t ed25519` makes a better one".into());
    }
    if !KINDS.contains(&kind) {
        return Err("it does not start with a key type such as ssh-ed25519".into());
    }
    if !options.is_empty() && !are_options(options) {
        return Err(format!(
            "what is before {kind} is not an option of sshd, which would ignore the whole line; a comment belongs behind the key"
        ));
    }
    let encoded = word(&mut rest);
    if encoded.is_empty() {
        return Err(format!("nothing follows {kind}"));
    }
    let blob = STANDARD
        .decode(encoded)
        .map_err(|_| "the part after its type is not base64; was it cut when it was copied?")?;
    let key = PublicKey::from_bytes(&blob).map_err(|error| match error {
        Error::AlgorithmUnknown | Error::Crypto | Error::Ecdsa(_) => OFF_THE_CURVE,
        _ => "it is damaged; was it cut when it was copied?",
    })?;
    let algorithm = key.algorithm();
    if algorithm.as_str() != kind {
        let inner = quoted(algorithm.as_str());
        return Err(format!("it says {kind}, and inside is a key of type {inner}"));
    }
    accepted(key.key_data())
}

/// The public keys in `text`, one a line as in `authorized_keys`; empty lines and comments are passed over.
///
/// # Errors
/// Why it has none, too many, or something else.
pub(crate) fn ssh_keys(text: &str) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        ssh_key(line).map_err(|why| format!("line {number} is not a public key: {why}"))?;
        if keys.len() == MOST_KEYS {
            return Err(format!("it has more than {MOST_KEYS} keys"));
        }
        keys.push(line.to_owned());
    }
    if keys.is_empty() {
        return Err("it has no key".into());
    }
    Ok(keys)
}

/// The most keys that a file or an account may have: sshd tries them one by one, and nobody has that many.
const MOST_KEYS: usize = 100;

/// Type and key of a line that has been accepted, without options and comment; `None` if there are options.
pub(crate) fn without_comment(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    KINDS.contains(&kind).then(|| format!("{kind} {key}"))
}

/// The key of a line that has been accepted, as `ssh-keygen -l` shows it: `ssh-ed25519 SHA256:…`.
pub(crate) fn fingerprint(line: &str) -> Option<String> {
    let bare = without_comment(line)?;
    let key = PublicKey::from_openssh(&bare).ok()?;
    Some(format!(
        "{} {}",
        key.algorithm().as_str(),
        key.fingerprint(HashAlg::Sha256)
    ))
}

/// The key of palmfarm's examples. Nobody has its private half.
pub(crate) const EXAMPLE_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV";

const OFF_THE_CURVE: &str = "its point is not on the curve that its type names";

/// What sshd refuses though it has the form of a key: short RSA keys, and compressed points.
fn accepted(key: &KeyData) -> Result<(), String> {
    let point = match key {
        KeyData::Rsa(key) => {
            let modulus = key.n.as_positive_bytes().unwrap_or_default();
            let unused = modulus.first().map_or(0, |top| top.leading_zeros());
            let bits = (length(modulus) * 8).saturating_sub(unused.into());
            if bits < 1024 {
                return Err(format!(
                    "it is an RSA key of {bits} bits, and sshd takes none below 1024"
                ));
            }
            return Ok(());
        }
        KeyData::Ecdsa(key) => key.as_sec1_bytes(),
        KeyData::SkEcdsaSha2NistP256(key) => key.ec_point().as_bytes(),
        _ => return Ok(()),
    };
    if point.first() == Some(&4) {
        Ok(())
    } else {
        Err(OFF_THE_CURVE.into())
    }
}

/// A hash that crypt(3) of Ubuntu and Debian verifies (crypt(5)).
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn crypt_hash(text: &str) -> Result<(), String> {
    if text.starts_with(['!', '*']) {
        return Err("it locks the account; for that leave `password` out".into());
    }
    let mut parts = text.split('$');
    if parts.next() != Some("") {
        return Err("it does not start with `$`; a farm must not hold clear text".into());
    }
    let id = parts.next().unwrap_or_default();
    let mut fields: Vec<&str> = parts.collect();
    let digest = fields.pop().unwrap_or_default();
    let length = match id {
        "6" => 86,
        "5" | "y" | "gy" | "7" => 43,
        "2a" | "2b" | "2y" => 53,
        "1" => return Err("MD5 ($1$) is quick to guess".into()),
        _ => return Err("crypt(5) does not know its kind; $6$ and $y$ are usual".into()),
    };
    if digest.len() != length || !digest.bytes().all(is_crypt64) {
        return Err(format!(
            "after its last `$`, ${id}$ has {length} letters, digits, dots and slashes, and this has {} characters",
            digest.chars().count()
        ));
    }
    let good = match (id, fields.as_slice()) {
        ("6" | "5", [salt]) => is_salt(salt),
        ("6" | "5", [rounds, salt]) => is_rounds(rounds) && is_salt(salt),
        ("y" | "gy", [parameters, salt]) => {
            !parameters.is_empty()
                && parameters.bytes().all(is_crypt64)
                && salt.len() <= 86
                && salt.bytes().all(is_crypt64)
        }
        ("7", [setting]) => (11..=97).contains(&setting.len()) && setting.bytes().all(is_crypt64),
        ("2a" | "2b" | "2y", [cost]) => {
            cost.len() == 2 && cost.parse().is_ok_and(|cost: u8| (4..=31).contains(&cost))
        }
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(format!(
            "the part between ${id}$ and its digest is not a salt with parameters"
        ))
    }
}

const DSS: &str = "ssh-dss";

/// The types that OpenSSH takes (ssh-keygen(1), `-t`).
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The alphabet of crypt(5).
fn is_crypt64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

/// A salt of SHA-crypt: at most 16 characters; more than the alphabet is verified, but nothing makes it.
fn is_salt(text: &str) -> bool {
    text.len() <= 16 && text.bytes().all(is_crypt64)
}

/// `rounds=N` of SHA-crypt, 1000 to 999999999.
fn is_rounds(text: &str) -> bool {
    text.strip_prefix("rounds=")
        .and_then(|digits| digits.parse().ok())
        .is_some_and(|rounds: u32| (1000..=999_999_999).contains(&rounds))
}

/// The next word of `rest`, which then starts with the word after it.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    *rest = tail.trim_start();
    word
}

/// The options of a line, and what follows: they end at the first space that is not in double quotes.
fn split_options(line: &str) -> Result<(&str, &str), String> {
    let (options, rest) = unquoted(line, b' ').ok_or("a quote in its options does not end")?;
    Ok((options, rest.trim_start()))
}

/// `text` up to the first `end` that is not in double quotes, and from there on.
fn unquoted(text: &str, end: u8) -> Option<(&str, &str)> {
    let (mut inside, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => inside = !inside,
            _ if byte == end && !inside => return text.split_at_checked(at),
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    None
}

/// Whether sshd knows all of `options`, which are separated by commas. It ignores a line with one that it does not know.
fn are_options(mut options: &str) -> bool {
    loop {
        let (option, rest) = unquoted(options, b',').unwrap_or((options, ""));
        let is_one_of = |known: &[&str], name: &str| known.iter().any(|one| one.eq_ignore_ascii_case(name));
        let is_known = match option.split_once('=') {
            None => {
                let switch = option.get(..3).filter(|no| no.eq_ignore_ascii_case("no-"));
                let switch = switch.map_or(option, |no| option.get(no.len()..).unwrap_or_default());
                is_one_of(&FLAGS, option) || is_one_of(&SWITCHES, switch)
            }
            Some((name, value)) => {
                let is_quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
                is_quoted && is_one_of(&WITH_VALUE, name)
            }
        };
        match rest.strip_prefix(',') {
            _ if !is_known => return false,
            None => return true,
            Some(rest) => options = rest,
        }
    }
}

/// The options of OpenSSH that have no value (its `auth-options.c`).
const FLAGS: [&str; 2] = ["cert-authority", "restrict"];

/// Those of them that may begin with `no-`.
const SWITCHES: [&str; 7] = [
    "agent-forwarding",
    "port-forwarding",
    "pty",
    "touch-required",
    "user-rc",
    "verify-required",
    "X11-forwarding",
];

/// Those that have one, in double quotes.
const WITH_VALUE: [&str; 8] = [
    "command",
    "environment",
    "expiry-time",
    "from",
    "permitlisten",
    "permitopen",
    "principals",
    "tunnel",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -N ''` with `-t ed25519`, `-t rsa -b 1024`, `-t ecdsa -b 256`, `-b 384`, `-b 521`; their private halves
    /// were thrown away.
    const KEYS: &str = include_str!("testdata/ssh_keys.txt");

    const UNKNOWN_OPTION: &str =
        "what is before ssh-ed25519 is not an option of sshd, which would ignore the whole line; \
                                  a comment belongs behind the key";

    #[test]
    fn keys_of_openssh_are_keys() {
        let mut count = 0;
        for line in KEYS.lines() {
            assert_eq!(ssh_key(line), Ok(()), "{line}");
            let with_options =
                format!("No-PTY,restrict,from=\"10.0.0.0/8, ::1\",command=\"echo \\\" hi\" {line}");
            assert_eq!(ssh_key(&with_options), Ok(()), "{with_options}");
            // Any key that lost its end is noticed.
            let (head, _comment) = line.rsplit_once(' ').unwrap();
            for cut in [1, 2, 3, 4, 8, 20] {
                assert!(ssh_key(&head[..head.len() - cut]).is_err(), "{cut} of {line}");
            }
            count += 1;
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn anything_else_is_refused() {
        let ed25519 = KEYS.lines().next().unwrap();
        for (line, expect) in [
            ("", "it does not start with a key type such as ssh-ed25519"),
            ("ssh-ed25519", "nothing follows ssh-ed25519"),
            ("ssh-ed25519 AAAA… me", "the part after its type is not base64; was it cut when it was copied?"),
            ("ssh-ed25519 AAAA me", "it is damaged; was it cut when it was copied?"),
            ("ssh-dss AAAA", "OpenSSH refuses DSA keys since 7.0; `ssh-keygen -t ed25519` makes a better one"),
            ("from=\"x ssh-ed25519 AAAA", "a quote in its options does not end"),
            ("# ssh-ed25519 AAAA", "sshd takes a line that starts with # for a comment"),
            ("nina ssh-ed25519 AAAA", UNKNOWN_OPTION),
            ("no-ptyy ssh-ed25519 AAAA", UNKNOWN_OPTION),
            ("no-pty,,restrict ssh-ed25519 AAAA", UNKNOWN_OPTION),
            ("from=10.0.0.1 ssh-ed25519 AAAA", UNKNOWN_OPTION),
            ("no-pty=\"yes\" ssh-ed25519 AAAA", UNKNOWN_OPTION),
            ("ssh-ed25519 a\nssh-rsa b", "it has more than one line"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----",
                "it is a private key, which must stay secret; the public one is in the file that ends in .pub",
            ),
        ] {
            assert_eq!(ssh_key(line), Err(expect.into()), "{line:?}");
        }
        assert_eq!(
            ssh_key(&ed25519.replacen("ssh-ed25519", "ssh-rsa", 1)),
            Err("it says ssh-rsa, and inside is a key of type \"ssh-ed25519\"".into())
        );
    }

    #[test]
    fn base64_is_strict() {
        let decoded = |text: &str| STANDARD.decode(text).ok();
        assert_eq!(decoded("TWFu"), Some(b"Man".to_vec()));
        assert_eq!(decoded("TWE="), Some(b"Ma".to_vec()));
        assert_eq!(decoded("TQ=="), Some(b"M".to_vec()));
        assert_eq!(decoded(""), Some(Vec::new()));
        for bad in ["TWF", "TQ=", "T===", "TR==", "TW=u", "TW u", "====", "TWFuT"] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn hashes() {
        let (long, short) = ("x".repeat(86), "x".repeat(43));
        let bcrypt = "x".repeat(53);
        for good in [
            format!("$6$salt${long}"),
            format!("$6$rounds=100000$0123456789abcdef${long}"),
            format!("$5$salt${short}"),
            format!("$y$j9T$salt${short}"),
            format!("$2b$12${bcrypt}"),
        ] {
            assert_eq!(crypt_hash(&good), Ok(()), "{good}");
        }
        for bad in [
            String::new(),
            "hunter2".into(),
            "!".into(),
            "*".into(),
            "$6$…".into(),
            "$6$".into(),
            "$".into(),
            format!("$1$salt${}", "x".repeat(22)),
            format!("$6${long}"),
            format!("$6$0123456789abcdef0${long}"),
            format!("$6$rounds=10$salt${long}"),
            format!("$6$salt${long}x"),
            format!("$6$sa:lt${long}"),
            format!("$2b$99${bcrypt}"),
            format!("$y$j9T${short}"),
            format!("x$6$salt${long}"),
        ] {
            let why = crypt_hash(&bad).unwrap_err();
            assert!(bad.len() < 7 || !why.contains(&bad), "{why}");
        }
    }
}
