//! Debian packages: look what is installed, install what is missing, look again.
//!
//! The archive may be out of reach for a while and another program may hold apt's lock, so there are several tries;
//! what dpkg left half-done in a power cut is finished first. Nothing is ever removed, and nothing is upgraded but
//! what is named for it.

use std::thread::sleep;
use std::time::Duration;

use crate::farm::{Change, Done, Trouble};
use crate::program::{ask, run};
use crate::root::Root;

/// Seconds before each try.
const TRIES: [u64; 6] = [0, 10, 30, 60, 120, 240];

/// How long one call of apt-get or dpkg may take: on a Pi 2 with a slow card an hour is no exaggeration.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Install those of `packages` that are missing.
pub(crate) fn install(root: &Root, packages: &[String]) -> Done {
    if missing(packages).is_empty() {
        return Ok(Change::Unchanged);
    }
    let mut trouble = Trouble::new("");
    for pause in TRIES {
        sleep(Duration::from_secs(pause));
        match try_install(root, &missing(packages)) {
            Ok(()) if missing(packages).is_empty() => return Ok(Change::Changed),
            Ok(()) => trouble = Trouble::new("apt-get succeeded and did not install them"),
            Err(failed) => trouble = failed,
        }
        say!("installing packages: {trouble}");
    }
    let still = missing(packages).join(", ");
    trouble.message = format!(
        "installing {still}: {}; it is tried again at the next boot and by `palmfarm-agent run`",
        trouble.message
    );
    Err(trouble)
}

/// Upgrade those of `packages` that are installed and have a newer version.
pub(crate) fn upgrade(root: &Root, packages: &[&str]) -> Done {
    let versions = || {
        let mut query = vec!["--show", "--showformat=${Package} ${Version}\\n"];
        query.extend(packages);
        ask("dpkg-query", &query)
    };
    let before = versions();
    let mut trouble = Trouble::new("");
    for pause in TRIES {
        sleep(Duration::from_secs(pause));
        let mut words = vec!["--only-upgrade"];
        words.extend(packages);
        match apt_install(root, &words) {
            Ok(()) if versions() == before => return Ok(Change::Unchanged),
            Ok(()) => return Ok(Change::Changed),
            Err(failed) => trouble = failed,
        }
        say!("upgrading {}: {trouble}", packages.join(", "));
    }
    Err(trouble)
}

fn try_install(root: &Root, packages: &[String]) -> Result<(), Trouble> {
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    apt_install(root, &names)
}

/// `apt-get install` with these words, after all that may stand in its way.
fn apt_install(root: &Root, words: &[&str]) -> Result<(), Trouble> {
    run(
        root,
        "dpkg",
        &["--configure", "--pending", "--force-confold"],
        LIMIT,
    )?;
    // A source that is out of reach need not be the one that is needed.
    if let Err(trouble) = run(root, "apt-get", &apt(&["update"]), LIMIT) {
        say!("{trouble}");
    }
    let mut install = apt(&["install", "--yes", "--no-install-recommends", "--no-remove"]);
    install.extend(words);
    run(root, "apt-get", &install, LIMIT)
}

/// apt before 1.9.11 ignores the lock's timeout; for it there are the tries.
fn apt<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec![
        "--quiet",
        "--option=DPkg::Lock::Timeout=300",
        "--option=Dpkg::Options::=--force-confold",
        "--option=Acquire::Retries=3",
    ];
    all.extend(words);
    all
}

/// Those of `packages` that are not installed.
fn missing(packages: &[String]) -> Vec<String> {
    if packages.is_empty() {
        return Vec::new();
    }
    let format = "--showformat=${db:Status-Status} ${Package} ${Package}:${Architecture}\\n";
    let mut query = vec!["--show", format];
    query.extend(packages.iter().map(String::as_str));
    not_in(&ask("dpkg-query", &query), packages)
}

/// `installed` has a line `STATUS NAME NAME:ARCHITECTURE` for each package that dpkg knows of.
fn not_in(installed: &str, packages: &[String]) -> Vec<String> {
    let has = |wanted: &str| {
        installed.lines().any(|line| {
            let mut words = line.split(' ');
            words.next() == Some("installed") && words.any(|name| name == wanted)
        })
    };
    packages.iter().filter(|name| !has(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_missing() {
        let text = "installed btrfs-progs btrfs-progs:armhf\nconfig-files ifupdown ifupdown:armhf\n\
                    half-configured lxd lxd:armhf\n";
        let check = |wanted: &[&str], expect: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(not_in(text, &wanted), expect);
        };
        check(&["btrfs-progs", "btrfs-progs:armhf"], &[]);
        check(
            &["ifupdown", "lxd", "bridge-utils"],
            &["ifupdown", "lxd", "bridge-utils"],
        );
        check(&["btrfs-progs:arm64"], &["btrfs-progs:arm64"]);
        check(&["btrfs"], &["btrfs"]);
        check(&[], &[]);
    }
}
