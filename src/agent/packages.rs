//! Debian packages: see what is installed, install what is missing, look again.
//!
//! The archive may be out of reach for a while and another program may hold apt's lock, so there are several tries.
//! What a power cut left half-configured is finished first. Nothing is ever removed, and only the packages that are named
//! for it are upgraded.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::names::package_parts;

use crate::program::{query, retry, run};
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

/// Seconds before each try.
const TRIES: [u64; 6] = [0, 10, 30, 60, 120, 240];

/// How long one call of apt-get or dpkg may take: on a Pi 2 with a slow card an hour is possible.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// How long another program may hold the lock: unattended-upgrades takes most of an hour on a Pi 2.
const LOCKED: Duration = Duration::from_secs(3600);

/// The pause between two tries of a lock that is held.
const BETWEEN_LOCKS: Duration = Duration::from_secs(10);

/// Install those of `packages` and of the `carried` ones that are missing: all that are carried in one call, so that apt
/// puts them in order, and before the others, which may then need no archive.
pub(crate) fn install(root: &Root, packages: &[String], carried: &BTreeMap<String, String>) -> StepResult {
    let of_card: Vec<String> = carried.keys().cloned().collect();
    let missing = || [missing(root, &of_card), missing(root, packages)].concat();
    if missing().is_empty() {
        return Ok(Change::Unchanged);
    }
    let until = Instant::now() + LOCKED;
    let tried = retry(&TRIES, "installing packages", || {
        let lacking = missing();
        let files: Vec<&str> = lacking
            .iter()
            .filter_map(|name| carried.get(name))
            .map(String::as_str)
            .collect();
        if !files.is_empty() {
            // The archive is asked only if they need what is not on the card.
            apt_install(root, &files, false, until).or_else(|error| {
                say!("{error}");
                apt_install(root, &files, true, until)
            })?;
        }
        let names = missing();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            Ok(())
        } else {
            apt_install(root, &names, true, until)
        }
    });
    let still = missing();
    let mut error = match tried {
        Ok(()) if still.is_empty() => return Ok(Change::Changed),
        Ok(()) => StepError::new("apt-get succeeded, but did not install them"),
        Err(error) => error,
    };
    error.message = format!("installing {}: {}", still.join(", "), error.message);
    Err(error)
}

/// Upgrade those of `packages` that are installed and have a newer version.
pub(crate) fn upgrade(root: &Root, packages: &[&str]) -> StepResult {
    let versions = || {
        let mut words = vec!["--show", "--showformat=${Package} ${Version}\\n"];
        words.extend(packages);
        query("dpkg-query", &words)
    };
    let before = versions();
    let until = Instant::now() + LOCKED;
    let mut words = vec!["--only-upgrade"];
    words.extend(packages);
    let doing = format!("upgrading {}", packages.join(", "));
    retry(&TRIES, &doing, || apt_install(root, &words, true, until))?;
    Ok(if versions() == before {
        Change::Unchanged
    } else {
        Change::Changed
    })
}

/// Run `apt-get install` with these words, after what may have to be done first; `update` says whether the archive is
/// asked for news. Wait for locks `until` then.
fn apt_install(root: &Root, words: &[&str], update: bool, until: Instant) -> Result<(), StepError> {
    unlocked(
        root,
        "dpkg",
        &["--configure", "--pending", "--force-confold"],
        until,
    )?;
    if update {
        // A source that is out of reach may not be the one that is needed.
        if let Err(error) = unlocked(root, "apt-get", &apt(&["update"]), until) {
            say!("{error}");
        }
    }
    let mut install = apt(&["install", "--yes", "--no-install-recommends", "--no-remove"]);
    install.extend(words);
    unlocked(root, "apt-get", &install, until)
}

/// Run `program` once no other program holds its lock: dpkg never waits for its lock, nor does apt before 1.9.11, and on
/// a first boot unattended-upgrades may hold it for long.
fn unlocked(root: &Root, program: &str, words: &[&str], until: Instant) -> Result<(), StepError> {
    let mut said = false;
    loop {
        match run(root, program, words, LIMIT) {
            Err(error) if is_locked(&error.output) && Instant::now() < until => {
                if !said {
                    say!("waiting for {program}'s lock: {error}");
                }
                said = true;
                sleep(BETWEEN_LOCKS);
            }
            done => return done,
        }
    }
}

/// Whether dpkg or apt says that another process has its lock (dpkg's `lib/dpkg/dbmodify.c`, apt's
/// `apt-pkg/contrib/fileutl.cc`, in the C locale).
fn is_locked(output: &[String]) -> bool {
    let says = |words: &str| output.iter().any(|line| line.contains(words));
    says("locked by another process")
        || says("Could not get lock")
        || says("Unable to acquire the dpkg frontend lock")
}

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
pub(crate) fn missing(root: &Root, packages: &[String]) -> Vec<String> {
    if packages.is_empty() {
        return Vec::new();
    }
    let reaches = |is: &str, wanted: &str| {
        is == wanted || run(root, "dpkg", &["--compare-versions", is, "ge", wanted], COMPARING).is_ok()
    };
    // All packages are listed, since any of them may provide a wanted name.
    not_in(&query("dpkg-query", &["--show", FORMAT]), packages, &reaches)
}

/// How long dpkg may take to compare two versions on a Pi that is busy.
const COMPARING: Duration = Duration::from_secs(60);

/// The line for each package that [`not_in`] reads, in dpkg-query(1)'s words.
const FORMAT: &str =
    "--showformat=${db:Status-Status}\\t${Package}\\t${Architecture}\\t${Version}\\t${Provides}\\n";

/// Those of `packages` – `NAME[:ARCHITECTURE][=VERSION]` – that are not in the lines of `installed`. A version that
/// `reaches` the wanted one will do: unattended-upgrades installs newer ones, and nobody wants to go back to the old one
/// at each boot.
fn not_in(installed: &str, packages: &[String], reaches: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    let installed: Vec<[&str; 4]> = installed
        .lines()
        .filter_map(|line| {
            let mut fields = line.strip_prefix("installed\t")?.splitn(4, '\t');
            Some([fields.next()?, fields.next()?, fields.next()?, fields.next()?])
        })
        .collect();
    let has = |wanted: &str| {
        let (name, architecture, version) = package_parts(wanted);
        installed.iter().any(|[package, of, is, provides]| {
            let fits = architecture.is_none_or(|wanted| wanted == *of || *of == "all");
            // Whether another package provides the wanted version is left to apt.
            let named = *package == name && version.is_none_or(|wanted| reaches(is, wanted));
            let provided = version.is_none() && provides.split(", ").any(|one| virtual_name(one) == name);
            fits && (named || provided)
        })
    };
    packages.iter().filter(|name| !has(name)).cloned().collect()
}

/// `NAME`, `NAME:ARCHITECTURE` or `NAME (= VERSION)` of a `Provides:` (Debian Policy, section 7.5).
fn virtual_name(provided: &str) -> &str {
    provided.split([' ', ':', '(']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_other_errors() {
        let check = |line: &str, expect: bool| assert_eq!(is_locked(&[line.to_owned()]), expect, "{line}");
        check(
            "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
            true,
        );
        check(
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)",
            true,
        );
        check("E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?", true);
        check("E: Unable to locate package nginxx", false);
    }

    #[test]
    fn knows_what_is_missing() {
        let text = "installed\tbtrfs-progs\tarmhf\t5.16.2-1\t\nconfig-files\tifupdown\tarmhf\t0.8\t\n\
                    half-configured\tlxd\tarmhf\t5.0\t\ninstalled\tadduser\tall\t3.118\t\n\
                    installed\tpostfix\tarmhf\t3.6\tdefault-mta, mail-transport-agent\n\
                    installed\tlibc6\tarmhf\t2.35\tlibc6-armhf (= 2.35), libc6.1:any\n";
        let check = |wanted: &[&str], expect: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            // The order of the text is that of dpkg for these versions.
            assert_eq!(not_in(text, &wanted, &|is, wanted| is >= wanted), expect);
        };
        check(&["btrfs-progs", "btrfs-progs:armhf"], &[]);
        check(
            &["ifupdown", "lxd", "bridge-utils"],
            &["ifupdown", "lxd", "bridge-utils"],
        );
        check(&["btrfs-progs:arm64"], &["btrfs-progs:arm64"]);
        check(&["btrfs"], &["btrfs"]);
        check(&["adduser:armhf", "adduser=3.118", "adduser:armhf=3.118"], &[]);
        check(&["adduser=3.117", "adduser=3.119"], &["adduser=3.119"]);
        check(
            &["mail-transport-agent", "default-mta", "libc6-armhf", "libc6.1"],
            &[],
        );
        check(&["default-mta=1", "agent"], &["default-mta=1", "agent"]);
        check(&[], &[]);
    }
}
