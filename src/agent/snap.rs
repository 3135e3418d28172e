//! snapd, by way of its program snap(8): whether LXD's snap is there, its installation and its refreshes. Every call goes
//! through here, because each may fail for no reason of its own: snapd starts itself anew while it unpacks the snaps of an
//! image, and when it is refreshed. Never removes a snap.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use palmfarm_protocol::firstboot::Lxd;

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

/// Once the farm holds refreshes back for good, how: [`OF_LXD`], or what snapd's setting was set to.
const HELD_FOR_GOOD: &str = "/var/lib/palmfarm/refreshes-held";

/// That LXD's snap alone is held.
const OF_LXD: &str = "lxd";

/// For how long a snapd before 2.58 holds refreshes back at most (`maxPostponement` in its
/// overlord/snapstate/autorefresh.go).
const MOST_HELD: Duration = Duration::from_secs(60 * 86_400);

/// Install LXD's snap, unless it is there once snapd has unpacked the snaps of the image: from the card if that carries it,
/// else from the store.
pub(crate) fn install(root: &Root, lxd: &Lxd) -> StepResult {
    ask(root, &["wait", "system", "seed.loaded"])?;
    retry(&STORE, "installing the snap lxd", || {
        settle(root);
        if installed(root)?.is_some() {
            return Ok(Change::Unchanged);
        }
        for snap in &lxd.snaps {
            if listed(root, &snap.name)?.is_none() {
                let option = match &snap.assertions {
                    Some(assertions) => said(root, &["ack", assertions]).map(|_| None)?,
                    None => Some("--dangerous"),
                };
                let words = ["install", &snap.path].into_iter().chain(option);
                said(root, &words.collect::<Vec<_>>())?;
            }
        }
        if !lxd.snaps.is_empty() {
            return Ok(Change::Changed);
        }
        let channel = lxd.channel.as_deref();
        let channel = channel.map(|channel| format!("--channel={channel}"));
        let words = ["install", "lxd"].into_iter().chain(channel.as_deref());
        said(root, &words.collect::<Vec<_>>()).map(|_| Change::Changed)
    })
}

/// Let the installed snap follow `channel`, which must not be older than what is installed: LXD does not start on a
/// database of a newer version.
pub(crate) fn follow(root: &Root, channel: &str) -> StepResult {
    let Some(snap) = installed(root)? else {
        return Err(StepError::new("the snap lxd is not installed"));
    };
    if snap.follows(channel) {
        return Ok(Change::Unchanged);
    }
    if snap.is_newer_than(channel) {
        return Err(StepError::new(format!(
            "LXD {} is installed, and LXD cannot go back to {channel}: declare a channel of its version or a later one",
            snap.version
        )));
    }
    let option = format!("--channel={channel}");
    retry(&STORE, "changing the channel of the snap lxd", || {
        settle(root);
        said(root, &["refresh", "lxd", &option])
    })?;
    Ok(Change::Changed)
}

/// Bring LXD's snap up to date.
pub(crate) fn refresh(root: &Root) -> StepResult {
    let revision = || installed(root).map(|snap| snap.map(|snap| snap.revision));
    let before = revision()?;
    retry(&STORE, "refreshing the snap lxd", || {
        settle(root);
        said(root, &["refresh", "lxd"])
    })?;
    Ok(if revision()? == before {
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

/// Whether an earlier run has held refreshes back for good.
pub(crate) fn are_held(root: &Root) -> bool {
    root.has(HELD_FOR_GOOD)
}

/// Hold refreshes back for good, unless an earlier run did and somebody has changed it since.
pub(crate) fn hold(root: &Root, note: &mut String) -> StepResult {
    let held = root.read(HELD_FOR_GOOD).unwrap_or_default();
    if held == OF_LXD {
        return Ok(Change::Unchanged);
    }
    if held.is_empty() {
        let done = retry(&HICCUPS, "holding back refreshes of the snap lxd", || match said(
            root,
            &["refresh", "--hold", "lxd"],
        ) {
            Ok(_) => Ok(true),
            Err(error) if says(&error, "unknown flag") => Ok(false),
            Err(error) => Err(error),
        })?;
        if done {
            return remember(root, OF_LXD).map(|()| Change::Changed);
        }
    } else if ask_setting(root)? != held {
        note.push_str("somebody has changed snapd's refresh.hold, so that is left as it is");
        return Ok(Change::Unchanged);
    }
    let until = from_now(MOST_HELD);
    set(root, &until)?;
    remember(root, &until)?;
    note.push_str(&format!(
        "this snapd cannot hold back one snap, so all are held until {until}, and each boot holds them anew"
    ));
    Ok(if held.is_empty() {
        Change::Changed
    } else {
        Change::Unchanged
    })
}

/// Leave refreshes to snapd again, if an earlier run has held them back.
pub(crate) fn unhold(root: &Root) -> StepResult {
    let Ok(held) = root.read(HELD_FOR_GOOD) else {
        return Ok(Change::Unchanged);
    };
    if held == OF_LXD {
        ask(root, &["refresh", "--unhold", "lxd"])?;
    } else if ask_setting(root)? == held {
        ask(root, &["unset", "system", "refresh.hold"])?;
    }
    root.remove(HELD_FOR_GOOD)
        .map_err(StepError::io("removing", HELD_FOR_GOOD))?;
    Ok(Change::Changed)
}

fn remember(root: &Root, how: &str) -> Result<(), StepError> {
    root.write(HELD_FOR_GOOD, how.as_bytes())
        .map_err(StepError::io("writing", HELD_FOR_GOOD))
}

/// While it lives, snapd refreshes nothing by itself.
pub(crate) struct Hold<'a> {
    root: &'a Root,
}

impl<'a> Hold<'a> {
    /// Hold back refreshes, and wait for one of LXD that has begun already.
    pub(crate) fn take(root: &'a Root) -> Result<Self, StepError> {
        // Before that, snapd takes no settings.
        ask(root, &["wait", "system", "seed.loaded"])?;
        // If a run was cut short, the setting is its own.
        if !root.has(BEFORE) {
            let before = ask_setting(root)?;
            root.write(BEFORE, before.as_bytes())
                .map_err(StepError::io("writing", BEFORE))?;
        }
        let hold = Self { root };
        set(root, &from_now(HELD))?;
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
fn ask_setting(root: &Root) -> Result<String, StepError> {
    retry(&HICCUPS, "asking snapd for refresh.hold", || {
        match said(root, &["get", "system", "refresh.hold"]) {
            Ok(lines) => Ok(lines.into_iter().next().unwrap_or_default()),
            Err(error) if says(&error, "has no \"refresh.hold\"") => Ok(String::new()),
            Err(error) => Err(error),
        }
    })
}

/// The time that is so far from now, as snapd takes it.
fn from_now(far: Duration) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    clock::utc(now.unwrap_or_default().saturating_add(far).as_secs())
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

/// An installed snap, as `snap list` shows it.
#[derive(Debug, PartialEq, Eq)]
struct Snap {
    version: String,
    revision: String,
    /// The channel that it follows, with `…` where the list leaves something out; `-` if there is none.
    tracking: String,
}

impl Snap {
    /// From the words of a heading and a line `NAME VERSION REVISION TRACKING …` for each snap.
    fn read(list: &[String]) -> Option<Self> {
        let line = list.iter().find(|line| line.starts_with("lxd "))?;
        let mut words = line.split_whitespace().skip(1).map(str::to_owned);
        Some(Self {
            version: words.next()?,
            revision: words.next()?,
            tracking: words.next()?,
        })
    }

    /// Whether it follows `channel`, or the branch of it that Ubuntu's images have: `5.0/stable/ubuntu-22.04`.
    fn follows(&self, channel: &str) -> bool {
        let rest = self.tracking.strip_prefix(channel);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether `channel` has an older version. That of a track such as `latest` is not known.
    fn is_newer_than(&self, channel: &str) -> bool {
        let track = channel.split('/').next().unwrap_or_default();
        let (is, wanted) = (numbers(&self.version), numbers(track));
        // A track `6` has every 6.x.
        let is = is.get(..wanted.len()).unwrap_or(&is);
        !wanted.is_empty() && is > wanted.as_slice()
    }
}

/// The numbers that a version begins with: `5.0.3-9a1d904` is 5, 0, 3.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

/// The installed snap of LXD.
fn installed(root: &Root) -> Result<Option<Snap>, StepError> {
    let Some(lines) = listed(root, "lxd")? else {
        return Ok(None);
    };
    let snap = Snap::read(&lines).ok_or_else(|| StepError::new("snap list lxd says nothing about lxd"));
    snap.map(Some)
}

/// What `snap list` says of the snap `name`; `None` if it is not installed, which a snapd that does not answer does not
/// show.
fn listed(root: &Root, name: &str) -> Result<Option<Vec<String>>, StepError> {
    retry(&HICCUPS, "asking snapd for a snap", || {
        match said(root, &["list", name]) {
            Ok(lines) => Ok(Some(lines)),
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

    fn snap(version: &str, tracking: &str) -> Snap {
        let heading = "Name  Version         Rev    Tracking       Publisher   Notes\n";
        let line = format!("lxd   {version}   27428  {tracking}   canonical✓  -\n");
        Snap::read(&lines(&format!("{heading}lxd-other 1 2 3\n{line}"))).unwrap()
    }

    #[test]
    fn the_list_is_read() {
        let snap = snap("5.0.3-9a1d904", "5.0/stable/…");
        assert_eq!(
            (snap.version.as_str(), snap.revision.as_str()),
            ("5.0.3-9a1d904", "27428")
        );
        assert_eq!(Snap::read(&[]), None);
        assert_eq!(Snap::read(&lines("lxd-other 1 2 3\n")), None);
    }

    #[test]
    fn a_channel_is_followed_and_never_an_older_one() {
        let of_ubuntu = snap("5.0.3-9a1d904", "5.0/stable/…");
        assert!(of_ubuntu.follows("5.0/stable") && !of_ubuntu.follows("5.0/edge"));
        assert!(!snap("5.0.3", "5.0/stable2").follows("5.0/stable"));
        assert!(!snap("5.0.3", "-").follows("5.0/stable"));
        let check = |version: &str, channel: &str, expect: bool| {
            assert_eq!(
                snap(version, "-").is_newer_than(channel),
                expect,
                "{version} {channel}"
            );
        };
        check("5.0.3-9a1d904", "4.0/stable", true);
        check("5.0.3-9a1d904", "5.0/stable", false);
        check("5.0.3-9a1d904", "5.21/stable", false);
        check("5.21.3-1", "5.0/stable", true);
        check("6.5-1", "6/stable", false);
        check("6.5-1", "5.21/stable", true);
        check("6.5-1", "latest/stable", false);
        check("git-9a1d904", "5.0/stable", false);
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
