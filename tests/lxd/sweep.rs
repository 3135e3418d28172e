//! Removes what a run that was killed left behind: named namespaces, directories and control groups whose names hold the
//! number of a process that has ended. Processes need no sweeping, since they die with the run.

use std::fs;
use std::path::Path;
use std::sync::Once;

use crate::cgroup;
use crate::sh;

/// Where labs have their directories.
pub(crate) const TMP: &str = "/var/tmp";

/// Sweep once in each process.
pub(crate) fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in left("/run/netns", &["home-palmfarm-", "pi-palmfarm-"]) {
            let _ = sh::succeeds(&mut sh::words(&format!("ip netns delete {name}")));
        }
        for parent in cgroup::parents() {
            for name in left(&parent.to_string_lossy(), &["pi-palmfarm-"]) {
                let _ = cgroup::remove(&parent.join(name));
            }
        }
        for name in left(TMP, &["palmfarm-lxd-"]) {
            let _ = fs::remove_dir_all(Path::new(TMP).join(name));
        }
    });
}

/// Names in `dir` that are one of `prefixes`, the number of a dead process, and more.
fn left(dir: &str, prefixes: &[&str]) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let dead = |name: &String| {
        let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        let process = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
    };
    names.filter(dead).collect()
}
