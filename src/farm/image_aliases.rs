//! The aliases of LXD's image server that palmfarm itself names: in what `init` writes, in hints, examples and documents. The
//! server drops a release soon after its support ends, so each has that date, and a test fails before it comes.

/// An alias behind `images:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageAlias {
    pub name: &'static str,
    /// The last day of its support: year, month, day.
    pub ends: (i64, i64, i64),
    /// Where that date is from.
    pub source: &'static str,
}

/// The one to name where any will do: the smallest.
pub const USUAL: &str = "alpine/3.23";

/// Every alias that may be named. LXD's server builds all of them for arm64.
pub const ALIASES: &[ImageAlias] = &[
    ImageAlias {
        name: USUAL,
        ends: (2027, 11, 1),
        source: "https://alpinelinux.org/releases/",
    },
    ImageAlias {
        name: "debian/12",
        // Of its long-term support.
        ends: (2028, 6, 30),
        source: "https://wiki.debian.org/LTS",
    },
    ImageAlias {
        name: "debian/13",
        ends: (2030, 6, 30),
        source: "https://wiki.debian.org/LTS",
    },
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::numbers::days_from_civil as days;

    /// How many days before its end an alias is no longer named: a release of palmfarm stays in use for a while.
    const DAYS_BEFORE: i64 = 60;

    #[test]
    fn every_alias_is_supported_for_a_while() {
        assert_eq!(
            (days((1970, 1, 1)), days((2000, 3, 1)), days((2026, 11, 28))),
            (0, 11_017, 20_785)
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let today = i64::try_from(now / 86_400).unwrap();
        for alias in ALIASES {
            let left = days(alias.ends) - today;
            assert!(
                left > DAYS_BEFORE,
                "{} is supported for {left} more days ({}): name a newer one",
                alias.name,
                alias.source
            );
        }
    }

    /// What follows `images:` in `text`, where it has a slash as the aliases of a server have.
    fn named(text: &str) -> Vec<&str> {
        text.split("images:")
            .skip(1)
            .map(|rest| {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/.-_".contains(c)));
                rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
            })
            .filter(|alias| alias.contains('/'))
            .map(|alias| alias.trim_end_matches('.'))
            .collect()
    }

    /// The files in `folder` and below it.
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn no_other_alias_is_named() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = vec![root.join("README.md")];
        for folder in ["src", "docs", "examples", "templates"] {
            files(&root.join(folder), &mut found);
        }
        let mut seen = 0;
        for path in found {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            for alias in named(&text) {
                let is_known = ALIASES.iter().any(|known| known.name == alias);
                assert!(is_known, "{} names images:{alias}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 5, "{seen}");
    }
}
