//! One container: made with its address and profiles, provisioned once, and from then on left to its owner.
//!
//! Its own configuration says how far it is, and the daemon changes that in a transaction: a power cut between any two
//! requests leaves a container that says either `new` or `ready`, and never one that only seems finished.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{Container, ImageRef, Lxd, Run};
use serde_json::{json, Map, Value};

use super::{address, mark, survey, text, MARK, NEW, READY, STATE};
use crate::daemon::{encoded, exec, push_file, Daemon, DaemonErrorKind};
use crate::step::{Change, StepError, StepResult};

/// How long making a container may take. The daemon unpacks its image, and may have to fetch it first: 30 minutes for an SD
/// card and a slow line.
const MAKING: Duration = Duration::from_secs(1800);

/// How long starting or stopping may take.
const STARTING: Duration = Duration::from_secs(180);

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
pub(super) fn make(daemon: &Daemon, lxd: &Lxd, container: &Container, root: &Path) -> StepResult {
    let name = &container.name;
    let path = format!("{}/{}", daemon.instances(), encoded(name));
    let looking = format!("looking for {name}");
    if let Some(now) = daemon.look(&looking, &path)? {
        let Some(made_of) = text(&now, &["config", MARK]) else {
            return Err(StepError::new(format!(
                "a container called {name} exists that palmfarm did not make; rename one of the two (lxc rename \
                 {name} NEW), then run palmfarm-agent run"
            )));
        };
        let ready = text(&now, &["config", STATE]) == Some(READY);
        if ready && made_of == mark(container) {
            return settings(daemon, container, &path, &now);
        }
        // A finished container holds its owner's data. Only a template is there to be rebuilt.
        if ready && container.publish.is_none() {
            return Err(StepError::new(format!(
                "{name} was made from an earlier declaration and has been left as it is; to rebuild it, delete it \
                 (lxc delete --force {name}), then run palmfarm-agent run"
            )));
        }
        delete(daemon, name, &path, &now)?;
    }
    create(daemon, lxd, container)?;
    start(daemon, name, &path)?;
    provision(daemon, lxd, container, root)?;
    daemon.change(
        &format!("marking {name} as ready"),
        "PATCH",
        &path,
        &json!({"config": {STATE: READY}}),
        STARTING,
    )?;
    Ok(Change::Changed)
}

/// Update what can change on a finished container without rebuilding it: its configuration, devices and profiles.
fn settings(daemon: &Daemon, container: &Container, path: &str, now: &Value) -> StepResult {
    let config = now.get("config").and_then(Value::as_object);
    let differs = |(key, value): &(&String, &String)| {
        config.and_then(|config| config.get(*key)).and_then(Value::as_str) != Some(value.as_str())
    };
    let mut patch = Map::new();
    let changed: Map<String, Value> = container
        .config
        .iter()
        .filter(differs)
        .map(|(k, v)| (k.clone(), json!(v)))
        .collect();
    if !changed.is_empty() {
        patch.insert("config".into(), Value::Object(changed));
    }
    let devices = now.get("devices").and_then(Value::as_object);
    let missing: Map<String, Value> = container
        .devices
        .iter()
        .filter(|(name, device)| devices.and_then(|devices| devices.get(*name)) != Some(&json!(device)))
        .map(|(name, device)| (name.clone(), json!(device)))
        .collect();
    if !missing.is_empty() {
        patch.insert("devices".into(), Value::Object(missing));
    }
    if now.get("profiles") != Some(&json!(container.profiles)) {
        patch.insert("profiles".into(), json!(container.profiles));
    }
    if patch.is_empty() {
        return Ok(Change::Unchanged);
    }
    let doing = format!("changing the settings of {}", container.name);
    daemon.change(&doing, "PATCH", path, &Value::Object(patch), STARTING)?;
    Ok(Change::Changed)
}

fn create(daemon: &Daemon, lxd: &Lxd, container: &Container) -> Result<(), StepError> {
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
    let mut config: Map<String, Value> = container
        .config
        .iter()
        .map(|(k, v)| (k.clone(), json!(v)))
        .collect();
    // The daemon takes a NIC's hardware address from here unless a profile or device has one.
    config.insert("volatile.eth0.hwaddr".into(), json!(container.mac.to_string()));
    config.insert(MARK.into(), json!(mark(container)));
    config.insert(STATE.into(), json!(NEW));
    let body = json!({
        "name": name,
        "source": source,
        "profiles": container.profiles,
        "config": config,
        "devices": container.devices,
    });
    let doing = format!("making {name}");
    let made = daemon.change(&doing, "POST", daemon.instances(), &body, MAKING);
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
                "; check that the Pi reaches {server}, and that it has {alias} for this machine, or carry the image on \
                 the card (`images:` in farm.yaml); then run palmfarm-agent run"
            )
        }
    }
}

fn start(daemon: &Daemon, name: &str, path: &str) -> Result<(), StepError> {
    let body = json!({"action": "start", "timeout": 60});
    daemon.change(
        &format!("starting {name}"),
        "PUT",
        &format!("{path}/state"),
        &body,
        STARTING,
    )?;
    Ok(())
}

fn delete(daemon: &Daemon, name: &str, path: &str, now: &Value) -> Result<(), StepError> {
    if text(now, &["status"]) != Some("Stopped") {
        let body = json!({"action": "stop", "timeout": 60, "force": true});
        daemon.change(
            &format!("stopping {name}"),
            "PUT",
            &format!("{path}/state"),
            &body,
            STARTING,
        )?;
    }
    daemon.delete(&format!("deleting the unfinished {name}"), path, MAKING)?;
    Ok(())
}

fn provision(daemon: &Daemon, lxd: &Lxd, container: &Container, root: &Path) -> Result<(), StepError> {
    let name = &container.name;
    for file in &container.files {
        let source = root.join(file.source.trim_start_matches('/'));
        let lost = |error| StepError::new(format!("reading {} for {name}: {error}", source.display()));
        let mut content = File::open(&source).map_err(lost)?;
        let length = content.metadata().map_err(lost)?.len();
        push_file(daemon, name, &file.path, file.mode, length, &mut content)?;
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
        let exit = exec(daemon, name, &["/bin/sh", "-c", &step.script], patience);
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
