//! Passwords: from wherever the farm says to a hash that a card may hold. The clear text lives in this file's
//! functions only; nothing that leaves them shows it, and no error repeats it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

use crate::farm::credentials;
use crate::farm::{Password, User};
use crate::sha256::Sha256Sum;
use sha_crypt::{CustomizedPasswordHasher, Params, ShaCrypt};

use crate::host::bounded_read;
use crate::host::folder::Folder;
use crate::text_file;

/// Rounds of SHA-512-crypt: twenty times the 5000 of crypt(5), a tenth of a second here and well below one on a Pi.
const ROUNDS: u32 = 100_000;

/// Bytes of salt: 16 characters, the most that SHA-crypt looks at.
const SALT: usize = 12;

/// The longest clear text, in bytes: crypt(3) of libxcrypt takes no more (`CRYPT_MAX_PASSPHRASE_SIZE`, 512 with the NUL).
const LONGEST: usize = 511;

/// What copying from a web page or a chat leaves in a text, and no keyboard sends.
const INVISIBLE: [char; 8] = [
    '\u{ad}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{2060}', '\u{feff}',
];

/// The largest password file that is looked at: its first line counts.
const LARGEST_FILE: u64 = 64 * 1024;

/// How a variable of the environment is asked for: `std::env::var_os`, or what a test has.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// A hash of a password as `/etc/shadow` holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptHash(String);

impl CryptHash {
    /// The hash. Whoever prints it shows a secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CryptHash(not shown)")
    }
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("reading the password of {user} from {file}")]
    Read {
        /// Whose password.
        user: String,
        /// The file as the farm names it.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The variable is not set, or is no UTF-8.
    #[error("the password of {user} comes from the environment, and {variable} is {state}")]
    Variable {
        /// Whose password.
        user: String,
        /// The variable.
        variable: String,
        /// What it is.
        state: &'static str,
    },
    /// What was read is no password.
    #[error("the password of {user} from {from} {why}")]
    NoPassword {
        /// Whose password.
        user: String,
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// The hash function refused.
    #[error("hashing the password of {0} failed")]
    Hash(String),
}

/// The hash of `user`'s password on `card`, of a farm in `dir`; `None`: no login by password. The salt comes from card
/// and user, so that the same farm gives the same card.
///
/// # Errors
/// The password cannot be had, or is none.
pub fn hash(
    dir: &Folder,
    card: &str,
    user: &User,
    environment: Environment<'_>,
) -> Result<Option<CryptHash>, SecretError> {
    match &user.password {
        None => Ok(None),
        Some(Password::Hash(hash)) => Ok(Some(CryptHash(hash.clone()))),
        Some(password) => {
            let clear = clear_text(dir, &user.name, password, environment)?;
            let hash = sha512_crypt(clear.as_bytes(), &salt(card, &user.name));
            hash.map(|hash| Some(CryptHash(hash)))
                .ok_or_else(|| SecretError::Hash(user.name.clone()))
        }
    }
}

/// What may surprise about a password that can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// It begins or ends with a blank, which few people type.
    Blank,
}

/// Whether the password of `user`, in a farm in `dir`, can be had here and now, and what may surprise about it.
///
/// # Errors
/// It cannot.
pub fn available(
    dir: &Folder,
    user: &str,
    password: &Password,
    environment: Environment<'_>,
) -> Result<Option<Remark>, SecretError> {
    match password {
        Password::Hash(_) => Ok(None),
        Password::File(_) | Password::Env(_) => {
            let clear = clear_text(dir, user, password, environment)?;
            Ok((clear.trim() != clear).then_some(Remark::Blank))
        }
    }
}

fn clear_text(
    dir: &Folder,
    user: &str,
    password: &Password,
    environment: Environment<'_>,
) -> Result<String, SecretError> {
    let (text, from) = match password {
        Password::Hash(hash) => (hash.clone(), "the farm".into()),
        Password::File(file) => (first_line(&dir.join(file), user, file)?, file.clone()),
        Password::Env(variable) => {
            let missing = |state| SecretError::Variable {
                user: user.into(),
                variable: variable.clone(),
                state,
            };
            let value = environment(variable).ok_or_else(|| missing("not set"))?;
            let text = value.into_string().map_err(|_| missing("not UTF-8"))?;
            (text, variable.clone())
        }
    };
    let why = if text.is_empty() {
        "is empty".into()
    } else if text.len() > LONGEST {
        format!("has {} bytes, and {LONGEST} is the limit", text.len())
    } else if text.chars().any(|c| c.is_control() || INVISIBLE.contains(&c)) {
        "holds a control or invisible character, which nobody can type".into()
    } else if credentials::crypt_hash(&text).is_ok() {
        "is a hash already; write it as {hash: …}".into()
    } else {
        return Ok(text);
    };
    Err(SecretError::NoPassword {
        user: user.into(),
        from,
        why,
    })
}

fn first_line(path: &Path, user: &str, file: &str) -> Result<String, SecretError> {
    let bytes = bounded_read::read(path, LARGEST_FILE).map_err(|source| SecretError::Read {
        user: user.into(),
        file: file.into(),
        source,
    })?;
    let text = text_file::decode(&bytes).map_err(|error| SecretError::NoPassword {
        user: user.into(),
        from: file.into(),
        why: format!("{error}; {}", error.hint()),
    })?;
    Ok(text.lines().next().unwrap_or_default().into())
}

/// A salt that two users or two cards do not share.
fn salt(card: &str, user: &str) -> [u8; SALT] {
    let digest = Sha256Sum::of_parts(b"palmfarm password salt 1", &[card, user]);
    let mut salt = [0; SALT];
    salt.iter_mut().zip(digest.0).for_each(|(to, from)| *to = from);
    salt
}

/// SHA-512-crypt (Drepper, "Unix crypt using SHA-256 and SHA-512"), which crypt(3) of every base verifies; 18.04 knows no yescrypt.
fn sha512_crypt(clear: &[u8], salt: &[u8]) -> Option<String> {
    let rounds = Params::new(ROUNDS).ok()?;
    let hash = ShaCrypt::SHA512.hash_password_customized(clear, salt, None, None, rounds);
    hash.ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What crypt(3) of this machine makes of the clear text with the salt of `hash`; `None` where there is no perl.
    fn crypt(clear: &str, hash: &str) -> Option<String> {
        let made = Command::new("perl")
            .args(["-e", "print crypt($ARGV[0], $ARGV[1])", clear, hash])
            .output()
            .ok()?;
        made.status
            .success()
            .then(|| String::from_utf8(made.stdout).unwrap())
    }

    #[test]
    fn crypt_makes_the_same_hash() {
        for clear in ["x", "correct horse battery staple", "pässwörd", &"y".repeat(200)] {
            let hash = sha512_crypt(clear.as_bytes(), &salt("palm", "craig")).unwrap();
            assert_eq!(credentials::crypt_hash(&hash), Ok(()), "{hash}");
            match crypt(clear, &hash) {
                Some(same) => assert_eq!(same, hash),
                None => eprintln!("skipped: no perl here to ask crypt(3)"),
            }
        }
    }

    #[test]
    fn the_salt_follows_from_card_and_user() {
        let hash = |card, user| sha512_crypt(b"x", &salt(card, user)).unwrap();
        assert_eq!(hash("palm", "craig"), hash("palm", "craig"));
        assert_ne!(hash("palm", "craig"), hash("palm2", "craig"));
        assert_ne!(hash("palm", "craig"), hash("palm", "eve"));
        assert_ne!(salt("ab", "c"), salt("a", "bc"));
    }

    #[test]
    fn no_error_shows_the_clear_text() {
        let dir = tempfile::tempdir().unwrap();
        let password = Password::Env("P".into());
        for clear in ["", "hunter2\u{7}", &"hunter2".repeat(100)] {
            let environment = |_: &str| Some(OsString::from(clear));
            let error =
                available(&Folder::new(dir.path(), None), "craig", &password, &environment).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let fine = |_: &str| Some(OsString::from("hunter2"));
        assert!(available(&Folder::new(dir.path(), None), "craig", &password, &fine).is_ok());
        assert_eq!(
            format!("{:?}", CryptHash("hunter2".into())),
            "CryptHash(not shown)"
        );
    }
}
