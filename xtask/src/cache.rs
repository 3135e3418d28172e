//! Things that take minutes to make and are the same until their recipe changes, kept in the user's cache directory.
//!
//! An entry is a directory named after a hash of everything that went into it; it appears by a rename, so a half-made
//! one is never seen and two runs may make the same one at once. A missing cache costs time and nothing else. Never
//! removes what an entry's name does not show to be this program's.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use fs_err as fs;
use sha2::{Digest, Sha256};

/// Older entries of one name that stay: another checkout may want them.
const KEPT: usize = 2;

/// A hash of what goes into an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Add one input; where it ends is part of the hash.
    pub(crate) fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update(input.len().to_string());
        self.0.update([0]);
        self.0.update(input);
        self
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        let digest = self.0.clone().finalize();
        let start = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        format!("{start:016x}")
    }
}

/// Where entries live: `$XDG_CACHE_HOME/palmfarm`, or `~/.cache/palmfarm`.
pub(crate) fn dir() -> Result<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME says where the cache is")?;
    Ok(base.join("palmfarm"))
}

/// The entry `name` made from `key`'s inputs; `make` fills an empty directory if there is none yet.
pub(crate) fn entry(name: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    entry_in(&dir()?, name, key, make)
}

fn entry_in(dir: &Path, name: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let ready = dir.join(format!("{name}-{}", key.hex()));
    if ready.is_dir() {
        // Its age is the time since it was last wanted; a read-only cache is not a reason to stop.
        let _ = fs::File::open(&ready).and_then(|entry| entry.set_modified(SystemTime::now()));
        return Ok(ready);
    }
    fs::create_dir_all(dir)?;
    // Half-made entries of runs that have ended.
    remove_oldest(dir, 0, |name| name.starts_with('.') && has_ended(name, '.'));
    let half = dir.join(format!(".{name}-{}.{}", key.hex(), std::process::id()));
    let _ = fs::remove_dir_all(&half);
    fs::create_dir(&half)?;
    let done = make(&half).and_then(|()| {
        // Another run may have been faster; what it made is the same.
        fs::rename(&half, &ready).or_else(|error| if ready.is_dir() { Ok(()) } else { Err(error) })?;
        Ok(())
    });
    let _ = fs::remove_dir_all(&half);
    done.with_context(|| format!("making {}", ready.display()))?;
    let key = key.hex();
    remove_oldest(dir, KEPT, |entry| {
        entry
            .rsplit_once('-')
            .is_some_and(|(start, other)| start == name && other.len() == key.len() && other != key)
    });
    Ok(ready)
}

/// Remove the folders of `dir` whose name is one of `these`, but for the `kept` newest.
pub(crate) fn remove_oldest(dir: &Path, kept: usize, these: impl Fn(&str) -> bool) {
    let Ok(found) = fs::read_dir(dir) else { return };
    let ours = |path: &PathBuf| {
        path.is_dir()
            && path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(&these)
    };
    let mut old: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).filter(ours).collect();
    old.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|facts| facts.modified()).ok()));
    for path in old.iter().skip(kept) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Whether the process whose number is the last part of `name` is not running any more.
pub(crate) fn has_ended(name: &str, separator: char) -> bool {
    let pid = name
        .rsplit_once(separator)
        .and_then(|(_, pid)| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("palmfarm-cache-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_entry_is_made_once() {
        let scratch = Scratch::new("once");
        let key = Key::default().with("a");
        let fill = |dir: &Path| Ok(fs::write(dir.join("file"), "made")?);
        let made = entry_in(&scratch.0, "thing", &key, fill).unwrap();
        assert_eq!(fs::read_to_string(made.join("file")).unwrap(), "made");
        assert_eq!(
            entry_in(&scratch.0, "thing", &key, |_| anyhow::bail!("made twice")).unwrap(),
            made
        );
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let scratch = Scratch::new("failure");
        assert!(entry_in(&scratch.0, "thing", &Key::default(), |_| anyhow::bail!("no")).is_err());
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[test]
    fn a_slower_run_takes_what_the_faster_one_made() {
        let scratch = Scratch::new("race");
        let key = Key::default();
        let slow = |_: &Path| {
            entry_in(&scratch.0, "other", &key, |dir| {
                Ok(fs::write(dir.join("file"), "fast")?)
            })
            .unwrap();
            let (from, to) = ("other-", "thing-");
            fs::rename(
                scratch.0.join(from.to_owned() + &key.hex()),
                scratch.0.join(to.to_owned() + &key.hex()),
            )?;
            Ok(())
        };
        let entry = entry_in(&scratch.0, "thing", &key, slow).unwrap();
        assert_eq!(fs::read_to_string(entry.join("file")).unwrap(), "fast");
    }

    #[test]
    fn old_entries_go_and_others_stay() {
        let scratch = Scratch::new("prune");
        for step in 0..5 {
            entry_in(&scratch.0, "thing", &Key::default().with([step]), |_| Ok(())).unwrap();
        }
        entry_in(&scratch.0, "thing-arm64", &Key::default(), |_| Ok(())).unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1 + KEPT + 1);
    }

    #[test]
    fn where_an_input_ends_matters() {
        let split = |a: &str, b: &str| Key::default().with(a).with(b).hex();
        assert_ne!(split("ab", "c"), split("a", "bc"));
        assert_eq!(split("ab", "c"), split("ab", "c"));
    }
}
