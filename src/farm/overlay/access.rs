//! `overlay.toml`: a table per path that is not 0644 or 0755 and root's.
//!
//! ```toml
//! ["root/usr/local/bin/hello"]
//! mode = "0755"
//!
//! ["root/srv/data"]
//! mode = "2775"
//! gid = 50
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

/// What one table says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) mode: Option<u16>,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// All tables by path.
#[derive(Debug, Default)]
pub(super) struct Rules(BTreeMap<String, Rule>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mode: Option<String>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl Rules {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let tables: BTreeMap<String, Table> =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().replace('\n', " "))?;
        let mut rules = BTreeMap::new();
        for (path, table) in tables {
            let mode = table.mode.map(|mode| octal(&path, &mode)).transpose()?;
            let (uid, gid) = (table.uid, table.gid);
            rules.insert(path, Rule { mode, uid, gid });
        }
        Ok(Self(rules))
    }

    /// The rule for `path`, which is then no longer among them.
    pub(super) fn take(&mut self, path: &str) -> Option<Rule> {
        self.0.remove(path)
    }

    /// The first that was not taken.
    pub(super) fn first(&self) -> Option<&str> {
        self.0.keys().next().map(String::as_str)
    }
}

/// Twelve bits in three or four octal digits.
fn octal(path: &str, text: &str) -> Result<u16, String> {
    let fine = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    fine.then(|| u16::from_str_radix(text, 8).ok())
        .flatten()
        .ok_or_else(|| {
            format!("the mode {text:?} of {path:?} is not three or four octal digits such as \"0755\"")
        })
}
