//! One container: made with its address and profiles, provisioned once, and from then on left to its owner.
//!
//! Its own configuration says how far it is, and the daemon changes that in a transaction: a power cut between any two
//! requests leaves a container that says either `new` or `ready`, and never one that only seems finished. That says
//! nothing of who made it; `owned` decides that. The table in ARCHITECTURE.md has every case.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{Container, Content, ImageRef, Lxd, Run};
use serde_json::{json, Map, Value};

use super::owned::{self, Stage};
use super::{address, alias, merge, script, survey, text, Farm, MAC, MARK, NEW, READY, STATE};
use crate::daemon::{encoded, exec, push_file, Daemon, DaemonErrorKind};
use crate::digest::{self, Hashed};
use crate::record::Kind;
use crate::step::{Change, StepError, StepResult};

/// What becomes of a container if its member of the cluster is emptied (LXD's `doc/howto/cluster_manage.md`).
const EVACUATE: &str = "cluster.evacuate";

/// How long making a container may take. The daemon unpacks its image, and may have to fetch it first: 30 minutes for an SD
/// card and a slow line.
const MAKING: Duration = Duration::from_secs(1800);

/// How long starting or stopping may take.
const STARTING: Duration = Duration::from_secs(180);

/// How often a start is tried. The daemon gives its hook 30 s (LXD's `lxd/main_callhook.go`), which is too short on a machine that
/// has much else to do, as a Pi in its first boot.
const STARTS: u32 = 3;

/// How often the daemon may still be ending what such a start has left: two minutes, with the pauses.
const BUSY: u32 = 24;

/// How long to wait for an address before running something in a container: most commands fetch packages.
const ADDRESS: Duration = Duration::from_secs(60);

/// How long to wait for the other family once a container has addresses of one: DHCPv4 can lag, and a server may be
/// reachable over only one of the two.
const OTHER_FAMILY: Duration = Duration::from_secs(12);

/// The pause before a failed program is retried.
const BEFORE_RETRY: Duration = Duration::from_secs(5);

/// The alias in the daemon's own store that `container` is made from, if it is not made from a remote image.
pub(super) fn local_image(container: &Container) -> Option<&str> {
    match &container.image {
        ImageRef::Local(alias) => Some(alias),
        ImageRef::Remote { .. } => None,
    }
}

/// Make or update `container`.
pub(super) fn make(farm: &Farm<'_>, container: &Container) -> StepResult {
    let name = &container.name;
    let path = format!("{}/{}", farm.daemon.instances(), encoded(name));
    let known = farm.record.get(Kind::Container, name);
    let found = farm.daemon.look_tagged(&format!("looking for {name}"), &path)?;
    let Some((mut now, mut tag)) = found else {
        if let Some(other) = owned::elsewhere(farm, &known)? {
            return Err(StepError::new(format!(
                "{name} is now called {other}, and has been left as it is; give it back its name (lxc rename {other} \
                 {name}), or run palmfarm-agent rebuild {name}, which makes another {name}"
            )));
        }
        return build(farm, container, &path);
    };
    if let Some(member) = farm.elsewhere(&now) {
        farm.note(format!(
            "it is on {member}, where somebody has moved it, and has been left there"
        ));
        return Ok(Change::Unchanged);
    }
    let mut until = None;
    if owned::was_left_stopped(&known, &now) {
        // Only a running container can be looked into.
        until = Some(owned::end_of_second());
        start_as_made(farm, name, &path)?;
        let started = farm.daemon.look_tagged(&format!("looking for {name}"), &path)?;
        (now, tag) = started.ok_or_else(|| StepError::new(format!("{name} is gone")))?;
    }
    match owned::stage(&known, &now, container) {
        Stage::Unfinished if owned::is_unused(farm, name, &path, &now, until)? => again(farm, container, &path),
        Stage::Unfinished => Err(StepError::new(format!(
            "{name} is half-made, but somebody has used it since, so it has been left as it is; to keep it: lxc config \
             set {name} {STATE} {READY}; {}",
            rebuild(name)
        ))),
        Stage::Finished if known.is_null() => {
            // An earlier agent made it and kept no record. Nothing shows what it was told of settings.
            farm.record
                .put(Kind::Container, name, adopted(farm, container, &now))?;
            settings(farm, container, &path, &now, &tag)
        }
        Stage::Finished if known["content"] == content(container) => {
            settings(farm, container, &path, &now, &tag)
        }
        Stage::Finished
            if container.publish.is_some() && owned::is_unused(farm, name, &path, &now, until)? =>
        {
            again(farm, container, &path)
        }
        Stage::Finished => Err(StepError::new(format!(
            "{name} was made from an earlier declaration and has been left as it is; {}",
            rebuild(name)
        ))),
        Stage::Other(why) => Err(StepError::new(format!(
            "{why}; rename one of the two (lxc rename {name} NEW), then run palmfarm-agent run"
        ))),
    }
}

/// Delete `container`, which nobody has used, and make it again.
fn again(farm: &Farm<'_>, container: &Container, path: &str) -> StepResult {
    let name = &container.name;
    farm.daemon.may_change(&format!(
        "deleting {name}, which nobody has used, and making it again"
    ))?;
    let looking = format!("looking for {name}");
    let look = || Ok::<Value, StepError>(farm.daemon.look(&looking, path)?.unwrap_or_default());
    let now = look()?;
    note_stopped(farm, name, &now, None)?;
    if text(&now, &["status"]) != Some("Stopped") {
        let body = json!({"action": "stop", "timeout": 60, "force": true});
        let doing = format!("stopping {name}");
        farm.daemon
            .change(&doing, "PUT", &format!("{path}/state"), &body, STARTING)?;
    }
    // Somebody may have begun to use it while its files were looked through.
    if !owned::is_as_made(farm, name, path, &look()?)? {
        start(farm.daemon, name, path)?;
        return Err(StepError::new(format!(
            "somebody has begun to use {name}, so it has been left as it is; {}",
            rebuild(name)
        )));
    }
    farm.daemon
        .delete(&format!("deleting the unused {name}"), path, MAKING)?;
    build(farm, container, path)
}

/// The command that makes a container again.
fn rebuild(name: &str) -> String {
    format!("to make it again as it is declared now, and keep the old one: palmfarm-agent rebuild {name}")
}

/// Make `container`, which does not exist.
fn build(farm: &Farm<'_>, container: &Container, path: &str) -> StepResult {
    let name = &container.name;
    if let ImageRef::Local(alias) = &container.image {
        let card = farm.bringer(alias);
        if let Some(card) = card.filter(|_| !farm.daemon.looks_only()) {
            if alias::target(farm, alias)?.is_none() {
                let why = format!("waiting for the image {alias}, which {card} makes");
                return Err(StepError::waiting(why));
            }
        }
    }
    // A container with this state is the one that this entry announces.
    let state = format!("{NEW}-{}", farm.nonce());
    let mut entry = declared(farm, container);
    entry["stage"] = json!(state);
    farm.record.put(Kind::Container, name, entry.clone())?;
    create(farm, container, &state)?;
    let made = farm
        .daemon
        .look(&format!("looking for {name}"), path)?
        .unwrap_or_default();
    entry["id"] = owned::id(&made);
    farm.record.put(Kind::Container, name, entry.clone())?;
    start_as_made(farm, name, path)?;
    provision(farm.daemon, farm.lxd, container, farm.root.dir())?;
    if container.publish.is_some() {
        owned::hand_over(&farm.record, farm.root, name)?;
        entry = farm.record.get(Kind::Container, name);
    }
    farm.daemon.change(
        &format!("marking {name} as ready"),
        "PATCH",
        path,
        &json!({"config": {STATE: READY}}),
        STARTING,
    )?;
    entry["stage"] = json!(READY);
    farm.record.put(Kind::Container, name, entry)?;
    farm.built.borrow_mut().insert(name.clone());
    Ok(Change::Changed)
}

/// What the record keeps of the declaration of a container. `publish` says whether it was a template then.
fn declared(farm: &Farm<'_>, container: &Container) -> Value {
    let mut config = json!(container.config);
    // The daemon does not move a container away from a member that is emptied if its NIC names an interface of the host.
    let nic = address::eth0(farm.lxd, container);
    if farm.lxd.cluster.is_some()
        && config[EVACUATE].is_null()
        && nic.is_some_and(|nic| nic.contains_key("parent"))
    {
        config[EVACUATE] = json!("migrate");
    }
    // The daemon takes a NIC's hardware address from here unless a profile or device has one.
    config[MAC] = json!(container.mac.to_string());
    json!({
        "digest": container.digest,
        "content": content(container),
        "publish": container.publish,
        "config": config,
        "devices": container.devices,
        "profiles": container.profiles,
    })
}

/// The entry of a container that is there without one. It is not a template, so that no run deletes it.
fn adopted(farm: &Farm<'_>, container: &Container, now: &Value) -> Value {
    let mut entry = declared(farm, container);
    entry["stage"] = json!(READY);
    entry["id"] = owned::id(now);
    entry["publish"] = Value::Null;
    entry
}

/// A short name for all that makes the content of a container. That it is published does not change what it holds.
fn content(container: &Container) -> Value {
    let content = Content {
        publish: None,
        ..Content::clone(&container.content)
    };
    json!(digest::of(&json!(content).to_string()))
}

/// Update what can change on a finished container without rebuilding it: its configuration, devices, profiles and
/// hardware address.
fn settings(farm: &Farm<'_>, container: &Container, path: &str, now: &Value, tag: &str) -> StepResult {
    let name = &container.name;
    let mut entry = farm.record.get(Kind::Container, name);
    let declared = declared(farm, container);
    let mut config = merge::keys(&entry["config"], &declared["config"], &now["config"]);
    // A container that has never had a network port has no address either.
    if text(now, &["config", MAC]).is_none() {
        config.changes.remove(MAC);
        config.left.retain(|key| key != MAC);
    }
    let devices = merge::keys(&entry["devices"], &declared["devices"], &now["devices"]);
    let profiles = merge::profiles(&entry["profiles"], &declared["profiles"], &now["profiles"]);
    let devices_left = devices.left.iter().map(|device| format!("the device {device}"));
    let left: Vec<String> = config
        .left
        .into_iter()
        .chain(devices_left)
        .chain(profiles.left)
        .collect();
    farm.note_left(name, &left);
    // The record is written after the restart, so a power cut does not prevent it.
    let new_mac = entry["config"][MAC] != declared["config"][MAC]
        && text(now, &["config", MAC]).is_some()
        && !left.iter().any(|key| key == MAC);
    let mut change = Change::Unchanged;
    if !(config.changes.is_empty() && devices.changes.is_empty() && profiles.changes.is_empty()) {
        let mut body = Map::new();
        for key in [
            "architecture",
            "config",
            "description",
            "devices",
            "ephemeral",
            "profiles",
        ] {
            body.insert(key.into(), now[key].clone());
        }
        merge::apply(&mut body, "config", config.changes);
        merge::apply(&mut body, "devices", devices.changes);
        body.extend(profiles.changes);
        let doing = format!("changing the settings of {name}");
        farm.daemon
            .change_if(&doing, "PUT", path, &Value::Object(body), tag, STARTING)?;
        change = Change::Changed;
    }
    if new_mac && text(now, &["status"]) == Some("Running") {
        let body = json!({"action": "restart", "timeout": 60});
        let doing = format!("restarting {name} for its new hardware address");
        farm.daemon
            .change(&doing, "PUT", &format!("{path}/state"), &body, STARTING)?;
    }
    // A power cut may have come between the mark on the container and this entry.
    entry["stage"] = json!(READY);
    for key in ["config", "devices", "profiles"] {
        entry[key] = declared[key].clone();
    }
    farm.record.put(Kind::Container, name, entry)?;
    Ok(change)
}

fn create(farm: &Farm<'_>, container: &Container, state: &str) -> Result<(), StepError> {
    let (daemon, lxd) = (farm.daemon, farm.lxd);
    let name = &container.name;
    let source = match &container.image {
        ImageRef::Local(alias) => json!({"type": "image", "alias": alias}),
        ImageRef::Remote { remote, alias } => {
            let server = lxd.remotes.get(remote).ok_or_else(|| {
                StepError::new(format!(
                    "{name} needs an image of {remote}, but no server of that name is declared"
                ))
            })?;
            json!({"type": "image", "mode": "pull", "server": server, "protocol": "simplestreams", "alias": alias})
        }
    };
    let mut config = declared(farm, container)["config"].take();
    config[MARK] = json!(container.digest);
    config[STATE] = json!(state);
    let body = json!({
        "name": name,
        "source": source,
        "profiles": container.profiles,
        "config": config,
        "devices": container.devices,
    });
    let doing = format!("making {name}");
    let path = format!("{}{}", daemon.instances(), farm.here());
    let made = daemon.change(&doing, "POST", &path, &body, MAKING);
    made.map(drop)
        .map_err(|error| StepError::with_cure(error, &cure(lxd, container)))
}

/// What a person can do if `container` could not be made.
fn cure(lxd: &Lxd, container: &Container) -> String {
    match &container.image {
        ImageRef::Local(alias) => format!(
            "; its image is {alias} of the daemon's own store (lxc image list): if it is missing, carry it on the card \
             (`images:` in farm.yaml) or let a container publish it"
        ),
        ImageRef::Remote { remote, alias } => {
            let server = lxd.remotes.get(remote).map_or("", String::as_str);
            format!(
                "; check that the Pi reaches {server}, and that it has {alias} for this machine (it drops a \
                 release whose support has ended), or carry the image on \
                 the card (`images:` in farm.yaml); then run palmfarm-agent run"
            )
        }
    }
}

/// Start the container `name`, in which there is nothing but the agent's work. If it does not start, the next run can tell
/// whether anybody has started it since.
fn start_as_made(farm: &Farm<'_>, name: &str, path: &str) -> Result<(), StepError> {
    let begun = owned::second();
    let started = start(farm.daemon, name, path);
    if started.is_err() {
        let now = farm.daemon.look(&format!("looking for {name}"), path)?;
        note_stopped(farm, name, &now.unwrap_or_default(), Some(begun))?;
    }
    started
}

/// The same as [`owned::note_stopped`], in the record.
fn note_stopped(farm: &Farm<'_>, name: &str, now: &Value, begun: Option<u64>) -> Result<(), StepError> {
    let mut entry = farm.record.get(Kind::Container, name);
    owned::note_stopped(&mut entry, now, begun);
    farm.record.put(Kind::Container, name, entry)
}

fn start(daemon: &Daemon, name: &str, path: &str) -> Result<(), StepError> {
    let (doing, path) = (format!("starting {name}"), format!("{path}/state"));
    let body = json!({"action": "start", "timeout": 60});
    let (mut tries, mut busy) = (STARTS, BUSY);
    loop {
        let started = daemon.change(&doing, "PUT", &path, &body, STARTING);
        match &started {
            Err(error) if error.is_busy() && busy > 0 => busy -= 1,
            Err(error) if error.is_of_liblxc() && tries > 1 => tries -= 1,
            _ => return Ok(started.map(drop)?),
        }
        std::thread::sleep(BEFORE_RETRY);
    }
}

fn provision(daemon: &Daemon, lxd: &Lxd, container: &Container, root: &Path) -> Result<(), StepError> {
    let name = &container.name;
    for file in &container.files {
        let source = root.join(file.source.trim_start_matches('/'));
        let lost = |error| StepError::new(format!("reading {} for {name}: {error}", source.display()));
        let mut content = File::open(&source).map_err(lost)?;
        let length = content.metadata().map_err(lost)?.len();
        let mut content = Hashed::new(&mut content);
        push_file(daemon, name, file, length, &mut content)?;
        if content.sha256() != file.sha256 {
            return Err(StepError::new(format!(
                "{} on this card is not the file that the farm names for {name}; apply the farm's .tar, which has it",
                file.source
            )));
        }
    }
    if container.run.is_empty() {
        return Ok(());
    }
    await_addresses(daemon, lxd, container)?;
    let mut steps = container.run.iter();
    steps.try_for_each(|step| run_step(daemon, lxd, container, step))
}

/// Wait until `container` has addresses. If it gets none, that is not a failure yet: what is run may not need any, and
/// fails if it does.
fn await_addresses(daemon: &Daemon, lxd: &Lxd, container: &Container) -> Result<(), StepError> {
    if address::eth0(lxd, container).is_none() {
        return Ok(());
    }
    let begun = Instant::now();
    let mut first: Option<Instant> = None;
    while begun.elapsed() < ADDRESS && first.is_none_or(|first| first.elapsed() < OTHER_FAMILY) {
        let state = survey::state(daemon, &container.name)?.unwrap_or_default();
        let addresses = address::observed(&state);
        let v6 = addresses.iter().filter(|one| one.is_ipv6()).count();
        if 0 < v6 && v6 < addresses.len() {
            break;
        }
        if !addresses.is_empty() {
            first.get_or_insert_with(Instant::now);
        }
        sleep(Duration::from_millis(300));
    }
    Ok(())
}

fn run_step(daemon: &Daemon, lxd: &Lxd, container: &Container, step: &Run) -> Result<(), StepError> {
    let name = &container.name;
    let mut tries = 0_u32;
    loop {
        tries = tries.saturating_add(1);
        let patience = Duration::from_secs(step.timeout_seconds.into());
        let command = ["/bin/sh", "-c", script::SHELL];
        let variable = (script::VARIABLE, step.script.as_str());
        let exit = exec(daemon, name, &command, variable, patience);
        let exit = exit.map(|exit| script::ended(&step.script, exit));
        let (why, output, still_running) = match exit {
            Ok(exit) if exit.code == 0 => return Ok(()),
            Ok(exit) => (
                format!("it ended with exit code {}", exit.code),
                exit.output,
                false,
            ),
            // The program may still run although the daemon went away, so the container is rebuilt.
            Err(error) if !matches!(error.kind(), DaemonErrorKind::Late(_)) => return Err(error.into()),
            Err(_) => (
                format!("it was still running after {} s", patience.as_secs()),
                Vec::new(),
                true,
            ),
        };
        if tries > step.retries {
            let message = format!(
                "running {} in {name} failed {tries} time(s): {why}; correct the farm, or what it needs. The next boot \
                 and palmfarm-agent run start again from a fresh {name}; to keep this one as it is: lxc config set \
                 {name} {STATE} {READY}",
                step.label
            );
            return Err(StepError {
                output,
                ..StepError::new(message)
            });
        }
        sleep(BEFORE_RETRY);
        if still_running {
            restart(daemon, lxd, container)?;
        }
    }
}

/// Restart `container`: the daemon cannot end a single program whose time is over.
fn restart(daemon: &Daemon, lxd: &Lxd, container: &Container) -> Result<(), StepError> {
    let path = format!("{}/{}/state", daemon.instances(), encoded(&container.name));
    let doing = format!("restarting {}", container.name);
    let body = json!({"action": "restart", "timeout": 60, "force": true});
    daemon.change(&doing, "PUT", &path, &body, STARTING)?;
    await_addresses(daemon, lxd, container)
}
