//! The user's own ssh(1), with their keys, their agent and their settings. A command
//! runs on another host, and its output is read line by line. No secret is in an argument, since everybody on this
//! computer can read those.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

/// The longest line that is read, in bytes: a report of hundreds of containers has some hundred KiB.
const LONGEST: u64 = 8 << 20;

/// How many lines wait for their reader.
const WAITING: usize = 64;

/// Where to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// `None`: as ssh's settings say.
    pub user: Option<String>,
    /// A name, an address (`fe80::1%wlan0`), or what ssh's settings know.
    pub host: String,
    /// The name under which known_hosts has the host, wherever it was found.
    pub known_as: Option<String>,
}

/// A command on another host.
#[derive(Debug)]
pub struct Session {
    child: Child,
    lines: Receiver<Line>,
    /// How ssh ended, once that is known.
    ended: Option<ExitStatus>,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Out(String),
    /// Of the command or of ssh itself.
    Err(String),
}

/// What a session has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Line(Line),
    /// Nothing yet.
    Silence,
    /// The exit code of the command; 255 if ssh failed; `None` if a signal ended it.
    Ended(Option<i32>),
}

/// Run `command`, which the shell there reads, with `input` as its standard input. ssh asks for passwords and about host
/// keys on the terminal if it `may_ask`.
pub fn start(login: &Login, may_ask: bool, command: &str, input: Option<Vec<u8>>) -> io::Result<Session> {
    let mut ssh = ssh(login, may_ask);
    ssh.arg("-T").args(["--", &login.host, command]);
    ssh.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let (Some(input), Some(mut to)) = (input, child.stdin.take()) {
        // If the other end goes away, the exit code says so.
        thread::spawn(move || drop(to.write_all(&input)));
    }
    let (send, lines) = sync_channel(WAITING);
    if let Some(out) = child.stdout.take() {
        read_lines(out, Line::Out, send.clone());
    }
    if let Some(err) = child.stderr.take() {
        read_lines(err, Line::Err, send);
    }
    Ok(Session {
        child,
        lines,
        ended: None,
    })
}

/// Run `command` on a terminal there, which is the person's own; the exit code as in [`Event::Ended`].
pub fn run_on_terminal(login: &Login, command: &str) -> io::Result<Option<i32>> {
    let status = ssh(login, true)
        .arg("-t")
        .args(["--", &login.host, command])
        .status()?;
    Ok(status.code())
}

fn ssh(login: &Login, may_ask: bool) -> Command {
    let mut ssh = Command::new("ssh");
    // A Pi that reboots or loses its network does not say so.
    ssh.args([
        "-o",
        "ConnectTimeout=10",
        "-o",
        "ServerAliveInterval=5",
        "-o",
        "ServerAliveCountMax=3",
    ]);
    if !may_ask {
        ssh.args(["-o", "BatchMode=yes"]);
    }
    if let Some(name) = &login.known_as {
        ssh.args(["-o", &format!("HostKeyAlias={name}")]);
    }
    if let Some(user) = &login.user {
        ssh.args(["-l", user]);
    }
    ssh
}

fn read_lines(from: impl Read + Send + 'static, kind: fn(String) -> Line, to: SyncSender<Line>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            let read = from.by_ref().take(LONGEST).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return;
            }
            let line = String::from_utf8_lossy(&line);
            if to.send(kind(line.trim_end().to_owned())).is_err() {
                return;
            }
        }
    });
}

impl Session {
    /// What has happened, after waiting for at most `wait`.
    pub fn next(&mut self, wait: Duration) -> io::Result<Event> {
        match self.lines.recv_timeout(wait) {
            Ok(line) => Ok(Event::Line(line)),
            // A connection that ssh shares with later sessions (`ControlPersist`) keeps its output open after its end. So
            // silence after the end is the end: what it had printed has come in by then.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = self.ended {
                    return Ok(Event::Ended(status.code()));
                }
                self.ended = self.child.try_wait()?;
                Ok(Event::Silence)
            }
            // Both ends are closed, and ssh is about to end.
            Err(RecvTimeoutError::Disconnected) => Ok(Event::Ended(self.child.wait()?.code())),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
