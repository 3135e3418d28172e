//! Only one run at a time: a second one would mistake the first one's half-made work for its own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::root::Root;

/// Below `/run`, so that no reboot leaves it behind.
const PATH: &str = "/run/palmfarm/lock";

/// Exists while an agent wants the lock that another one holds.
const WANTED: &str = "/run/palmfarm/lock-wanted";

/// For how many seconds it does: a holder that waits looks more often.
const YIELDING: u32 = 90;

/// How many tries, ten in a second, a run has to take it.
const SOON: u32 = 30;

/// The lock is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock(PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        // If the file stays, its process is known to be dead.
        let _ = fs::remove_file(&self.0);
    }
}

/// Take the lock; `None` if another living agent holds it.
pub(crate) fn take(root: &Root) -> io::Result<Option<Lock>> {
    let path = root.at(PATH);
    fs::create_dir_all(path.parent().unwrap_or(root.dir()))?;
    let own = identity(root, "self").unwrap_or_else(|| std::process::id().to_string());
    // The file must appear with its content, or the lock would look dead for a moment.
    let half = path.with_extension(std::process::id().to_string());
    File::create(&half)?.write_all(own.as_bytes())?;
    let taken = loop {
        let Some(path) = free(root) else { break Ok(None) };
        let path = root.at(&path);
        match fs::hard_link(&half, &path) {
            // Another agent was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => break linked.map(|()| Some(Lock(path))),
        }
    };
    let _ = fs::remove_file(&half);
    taken
}

/// The same, but a holder that only writes the report is waited for.
pub(crate) fn take_soon(root: &Root) -> io::Result<Option<Lock>> {
    for _ in 1..SOON {
        if let Some(lock) = take(root)? {
            return Ok(Some(lock));
        }
        sleep(Duration::from_millis(100));
    }
    take(root)
}

/// The same, but a holder that only waits for other cards is asked to end first.
pub(crate) fn take_from_waiting(root: &Root) -> io::Result<Option<Lock>> {
    for _ in 0..YIELDING {
        if let Some(lock) = take(root)? {
            root.remove(WANTED)?;
            return Ok(Some(lock));
        }
        root.write(WANTED, b"")?;
        sleep(Duration::from_secs(1));
    }
    root.remove(WANTED)?;
    Ok(None)
}

/// Whether somebody waits for the holder of the lock to end.
pub(crate) fn is_wanted(root: &Root) -> bool {
    root.has(WANTED)
}

/// Whether a living agent holds the lock.
pub(crate) fn is_held(root: &Root) -> bool {
    free(root).is_none()
}

/// The path at which the lock can be taken; `None` if a living agent holds it. Nobody removes the file of a dead holder:
/// two agents could find it at once, and the slower one would remove the lock of the faster. In its place there is a file
/// for the lock after that holder, which only one of them can make.
fn free(root: &Root) -> Option<String> {
    let mut path = PATH.to_owned();
    while let Ok(holder) = root.read(&path) {
        let pid = holder.split(' ').next().unwrap_or_default();
        let after = format!("{PATH}.after-{}", holder.replace(' ', "-"));
        if identity(root, pid).is_some_and(|alive| alive == holder) {
            return None;
        }
        if after == path {
            break;
        }
        path = after;
    }
    Some(path)
}

/// What tells a process from a later one with the same number: its start time, field 22 of `/proc/PID/stat` (proc(5)).
/// The second field may contain blanks and ends at the last parenthesis.
fn identity(root: &Root, pid: &str) -> Option<String> {
    let stat = root.line(&format!("/proc/{pid}/stat"))?;
    let (head, tail) = stat.rsplit_once(')')?;
    let number = head.split(' ').next()?;
    let start = tail.split(' ').nth(20)?;
    Some(format!("{number} {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    const STAT: &str = "7 (an (odd) name) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234 20\n";

    #[test]
    fn a_living_holder_keeps_it() {
        let scratch = Scratch::new("lock", &[("/proc/self/stat", STAT), ("/proc/7/stat", STAT)]);
        let root = &scratch.0;
        let held = take(root).unwrap().unwrap();
        assert_eq!(root.read(PATH).unwrap(), "7 1234");
        assert!(take(root).unwrap().is_none() && is_held(root));
        drop(held);
        assert!(!is_held(root));
        assert_eq!(root.names("/run/palmfarm"), [""; 0]);
        assert!(take(root).unwrap().is_some());
    }

    #[test]
    fn a_slow_run_does_not_take_over_what_a_fast_one_has_taken() {
        let dead = [("/proc/self/stat", STAT), ("/proc/7/stat", STAT), (PATH, "9 1")];
        let scratch = Scratch::new("lock-slow", &dead);
        let root = &scratch.0;
        let slow = free(root).unwrap();
        let fast = take(root).unwrap();
        assert!(fast.is_some());
        let linked = fs::hard_link(root.at("/proc/self/stat"), root.at(&slow));
        assert_eq!(linked.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(is_held(root) && take(root).unwrap().is_none());
    }

    #[test]
    fn a_dead_holder_does_not() {
        let dead = [("/proc/self/stat", STAT), (PATH, "7 99"), ("/proc/7/stat", STAT)];
        let scratch = Scratch::new("lock-dead", &dead);
        assert!(
            take(&scratch.0).unwrap().is_some(),
            "the number is another process's by now"
        );
        for left in ["", "9 1", "nonsense"] {
            scratch.0.write(PATH, left.as_bytes()).unwrap();
            assert!(take(&scratch.0).unwrap().is_some(), "{left:?}");
        }
    }
}
