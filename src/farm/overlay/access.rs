//! `overlay.toml`: a table per path that is not 0644 or 0755 and root's.
//!
//! ```toml
//! ["root/usr/local/bin/hello"]
//! mode = "0755"
//!
//! ["root/etc/wireguard/wg0.conf"]
//! secret = true
//!
//! ["root/srv/data"]
//! mode = "2775"
//! owner = "0:50"
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::farm::declared::{self, Declared};
use crate::text_file::decode;

/// All tables by path.
#[derive(Debug, Default)]
pub(super) struct Rules(BTreeMap<String, Declared>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mode: Option<String>,
    owner: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    #[serde(default)]
    secret: bool,
}

impl Table {
    fn declared(self) -> Result<Declared, String> {
        let owner = match (self.owner, self.uid, self.gid) {
            (None, None, None) => None,
            (Some(owner), None, None) => Some(declared::owner(&owner)?),
            (None, uid, gid) => Some((uid.unwrap_or_default(), gid.unwrap_or_default())),
            (Some(_), ..) => return Err("it has both `owner` and `uid` or `gid`".into()),
        };
        let declared = Declared {
            mode: self.mode.as_deref().map(declared::mode).transpose()?,
            owner,
            secret: self.secret,
        };
        declared.contradiction().map_or(Ok(declared), Err)
    }
}

impl Rules {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = decode(bytes).map_err(|error| format!("it {error}; {}", error.hint()))?;
        let tables: BTreeMap<String, Table> =
            toml::from_str(&text).map_err(|error| error.to_string().trim_end().replace('\n', " "))?;
        let rule = |(path, table): (String, Table)| match table.declared() {
            Ok(declared) => Ok((path, declared)),
            Err(why) => Err(format!("{path:?}: {why}")),
        };
        let rules: Result<_, _> = tables.into_iter().map(rule).collect();
        Ok(Self(rules?))
    }

    /// The rule for `path`, which is then no longer among them.
    pub(super) fn take(&mut self, path: &str) -> Option<Declared> {
        self.0.remove(path)
    }

    /// The first that was not taken.
    pub(super) fn first(&self) -> Option<&str> {
        self.0.keys().next().map(String::as_str)
    }
}
