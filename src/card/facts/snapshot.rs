//! What sysfs, procfs and udev held at one moment, as text: read once, written into bug reports and fixtures, and parsed
//! by the rest of `facts` without another look at the machine.
//!
//! Nothing here knows what an attribute means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Files and links by absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    entries: BTreeMap<String, SnapshotEntry>,
}

/// One path of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEntry {
    /// A file, without the newline at its end.
    Text(String),
    /// A symbolic link and what it holds, unresolved.
    Link(String),
}

impl Snapshot {
    /// Record a file; one newline at the end of `text` is dropped.
    pub fn add_text(&mut self, path: &str, text: &str) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        self.entries
            .insert(path.to_owned(), SnapshotEntry::Text(text.to_owned()));
    }

    /// Record a symbolic link.
    pub fn add_link(&mut self, path: &str, target: &str) {
        self.entries
            .insert(path.to_owned(), SnapshotEntry::Link(target.to_owned()));
    }

    /// Remove everything at and below `path`.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.entries
            .retain(|key, _| key != path && !key.starts_with(&below));
    }

    /// The file at `path`.
    pub fn text(&self, path: &str) -> Option<&str> {
        match self.entries.get(path)? {
            SnapshotEntry::Text(text) => Some(text),
            SnapshotEntry::Link(_) => None,
        }
    }

    /// What the link at `path` holds.
    pub fn link(&self, path: &str) -> Option<&str> {
        match self.entries.get(path)? {
            SnapshotEntry::Link(target) => Some(target),
            SnapshotEntry::Text(_) => None,
        }
    }

    /// The absolute path that the link at `path` leads to, by text alone.
    pub fn resolved(&self, path: &str) -> Option<String> {
        let (dir, _) = path.rsplit_once('/')?;
        Some(normalize(dir, self.link(path)?))
    }

    /// The names directly below the directory `dir`, in order, each once.
    pub fn names(&self, dir: &str) -> Vec<&str> {
        let prefix = format!("{dir}/");
        let mut names: Vec<&str> = self
            .entries
            .range(prefix.clone()..)
            .map_while(|(path, _)| path.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .collect();
        names.dedup();
        names
    }
}

/// `target` as seen from the directory `dir`, without `.` and `..`.
pub fn normalize(dir: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { dir };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// One entry per line: `PATH: TEXT`, or `PATH -> TARGET`; further lines of a text follow, each after a tab. Paths
/// that do not start with `/` or `@` are below the device's directory in the heading above them, `[DIR]`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = "/sys/class/block";
        let dirs: BTreeSet<String> = self
            .names(class)
            .iter()
            .filter_map(|name| self.resolved(&format!("{class}/{name}")))
            .collect();
        let mut groups: BTreeMap<&str, Vec<(&str, &SnapshotEntry)>> = BTreeMap::new();
        for (path, entry) in &self.entries {
            let mut above = path.rmatch_indices('/').filter_map(|(at, _)| path.get(..at));
            let dir = above.find_map(|dir| dirs.get(dir)).map_or("", String::as_str);
            let rest = path.strip_prefix(dir).unwrap_or(path);
            let rest = if dir.is_empty() {
                rest
            } else {
                rest.trim_start_matches('/')
            };
            groups.entry(dir).or_default().push((rest, entry));
        }
        for (dir, entries) in groups {
            if !dir.is_empty() {
                writeln!(f, "\n[{dir}]")?;
            }
            for (path, entry) in entries {
                entry.write(path, f)?;
            }
        }
        Ok(())
    }
}

impl SnapshotEntry {
    fn write(&self, path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(target) => writeln!(f, "{path} -> {target}"),
            Self::Text(text) if text.contains('\n') => {
                writeln!(f, "{path}:")?;
                text.split('\n').try_for_each(|line| writeln!(f, "\t{line}"))
            }
            Self::Text(text) if text.is_empty() => writeln!(f, "{path}:"),
            Self::Text(text) => writeln!(f, "{path}: {text}"),
        }
    }
}

/// A line of a written snapshot that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {0} of the snapshot is not `PATH: TEXT`, `PATH -> TARGET` or `[DIR]`, and does not start with a tab"
)]
pub struct NotASnapshot(pub usize);

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    /// Reads what [`fmt::Display`] writes; lines that start with `#` and empty lines are comments.
    fn from_str(written: &str) -> Result<Self, NotASnapshot> {
        let mut snapshot = Self::default();
        let mut open: Option<(String, Vec<&str>)> = None;
        let mut dir = "";
        for (index, line) in written.lines().enumerate() {
            if let Some(more) = line.strip_prefix('\t') {
                let (_, lines) = open.as_mut().ok_or(NotASnapshot(index + 1))?;
                lines.push(more);
                continue;
            }
            snapshot.close(open.take());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(heading) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                dir = heading;
                continue;
            }
            let full = |path: &str| match path.chars().next() {
                Some('/' | '@') => path.to_owned(),
                _ => format!("{dir}/{path}"),
            };
            // The first one counts: a link may hold a colon, and a text an arrow.
            let text = line.split_once(": ");
            let link = line.split_once(" -> ");
            if let Some((path, target)) =
                link.filter(|(path, _)| text.is_none_or(|(other, _)| path.len() < other.len()))
            {
                snapshot.add_link(&full(path), target);
            } else if let Some((path, text)) = text {
                snapshot.add_text(&full(path), text);
            } else if let Some(path) = line.strip_suffix(':') {
                open = Some((full(path), Vec::new()));
            } else {
                return Err(NotASnapshot(index + 1));
            }
        }
        snapshot.close(open);
        Ok(snapshot)
    }
}

impl Snapshot {
    fn close(&mut self, open: Option<(String, Vec<&str>)>) {
        if let Some((path, lines)) = open {
            self.entries.insert(path, SnapshotEntry::Text(lines.join("\n")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut snapshot = Snapshot::default();
        snapshot.add_text("/proc/swaps", "Filename\tType\n/dev/dm-1 partition\n");
        snapshot.add_text("/sys/devices/a/sda/size", "12\n");
        snapshot.add_text("/sys/devices/a/sda/sda1/size", "6\n");
        snapshot.add_text("/sys/devices/a/sda/device/model", "a -> b: c");
        snapshot.add_text("/sys/devices/a/serial", "");
        snapshot.add_link("/sys/class/block/sda", "../../devices/a/sda");
        snapshot.add_link("/sys/class/block/sda1", "../../devices/a/sda/sda1");
        snapshot.add_link("/x", "b: c");
        let written = snapshot.to_string();
        assert_eq!(
            written,
            "/proc/swaps:\n\tFilename\tType\n\t/dev/dm-1 partition\n\
             /sys/class/block/sda -> ../../devices/a/sda\n\
             /sys/class/block/sda1 -> ../../devices/a/sda/sda1\n\
             /sys/devices/a/serial:\n\
             /x -> b: c\n\
             \n[/sys/devices/a/sda]\ndevice/model: a -> b: c\nsize: 12\n\
             \n[/sys/devices/a/sda/sda1]\nsize: 6\n"
        );
        assert_eq!(written.parse(), Ok(snapshot));
        assert_eq!("a\n".parse::<Snapshot>(), Err(NotASnapshot(1)));
        assert_eq!("# a\n\tb\n".parse::<Snapshot>(), Err(NotASnapshot(2)));
    }

    #[test]
    fn a_directory_is_what_has_names_below_it() {
        let snapshot: Snapshot = "/a/b/c: 1\n/a/b/d: 1\n/a/b0: 1\n/a/e -> ../x\n/ab: 1\n"
            .parse()
            .unwrap();
        assert_eq!(snapshot.names("/a"), ["b", "b0", "e"]);
        assert_eq!(snapshot.names("/a/b"), ["c", "d"]);
        assert_eq!(snapshot.names("/x"), [""; 0]);
        assert_eq!(snapshot.resolved("/a/e").as_deref(), Some("/x"));
    }

    #[test]
    fn links_resolve_by_text() {
        for (dir, target, expect) in [
            ("/sys/class/block", "../../devices/x", "/sys/devices/x"),
            ("/dev/mapper", "../dm-0", "/dev/dm-0"),
            ("/dev", "/x//y/./z", "/x/y/z"),
            ("/", "../../a", "/a"),
        ] {
            assert_eq!(normalize(dir, target), expect);
        }
    }
}
