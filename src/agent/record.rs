//! `/var/lib/palmfarm/record.json`: what the agent has made, and what was declared when it did.
//!
//! A mark on a container or an image travels with every copy of it, so it does not show who made the copy. This file
//! stays on the card, and only the run that holds the lock writes it. What it does not name, the agent never destroys.
//! Each entry is written before the change that it announces, and again once the change is made.

use std::cell::RefCell;

use serde_json::{json, Map, Value};

use crate::root::Root;
use crate::step::StepError;

pub(crate) const PATH: &str = "/var/lib/palmfarm/record.json";

/// A record that another version of the agent wrote is as good as none.
const VERSION: u32 = 1;

/// What kind of object an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Network,
    Profile,
    Container,
    Image,
    Alias,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Network => "networks",
            Self::Profile => "profiles",
            Self::Container => "containers",
            Self::Image => "images",
            Self::Alias => "aliases",
        }
    }
}

/// Where what is put into a record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    OnCard,
    /// Until the record is dropped: the agent only looks.
    InMemory,
}

/// The record of this card.
pub(crate) struct Record<'a> {
    root: &'a Root,
    keep: Keep,
    all: RefCell<Map<String, Value>>,
}

impl<'a> Record<'a> {
    /// Read the record. One that does not exist or is damaged names nothing.
    pub(crate) fn open(root: &'a Root, keep: Keep) -> Self {
        let text = root.read(PATH).unwrap_or_default();
        let all = match serde_json::from_str(&text) {
            Ok(Value::Object(all)) if all.get("version") == Some(&json!(VERSION)) => all,
            _ => Map::new(),
        };
        let all = RefCell::new(all);
        Self { root, keep, all }
    }

    /// The entry of `name`; null if there is none.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Value {
        let all = self.all.borrow();
        let entry = all.get(kind.key()).and_then(|entries| entries.get(name));
        entry.cloned().unwrap_or_default()
    }

    /// The names of all entries of one kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let all = self.all.borrow();
        let entries = all.get(kind.key()).and_then(Value::as_object);
        entries.map_or_else(Vec::new, |entries| entries.keys().cloned().collect())
    }

    /// Replace the entry of `name`, or remove it if `entry` is null. It is on the medium when this returns.
    pub(crate) fn put(&self, kind: Kind, name: &str, entry: Value) -> Result<(), StepError> {
        if self.get(kind, name) == entry {
            return Ok(());
        }
        let mut all = self.all.borrow_mut();
        all.insert("version".into(), json!(VERSION));
        let entries = all.entry(kind.key()).or_insert_with(|| json!({}));
        if let Some(entries) = entries.as_object_mut() {
            if entry.is_null() {
                entries.remove(name);
            } else {
                entries.insert(name.into(), entry);
            }
        }
        let text = serde_json::to_string_pretty(&*all).unwrap_or_default() + "\n";
        self.write(&text)
    }

    /// Forget everything.
    pub(crate) fn clear(&self) -> Result<(), StepError> {
        self.all.borrow_mut().clear();
        self.write("{}\n")
    }

    fn write(&self, text: &str) -> Result<(), StepError> {
        match self.keep {
            Keep::InMemory => Ok(()),
            Keep::OnCard => self
                .root
                .write_private(PATH, text.as_bytes())
                .map_err(StepError::io("writing", PATH)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    #[test]
    fn what_is_put_is_there_after_a_power_cut() {
        let scratch = Scratch::new("record", &[]);
        let record = Record::open(&scratch.0, Keep::OnCard);
        record.put(Kind::Image, "f1", json!({"of": "web"})).unwrap();
        record.put(Kind::Alias, "a", json!(["f1"])).unwrap();
        record.put(Kind::Alias, "b", json!(["f1"])).unwrap();
        record.put(Kind::Alias, "b", Value::Null).unwrap();
        let again = Record::open(&scratch.0, Keep::OnCard);
        assert_eq!(again.get(Kind::Image, "f1"), json!({"of": "web"}));
        assert_eq!(again.names(Kind::Alias), ["a"]);
        assert_eq!(again.get(Kind::Container, "f1"), Value::Null);
    }

    #[test]
    fn a_damaged_record_names_nothing() {
        for text in [
            "",
            "{",
            "[]",
            "{\"version\":2,\"images\":{\"f1\":{}}}",
            "{\"version\":1,\"images\":7}",
        ] {
            let scratch = Scratch::new("record-damaged", &[(PATH, text)]);
            let record = Record::open(&scratch.0, Keep::OnCard);
            assert_eq!(record.names(Kind::Image), [""; 0], "{text}");
        }
    }
}
