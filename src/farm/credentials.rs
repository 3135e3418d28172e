//! Which texts are public SSH keys and hashes of passwords. What is judged here is secret or becomes a way in, so
//! no message repeats any of it.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

/// A line of `authorized_keys` (sshd(8), "`AUTHORIZED_KEYS` FILE FORMAT"): perhaps options, then type, key, perhaps a
/// comment. The key must parse and be of the type that is written before it.
///
/// # Errors
/// Why `line` is none.
pub fn ssh_key(line: &str) -> Result<(), String> {
    if line.contains("PRIVATE KEY") {
        return Err("it is a private key, which stays where it was made; the public one is in the file that ends in .pub".into());
    }
    if line.chars().any(char::is_control) {
        return Err("it has more than one line".into());
    }
    let mut rest = line.trim_start();
    let mut kind = word(&mut rest);
    if !KINDS.contains(&kind) && kind != DSS && !rest.is_empty() {
        rest = after_options(line.trim_start())?;
        kind = word(&mut rest);
    }
    if kind == DSS {
        return Err("OpenSSH takes no DSA keys since 7.0; `ssh-keygen -t ed25519` makes a better one".into());
    }
    if !KINDS.contains(&kind) {
        return Err("it starts with no key type such as ssh-ed25519".into());
    }
    let encoded = word(&mut rest);
    if encoded.is_empty() {
        return Err(format!("nothing follows {kind}"));
    }
    let blob = STANDARD
        .decode(encoded)
        .map_err(|_| "the part after its type is no base64; was it cut when it was copied?")?;
    key_blob(kind, &blob)
}

/// A hash that crypt(3) of Ubuntu and Debian verifies (crypt(5)).
///
/// # Errors
/// Why `text` is none.
pub fn crypt_hash(text: &str) -> Result<(), String> {
    if text.starts_with(['!', '*']) {
        return Err("it locks the account; for that leave `password` out".into());
    }
    let mut parts = text.split('$');
    if parts.next() != Some("") {
        return Err("it does not start with `$`; clear text has no place here".into());
    }
    let id = parts.next().unwrap_or_default();
    let mut fields: Vec<&str> = parts.collect();
    let digest = fields.pop().unwrap_or_default();
    let length = match id {
        "6" => 86,
        "5" | "y" | "gy" | "7" => 43,
        "2a" | "2b" | "2y" => 53,
        "1" => return Err("MD5 ($1$) is guessed in no time".into()),
        _ => return Err("it is of no kind that crypt(5) knows; $6$ and $y$ are usual".into()),
    };
    if digest.len() != length || !digest.bytes().all(is_crypt64) {
        return Err(format!(
            "after its last `$`, ${id}$ has {length} letters, digits, dots and slashes, and here are {} characters",
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
            "what stands between ${id}$ and its digest is no salt with parameters"
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

/// What follows the options of a line: they end at the first space that is not in double quotes.
fn after_options(line: &str) -> Result<&str, String> {
    let (mut inside, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' if !escaped => inside = !inside,
            b' ' if !inside => return Ok(line.get(at..).unwrap_or_default().trim_start()),
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    Err("a quote in its options does not end".into())
}

/// A key as RFC 4253 (section 6.6), RFC 5656 (section 3.1), RFC 8709 (section 4) and OpenSSH's PROTOCOL.u2f write it.
fn key_blob(kind: &str, blob: &[u8]) -> Result<(), String> {
    let mut rest = blob;
    let mut field = || string(&mut rest).ok_or("it ends too early; was it cut when it was copied?");
    let inner = field()?;
    if inner != kind.as_bytes() {
        let inner = String::from_utf8_lossy(inner.get(..inner.len().min(40)).unwrap_or_default());
        return Err(format!("it says {kind}, and inside is a key of type {inner:?}"));
    }
    let security_key = kind.starts_with("sk-");
    if kind.ends_with("ssh-ed25519") || kind == "sk-ssh-ed25519@openssh.com" {
        let key = field()?;
        if key.len() != 32 {
            return Err(format!("an Ed25519 key has 32 bytes, and this has {}", key.len()));
        }
    } else if kind == "ssh-rsa" {
        let (_exponent, modulus) = (field()?, field()?);
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let bits = modulus.get(zeros..).map_or(0, |significant| {
            significant.len() * 8
                - significant
                    .first()
                    .map_or(0, |top| usize_from(top.leading_zeros()))
        });
        if bits < 1024 {
            return Err(format!(
                "it is an RSA key of {bits} bits, and sshd takes none below 1024"
            ));
        }
    } else {
        let (curve, point) = (field()?, field()?);
        let length = match curve {
            b"nistp256" => 65,
            b"nistp384" => 97,
            b"nistp521" => 133,
            _ => 0,
        };
        let named = kind.split('@').next().unwrap_or_default().as_bytes();
        if length == 0 || !named.ends_with(curve) || point.len() != length || point.first() != Some(&4) {
            return Err("its point is not on the curve that its type names".into());
        }
    }
    if security_key {
        field()?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(format!("{} bytes follow the key", rest.len()))
    }
}

fn usize_from(small: u32) -> usize {
    usize::try_from(small).unwrap_or(usize::MAX)
}

/// A string of RFC 4251, section 5: its length in four bytes, then it.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (text, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -N ''` with `-t ed25519`, `-t rsa -b 1024`, `-t ecdsa -b 256`, `-b 384`, `-b 521`; their private halves
    /// were thrown away.
    const KEYS: &str = include_str!("testdata/ssh_keys.txt");

    #[test]
    fn keys_of_openssh_are_keys() {
        let mut count = 0;
        for line in KEYS.lines() {
            assert_eq!(ssh_key(line), Ok(()), "{line}");
            let with_options = format!("from=\"10.0.0.0/8, ::1\",command=\"echo \\\" hi\" {line}");
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
    fn what_is_no_key_is_told() {
        let ed25519 = KEYS.lines().next().unwrap();
        for (line, expect) in [
            ("", "it starts with no key type such as ssh-ed25519"),
            ("ssh-ed25519", "nothing follows ssh-ed25519"),
            ("ssh-ed25519 AAAA… me", "the part after its type is no base64; was it cut when it was copied?"),
            ("ssh-ed25519 AAAA me", "it ends too early; was it cut when it was copied?"),
            ("ssh-dss AAAA", "OpenSSH takes no DSA keys since 7.0; `ssh-keygen -t ed25519` makes a better one"),
            ("from=\"x ssh-ed25519 AAAA", "a quote in its options does not end"),
            ("ssh-ed25519 a\nssh-rsa b", "it has more than one line"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----",
                "it is a private key, which stays where it was made; the public one is in the file that ends in .pub",
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
