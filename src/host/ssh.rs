//! The user's own ssh(1), with their keys, their agent and their settings. A command
//! runs on another host, and its output is read line by line. No secret is in an argument, since everybody on this
//! computer can read those.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;

/// The longest line that is read, in bytes: a report of hundreds of containers has some hundred KiB.
const LONGEST: u64 = 8 << 20;

/// How many lines wait for their reader.
const WAITING: usize = 64;

/// The name under which [`HostKeys`] are looked up, wherever the host is.
const KNOWN_AS: &str = "palmfarm";

/// Where to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// `None`: as ssh's settings say.
    pub user: Option<String>,
    /// A name, an address (`fe80::1%wlan0`), or what ssh's settings know.
    pub host: String,
    /// The keys of which the host must have one. `None`: as ssh's settings and the person's known_hosts say.
    pub host_keys: Option<Rc<HostKeys>>,
}

/// Ed25519 keys of hosts, in a file for ssh(1) that is removed with this. The person's own known_hosts is neither read
/// nor written where such keys are given.
#[derive(Debug)]
pub struct HostKeys(NamedTempFile);

impl HostKeys {
    /// Of public keys such as `ssh-ed25519 AAAA… palm`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new<'k>(public: impl IntoIterator<Item = &'k str>) -> io::Result<Self> {
        let mut file = NamedTempFile::new()?;
        for key in public {
            writeln!(file, "{KNOWN_AS} {key}")?;
        }
        file.flush()?;
        Ok(Self(file))
    }
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
    if let Some(HostKeys(file)) = login.host_keys.as_deref() {
        let options = [
            "StrictHostKeyChecking=yes".to_owned(),
            "HostKeyAlgorithms=ssh-ed25519".to_owned(),
            format!("HostKeyAlias={KNOWN_AS}"),
            format!("UserKnownHostsFile=\"{}\"", file.path().display()),
        ];
        ssh.args(options.iter().flat_map(|option| ["-o", option]));
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
