//! Which room of `src/` may use which: the table in ARCHITECTURE.md says so, and this file compares the code with it. It
//! opens no file and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

/// The rooms that each room may use, by name.
pub(crate) struct Rooms(BTreeMap<String, BTreeSet<String>>);

/// Files directly in `src/` that every room may use, and that use no room.
const SMALL: [&str; 6] = ["numbers", "progress", "sha256", "tarball", "text", "text_file"];

/// Files directly in `src/` that belong to a room.
const OWNED: [(&str, &str); 3] = [("main", "cli"), ("lib", "cli"), ("agents", "pipeline")];

impl Rooms {
    /// Read the table under the heading "Where things are": the room is the first cell, what it may use the last.
    ///
    /// # Errors
    /// A row names a room that has no row, or the rooms use each other in a circle.
    pub(crate) fn read(architecture: &str) -> Result<Self, String> {
        let table = architecture
            .split("## Where things are")
            .nth(1)
            .ok_or("ARCHITECTURE.md has no heading \"Where things are\"")?;
        let rows = table
            .lines()
            .skip_while(|line| !line.starts_with("| room"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let cells: BTreeMap<String, &str> = rows
            .filter_map(|row| {
                let (first, last) = row.trim_matches('|').rsplit_once('|')?;
                let name = first.split('`').nth(1)?.trim_end_matches('/');
                Some((name.trim_end_matches(".rs").to_owned(), last.trim()))
            })
            .collect();
        let all: BTreeSet<String> = cells.keys().cloned().collect();
        let may = |cell: &str| match cell {
            "every room" => all.clone(),
            "every room but cli" => all.iter().filter(|room| *room != "cli").cloned().collect(),
            "nothing" | "" => BTreeSet::new(),
            list => without_parentheses(list)
                .split(',')
                .map(|room| room.trim().to_owned())
                .collect(),
        };
        let rooms = cells.iter().map(|(name, cell)| (name.clone(), may(cell)));
        let rooms = Self(rooms.collect());
        rooms.check()?;
        Ok(rooms)
    }

    /// The rooms that the Rust file `path` with `text` uses although it may not.
    pub(crate) fn breaches(&self, path: &str, text: &str) -> Vec<String> {
        let Some(inside) = path.strip_prefix("src/") else {
            return Vec::new();
        };
        let first = inside.split('/').next().unwrap_or_default();
        let first = first.trim_end_matches(".rs");
        if ["agent", "protocol"].contains(&first) {
            // Crates of their own: cargo knows what they use.
            return Vec::new();
        }
        let room = OWNED
            .iter()
            .find(|(file, _)| *file == first)
            .map_or(first, |(_, room)| *room);
        let allowed = self.0.get(room);
        if allowed.is_none() && !SMALL.contains(&room) {
            return vec![format!("src/{first} has no row in the table of ARCHITECTURE.md")];
        }
        let used: BTreeSet<&str> = text.split("crate::").skip(1).filter_map(name).collect();
        used.into_iter()
            .filter(|used| *used != room && !SMALL.contains(used))
            .filter(|used| OWNED.iter().all(|(file, owner)| file != used || *owner != room))
            .filter(|used| self.0.contains_key(*used) || OWNED.iter().any(|(file, _)| file == used))
            .filter(|used| allowed.is_none_or(|allowed| !allowed.contains(*used)))
            .map(|used| format!("{room} uses {used}, which the table of ARCHITECTURE.md does not allow"))
            .collect()
    }

    /// An error if a name in the table is not a room, or if rooms use each other in a circle.
    fn check(&self) -> Result<(), String> {
        for (room, uses) in &self.0 {
            if let Some(unknown) = uses.iter().find(|used| !self.0.contains_key(*used)) {
                return Err(format!(
                    "ARCHITECTURE.md lets {room} use {unknown}, which is not a room"
                ));
            }
        }
        // Remove rooms that use none of those that are left. Rooms that use each other in a circle stay.
        let mut left: BTreeSet<&String> = self.0.keys().collect();
        while !left.is_empty() {
            let users = left.clone();
            left.retain(|room| {
                self.0[*room]
                    .iter()
                    .any(|used| used != *room && users.contains(used))
            });
            if left == users {
                return Err(format!(
                    "these rooms of ARCHITECTURE.md use each other in a circle: {left:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The identifier that `text` begins with.
fn name(text: &str) -> Option<&str> {
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let name = text.get(..end.unwrap_or(text.len()))?;
    (!name.is_empty()).then_some(name)
}

fn without_parentheses(text: &str) -> String {
    let mut parts = text.split('(');
    let first = parts.next().unwrap_or_default();
    let rest = parts.filter_map(|part| part.split_once(')'));
    std::iter::once(first)
        .chain(rest.map(|(_, outside)| outside))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "## Where things are\n\n| room | owns | may use |\n|---|---|---|\n| `cli/` | a | every room |\n\
        | `plan/` | b | farm (`tree`, facts) |\n| `farm/` | c | nothing |\n\n| other | table |\n";

    fn check(path: &str, text: &str, expect: &[&str]) {
        let found = Rooms::read(TABLE).unwrap().breaches(path, text);
        let found: Vec<&str> = found
            .iter()
            .filter_map(|breach| breach.split(',').next())
            .collect();
        assert_eq!(found, expect, "{path}: {text}");
    }

    #[test]
    fn arrows_are_held_against_the_table() {
        check("src/plan/a.rs", "use crate::farm::Farm;", &[]);
        check("src/plan/a.rs", "use crate::plan::x; use crate::text::y;", &[]);
        check("src/farm/a.rs", "let a = crate::plan::x();", &["farm uses plan"]);
        check("src/main.rs", "use crate::plan::x;", &[]);
        check("src/text.rs", "use crate::farm::x;", &["text uses farm"]);
        check("tests/a.rs", "use crate::plan::x;", &[]);
        assert_eq!(Rooms::read(TABLE).unwrap().breaches("src/new/a.rs", "").len(), 1);
    }

    #[test]
    fn a_circle_is_refused() {
        let circle = TABLE.replace("| nothing |", "| plan |");
        assert!(Rooms::read(&circle).is_err());
        let stranger = TABLE.replace("| nothing |", "| attic |");
        assert!(Rooms::read(&stranger).is_err());
    }
}
