//! `SHA256SUMS`: a list of digests as sha256sum(1) writes it. Pure.

use std::collections::BTreeMap;

use crate::base::source::Sha256Sum;

/// The largest list that is read, in bytes; Ubuntu's have a few KiB.
pub const MOST_SUMS: u64 = 1 << 20;

/// Digests by file name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, Sha256Sum>);

impl Sums {
    /// Read the lines of a list. Lines of another form are ignored, and so are different digests for one file.
    pub fn parse(text: &str) -> Self {
        let mut sums = BTreeMap::new();
        let mut twice = Vec::new();
        for line in text.lines() {
            // 64 digits, a space, then `*` (binary) or a space (text), then the name.
            let Some((digest, name)) = line.split_once(' ') else {
                continue;
            };
            let Some(name) = name.strip_prefix(['*', ' ']) else {
                continue;
            };
            let name = name.strip_prefix("./").unwrap_or(name).trim_end_matches('\r');
            let Ok(digest) = digest.parse::<Sha256Sum>() else {
                continue;
            };
            if name.is_empty() {
                continue;
            }
            if sums
                .insert(name.to_owned(), digest)
                .is_some_and(|before| before != digest)
            {
                twice.push(name.to_owned());
            }
        }
        for name in twice {
            sums.remove(&name);
        }
        Self(sums)
    }

    /// The digest of the file called `name`.
    pub fn find(&self, name: &str) -> Option<Sha256Sum> {
        self.0.get(name).copied()
    }

    /// The file that has `digest`.
    pub fn name_of(&self, digest: &Sha256Sum) -> Option<&str> {
        let found = self.0.iter().find(|(_, sum)| *sum == digest);
        found.map(|(name, _)| name.as_str())
    }

    /// How many files it lists.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sha256sum_are_read() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let sums = Sums::parse(&format!(
            "{a} *x.img.xz\n{b}  ./y\r\n\nnonsense\n{a} z\n{} *short\n{a} *\n{a} *twice\n{b} *twice\n",
            "a".repeat(63)
        ));
        assert_eq!(sums.find("x.img.xz").map(|sum| sum.to_string()), Some(a.clone()));
        assert_eq!(sums.find("y").map(|sum| sum.to_string()), Some(b));
        assert_eq!(sums.len(), 2);
        assert_eq!(sums.find("twice"), None);
        assert_eq!(sums.name_of(&a.parse().unwrap()), Some("x.img.xz"));
    }
}
