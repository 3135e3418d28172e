//! snapd, by way of its program snap(8): whether LXD's snap is there, its installation and its refreshes. Every call goes
//! through here, because each may fail for no reason of its own: snapd starts itself anew while it unpacks the snaps of an
//! image, and when it is refreshed. Never removes a snap.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::clock;
use crate::program::{output, retry};
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

/// Seconds before each try of what needs the snap store.
const STORE: [u64; 5] = [0, 15, 60, 180, 300];

/// Seconds before each try of what needs nothing but snapd. Each may take two minutes, for which snap(8) itself looks for
/// a snapd that does not answer.
const HICCUPS: [u64; 4] = [0, 5, 15, 60];

/// How long one call may take, and one change: 100 MB of LXD over a slow line onto a slow card, or the unpacking of the
/// snaps that are in the image.
const LONGEST: Duration = Duration::from_secs(3600);

/// The pause before another look at a change.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// For how long refreshes are held back: longer than any farm takes, and they come back by themselves if the Pi is
/// switched off for good.
const HELD: Duration = Duration::from_secs(6 * 3600);

/// While refreshes are held back, what snapd's setting was before.
const BEFORE: &str = "/var/lib/palmfarm/refresh-hold";

/// Install LXD's snap, unless it is there once snapd has unpacked the snaps of the image.
pub(crate) fn install(root: &Root) -> StepResult {
    ask(root, &["wait", "system", "seed.loaded"])?;
    retry(&STORE, "installing the snap lxd", || {
        settle(root);
        if revision(root)?.is_some() {
            return Ok(Change::Unchanged);
        }
        said(root, &["install", "lxd"]).map(|_| Change::Changed)
    })
}

/// Bring LXD's snap up to date.
pub(crate) fn refresh(root: &Root) -> StepResult {
    let before = revision(root)?;
    retry(&STORE, "refreshing the snap lxd", || {
        settle(root);
        said(root, &["refresh", "lxd"])
    })?;
    Ok(if revision(root)? == before {
        Change::Unchanged
    } else {
        Change::Changed
    })
}

/// Whether snapd is installing or refreshing LXD at this moment. Once that has taken [`LONGEST`] since `begun`, it is not
/// worth waiting for.
pub(crate) fn is_changing(root: &Root, begun: Instant) -> bool {
    let has_snapd = root.has("/usr/bin/snap") && begun.elapsed() < LONGEST;
    has_snapd && ask(root, &["changes", "lxd"]).is_ok_and(|lines| has_begun(&lines))
}

/// While it lives, snapd refreshes nothing by itself.
pub(crate) struct Hold<'a> {
    root: &'a Root,
}

impl<'a> Hold<'a> {
    /// Hold back refreshes, and wait for one of LXD that has begun already.
    pub(crate) fn take(root: &'a Root) -> Result<Self, StepError> {
        // If a run was cut short, the setting is its own.
        if !root.has(BEFORE) {
            let before = retry(&HICCUPS, "asking snapd for refresh.hold", || setting(root))?;
            root.write(BEFORE, before.as_bytes())
                .map_err(StepError::io("writing", BEFORE))?;
        }
        let hold = Self { root };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let until = now.unwrap_or_default().saturating_add(HELD);
        set(root, &clock::utc(until.as_secs()))?;
        settle(root);
        Ok(hold)
    }

    fn put_back(&self) -> Result<(), StepError> {
        let before = self.root.read(BEFORE).map_err(StepError::io("reading", BEFORE))?;
        if before.is_empty() {
            ask(self.root, &["unset", "system", "refresh.hold"])?;
        } else {
            set(self.root, &before)?;
        }
        self.root
            .remove(BEFORE)
            .map_err(StepError::io("removing", BEFORE))
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            say!("letting snapd refresh snaps again: {error}");
        }
    }
}

/// snapd's setting `refresh.hold`; empty if it is not set.
fn setting(root: &Root) -> Result<String, StepError> {
    match said(root, &["get", "system", "refresh.hold"]) {
        Ok(lines) => Ok(lines.into_iter().next().unwrap_or_default()),
        Err(error) if says(&error, "has no \"refresh.hold\"") => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn set(root: &Root, hold: &str) -> Result<(), StepError> {
    ask(root, &["set", "system", &format!("refresh.hold={hold}")]).map(drop)
}

/// Wait until no change of LXD's snap is in progress; while one is, snapd refuses any other.
fn settle(root: &Root) {
    let begun = Instant::now();
    while is_changing(root, begun) {
        sleep(BETWEEN_LOOKS);
    }
}

/// The revision of the installed snap; `None` if it is not installed, which a snapd that does not answer does not show.
fn revision(root: &Root) -> Result<Option<String>, StepError> {
    retry(&HICCUPS, "asking snapd for the snap lxd", || {
        match said(root, &["list", "lxd"]) {
            Ok(lines) => Ok(Some(third_word(&lines))),
            Err(error) if says(&error, "no matching snaps") => Ok(None),
            Err(error) => Err(error),
        }
    })
}

/// What `snap` prints, whose success needs nothing but snapd.
fn ask(root: &Root, words: &[&str]) -> Result<Vec<String>, StepError> {
    let doing = format!("running snap {}", words.join(" "));
    retry(&HICCUPS, &doing, || said(root, words))
}

/// The last lines that `snap` prints in one try.
fn said(root: &Root, words: &[&str]) -> Result<Vec<String>, StepError> {
    output(root, "snap", words, LONGEST)
}

fn says(error: &StepError, words: &str) -> bool {
    error.output.iter().any(|line| line.contains(words))
}

/// `snap list` prints a heading, and a line `NAME VERSION REVISION …` for each snap.
fn third_word(list: &[String]) -> String {
    let line = list.iter().find(|line| line.starts_with("lxd "));
    let word = line.and_then(|line| line.split_whitespace().nth(2));
    word.unwrap_or_default().to_owned()
}

/// `snap changes` prints a heading, and a line `ID STATUS …` for each change. These have not ended (snapd's
/// overlord/state/change.go); one in `Wait` goes on after a reboot.
fn has_begun(changes: &[String]) -> bool {
    let mut status = changes.iter().filter_map(|line| line.split_whitespace().nth(1));
    status.any(|status| ["Do", "Doing", "Abort", "Undo", "Undoing"].contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_revision_is_the_third_word() {
        let list = "Name  Version         Rev    Tracking       Publisher   Notes\n\
                    lxd   5.0.3-9a1d904   27428  5.0/stable/…   canonical✓  -\n";
        assert_eq!(third_word(&lines(list)), "27428");
        assert_eq!(third_word(&[]), "");
        assert_eq!(third_word(&lines("lxd-other 1 2\n")), "");
    }

    #[test]
    fn a_change_that_has_not_ended_is_seen() {
        let heading = "ID   Status  Spawn               Ready               Summary\n";
        let done = "7    Done    today at 20:32 UTC  today at 20:32 UTC  Install \"lxd\" snap\n";
        let doing = "8    Doing   today at 20:33 UTC  -                   Refresh \"lxd\" snap\n";
        assert!(has_begun(&lines(&format!("{heading}{done}{doing}"))));
        assert!(has_begun(&lines(&doing.replace("Doing", "Do   "))));
        assert!(!has_begun(&lines(&format!("{heading}{done}"))));
        assert!(!has_begun(&lines(&doing.replace("Doing", "Error"))));
        assert!(!has_begun(&lines("no changes found\n")));
    }
}
