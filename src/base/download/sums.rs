//! `SHA256SUMS`: a list of digests as sha256sum(1), its kin of the BSDs and openssl(1) write it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::source::Sha256Sum;

/// The largest list that is read, in bytes; Ubuntu's have a few KiB.
pub const MOST_SUMS: u64 = 1 << 20;

/// The digests of a list, by file name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    by_name: BTreeMap<String, Sha256Sum>,
    /// Files for which the list has different digests.
    twice: BTreeSet<String>,
}

impl Sums {
    /// Read the lines of a list. Lines of another form are ignored.
    pub fn parse(text: &str) -> Self {
        let mut sums = Self::default();
        for (name, digest) in text.lines().filter_map(line) {
            let before = sums.by_name.insert(name.clone(), digest);
            if before.is_some_and(|before| before != digest) {
                sums.twice.insert(name);
            }
        }
        sums.by_name.retain(|name, _| !sums.twice.contains(name));
        sums
    }

    /// The digest of the file called `name`, in whichever folder the list has it, if there is one such file.
    pub fn find(&self, name: &str) -> Option<Sha256Sum> {
        let in_folder = || {
            let mut all = self
                .by_name
                .iter()
                .filter(|(path, _)| path.rsplit('/').next() == Some(name));
            let (_, first) = all.next()?;
            all.all(|(_, other)| other == first).then_some(first)
        };
        self.by_name.get(name).or_else(in_folder).copied()
    }

    /// Whether the list has different digests for the file called `name`.
    pub fn contradicts_itself(&self, name: &str) -> bool {
        self.twice.contains(name)
    }

    /// The file that has `digest`.
    pub fn name_of(&self, digest: &Sha256Sum) -> Option<&str> {
        let found = self.by_name.iter().find(|(_, sum)| *sum == digest);
        found.map(|(name, _)| name.as_str())
    }
}

/// Name and digest of one line.
fn line(line: &str) -> Option<(String, Sha256Sum)> {
    let line = line.trim();
    // GNU's mark of a name in which backslashes and line ends are escaped.
    let (line, is_escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
    let (name, digest) = tagged(line).or_else(|| listed(line))?;
    let name = if is_escaped {
        name.replace("\\\\", "\\")
    } else {
        name.to_owned()
    };
    let name = name.strip_prefix("./").unwrap_or(&name);
    (!name.is_empty()).then(|| (name.to_owned(), digest))
}

/// `SHA256 (NAME) = DIGEST` of the BSDs and of `sha256sum --tag`, `SHA2-256(NAME)= DIGEST` of openssl(1).
fn tagged(line: &str) -> Option<(&str, Sha256Sum)> {
    let rest = ["SHA256", "SHA2-256"]
        .iter()
        .find_map(|tag| line.strip_prefix(tag))?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix('(')?;
    let (name, digest) = rest.rsplit_once('=')?;
    let name = name.trim_end().strip_suffix(')')?;
    Some((name, digest.trim().parse().ok()?))
}

/// `DIGEST`, a blank, then `*` (binary) or a blank (text) or, of `sha256 -r`, nothing, then `NAME`.
fn listed(line: &str) -> Option<(&str, Sha256Sum)> {
    let (digest, name) = line.split_once([' ', '\t'])?;
    let name = name.strip_prefix(['*', ' ', '\t']).unwrap_or(name);
    Some((name, digest.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind_are_read() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        for (line, name) in [
            (format!("{a} *x.img.xz"), "x.img.xz"),
            (format!("{a}  ./y"), "y"),
            (format!("{}  x.img", a.to_uppercase()), "x.img"),
            (format!("{a} x.img"), "x.img"),
            (format!("{a}\tx.img"), "x.img"),
            (format!("{a}  my image.img \t"), "my image.img"),
            (format!("SHA256 (x.img) = {a}"), "x.img"),
            (format!("SHA256 (x (1).img) = {a}"), "x (1).img"),
            (format!("SHA256(x.img)= {}", a.to_uppercase()), "x.img"),
            (format!("SHA2-256(./x.img)= {a}"), "x.img"),
            (format!("\\{a}  a\\\\b"), "a\\b"),
            (format!("{a}  jammy/x.img"), "x.img"),
        ] {
            for end in ["", "\n", "\r\n"] {
                let sums = Sums::parse(&format!("# {b}\n{line}{end}"));
                assert_eq!(
                    sums.find(name).map(|sum| sum.to_string()),
                    Some(a.clone()),
                    "{line:?}"
                );
            }
        }
    }

    #[test]
    fn other_lines_are_passed_over() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let sums = Sums::parse(&format!(
            "\nnonsense\n{} *short\n{a} *\nSHA512 (x) = {a}{b}\nSHA256 (x = {a}\n{a} *twice\n{b} *twice\n\
             {a}  1/both\n{b}  2/both\n{a} z\n",
            "a".repeat(63)
        ));
        assert_eq!(sums.by_name.len(), 3);
        assert!(sums.contradicts_itself("twice") && sums.find("twice").is_none());
        assert_eq!(sums.find("both"), None);
        assert_eq!(sums.name_of(&a.parse().unwrap()), Some("1/both"));
    }
}
