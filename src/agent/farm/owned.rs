//! Whether a container is the one that the record names, and whether anybody has used it since the agent made it. It
//! changes nothing.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palmfarm_protocol::firstboot::Container;
use serde_json::{json, Value};

use super::{publish, text, Farm, MAC, MARK, NEW, READY, STATE};
use crate::daemon::{encoded, exec, DaemonErrorKind};
use crate::record::Kind;
use crate::step::{DaemonState, StepError};

/// When the container was last started, in the entry of one that a run has begun to delete.
pub(super) const REMOVING: &str = "removing";

/// When a container was last started before the second in which it was ready, in its entry.
const STARTED: &str = "started";

/// How long looking through the files of a template may take on an SD card.
const LOOKING: Duration = Duration::from_secs(300);

/// Where people keep what they write while they look why a container could not be finished; a shell's history is there.
const PEOPLE: &str = "/root /home /srv";

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

/// Whether nobody has used the container `name` since the agent was done with it, which was made to be published or is
/// unfinished: it has no snapshot but the agent's, all its settings are as they were declared, and nobody has changed a
/// file. In doubt, somebody has used it. What was running in an unfinished one may still write, so there, only what people
/// write counts.
pub(super) fn is_unused(farm: &Farm<'_>, name: &str, path: &str, now: &Value) -> Result<bool, StepError> {
    let known = farm.record.get(Kind::Container, name);
    let unfinished = is_unfinished(&known);
    let may = unfinished || !known["publish"].is_null();
    if !may || has_snapshots(farm, name, path)? || !has_declared(&known, now) {
        return Ok(false);
    }
    if known[REMOVING].is_string() && known[REMOVING] == now["last_used_at"] && !is_running(now) {
        // The agent itself stopped it, to delete it, and nobody has started it since.
        return Ok(true);
    }
    match known[READY].as_u64() {
        // The agent was killed, had no power, or waits for the daemon: it has told nobody that it was done.
        None => Ok(unfinished),
        Some(ready) if is_running(now) => {
            let below = if unfinished { PEOPLE } else { "/" };
            let last_start = text(now, &["last_used_at"]).filter(|_| known[STARTED] != now["last_used_at"]);
            has_no_newer_file(farm, name, below, ready, last_start, unfinished)
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

/// Look in a running container, below these folders, for a file that was changed after the second `ready`, by its time of
/// change (`ctime`), which nobody can set. Folders in which a system writes on its own account are left out, and so is
/// `/etc` itself, where `resolv.conf` is replaced.
///
/// If the container was started again since, at `last_start`, that must be later: a Pi has no clock of its own, and after a
/// boot, times may be too early. In one that is `unfinished`, only what was changed before that start is looked for, since
/// a system that starts writes files, too.
fn has_no_newer_file(
    farm: &Farm<'_>,
    name: &str,
    below: &str,
    ready: u64,
    last_start: Option<&str>,
    unfinished: bool,
) -> Result<bool, StepError> {
    let mut script = String::from("trap 'rm -f /dev/.palmfarm' EXIT; end=9999999999; ");
    if let Some(start) = last_start {
        // As in `2026-11-28T16:01:58.123Z`, in UTC.
        let start = start.get(..19).unwrap_or_default().replace('T', " ");
        let then = if unfinished { "&& end=$start" } else { "|| exit 1" };
        script.push_str(&format!(
            "start=$(date -u -d '{start}' +%s); test 0$start -gt {ready} {then}; "
        ));
    }
    script.push_str(&format!(
        "set --; for one in {below}; do test -e $one && set -- \"$@\" $one; done; \
         find \"$@\" \\( -path /dev -o -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path \
         /var/cache -o -path /var/lib/systemd -o -path '/var/lib/dhcp*' -o -path /etc/resolv.conf \\) -prune -o ! -path / \
         ! -path /etc -exec stat -c %Z {{}} + > /dev/.palmfarm && while read -r time; do test $time -le {ready} || test \
         $time -ge $end || exit 1; done < /dev/.palmfarm"
    ));
    let exit = exec(farm.daemon, name, &["/bin/sh", "-c", &script], LOOKING);
    match exit {
        Ok(exit) => Ok(exit.code == 0),
        Err(error) if matches!(error.kind(), DaemonErrorKind::Unreachable(_)) => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// Note in the record that what is written into the container `name` from now on is somebody else's: the agent is done
/// with it for now, or says that it could not finish it. The first time counts.
pub(super) fn hand_over(farm: &Farm<'_>, name: &str, path: &str) -> Result<(), StepError> {
    let mut known = farm.record.get(Kind::Container, name);
    if known.is_null() || !known[READY].is_null() {
        return Ok(());
    }
    known[READY] = json!(end_of_second());
    // If the daemon does not answer, any later start counts as somebody's.
    let now = farm.daemon.look(&format!("looking for {name}"), path);
    known[STARTED] = now.ok().flatten().unwrap_or_default()["last_used_at"].take();
    farm.record.put(Kind::Container, name, known)
}

/// Wait for the end of this second, and return it, since 1970: whatever is changed from now on is newer.
fn end_of_second() -> u64 {
    let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let begun = since_1970();
    while since_1970().as_secs() == begun.as_secs() {
        sleep(Duration::from_millis(20));
    }
    begun.as_secs()
}
