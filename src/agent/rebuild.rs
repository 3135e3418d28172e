//! `palmfarm-agent rebuild NAME`: make a container again as it is declared now. The old one stays under another name with
//! everything in it, because only its owner knows whether somebody needs it.

use std::io::{stdin, IsTerminal};
use std::time::Duration;

use palmfarm_protocol::firstboot::FirstBoot;
use serde_json::{json, Value};

use crate::daemon::{encoded, find_socket, Daemon};
use crate::farm::MAC;
use crate::record::{Keep, Kind, Record};
use crate::root::Root;
use crate::run::{self, ExitStatus};
use crate::step::StepError;

/// How long stopping and renaming may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Keep the container `name` under another name, and make it again. `asked` says that the person has confirmed it.
pub fn rebuild(root: &Root, document: &FirstBoot, digest: &str, name: &str, asked: bool) -> ExitStatus {
    let Some(lxd) = document
        .lxd
        .as_ref()
        .filter(|_| document.containers.iter().any(|one| one.name == name))
    else {
        say!("palmfarm-agent: the farm declares no container {name}");
        return ExitStatus::Refused;
    };
    let daemon = find_socket(root.dir(), lxd.flavour).map(|socket| Daemon::connect(&socket));
    let daemon = match daemon {
        Some(Ok(daemon)) => daemon,
        Some(Err(error)) => return refused(&error.to_string()),
        None => return refused("no container daemon is installed: it has no socket"),
    };
    let old = match describe(&daemon, name) {
        Ok(old) => old,
        Err(error) => return refused(&error.message),
    };
    if old.is_some() && !asked && !confirmed(name, "rebuild") {
        return refused("nothing was changed");
    }
    run::run_after(root, document, digest, || {
        if let Some(old) = &old {
            put_aside(&daemon, name, old)?;
        }
        Record::open(root, Keep::OnCard).put(Kind::Container, name, Value::Null)
    })
}

fn refused(why: &str) -> ExitStatus {
    say!("palmfarm-agent: {why}");
    ExitStatus::Refused
}

/// Say what happens to the container `name`, if there is one. Returns the name that it gets.
fn describe(daemon: &Daemon, name: &str) -> Result<Option<String>, StepError> {
    let path = format!("{}/{}", daemon.instances(), encoded(name));
    let Some(_) = daemon.look(&format!("looking for {name}"), &path)? else {
        say!("there is no container {name}");
        return Ok(None);
    };
    let snapshots = daemon.look(
        &format!("looking for snapshots of {name}"),
        &format!("{path}/snapshots"),
    )?;
    let snapshots = snapshots.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
    let mut number = 1_u32;
    // A name has at most 63 characters.
    let start: String = name.chars().take(50).collect();
    let old = loop {
        let old = format!("{}-old{number}", start.trim_end_matches('-'));
        let path = format!("{}/{}", daemon.instances(), encoded(&old));
        if daemon.look(&format!("looking for {old}"), &path)?.is_none() {
            break old;
        }
        number = number.saturating_add(1);
    };
    say!("{name} is stopped, and is then called {old}. It keeps its files, its settings and its {snapshots} snapshot(s), but it does not start by itself.");
    say!("The new {name} has nothing of them. Once nobody needs the old one: lxc delete {old}");
    Ok(Some(old))
}

/// Whether the person at the terminal types `name`, to which `verb` is to be done.
pub(crate) fn confirmed(name: &str, verb: &str) -> bool {
    if !stdin().is_terminal() {
        say!("there is no terminal to ask; add --yes");
        return false;
    }
    say!("Type {name} to {verb} it:");
    let mut line = String::new();
    stdin().read_line(&mut line).is_ok() && line.trim() == name
}

/// Stop the container `name`, and call it `old`. It must not keep its hardware address: the daemon starts no second
/// container that has it.
fn put_aside(daemon: &Daemon, name: &str, old: &str) -> Result<(), StepError> {
    let path = format!("{}/{}", daemon.instances(), encoded(name));
    let now = daemon
        .look(&format!("looking for {name}"), &path)?
        .unwrap_or_default();
    if now["ephemeral"] == true {
        // The daemon would delete it as soon as it stops.
        let doing = format!("making {name} permanent");
        daemon.change(&doing, "PATCH", &path, &json!({"ephemeral": false}), PATIENCE)?;
        let now = daemon
            .look(&format!("looking for {name}"), &path)?
            .unwrap_or_default();
        if now["ephemeral"] != false {
            return Err(StepError::new(format!(
                "{name} is ephemeral, so stopping it would delete it, and the daemon does not make it permanent; copy it \
                 (lxc copy {name} NEW), then try again"
            )));
        }
    }
    if now["status"] != "Stopped" {
        let body = json!({"action": "stop", "timeout": 60});
        daemon.change(
            &format!("stopping {name}"),
            "PUT",
            &format!("{path}/state"),
            &body,
            PATIENCE,
        )?;
    }
    // Nor must it start with the Pi, beside the new one.
    let body = json!({"config": {MAC: "", "boot.autostart": "false"}});
    daemon.change(
        &format!("freeing the hardware address of {name}"),
        "PATCH",
        &path,
        &body,
        PATIENCE,
    )?;
    daemon.change(
        &format!("renaming {name}"),
        "POST",
        &path,
        &json!({"name": old}),
        PATIENCE,
    )?;
    say!("{name} is now called {old}");
    Ok(())
}
