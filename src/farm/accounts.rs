//! Accounts at GitHub and Launchpad whose public SSH keys a farm may name, and how those keys are fetched. What a server
//! sends is not trusted: it must be a short list of keys and nothing else. Keeps nothing.

use std::fmt;
use std::str::FromStr;

use crate::base::download::{Client, DownloadError, Url};
use crate::farm::credentials;
use crate::farm::suggest::quoted;
use crate::progress::Cancel;

/// The longest list of keys, in bytes: a hundred RSA keys of 16384 bits have 280 KB.
const LONGEST: u64 = 512 << 10;

/// Where an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    Github,
    Launchpad,
}

/// An account, written `github:nina`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    site: Site,
    name: String,
}

impl Site {
    /// Every site.
    pub const ALL: [Self; 2] = [Self::Github, Self::Launchpad];

    /// Its key in a farm.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Launchpad => "launchpad",
        }
    }

    /// Its name.
    const fn name(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Launchpad => "Launchpad",
        }
    }

    /// The account called `name` there.
    ///
    /// # Errors
    /// Why there cannot be one.
    pub fn account(self, name: &str) -> Result<Account, String> {
        // GitHub: letters, digits and hyphens, and an underscore in names that a company gives; Launchpad: `valid_name` of
        // its source.
        let (longest, taken): (usize, fn(char) -> bool) = match self {
            Self::Github => (39, |c| c.is_ascii_alphanumeric() || "-_".contains(c)),
            Self::Launchpad => (64, |c| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c)
            }),
        };
        let why = match name.chars().find(|c| !taken(*c)) {
            Some(odd) => format!("it holds {odd:?}"),
            None if name.is_empty() => "it is empty".into(),
            None if name.len() > longest => format!("it is longer than {longest} characters"),
            None if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
                "it starts with neither a letter nor a digit".into()
            }
            None => {
                return Ok(Account {
                    site: self,
                    name: name.into(),
                })
            }
        };
        Err(format!(
            "{} is not the name of an account at {}: {why}",
            quoted(name),
            self.name()
        ))
    }
}

impl Account {
    /// Where its public keys are, as ssh-import-id(1) knows it.
    fn url(&self) -> String {
        let name = &self.name;
        match self.site {
            Site::Github => format!("https://github.com/{name}.keys"),
            Site::Launchpad => format!("https://launchpad.net/~{name}/+sshkeys"),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.site.key(), self.name)
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, name) = text.split_once(':').unwrap_or((text, ""));
        match Site::ALL.into_iter().find(|site| site.key() == key) {
            Some(site) => site.account(name),
            None => Err(format!(
                "{} is not an account such as github:nina or launchpad:nina",
                quoted(text)
            )),
        }
    }
}

/// Why the keys of an account cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The site does not know it.
    #[error("there is no account {name:?} at {site}: {url} answers {status}")]
    NoAccount {
        name: String,
        site: &'static str,
        url: String,
        status: u16,
    },
    /// It has no keys, and a user without keys would be locked out.
    #[error("{account} has no public SSH keys")]
    NoKeys { account: Account },
    /// What came is not a list of keys that OpenSSH takes.
    #[error("{url} is not a list of public SSH keys: {why}")]
    NotKeys { url: String, why: String },
    /// The download failed.
    #[error("fetching the keys of {account}")]
    Download {
        account: Account,
        #[source]
        source: Box<DownloadError>,
    },
}

impl FetchError {
    /// What the person can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoAccount { .. } => Some("look for a typing error in the farm".into()),
            Self::NoKeys { .. } => {
                Some("add a key to the account, or write {file: ~/.ssh/id_ed25519.pub} in its place".into())
            }
            Self::NotKeys { .. } => Some(
                "remove what is not taken from the account, or write the keys themselves into the farm"
                    .into(),
            ),
            Self::Download { source, .. } => match source.as_ref() {
                DownloadError::Moved { .. } => {
                    Some("the account may have another name now: write that one if you trust it".into())
                }
                DownloadError::Ask { .. } => source.hint(),
                DownloadError::Cancelled => None,
                _ => Some("try again later, or write the keys themselves into the farm".into()),
            },
        }
    }

    /// Whether the keys were refused, as opposed to a download that failed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Download { source, .. } => source.is_refusal(),
            _ => true,
        }
    }
}

/// The public keys of `account`, one line of `authorized_keys` each, with the account in place of a comment.
pub fn fetch(client: &Client, account: &Account, cancel: &Cancel) -> Result<Vec<String>, FetchError> {
    let url = account.url();
    let download = |source| match source {
        DownloadError::Status {
            status: status @ (404 | 410),
            ..
        } => FetchError::NoAccount {
            name: account.name.clone(),
            site: account.site.name(),
            url: url.clone(),
            status,
        },
        source => FetchError::Download {
            account: account.clone(),
            source: source.into(),
        },
    };
    let parsed = Url::parse(&url).map_err(download)?;
    let bytes = client.small_unmoved(&parsed, LONGEST, cancel).map_err(download)?;
    listed(account, bytes)
}

/// The keys in `bytes`, the answer of a site for `account`.
pub fn listed(account: &Account, bytes: Vec<u8>) -> Result<Vec<String>, FetchError> {
    let refused = |why: String| FetchError::NotKeys {
        url: account.url(),
        why,
    };
    let text = String::from_utf8(bytes).map_err(|_| refused("it is not text".into()))?;
    if text.trim().is_empty() {
        return Err(FetchError::NoKeys {
            account: account.clone(),
        });
    }
    if text.trim_start().starts_with('<') {
        return Err(refused("it is a web page".into()));
    }
    let lines = credentials::ssh_keys(&text).map_err(refused)?;
    let mut keys: Vec<String> = Vec::new();
    for line in lines {
        let bare = credentials::without_comment(&line)
            .ok_or_else(|| refused("a key has options, which an account cannot give".into()))?;
        let key = format!("{bare} {account}");
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_sites_give() {
        for good in [
            "github:nina",
            "github:Nina-2",
            "github:nina_acme",
            "launchpad:nina.k+x",
        ] {
            assert_eq!(good.parse::<Account>().unwrap().to_string(), good);
        }
        for (bad, why) in [
            ("nina", "\"nina\" is not an account such as github:nina or launchpad:nina"),
            (
                "github:../x",
                "\"../x\" is not the name of an account at GitHub: it holds '.'",
            ),
            (
                "github:-x",
                "\"-x\" is not the name of an account at GitHub: it starts with neither a letter nor a digit",
            ),
            (
                "launchpad:..",
                "\"..\" is not the name of an account at Launchpad: it starts with neither a letter nor a digit",
            ),
            (
                "launchpad:Nina",
                "\"Nina\" is not the name of an account at Launchpad: it holds 'N'",
            ),
            ("github:", "\"\" is not the name of an account at GitHub: it is empty"),
        ] {
            assert_eq!(bad.parse::<Account>().unwrap_err(), why);
        }
        let long = format!("github:{}", "x".repeat(40));
        assert!(long
            .parse::<Account>()
            .unwrap_err()
            .ends_with("longer than 39 characters"));
    }
}
