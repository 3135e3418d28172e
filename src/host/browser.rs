//! Shows a file in the browser of the person at this computer: the only place that starts another program. It never
//! starts one as root, or for somebody who became another user.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// What became of it.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The program that opens files was started.
    Started,
    /// It was not, and why.
    Not(String),
}

/// Open the file at `path` with `xdg-open`, and do not wait for it.
pub(crate) fn open(path: &Path) -> Opened {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if rustix::process::geteuid().is_root() {
        return Opened::Not("root starts no browser".into());
    }
    if ["SUDO_UID", "PKEXEC_UID", "DOAS_USER"].iter().any(set) {
        return Opened::Not("another user's session has the browser".into());
    }
    if !["DISPLAY", "WAYLAND_DISPLAY"].iter().any(set) {
        return Opened::Not("there is no graphical session here".into());
    }
    // A path that begins with a dash would be an option.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut command = Command::new("xdg-open");
    command.arg(path);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        Ok(_) => Opened::Started,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Opened::Not("there is no xdg-open".into()),
        Err(error) => Opened::Not(format!("xdg-open cannot be started: {error}")),
    }
}
