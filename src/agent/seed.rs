//! cloud-init's first run, made to survive a power cut.
//!
//! cloud-init marks a module as done before it begins it, and flushes nothing. What a power cut leaves half-made – a
//! user without groups, an empty key, an empty host key – would stay so for good. So until that first run is complete
//! and on the medium, each boot lets cloud-init start again, from the accounts that the image came with.

use std::fs;
use std::io;
use std::os::unix::fs::{chown, MetadataExt};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::program::run;
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

/// Exists once the first run is complete and on the medium. The unit checks for it, too.
pub(crate) const DONE: &str = "/var/lib/palmfarm/seed-done";

/// A file of the card's own seed; without it there is nothing to do.
const SEED: &str = "/var/lib/cloud/seed/nocloud-net/meta-data";

/// The accounts that the image came with, and the file that says that all of them are here.
const KEPT: &str = "/var/lib/palmfarm/accounts";
const KEPT_WHOLE: &str = "/var/lib/palmfarm/accounts-whole";

/// The files that useradd(8) and groupadd(8) change below `/etc`.
const ACCOUNTS: [&str; 6] = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];

/// Where cloud-init keeps its state below `/var/lib/cloud`. The seed beside it stays.
const CLOUD_STATE: [&str; 5] = ["instance", "instances", "sem", "data", "handlers"];

/// cloud-init adds its rules to this file even if they are there already.
const SUDOERS: &str = "/etc/sudoers.d/90-cloud-init-users";

/// cloud-init writes this file at the end of every boot, whether it succeeded or not.
const RESULT: &str = "/run/cloud-init/result.json";

/// How long cloud-init may still be at work. The agent's unit starts after it; a person may start the agent earlier.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long flushing may take on a slow card.
const SYNC: Duration = Duration::from_secs(600);

/// Before cloud-init starts: copy the accounts on the first boot, and undo what cloud-init did in one that was cut short.
pub(crate) fn prepare(root: &Root) -> StepResult {
    if !root.has(SEED) || root.has(DONE) {
        return Ok(Change::Unchanged);
    }
    if root.has(KEPT_WHOLE) {
        forget(root)?;
    } else {
        copy_accounts(root, "/etc", KEPT)?;
        root.write(KEPT_WHOLE, b"")
            .map_err(StepError::io("updating", KEPT_WHOLE))?;
    }
    Ok(Change::Changed)
}

/// Whether this card has palmfarm's seed for cloud-init.
pub(crate) fn concerns(root: &Root) -> bool {
    root.has(SEED)
}

/// The step of a run: once cloud-init is done, flush what it did to the medium, and record that.
pub(crate) fn step(root: &Root) -> StepResult {
    step_for(root, PATIENCE)
}

fn step_for(root: &Root, patience: Duration) -> StepResult {
    if root.has(DONE) {
        return Ok(Change::Unchanged);
    }
    if let Some(what) = disabled(root) {
        return Err(StepError::new(format!(
            "cloud-init is disabled by {what}, so there are no users and the host name is not set"
        )));
    }
    let end = Instant::now() + patience;
    while !root.has(RESULT) {
        if Instant::now() > end {
            return Err(StepError::new(format!(
                "cloud-init, which makes the users, is not done after {} s; `cloud-init status --long` says more, and the \
                 next boot lets it start again",
                patience.as_secs()
            )));
        }
        sleep(Duration::from_secs(1));
    }
    run(root, "sync", &[], SYNC)?;
    root.write(DONE, b"").map_err(StepError::io("updating", DONE))?;
    // The copy of /etc/shadow is not needed any more.
    for name in ACCOUNTS {
        let path = format!("{KEPT}/{name}");
        root.remove(&path).map_err(StepError::io("updating", &path))?;
    }
    Ok(Change::Changed)
}

/// What disables cloud-init, if anything does (cloud-init's documentation, "Boot stages").
fn disabled(root: &Root) -> Option<&'static str> {
    const FILE: &str = "/etc/cloud/cloud-init.disabled";
    let line = root.line("/proc/cmdline").unwrap_or_default();
    let mut said = line.split_whitespace().rev();
    // The command line wins over the file.
    match said.find_map(|word| word.strip_prefix("cloud-init=")) {
        Some("enabled") => None,
        Some("disabled") => Some("cloud-init=disabled on the kernel's command line"),
        _ => root.has(FILE).then_some(FILE),
    }
}

/// Undo what an interrupted first run may have done.
fn forget(root: &Root) -> Result<(), StepError> {
    root.console("the first boot was cut short: cloud-init starts again");
    for name in ACCOUNTS {
        // A lock holds the number of a process, and after a reboot another process may have that number.
        let lock = format!("/etc/{name}.lock");
        root.remove(&lock).map_err(StepError::io("updating", &lock))?;
    }
    copy_accounts(root, KEPT, "/etc")?;
    root.remove(SUDOERS).map_err(StepError::io("updating", SUDOERS))?;
    for name in CLOUD_STATE {
        let path = format!("/var/lib/cloud/{name}");
        let gone = match fs::symlink_metadata(root.at(&path)) {
            Ok(facts) if facts.is_dir() => fs::remove_dir_all(root.at(&path)),
            Ok(_) => fs::remove_file(root.at(&path)),
            Err(error) => Err(error),
        };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StepError::io("updating", &path)(error))
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copy the files of accounts, each in one step and with its owner and mode. A file that `from` lacks is skipped.
fn copy_accounts(root: &Root, from: &str, to: &str) -> Result<(), StepError> {
    for name in ACCOUNTS {
        let (old, new) = (format!("{from}/{name}"), format!("{to}/{name}"));
        let copy = || {
            let source = root.at(&old);
            let facts = fs::metadata(&source)?;
            let bytes = fs::read(&source)?;
            root.write_dressed(&new, &bytes, |file| {
                fs::set_permissions(file, facts.permissions())?;
                chown(file, Some(facts.uid()), Some(facts.gid()))
            })
        };
        match copy() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StepError::io("updating", &new)(error))
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::root::scratch::Scratch;

    const IMAGE: [(&str, &str); 4] = [
        (SEED, "instance-id: x\n"),
        ("/etc/passwd", "root\n"),
        ("/etc/shadow", "root:*\n"),
        ("/etc/group", "sudo:\n"),
    ];

    fn cloud_init_begins(root: &Root) {
        root.write("/etc/passwd", b"root\ncraig\n").unwrap();
        root.write("/etc/passwd.lock", b"400").unwrap();
        root.write(SUDOERS, b"craig ALL\n").unwrap();
        root.write("/var/lib/cloud/instances/x/sem/config_users_groups", b"")
            .unwrap();
        std::os::unix::fs::symlink("instances/x", root.at("/var/lib/cloud/instance")).unwrap();
    }

    #[test]
    fn a_first_boot_that_was_cut_short_starts_again() {
        let scratch = Scratch::new("seed", &IMAGE);
        let root = &scratch.0;
        let shadow = fs::Permissions::from_mode(0o640);
        fs::set_permissions(root.at("/etc/shadow"), shadow).unwrap();
        for boot in 0..3 {
            assert_eq!(prepare(root).unwrap(), Change::Changed, "boot {boot}");
            assert_eq!(root.read("/etc/passwd").unwrap(), "root\n", "boot {boot}");
            assert_eq!(root.names("/var/lib/cloud"), ["seed"], "boot {boot}");
            let mut names = root.names("/etc");
            names.retain(|name| name != "sudoers.d");
            assert_eq!(names, ["group", "passwd", "shadow"], "boot {boot}");
            assert!(!root.has(SUDOERS), "boot {boot}");
            let mode = fs::metadata(root.at("/etc/shadow")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "boot {boot}");
            cloud_init_begins(root);
        }
    }

    #[test]
    fn a_complete_first_boot_stays() {
        let scratch = Scratch::new("seed-whole", &IMAGE);
        let root = &scratch.0;
        prepare(root).unwrap();
        cloud_init_begins(root);
        let error = step_for(root, Duration::ZERO).unwrap_err();
        assert!(error.message.contains("is not done"), "{error}");
        root.write(RESULT, b"{}").unwrap();
        assert_eq!(step_for(root, Duration::ZERO).unwrap(), Change::Changed);
        assert_eq!(step_for(root, Duration::ZERO).unwrap(), Change::Unchanged);
        assert_eq!(root.names(KEPT), [""; 0], "no hash is left in two places");
        assert_eq!(prepare(root).unwrap(), Change::Unchanged);
        assert_eq!(root.read("/etc/passwd").unwrap(), "root\ncraig\n");
        assert!(root.has("/var/lib/cloud/instance/sem/config_users_groups"));
    }

    /// A cut while the accounts are copied: those in `/etc` are still the image's.
    #[test]
    fn accounts_that_were_half_copied_are_copied_again() {
        let scratch = Scratch::new("seed-half", &IMAGE);
        let root = &scratch.0;
        root.write("/var/lib/palmfarm/accounts/passwd", b"half").unwrap();
        prepare(root).unwrap();
        assert_eq!(root.read("/var/lib/palmfarm/accounts/passwd").unwrap(), "root\n");
        assert_eq!(root.read("/etc/passwd").unwrap(), "root\n");
    }

    #[test]
    fn a_cloud_init_that_is_disabled_is_not_waited_for() {
        for off in [
            ("/etc/cloud/cloud-init.disabled", ""),
            ("/proc/cmdline", "quiet cloud-init=disabled ro\n"),
        ] {
            let scratch = Scratch::new("seed-off", &[&IMAGE[..], &[off]].concat());
            let error = step_for(&scratch.0, Duration::from_secs(600)).unwrap_err();
            assert!(error.message.contains("is disabled by"), "{error}");
        }
        let enabled = [
            ("/etc/cloud/cloud-init.disabled", ""),
            ("/proc/cmdline", "cloud-init=enabled"),
        ];
        let scratch = Scratch::new("seed-on", &[&IMAGE[..], &enabled].concat());
        let error = step_for(&scratch.0, Duration::ZERO).unwrap_err();
        assert!(error.message.contains("is not done"), "{error}");
    }

    #[test]
    fn a_host_without_our_seed_is_left_alone() {
        let scratch = Scratch::new("seed-none", &IMAGE[1..]);
        assert!(!concerns(&scratch.0));
        assert_eq!(prepare(&scratch.0).unwrap(), Change::Unchanged);
        assert_eq!(scratch.0.names("/"), ["etc"]);
    }
}
