//! Inside a container: putting files there and running programs, with their output kept.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use serde_json::{json, Value};

use super::{encoded, is_path, unknown, Asked, Daemon, DaemonError, Upload, PATIENCE};

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i64,
    /// The last lines of what it printed on either channel, oldest first.
    pub output: Vec<String>,
}

/// Why a file could not be put there.
#[derive(Debug)]
pub enum PushError {
    /// The daemon would not.
    Daemon(DaemonError),
    /// The path is none.
    Path(String),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon(error) => error.fmt(f),
            Self::Path(path) => write!(f, "{path:?} is no absolute path of a file"),
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

/// How much of each channel is looked at for them, in bytes.
const TAIL: usize = 8 << 10;

/// Put `length` bytes at `path` in `container`, owned by its root, making the directories above (0755).
///
/// # Errors
/// [`PushError`].
pub fn push_file(
    daemon: &Daemon,
    container: &str,
    path: &str,
    mode: u16,
    length: u64,
    bytes: &mut dyn Read,
) -> Result<(), PushError> {
    let bad = || PushError::Path(path.into());
    let (above, name) = path.rsplit_once('/').ok_or_else(bad)?;
    if !path.starts_with('/') || name.is_empty() {
        return Err(bad());
    }
    make_directories(daemon, container, above)?;
    let doing = format!("putting {path} into {container}");
    let mode = format!("{mode:04o}");
    let mut upload = Upload { length, bytes };
    daemon.upload(
        &doing,
        &at(daemon, container, path),
        &headers("file", &mode),
        &mut upload,
        PATIENCE,
    )?;
    Ok(())
}

/// Run `command` in `container` without input or terminal and wait at most `patience`.
///
/// # Errors
/// [`DaemonError`]; a program that exits with another code than 0 is no error here.
pub fn exec(daemon: &Daemon, container: &str, command: &[&str], patience: Duration) -> Asked<Exit> {
    let doing = format!("running {} in {container}", command.first().unwrap_or(&""));
    let path = format!("{}/{}/exec", daemon.instances(), encoded(container));
    let body = json!({
        "command": command,
        // Debian's packages ask questions unless told that nobody is there.
        "environment": {"DEBIAN_FRONTEND": "noninteractive", "HOME": "/root", "LANG": "C.UTF-8"},
        "interactive": false,
        "wait-for-websocket": false,
        "record-output": true,
    });
    let ended = daemon.change(&doing, "POST", &path, &body, patience)?;
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
        // The logs stay in the container's log folder until someone deletes them; nobody else would.
        drop(daemon.call(&doing, "DELETE", log, None));
    }
    output.drain(..output.len().saturating_sub(LINES));
    Ok(Exit { code, output })
}

/// Read a small text file of `container`; `None` where it has none.
///
/// # Errors
/// [`DaemonError`].
pub fn pull_text(daemon: &Daemon, container: &str, path: &str) -> Asked<Option<String>> {
    let doing = format!("reading {path} of {container}");
    let bytes = daemon.fetch(&doing, &at(daemon, container, path))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
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
            &headers("directory", "0755"),
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

/// Incus renamed the headers; each daemon ignores the other's.
fn headers<'a>(kind: &'a str, mode: &'a str) -> [(&'a str, &'a str); 9] {
    [
        ("Content-Type", "application/octet-stream"),
        ("X-LXD-type", kind),
        ("X-LXD-uid", "0"),
        ("X-LXD-gid", "0"),
        ("X-LXD-mode", mode),
        ("X-Incus-type", kind),
        ("X-Incus-uid", "0"),
        ("X-Incus-gid", "0"),
        ("X-Incus-mode", mode),
    ]
}

/// The last lines of an output, without control characters: they end in a report that people read in a terminal.
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
    fn the_end_of_an_output_is_what_counts() {
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
