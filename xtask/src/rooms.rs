//! Which room of `src/` may use which: the table in ARCHITECTURE.md says so, and this file holds the code against it.
//! It reads text that it is given and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

/// The rooms that each room may use, by name.
pub(crate) struct Rooms(BTreeMap<String, BTreeSet<String>>);

/// Files directly in `src/` that every room may use, and that use no room.
const SMALL: [&str; 5] = ["numbers", "progress", "sha256", "tarball", "text"];

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
        let mut rooms = BTreeMap::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let (Some(first), Some(last)) = (cells.first(), cells.last()) else {
                continue;
            };
            let name = first.split('`').nth(1).unwrap_or_default();
            let name = name.trim_end_matches('/').trim_end_matches(".rs");
            rooms.insert(name.to_owned(), (*last).to_owned());
        }
        let all: BTreeSet<String> = rooms.keys().cloned().collect();
        let may = |cell: &str| match cell {
            "every room" => all.clone(),
            "every room but cli" => all.iter().filter(|room| *room != "cli").cloned().collect(),
            "nothing" | "" => BTreeSet::new(),
            list => without_parentheses(list)
                .split(',')
                .map(|room| room.trim().to_owned())
                .collect(),
        };
        let rooms = Self(
            rooms
                .iter()
                .map(|(name, cell)| (name.clone(), may(cell)))
                .collect(),
        );
        rooms.check()?;
        Ok(rooms)
    }

    /// The rooms that the Rust file `path` with `text` uses and may not.
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

    /// Every name in the table is a room, and a room never comes back to itself.
    fn check(&self) -> Result<(), String> {
        let mut done = BTreeSet::new();
        loop {
            let before = done.len();
            for (room, uses) in &self.0 {
                if let Some(unknown) = uses.iter().find(|used| !self.0.contains_key(*used)) {
                    return Err(format!(
                        "ARCHITECTURE.md lets {room} use {unknown}, which is not a room"
                    ));
                }
                if uses.iter().all(|used| used == room || done.contains(used)) {
                    done.insert(room);
                }
            }
            if done.len() == self.0.len() {
                return Ok(());
            }
            if done.len() == before {
                let left: Vec<&str> = self
                    .0
                    .keys()
                    .filter(|room| !done.contains(room))
                    .map(String::as_str)
                    .collect();
                return Err(format!(
                    "these rooms of ARCHITECTURE.md use each other in a circle: {left:?}"
                ));
            }
        }
    }
}

/// The identifier that `text` begins with.
fn name(text: &str) -> Option<&str> {
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let name = text.get(..end.unwrap_or(text.len()))?;
    (!name.is_empty()).then_some(name)
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|char| {
            match char {
                '(' => depth = depth.saturating_add(1),
                ')' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
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
