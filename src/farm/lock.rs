//! palmfarm.lock beside a farm: what the farm takes from elsewhere, as it was when it was fetched, so that a card stays the
//! same until somebody asks for what is new. This file knows its format; it fetches and writes nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::farm::accounts::Account;
use crate::farm::credentials;
use crate::host::bounded_read;
use crate::sha256::Sha256Sum;
use crate::text_file;

/// Its name, beside the farm file.
pub const LOCK_FILE: &str = "palmfarm.lock";

/// The version of the format.
const VERSION: u32 = 1;

/// The largest file, in bytes.
const LARGEST: u64 = 4 << 20;

const HEAD: &str = "\
# What farms in this folder take from elsewhere, as it was when it was fetched: commit this file with them.
# `palmfarm lock` adds what is missing, and `palmfarm lock --update` fetches everything again.
";

/// What is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    keys: BTreeMap<Account, Vec<String>>,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not what palmfarm writes.
    #[error("{}: {why}", path.display())]
    Bad { path: PathBuf, why: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default)]
    ssh_keys: BTreeMap<String, Pinned>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    sha256: String,
    keys: Vec<String>,
}

impl Lock {
    /// The lock in the folder `dir`; an empty one if there is none.
    pub fn read(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let bytes = match bounded_read::read(&path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(LockError::Read { path, source }),
        };
        let text = text_file::decode(&bytes).map_err(|error| format!("it {error}"));
        text.and_then(|text| Self::parse(&text))
            .map_err(|why| LockError::Bad { path, why })
    }

    /// Read what [`Self::text`] has written.
    ///
    /// # Errors
    /// Why `text` is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            format!("{}{}", line.unwrap_or_default(), error.message())
        })?;
        if document.version != VERSION {
            return Err(format!(
                "it is of version {}, and this palmfarm reads version {VERSION}",
                document.version
            ));
        }
        let mut keys = BTreeMap::new();
        for (name, pinned) in document.ssh_keys {
            let account: Account = name.parse()?;
            let text: String = pinned.keys.iter().map(|key| format!("{key}\n")).collect();
            if digest(&text) != pinned.sha256 {
                return Err(format!("the keys of {account} are not those of its sha256"));
            }
            let pinned =
                credentials::ssh_keys(&text).map_err(|why| format!("of the keys of {account}, {why}"))?;
            keys.insert(account, pinned);
        }
        Ok(Self { keys })
    }

    /// The lines of `authorized_keys` that are pinned for `account`.
    pub fn keys(&self, account: &Account) -> Option<&[String]> {
        self.keys.get(account).map(Vec::as_slice)
    }

    /// Pin `keys` for `account`, in place of those that were.
    pub fn pin(&mut self, account: Account, keys: Vec<String>) {
        self.keys.insert(account, keys);
    }

    /// The file: one table for each account, in order. `sha256` is the digest of its keys, each with a line feed.
    pub fn text(&self) -> String {
        let mut out = format!("{HEAD}version = {VERSION}\n");
        for (account, keys) in &self.keys {
            let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
            out.push_str(&format!("\n[ssh_keys.\"{account}\"]\n"));
            out.push_str(&format!("sha256 = \"{}\"\nkeys = [\n", digest(&lines)));
            for key in keys {
                // Type, base64 and the account: nothing that TOML would have to escape.
                out.push_str(&format!("  \"{key}\",\n"));
            }
            out.push_str("]\n");
        }
        out
    }
}

impl LockError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Bad { .. } => Some("take it back from git, or remove it: `palmfarm lock` makes it again"),
        }
    }
}

fn digest(text: &str) -> String {
    Sha256Sum::of(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const KEYS: &str = include_str!("testdata/ssh_keys.txt");

    fn lock() -> Lock {
        let key = |account: &str, number: usize| {
            let line = KEYS.lines().nth(number).unwrap();
            format!("{} {account}", credentials::without_comment(line).unwrap())
        };
        let mut lock = Lock::default();
        for (account, numbers) in [("launchpad:nina", &[0][..]), ("github:nina", &[0, 2])] {
            let keys = numbers.iter().map(|number| key(account, *number)).collect();
            lock.pin(account.parse().unwrap(), keys);
        }
        lock
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        let text = lock().text();
        assert_eq!(Lock::parse(&text), Ok(lock()));
        expect![[r"
            # What farms in this folder take from elsewhere, as it was when it was fetched: commit this file with them.
            # `palmfarm lock` adds what is missing, and `palmfarm lock --update` fetches everything again.
            version = 1
        "]]
        .assert_eq(&Lock::default().text());
        assert_eq!(Lock::parse(&Lock::default().text()), Ok(Lock::default()));
        let tables: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(
            tables,
            ["[ssh_keys.\"github:nina\"]", "[ssh_keys.\"launchpad:nina\"]"]
        );
    }

    #[test]
    fn what_palmfarm_did_not_write_is_refused() {
        let text = lock().text();
        let without = |what: &str| text.replacen(what, "", 1);
        for (bad, expect) in [
            (String::new(), "line 1: missing field `version`"),
            (
                text.replace("version = 1", "version = 2"),
                "it is of version 2, and this palmfarm reads version 1",
            ),
            (format!("{text}\n[images.x]\n"), "unknown field `images`"),
            (
                without("AAAA"),
                "the keys of github:nina are not those of its sha256",
            ),
            (
                text.replace("github:nina\"]", "gitlab:nina\"]"),
                "\"gitlab:nina\" is not an account",
            ),
            (without("\"]"), "line 5: "),
        ] {
            let why = Lock::parse(&bad).unwrap_err();
            assert!(why.contains(expect), "{why}\n{expect}");
        }
        let text = "version = 1\n[ssh_keys.\"github:nina\"]\nkeys = [\"x\"]\nsha256 = \"73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac\"\n";
        let why = Lock::parse(text).unwrap_err();
        assert!(
            why.starts_with("of the keys of github:nina, line 1 is not a public key"),
            "{why}"
        );
    }
}
