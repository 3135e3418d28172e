//! cloud-init's first run, made to survive a power cut.
//!
//! cloud-init marks a module as done before it begins it, and flushes nothing. What a power cut leaves half-made – a
//! user without groups, an empty key, an empty host key – would stay so for good. So until that first run is complete
//! and on the medium, each boot lets cloud-init start again, from the files that the image came with. It removes and
//! puts back only what cloud-init alone can have changed.

mod declared;

use std::fs;
use std::io;
use std::os::unix::fs::{chown, MetadataExt};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{query, run};
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};
use declared::Declared;

/// Exists once the first run is complete and on the medium. The unit checks for it, too.
pub(crate) const DONE: &str = "/var/lib/palmfarm/seed-done";

/// A file of the card's own seed; without it there is nothing to do.
const SEED: &str = "/var/lib/cloud/seed/nocloud-net/meta-data";

/// What the image came with: copies of [`ACCOUNTS`] and [`SIGNS`], and a list of those of [`MADE`] and of the folders in
/// `/home` that it has; and the file that says that all of it is here.
const KEPT: &str = "/var/lib/palmfarm/accounts";
const KEPT_PATHS: &str = "/var/lib/palmfarm/accounts/paths";
const KEPT_WHOLE: &str = "/var/lib/palmfarm/accounts-whole";

/// Exists once the accounts may hold what their owner has changed, although cloud-init has not ended: then no boot puts
/// the copies back. Somebody has logged in, or a run has waited for cloud-init in vain and gone on to other work.
const LEFT: &str = "/var/lib/palmfarm/accounts-left";

/// Who has logged in, where the system still writes that. The number of logins that the image came with is the content of
/// [`KEPT_WHOLE`].
const WTMP: &str = "/var/log/wtmp";

/// The journal, in which systemd-logind writes each new session (systemd's sd-messages.h, `SD_MESSAGE_SESSION_START`).
const JOURNAL: &str = "/var/log/journal";
const SESSION: &str = "MESSAGE_ID=8d45620c1a4348dbb17410da57c60c66";

/// The files that useradd(8) and groupadd(8) change below `/etc`.
const ACCOUNTS: [&str; 6] = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];

/// Other files below `/etc` that cloud-init changes in its first run and takes as a sign that a module has done its
/// work: it generates no locale that `default/locale` names already (`apply_locale` in cloudinit/distros/debian.py).
const SIGNS: [&str; 3] = ["default/locale", "locale.gen", "locale.conf"];

/// Files that cloud-init makes: one that the image did not have is removed before cloud-init starts again. It adds its
/// rules for sudo even if they are there already, and localedef(1) fails on an archive that is cut off.
const MADE: [&str; 2] = [
    "/etc/sudoers.d/90-cloud-init-users",
    "/usr/lib/locale/locale-archive",
];

/// Where cloud-init keeps its state below `/var/lib/cloud`. The seed beside it stays.
const CLOUD_STATE: [&str; 5] = ["instance", "instances", "sem", "data", "handlers"];

/// cloud-init writes this file at the end of every boot, whether it succeeded or not.
const RESULT: &str = "/run/cloud-init/result.json";

/// How long cloud-init may still be at work. The agent's unit starts after it; a person may start the agent earlier.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long flushing may take on a slow card.
const SYNC: Duration = Duration::from_secs(600);

/// Before cloud-init starts: copy what it may change on the first boot, and undo what it did in one that was cut short.
pub(crate) fn prepare(root: &Root) -> StepResult {
    if !root.has(SEED) || root.has(DONE) {
        return Ok(Change::Unchanged);
    }
    let declared = Declared::read(root);
    if root.has(LEFT) {
        return locale_again(root, &declared);
    }
    let Ok(logins) = root.read(KEPT_WHOLE) else {
        keep(root)?;
        return Ok(Change::Changed);
    };
    let somebody_came = !logins.is_empty() && self::logins(root).to_string() != logins;
    if somebody_came || has_strangers(root, &declared) {
        leave(root)?;
        return locale_again(root, &declared);
    }
    forget(root, &declared)?;
    Ok(Change::Changed)
}

/// Let cloud-init generate the declared locale if it only says that there is one: of all that a cut can leave half-made,
/// this alone can be made again without touching what somebody may have changed since.
fn locale_again(root: &Root, declared: &Declared) -> StepResult {
    let sign = format!("/etc/{}", SIGNS[0]);
    let text = root.read(&sign).unwrap_or_default();
    match declared.lacking_locale() {
        Some(locale) if text.contains(locale) => {
            remove(root, &sign)?;
            remove(root, "/var/lib/cloud/instance/sem/config_locale")?;
            Ok(Change::Changed)
        }
        _ => Ok(Change::Unchanged),
    }
}

/// Copy what the image came with.
fn keep(root: &Root) -> Result<(), StepError> {
    copy(root, &ACCOUNTS, "/etc", KEPT)?;
    copy(root, &SIGNS, "/etc", KEPT)?;
    let made = MADE.into_iter().filter(|path| root.has(path)).map(str::to_owned);
    let homes = root
        .names("/home")
        .into_iter()
        .map(|name| format!("/home/{name}"));
    let paths: Vec<String> = made.chain(homes).collect();
    for (path, text) in [
        (KEPT_PATHS, paths.join("\n")),
        (KEPT_WHOLE, logins(root).to_string()),
    ] {
        root.write(path, text.as_bytes())
            .map_err(StepError::io("updating", path))?;
    }
    Ok(())
}

/// Whether there is an account for people that neither the image nor the seed has: then somebody has made it, and the
/// copies do not have it. Packages make accounts with numbers below 1000 (Debian policy, 9.2.2).
fn has_strangers(root: &Root, declared: &Declared) -> bool {
    let kept = root.read(&format!("{KEPT}/passwd")).unwrap_or_default();
    let known: Vec<&str> = kept.lines().filter_map(|line| line.split(':').next()).collect();
    let names = declared.names();
    root.read("/etc/passwd").unwrap_or_default().lines().any(|line| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let number = fields.nth(1).and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| number >= 1000) && !known.contains(&name) && !names.contains(&name)
    })
}

/// Leave the accounts from now on as they are.
fn leave(root: &Root) -> Result<(), StepError> {
    root.write(LEFT, b"").map_err(StepError::io("updating", LEFT))
}

/// How many logins the system has recorded. In utmp(5), each is a `USER_PROCESS`; records begin with their type and have
/// 384 bytes on every machine that palmfarm is for.
fn logins(root: &Root) -> usize {
    let wtmp = fs::read(root.at(WTMP)).unwrap_or_default();
    let records = wtmp.chunks(384).filter(|record| record.starts_with(&[7, 0]));
    let directory = format!("--directory={}", root.at(JOURNAL).display());
    let sessions = query("journalctl", &[&directory, "--quiet", "--output=cat", SESSION]);
    records.count().saturating_add(sessions.lines().count())
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
    let declared = Declared::read(root);
    if let Ok(missed) = root.read(DONE) {
        // What was missing at first is reported until somebody has made it.
        let missing = if missed.is_empty() {
            Vec::new()
        } else {
            declared.missing(root)
        };
        return report(&missing, Vec::new()).map(|_| Change::Unchanged);
    }
    if let Some(what) = disabled(root) {
        leave(root)?;
        return Err(StepError::new(format!(
            "cloud-init is disabled by {what}, so there are no users and the host name is not set"
        )));
    }
    let end = Instant::now() + patience;
    while !root.has(RESULT) {
        if Instant::now() > end {
            // From here on, packages add accounts, and so may people.
            leave(root)?;
            return Err(StepError::new(format!(
                "cloud-init, which makes the users, is not done after {} s; `cloud-init status --long` says more; to let \
                 it start again: cloud-init clean --reboot",
                patience.as_secs()
            )));
        }
        sleep(Duration::from_secs(1));
    }
    run(root, "sync", &[], SYNC)?;
    let missing = declared.missing(root);
    root.write(DONE, missing.join("\n").as_bytes())
        .map_err(StepError::io("updating", DONE))?;
    // The copy of /etc/shadow is not needed any more.
    remove(root, KEPT)?;
    report(&missing, errors(root))
}

/// What cloud-init left undone, and what it says of that itself, as the end of the step.
fn report(missing: &[String], errors: Vec<String>) -> StepResult {
    if missing.is_empty() && errors.is_empty() {
        return Ok(Change::Changed);
    }
    let what = if missing.is_empty() {
        "it reports errors".to_owned()
    } else {
        missing.join("; ")
    };
    let mut error = StepError::new(format!(
        "cloud-init is done, but {what}; `cloud-init status --long` and /var/log/cloud-init.log say more"
    ));
    error.output = errors;
    Err(error)
}

/// The errors that cloud-init reports of this boot (its documentation, "Reported status").
fn errors(root: &Root) -> Vec<String> {
    let text = root.read(RESULT).unwrap_or_default();
    let result: Value = serde_json::from_str(&text).unwrap_or_default();
    let errors = result.pointer("/v1/errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten();
    errors
        .map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned))
        .collect()
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
fn forget(root: &Root, declared: &Declared) -> Result<(), StepError> {
    root.console("the first boot was cut short: cloud-init starts again");
    let kept = root.read(KEPT_PATHS).unwrap_or_default();
    let is_kept = |path: &str| kept.lines().any(|line| line == path);
    for name in declared.names() {
        let home = declared::account(root, name).map_or_else(|| format!("/home/{name}"), |(_, home)| home);
        // useradd(8) does not complete a home that is there.
        if home.starts_with("/home/") && !is_kept(&home) && is_bare(root, &home) {
            remove(root, &home)?;
        }
    }
    for name in ACCOUNTS {
        // A lock holds the number of a process, and after a reboot another process may have that number.
        remove(root, &format!("/etc/{name}.lock"))?;
    }
    for name in SIGNS {
        if !root.has(&format!("{KEPT}/{name}")) {
            remove(root, &format!("/etc/{name}"))?;
        }
    }
    for path in MADE.into_iter().filter(|path| !is_kept(path)) {
        remove(root, path)?;
    }
    copy(root, &ACCOUNTS, KEPT, "/etc")?;
    copy(root, &SIGNS, KEPT, "/etc")?;
    for name in CLOUD_STATE {
        remove(root, &format!("/var/lib/cloud/{name}"))?;
    }
    Ok(())
}

/// Whether nothing is in `home` but what useradd(8) copies and cloud-init writes, whole or cut off.
fn is_bare(root: &Root, home: &str) -> bool {
    let Ok(entries) = fs::read_dir(root.at(home)) else {
        return false;
    };
    let is_theirs = |entry: io::Result<fs::DirEntry>| {
        let Ok(entry) = entry else { return false };
        let Ok(name) = entry.file_name().into_string() else {
            return false;
        };
        if name == ".ssh" {
            return root
                .names(&format!("{home}/.ssh"))
                .iter()
                .all(|name| name == "authorized_keys");
        }
        let skeleton = fs::read(root.at(&format!("/etc/skel/{name}")));
        let found = fs::read(entry.path());
        matches!((skeleton, found), (Ok(skeleton), Ok(found)) if skeleton.starts_with(&found))
    };
    entries.into_iter().all(is_theirs)
}

/// Remove the file, link or folder at `path`, if there is one.
fn remove(root: &Root, path: &str) -> Result<(), StepError> {
    let gone = match fs::symlink_metadata(root.at(path)) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(root.at(path)),
        Ok(_) => fs::remove_file(root.at(path)),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StepError::io("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Copy files, each in one step and with its owner and mode. A file that `from` lacks is skipped.
fn copy(root: &Root, names: &[&str], from: &str, to: &str) -> Result<(), StepError> {
    for name in names {
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
mod tests;
