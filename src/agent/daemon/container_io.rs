//! Files and programs in a container: puts files there, and runs programs and keeps their output.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use palmfarm_protocol::firstboot::PushedFile;
use serde_json::{json, Value};

use super::{
    encoded, is_path, unknown, Daemon, DaemonError, DaemonErrorKind, DaemonResult, Upload, PATIENCE,
};

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i64,
    /// The last lines of its standard output, then of its standard error.
    pub(crate) output: Vec<String>,
}

impl Exit {
    fn without_output(code: i64) -> Self {
        let output = Vec::new();
        Self { code, output }
    }
}

/// Why a file could not be put there.
#[derive(Debug)]
pub(crate) enum PushError {
    Daemon(DaemonError),
    Path(String),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon(error) => error.fmt(f),
            Self::Path(path) => write!(f, "{path:?} is not an absolute path of a file"),
        }
    }
}

impl std::error::Error for PushError {}

impl From<DaemonError> for PushError {
    fn from(error: DaemonError) -> Self {
        Self::Daemon(error)
    }
}

/// How many lines of output are kept.
const LINES: usize = 20;

/// How many bytes at the end of each channel are searched for them.
const TAIL: usize = 8 << 10;

/// Write `length` bytes to the path of `file` in `container`, with its mode and owner. Missing directories are made
/// (0755, root's).
pub(crate) fn push_file(
    daemon: &Daemon,
    container: &str,
    file: &PushedFile,
    length: u64,
    bytes: &mut dyn Read,
) -> Result<(), PushError> {
    let path = file.path.as_str();
    let bad = || PushError::Path(path.into());
    let (above, name) = path.rsplit_once('/').ok_or_else(bad)?;
    if !path.starts_with('/') || name.is_empty() {
        return Err(bad());
    }
    make_directories(daemon, container, above)?;
    let doing = format!("writing {path} in {container}");
    let mode = format!("{:04o}", file.mode);
    let (uid, gid) = (file.uid.to_string(), file.gid.to_string());
    let mut upload = Upload { length, bytes };
    daemon.upload(
        &doing,
        &at(daemon, container, path),
        &headers("file", &mode, &uid, &gid),
        &mut upload,
        PATIENCE,
    )?;
    Ok(())
}

/// Run `command` in `container`, with one more environment variable and without input or terminal, and wait at most
/// `patience`. An exit code other than 0 is not an error here.
pub(crate) fn exec(
    daemon: &Daemon,
    container: &str,
    command: &[&str],
    variable: (&str, &str),
    patience: Duration,
) -> DaemonResult<Exit> {
    daemon.may_change(&running(container, command))?;
    execute(daemon, container, command, Some(variable), patience)
}

fn running(container: &str, command: &[&str]) -> String {
    format!("running {} in {container}", command.first().unwrap_or(&""))
}

/// The same for a `command` that changes nothing, without the variable.
pub(crate) fn exec_to_look(
    daemon: &Daemon,
    container: &str,
    command: &[&str],
    patience: Duration,
) -> DaemonResult<Exit> {
    execute(daemon, container, command, None, patience)
}

fn execute(
    daemon: &Daemon,
    container: &str,
    command: &[&str],
    variable: Option<(&str, &str)>,
    patience: Duration,
) -> DaemonResult<Exit> {
    let doing = running(container, command);
    // Without the first, Debian's packages may ask questions.
    let mut environment = json!({"DEBIAN_FRONTEND": "noninteractive", "HOME": "/root", "LANG": "C.UTF-8"});
    if let Some((name, value)) = variable {
        environment[name] = value.into();
    }
    let path = format!("{}/{}/exec", daemon.instances(), encoded(container));
    let body = json!({
        "command": command,
        "environment": environment,
        "interactive": false,
        "wait-for-websocket": false,
        "record-output": true,
    });
    let ended = match daemon.request(&doing, "POST", &path, &body, "", patience) {
        // LXD takes these codes of a shell for its own failure to start it (canonical/lxd, lxd/instance_exec.go).
        Err(error) if is_failure(&error, "Command not found") => return Ok(Exit::without_output(127)),
        Err(error) if is_failure(&error, "Command not executable") => return Ok(Exit::without_output(126)),
        ended => ended?,
    };
    let code = ended.get("return").and_then(Value::as_i64);
    let code = code.ok_or_else(|| unknown(&doing, "a program that ended without an exit code"))?;
    let mut output = Vec::new();
    for channel in ["1", "2"] {
        let log = ended
            .get("output")
            .and_then(|output| output.get(channel))
            .and_then(Value::as_str);
        let Some(log) = log.filter(|log| is_path(log, "/1.0/")) else {
            continue;
        };
        if let Some(bytes) = daemon.fetch(&doing, log)? {
            output.extend(last_lines(&bytes));
        }
        // The daemon keeps a log until somebody deletes it, and nobody else would.
        drop(daemon.call(&doing, "DELETE", log, None));
    }
    output.drain(..output.len().saturating_sub(LINES));
    Ok(Exit { code, output })
}

fn is_failure(error: &DaemonError, what: &str) -> bool {
    matches!(error.kind(), DaemonErrorKind::Failed(why) if why.contains(what))
}

fn make_directories(daemon: &Daemon, container: &str, above: &str) -> Result<(), PushError> {
    let mut missing = Vec::new();
    let mut look = above;
    while !look.is_empty() {
        let doing = format!("looking for {look} in {container}");
        if daemon.fetch(&doing, &at(daemon, container, look))?.is_some() {
            break;
        }
        missing.push(look);
        look = look.rsplit_once('/').map_or("", |(above, _)| above);
    }
    for path in missing.into_iter().rev() {
        let doing = format!("making {path} in {container}");
        let mut upload = Upload {
            length: 0,
            bytes: &mut std::io::empty(),
        };
        daemon.upload(
            &doing,
            &at(daemon, container, path),
            &headers("directory", "0755", "0", "0"),
            &mut upload,
            PATIENCE,
        )?;
    }
    Ok(())
}

fn at(daemon: &Daemon, container: &str, path: &str) -> String {
    format!(
        "{}/{}/files?path={}",
        daemon.instances(),
        encoded(container),
        encoded(path)
    )
}

/// The headers for a file. Incus renamed them; each daemon ignores those of the other.
fn headers<'a>(kind: &'a str, mode: &'a str, uid: &'a str, gid: &'a str) -> [(&'a str, &'a str); 9] {
    [
        ("Content-Type", "application/octet-stream"),
        ("X-LXD-type", kind),
        ("X-LXD-uid", uid),
        ("X-LXD-gid", gid),
        ("X-LXD-mode", mode),
        ("X-Incus-type", kind),
        ("X-Incus-uid", uid),
        ("X-Incus-gid", gid),
        ("X-Incus-mode", mode),
    ]
}

/// The last lines of an output, without control characters, since people read the report in a terminal.
fn last_lines(bytes: &[u8]) -> Vec<String> {
    let tail = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
    let text = String::from_utf8_lossy(tail);
    let clean = |line: &str| {
        line.chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect::<String>()
    };
    let lines: Vec<String> = text.lines().map(clean).filter(|line| !line.is_empty()).collect();
    lines
        .get(lines.len().saturating_sub(LINES)..)
        .unwrap_or_default()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_kept() {
        assert_eq!(last_lines(b"one\n\ntwo\x1b[31m red\n"), ["one", "two[31m red"]);
        let many = (0..100)
            .map(|line: u32| line.to_string())
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(
            last_lines(many.as_bytes()).first().map(String::as_str),
            Some("80")
        );
        assert_eq!(last_lines(&[0xff, b'\n']), ["\u{fffd}"]);
    }
}
