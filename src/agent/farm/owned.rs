//! Whether a container is the one that the record names, and whether anybody has used it since the agent made it. It
//! changes nothing.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palmfarm_protocol::firstboot::Container;
use serde_json::{json, Value};

use super::{publish, text, Farm, MAC, MARK, NEW, READY, STATE};
use crate::daemon::{encoded, exec_to_look, DaemonErrorKind};
use crate::record::{Kind, Record};
use crate::root::{uptime, Root};
use crate::step::{DaemonState, StepError};

/// When the container was last started, in the entry of one that the agent has left stopped: it has begun to delete it, or
/// could not start it.
const STOPPED_SINCE: &str = "removing";

/// In an entry with [`READY`]: the attempts to start the container since, of which each has failed, as `from-to` in seconds. A
/// start writes into the container, too.
const ATTEMPTS: &str = "attempts";

/// The most of them that are kept.
const MOST_ATTEMPTS: usize = 50;

/// In an entry with [`READY`]: the boot of the Pi in which that was, and how far its clock was ahead of the time since the
/// boot, in seconds.
const BOOT: &str = "boot";
const AHEAD: &str = "ahead";

/// How long looking through the files of a template may take on an SD card.
const LOOKING: Duration = Duration::from_secs(300);

/// Where nobody but people writes; a shell's history is there, too.
const PEOPLE: &str = "/root /home /srv /opt /usr/local /var/www";

/// Where a system writes on its own account, as patterns of find(1).
const SYSTEM: &str =
    "/dev /proc /sys /run /tmp /var/tmp /var/log /var/cache /var/lib/systemd /var/lib/dhcp* \
                      /etc/resolv.conf";

/// How long after a start a system may write elsewhere, too, in seconds.
const STARTING_UP: u64 = 120;

/// What the container at a declared name is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The agent began to make it, and nothing finished it.
    Unfinished,
    /// The agent finished it.
    Finished,
    /// Nothing shows that the agent made it, for this reason.
    Other(String),
}

/// What `now` is, the container that has the name of `declared`, if `known` is the entry of that name.
pub(super) fn stage(known: &Value, now: &Value, declared: &Container) -> Stage {
    let name = &declared.name;
    let state = text(now, &["config", STATE]);
    let mark = text(now, &["config", MARK]);
    let other = |what: &str| Stage::Other(format!("a container called {name} exists that {what}"));
    let Some(stage) = text(known, &["stage"]) else {
        // Without a record, only what changes nothing is safe.
        let as_declared = mark == Some(&declared.digest) && state == Some(READY);
        let address = declared.mac.to_string();
        return match mark {
            Some(_) if as_declared && text(now, &["config", MAC]) == Some(&address) => Stage::Finished,
            Some(_) => other("has palmfarm's mark, but that is not in the agent's record: it may be a copy"),
            None => other("palmfarm did not make"),
        };
    };
    let unfinished = is_unfinished(known);
    // The agent may have been cut off before it could write down what the daemon had made.
    let same = is_same(&known["id"], now) || known["id"].is_null() && unfinished && state == Some(stage);
    match (same, unfinished) {
        (false, _) => other("is not the one that palmfarm made"),
        (true, true) if state == Some(stage) => Stage::Unfinished,
        (true, _) => Stage::Finished,
    }
}

/// What tells a container from another of the same name. A copy has another one; a renamed or restored container keeps it.
pub(super) fn id(now: &Value) -> Value {
    json!({"uuid": text(now, &["config", "volatile.uuid"]), "created": text(now, &["created_at"])})
}

/// Whether `now` is the container with the identity `known`. A daemon older than LXD 4.21 knows no `volatile.uuid`.
fn is_same(known: &Value, now: &Value) -> bool {
    let now = id(now);
    let uuid = &known["uuid"];
    known["created"].is_string()
        && known["created"] == now["created"]
        && (uuid.is_null() || *uuid == now["uuid"])
}

/// Whether what the record names is still there under its name.
pub(super) fn exists(farm: &Farm<'_>, kind: Kind, name: &str) -> bool {
    let all = match kind {
        Kind::Container => farm.daemon.instances(),
        Kind::Alias => "/1.0/images/aliases",
        Kind::Profile => "/1.0/profiles",
        Kind::Network => "/1.0/networks",
        Kind::Server | Kind::Image => return false,
    };
    let path = format!("{all}/{}", encoded(name));
    let Ok(Some(now)) = farm.daemon.look(&format!("looking for {name}"), &path) else {
        return false;
    };
    kind != Kind::Container || is_same(&farm.record.get(kind, name)["id"], &now)
}

/// Whether the container that the record names is finished, and there.
pub(super) fn is_finished(farm: &Farm<'_>, name: &str) -> bool {
    farm.record.get(Kind::Container, name)["stage"] == READY && exists(farm, Kind::Container, name)
}

/// The name under which the container of the entry `known` is now, if there is one.
pub(super) fn elsewhere(farm: &Farm<'_>, known: &Value) -> Result<Option<String>, StepError> {
    if known["id"].is_null() {
        return Ok(None);
    }
    let all = format!("{}?recursion=1", farm.daemon.instances());
    let all = farm
        .daemon
        .look("listing the containers", &all)?
        .unwrap_or_default();
    let mut all = all.as_array().into_iter().flatten();
    let found = all.find(|one| is_same(&known["id"], one));
    Ok(found.and_then(|one| text(one, &["name"])).map(str::to_owned))
}

/// Whether a container has a snapshot other than the one from which the agent publishes it, or a backup: both go with it.
fn has_snapshots(farm: &Farm<'_>, name: &str, path: &str) -> Result<bool, StepError> {
    let known = farm.record.get(Kind::Container, name);
    let ours = publish::snapshot(text(&known, &["digest"]).unwrap_or_default());
    for what in ["snapshots", "backups"] {
        let doing = format!("looking for {what} of {name}");
        let all = farm.daemon.look(&doing, &format!("{path}/{what}"))?;
        let all = all.as_ref().and_then(Value::as_array).into_iter().flatten();
        let mut names = all.filter_map(|one| one.as_str()?.rsplit('/').next());
        if names.any(|one| one != ours) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the agent left this container stopped, and nobody has started it since. Somebody may have put something into it.
pub(super) fn was_left_stopped(known: &Value, now: &Value) -> bool {
    known[STOPPED_SINCE].is_string()
        && known[STOPPED_SINCE] == now["last_used_at"]
        && !known[READY].is_null()
        && !is_running(now)
}

/// Whether a container has no snapshot but the agent's, no backup, and all settings as they were declared.
pub(super) fn is_as_made(farm: &Farm<'_>, name: &str, path: &str, now: &Value) -> Result<bool, StepError> {
    let known = farm.record.get(Kind::Container, name);
    Ok(has_declared(&known, now) && !has_snapshots(farm, name, path)?)
}

/// Whether nobody has used the container `name` since the agent was done with it, which was made to be published or is
/// unfinished: it is as it was made, and nobody has changed a file. In doubt, somebody has used it. If the agent itself has
/// started it after the second `until`, what was changed after that is the system's.
pub(super) fn is_unused(
    farm: &Farm<'_>,
    name: &str,
    path: &str,
    now: &Value,
    until: Option<u64>,
) -> Result<bool, StepError> {
    let known = farm.record.get(Kind::Container, name);
    let unfinished = is_unfinished(&known);
    let may = unfinished || !known["publish"].is_null();
    if !may || !is_as_made(farm, name, path, now)? {
        return Ok(false);
    }
    match known[READY].as_u64() {
        // The agent was killed, had no power, or waits for the daemon: it has told nobody that it was done.
        None => Ok(unfinished),
        Some(ready) if is_running(now) => {
            let last_start = text(now, &["last_used_at"]).unwrap_or_default();
            let Some(script) = look_for_newer(farm, &known, ready, last_start, until, unfinished) else {
                return Ok(false);
            };
            // The first time, this may take minutes on an SD card, and somebody may begin to use it meanwhile. The second
            // time, the kernel knows all files.
            Ok(succeeds(farm, name, &script)? && succeeds(farm, name, &script)?)
        }
        Some(_) if unfinished && text(now, &["config", "volatile.last_state.power"]) == Some("RUNNING") => {
            let message = format!("{name} was running when the Pi went down, and does not run yet");
            Err(StepError {
                daemon: DaemonState::Busy,
                ..StepError::new(message)
            })
        }
        Some(_) => Ok(false),
    }
}

fn is_running(now: &Value) -> bool {
    text(now, &["status"]) == Some("Running")
}

pub(super) fn is_unfinished(known: &Value) -> bool {
    text(known, &["stage"]).is_some_and(|stage| stage.starts_with(NEW))
}

/// Whether a container has the settings that were declared when it was made, and no others.
fn has_declared(known: &Value, now: &Value) -> bool {
    let mut config = now["config"].clone();
    if let Some(config) = config.as_object_mut() {
        // Those of the image, of the daemon and of the agent.
        config.retain(|key, _| {
            !(key.starts_with("image.") || key.starts_with("volatile.") || key == MARK || key == STATE)
        });
    }
    let mut declared = known["config"].clone();
    if let Some(declared) = declared.as_object_mut() {
        declared.retain(|key, _| key != MAC);
    }
    config == declared && now["devices"] == known["devices"] && now["profiles"] == known["profiles"]
}

/// A script for a container that ends with 0 if it has no file that was changed after the second `ready`, by its time of
/// change (`ctime`), which nobody can set. `None` if the clock has been set back since, so that no time means anything.
///
/// A Pi has no clock of its own: after another boot, the last start must be later. In a container that is `unfinished`, what
/// its system writes while it starts does not count, but for the folders of people.
fn look_for_newer(
    farm: &Farm<'_>,
    known: &Value,
    ready: u64,
    last_start: &str,
    until: Option<u64>,
    unfinished: bool,
) -> Option<String> {
    let same_boot = known[BOOT].is_string() && known[BOOT] == boot(farm.root);
    let set_back = known[AHEAD]
        .as_u64()
        .is_none_or(|then| ahead(farm.root).saturating_add(2) < then);
    if same_boot && set_back {
        return None;
    }
    // As in `2026-11-28T16:01:58.123Z`, in UTC.
    let start = last_start.get(..19).unwrap_or_default().replace('T', " ");
    let later = if same_boot {
        "true"
    } else {
        "test $start -gt $ready"
    };
    let (from, to) = match until {
        Some(until) => (until.saturating_add(1).to_string(), "9999999999".to_owned()),
        // What was running goes on writing until the container stops.
        None if unfinished => (
            "$((start > ready ? ready : start))".to_owned(),
            format!("$((start + {STARTING_UP}))"),
        ),
        None => ("0".to_owned(), "0".to_owned()),
    };
    let people_from = until.map_or(9_999_999_999, |until| until.saturating_add(1));
    let prune: Vec<String> = SYSTEM
        .split_whitespace()
        .map(|one| format!("-path '{one}'"))
        .collect();
    let attempts = known[ATTEMPTS].as_array().into_iter().flatten();
    let attempts: Vec<&str> = attempts.filter_map(Value::as_str).collect();
    Some(format!(
        "ready={ready}; attempts=; start=$(date -u -d '{start}' +%s || echo 0); {later} && test $(date +%s) -gt $ready || exit 1
        trap 'rm -f /dev/.palmfarm' EXIT
        is_old() {{
            while read -r time; do
                test $time -le $ready || is_within $1-$2 $attempts || return 1
            done < /dev/.palmfarm
        }}
        is_within() {{
            for one; do
                test $time -ge ${{one%-*}} && test $time -le ${{one#*-}} && return
            done
            return 1
        }}
        set --; for one in {PEOPLE}; do test -e $one && set -- \"$@\" $one; done
        find \"$@\" -exec stat -c %Z {{}} + > /dev/.palmfarm && is_old {people_from} 9999999999 || exit 1
        attempts='{}'
        find / \\( {} \\) -prune -o ! -path / ! -path /etc -exec stat -c %Z {{}} + > /dev/.palmfarm && is_old {from} {to}",
        attempts.join(" "),
        prune.join(" -o ")
    ))
}

/// Whether `script` ends with 0 in the container `name`.
fn succeeds(farm: &Farm<'_>, name: &str, script: &str) -> Result<bool, StepError> {
    match exec_to_look(farm.daemon, name, &["/bin/sh", "-c", script], LOOKING) {
        Ok(exit) => Ok(exit.code == 0),
        Err(error) if matches!(error.kind(), DaemonErrorKind::Unreachable(_)) => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// Note in `entry` that the agent left the container `now` stopped. `begun`: the second in which it began to start it, in vain.
pub(super) fn note_stopped(entry: &mut Value, now: &Value, begun: Option<u64>) {
    entry[STOPPED_SINCE] = now["last_used_at"].clone();
    if let Some(begun) = begun.filter(|_| !entry[READY].is_null()) {
        let mut attempts = entry[ATTEMPTS].as_array().cloned().unwrap_or_default();
        attempts.push(json!(format!("{begun}-{}", end_of_second())));
        if attempts.len() <= MOST_ATTEMPTS {
            entry[ATTEMPTS] = json!(attempts);
        }
    }
}

/// Note in the record that what is written into the container `name` from now on is somebody else's: the agent is done
/// with it for now, or says that it could not finish it. The first time counts.
pub(super) fn hand_over(record: &Record<'_>, root: &Root, name: &str) -> Result<(), StepError> {
    let mut known = record.get(Kind::Container, name);
    if known.is_null() || !known[READY].is_null() {
        return Ok(());
    }
    known[READY] = json!(end_of_second());
    known[BOOT] = boot(root);
    known[AHEAD] = json!(ahead(root));
    record.put(Kind::Container, name, known)
}

/// What the kernel calls this boot.
fn boot(root: &Root) -> Value {
    json!(root.line("/proc/sys/kernel/random/boot_id"))
}

/// How far the clock is ahead of the time since the boot, in seconds. It changes if somebody sets the clock.
fn ahead(root: &Root) -> u64 {
    second().saturating_sub(uptime(root).unwrap_or(0))
}

/// The second in which it is now, since 1970.
pub(super) fn second() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Wait for the end of this second, and return it: whatever is changed from now on is newer.
pub(super) fn end_of_second() -> u64 {
    let begun = second();
    while second() == begun {
        sleep(Duration::from_millis(20));
    }
    begun
}
