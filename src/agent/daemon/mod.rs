//! The container daemon – LXD 3.0 to 5.21, Incus 6 – over its REST API on the unix socket.
//!
//! REST rather than the `lxc` program: the API's paths have been the same since 2018 but for the one that
//! [`Daemon::instances`] hides, while options, output and even the name of the program changed; an exit code says
//! less than the API's error; and a snap's `lxc` cannot read files outside its own view.
//! Nothing here decides what a farm should be like.

mod container_io;
mod error;
#[cfg(test)]
mod hostile;
mod http;
mod socket;

use std::cell::Cell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use container_io::{exec, exec_to_look, push_file, Exit, PushError};
pub use error::{DaemonError, DaemonErrorKind};
use http::{exchange, Body, Broken, Request};
pub(crate) use socket::find_socket;

/// How long the daemon may take for a request that needs no work: it is started by the first request, and a Pi 2 takes
/// most of a minute to load it from an SD card.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many times the daemon is asked for something if it fails, and the pause before each further time.
const MOST_LOOKS: u32 = 3;
const BEFORE_LOOK: Duration = Duration::from_secs(1);

/// How long one request may wait for an operation.
const WAIT: Duration = Duration::from_secs(30);

/// A daemon that answered once.
pub struct Daemon {
    socket: PathBuf,
    instances: &'static str,
    /// The number of its process, as the daemon reports it.
    process: Cell<Option<u64>>,
    changes: Cell<u32>,
    /// How long it may take for a request that needs no work.
    patience: Duration,
    /// Whether it may only be asked, and not told to change anything.
    looks_only: bool,
}

pub type DaemonResult<T> = Result<T, DaemonError>;

impl Daemon {
    /// Make sure that an LXD or Incus listens on `socket`.
    pub fn connect(socket: &Path) -> DaemonResult<Self> {
        Self::connect_within(socket, PATIENCE)
    }

    /// The same if it answers within `patience`.
    pub fn connect_within(socket: &Path, patience: Duration) -> DaemonResult<Self> {
        let mut daemon = Self {
            socket: socket.into(),
            instances: "/1.0/instances",
            process: Cell::new(None),
            changes: Cell::new(0),
            patience,
            looks_only: false,
        };
        let doing = format!("asking what listens on {}", socket.display());
        let about = daemon.call(&doing, "GET", "/1.0", None)?;
        daemon.patience = PATIENCE;
        let environment = about.get("environment");
        let version = environment
            .and_then(|environment| environment.get("server_version"))
            .and_then(Value::as_str);
        if version.is_none() {
            return Err(unknown(&doing, "it has no server_version"));
        }
        daemon.process.set(process(&about));
        // LXD before 3.19 has only `containers`; Incus and LXD from 6.7 have only `instances`.
        let extensions = about.get("api_extensions").and_then(Value::as_array);
        let has_instances = extensions.is_some_and(|all| all.iter().any(|one| one == "instances"));
        if !has_instances {
            daemon.instances = "/1.0/containers";
        }
        Ok(daemon)
    }

    /// The collection of containers: `/1.0/instances`, or `/1.0/containers` before LXD 3.19.
    pub fn instances(&self) -> &'static str {
        self.instances
    }

    /// Whether it is the daemon of LXD's snap.
    pub fn is_snap(&self) -> bool {
        self.socket.ends_with(socket::SNAP)
    }

    /// Whether the daemon answers and has not restarted since [`Daemon::connect`] or [`Daemon::returns`].
    pub fn stayed(&self) -> bool {
        self.call("asking for the server", "GET", "/1.0", None)
            .is_ok_and(|about| process(&about) == self.process.get())
    }

    /// Wait at most `patience` for the daemon to answer again. Returns whether it does.
    pub fn returns(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if let Ok(about) = self.call("asking for the server", "GET", "/1.0", None) {
                self.process.set(process(&about));
                return true;
            }
            if begun.elapsed() >= patience {
                return false;
            }
            sleep(Duration::from_secs(1));
        }
    }

    /// From now on refuse every change with [`DaemonErrorKind::OnlyLooking`], whose text says what would be done.
    pub fn look_only(&mut self) {
        self.looks_only = true;
    }

    pub fn looks_only(&self) -> bool {
        self.looks_only
    }

    /// Whether a change may be made; `doing` says which. What makes one asks here, or calls what does.
    pub fn may_change(&self, doing: &str) -> DaemonResult<()> {
        if self.looks_only {
            return Err(DaemonError::new(doing, DaemonErrorKind::OnlyLooking));
        }
        Ok(())
    }

    /// How many requests for a change were made; none if everything is already as declared.
    pub fn changes(&self) -> u32 {
        self.changes.get()
    }

    /// Read `path`; `None` if it does not exist.
    pub fn look(&self, doing: &str, path: &str) -> DaemonResult<Option<Value>> {
        Ok(self.look_tagged(doing, path)?.map(|(value, _)| value))
    }

    /// The same with the tag of the state that it has now, for [`Daemon::change_if`].
    pub fn look_tagged(&self, doing: &str, path: &str) -> DaemonResult<Option<(Value, String)>> {
        let mut tries = 0_u32;
        loop {
            tries = tries.saturating_add(1);
            let error = match self.call_raw(doing, "GET", path, None, "") {
                Ok((mut answer, tag)) => return Ok(Some((metadata(&mut answer), tag))),
                Err(error) => error,
            };
            match error.kind() {
                DaemonErrorKind::Refused { code: 404, .. } => return Ok(None),
                // Its database on a slow card was busy, or something went away while it made a list.
                // Without a majority of the cluster, each try takes as long as the database waits for one.
                DaemonErrorKind::Refused { code: 500, .. }
                    if tries < MOST_LOOKS && !error.is_without_quorum() =>
                {
                    sleep(BEFORE_LOOK);
                }
                _ => return Err(error),
            }
        }
    }

    /// Request a change and wait at most `patience` until it is made. Returns the metadata of the answer or of the
    /// operation.
    pub fn change(
        &self,
        doing: &str,
        method: &str,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> DaemonResult<Value> {
        self.change_if(doing, method, path, body, "", patience)
    }

    /// The same if what is at `path` still has the state with this tag. Otherwise the daemon refuses it: somebody else
    /// changed it meanwhile.
    pub fn change_if(
        &self,
        doing: &str,
        method: &str,
        path: &str,
        body: &Value,
        tag: &str,
        patience: Duration,
    ) -> DaemonResult<Value> {
        self.may_change(doing)?;
        self.request(doing, method, path, body, tag, patience)
    }

    /// The same also if the agent only looks.
    fn request(
        &self,
        doing: &str,
        method: &str,
        path: &str,
        body: &Value,
        tag: &str,
        patience: Duration,
    ) -> DaemonResult<Value> {
        self.count();
        let (answer, _) = self.call_raw(doing, method, path, Some(body), tag)?;
        self.settle(doing, answer, patience)
    }

    /// Delete what is at `path` and wait as [`Daemon::change`] does. The request has no body: that would have no meaning
    /// (RFC 9110, section 9.3.5), and the daemon does not read it.
    pub fn delete(&self, doing: &str, path: &str, patience: Duration) -> DaemonResult<Value> {
        self.may_change(doing)?;
        self.count();
        let (answer, _) = self.call_raw(doing, "DELETE", path, None, "")?;
        self.settle(doing, answer, patience)
    }

    /// Send the bytes of an image or a file, and wait as [`Daemon::change`] does.
    pub fn upload(
        &self,
        doing: &str,
        path: &str,
        headers: &[(&str, &str)],
        upload: &mut Upload<'_>,
        patience: Duration,
    ) -> DaemonResult<Value> {
        self.may_change(doing)?;
        self.count();
        let request = Request {
            method: "POST",
            target: path,
            headers,
            patience,
        };
        let body = Body {
            length: upload.length,
            bytes: upload.bytes,
        };
        let answer =
            exchange(&self.socket, &request, Some(body)).map_err(|broken| unreachable(doing, &broken))?;
        let answer = envelope(doing, answer.status, &answer.body)?;
        self.settle(doing, answer, patience)
    }

    /// Wait until the daemon, which may be the `member` of a cluster, has no running operations: what was begun before a power cut or by another program may still
    /// be running, and looks unfinished until it ends.
    pub fn settle_down(&self, member: &str, patience: Duration) -> DaemonResult<()> {
        let doing = "waiting for the container daemon to finish its operations";
        let begun = Instant::now();
        loop {
            let all = self
                .look(doing, "/1.0/operations?recursion=1")?
                .unwrap_or_default();
            // The answer has a list for each status: {"running": [{…}, …]}. Only tasks end by themselves; other classes are
            // connections that somebody holds open.
            let running = all.get("running").and_then(Value::as_array).into_iter().flatten();
            // A program in a container may run for ever, and a container that was being provisioned is rebuilt anyway. The
            // list has the operations of all members of a cluster.
            let task = |one: &&Value| {
                let is = |key: &str, value: &str| one.get(key).and_then(Value::as_str) == Some(value);
                let here = one.get("location").is_none() || is("location", "none") || is("location", member);
                here && is("class", "task") && !is("description", "Executing command")
            };
            let Some(id) = running
                .filter(task)
                .find_map(|one| one.get("id").and_then(Value::as_str))
            else {
                return Ok(());
            };
            let left = patience.checked_sub(begun.elapsed());
            let left = left.ok_or_else(|| DaemonError::new(doing, DaemonErrorKind::Late(patience)))?;
            let path = format!(
                "/1.0/operations/{}/wait?timeout={}",
                encoded(id),
                left.min(WAIT).as_secs().max(1)
            );
            // The operation may have ended, and be gone, before this request.
            self.look(doing, &path)?;
        }
    }

    /// Read `path` as bytes, without the envelope of the API's own answers; `None` if it does not exist.
    pub fn fetch(&self, doing: &str, path: &str) -> DaemonResult<Option<Vec<u8>>> {
        let request = Request {
            method: "GET",
            target: path,
            headers: &[],
            patience: PATIENCE,
        };
        let answer = exchange(&self.socket, &request, None).map_err(|broken| unreachable(doing, &broken))?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            status => envelope(doing, status, &answer.body).map(|_| None),
        }
    }

    fn count(&self) {
        self.changes.set(self.changes.get().saturating_add(1));
    }

    fn call(&self, doing: &str, method: &str, path: &str, body: Option<&Value>) -> DaemonResult<Value> {
        let (mut answer, _) = self.call_raw(doing, method, path, body, "")?;
        Ok(metadata(&mut answer))
    }

    /// Send a request, which is refused if there is a `tag` and the state has another one. Returns the answer and its tag.
    fn call_raw(
        &self,
        doing: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        tag: &str,
    ) -> DaemonResult<(Value, String)> {
        let text = body.map(Value::to_string);
        let mut bytes = text.as_deref().unwrap_or_default().as_bytes();
        let headers: &[_] = match (&text, tag) {
            (None, _) => &[],
            (Some(_), "") => &[("Content-Type", "application/json")],
            (Some(_), tag) => &[("Content-Type", "application/json"), ("If-Match", tag)],
        };
        let length = u64::try_from(bytes.len()).map_err(|_| unknown(doing, "the request is too large"))?;
        let body = text.is_some().then_some(Body {
            length,
            bytes: &mut bytes,
        });
        let request = Request {
            method,
            target: path,
            headers,
            patience: self.patience,
        };
        let answer = exchange(&self.socket, &request, body).map_err(|broken| unreachable(doing, &broken))?;
        Ok((envelope(doing, answer.status, &answer.body)?, answer.tag))
    }

    /// Wait for the operation that `answer` names, if it names one.
    fn settle(&self, doing: &str, mut answer: Value, patience: Duration) -> DaemonResult<Value> {
        if answer.get("type").and_then(Value::as_str) != Some("async") {
            return Ok(metadata(&mut answer));
        }
        // LXD 5.0 may add `?project=default`, and takes `/wait` after that for a part of it.
        let operation = answer
            .get("operation")
            .and_then(Value::as_str)
            .and_then(|path| path.split('?').next())
            .filter(|path| is_path(path, "/1.0/operations/"));
        let operation = operation.ok_or_else(|| unknown(doing, "an operation without a path"))?;
        // The monotonic clock, since the system's clock may be set meanwhile.
        let begun = Instant::now();
        loop {
            let left = patience
                .checked_sub(begun.elapsed())
                .ok_or_else(|| self.give_up(doing, operation, patience))?;
            let seconds = left.min(WAIT).as_secs().max(1);
            let path = format!("{operation}/wait?timeout={seconds}");
            let mut state = self.call(doing, "GET", &path, None)?;
            // 100 to 199: running; 200: done; 400 and 401: failed, cancelled (LXD's doc/rest-api.md).
            match state.get("status_code").and_then(Value::as_u64) {
                Some(200) => return Ok(metadata(&mut state)),
                Some(100..=199) => {}
                Some(400 | 401) => {
                    let message = state.get("err").and_then(Value::as_str).unwrap_or_default();
                    return Err(DaemonError::new(doing, DaemonErrorKind::Failed(plain(message))));
                }
                code => return Err(unknown(doing, &format!("an operation with status {code:?}"))),
            }
        }
    }

    /// Cancel an operation that takes too long, so that it does not disturb the next try.
    fn give_up(&self, doing: &str, operation: &str, patience: Duration) -> DaemonError {
        // Some operations cannot be cancelled; the next try finds the object that they make.
        drop(self.call(doing, "DELETE", operation, None));
        DaemonError::new(doing, DaemonErrorKind::Late(patience))
    }
}

/// The body of a request, with its length in bytes.
pub struct Upload<'a> {
    pub length: u64,
    pub bytes: &'a mut dyn Read,
}

/// `text` as a path segment or query value: all but unreserved characters are percent-encoded (RFC 3986, section 2.3).
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The longest message of the daemon that is shown, in characters: a failed download has a whole URL in it.
const LONGEST_MESSAGE: usize = 1000;

/// A message of the daemon without control characters, since people read the report in a terminal.
fn plain(message: &str) -> String {
    let shown = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(LONGEST_MESSAGE).collect()
}

/// Whether `path` begins with `above` and is safe to put into a request.
fn is_path(path: &str, above: &str) -> bool {
    path.starts_with(above) && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The number of the daemon's process (LXD's doc/rest-api.yaml, `server_pid`), if it reports one.
fn process(about: &Value) -> Option<u64> {
    let environment = about.get("environment");
    let process = environment.and_then(|environment| environment.get("server_pid"));
    process.and_then(Value::as_u64)
}

fn unreachable(doing: &str, broken: &Broken) -> DaemonError {
    DaemonError::new(doing, DaemonErrorKind::Unreachable(broken.to_string()))
}

fn unknown(doing: &str, what: &str) -> DaemonError {
    DaemonError::new(doing, DaemonErrorKind::Unknown(what.into()))
}

/// What an answer or an operation brings.
fn metadata(answer: &mut Value) -> Value {
    answer.get_mut("metadata").map(Value::take).unwrap_or_default()
}

/// Unwrap an answer of the API: each one is a JSON object with a `type`.
fn envelope(doing: &str, status: u16, body: &[u8]) -> DaemonResult<Value> {
    let answer: Value = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) if status >= 400 => {
            let message = plain(&String::from_utf8_lossy(body));
            return Err(DaemonError::new(
                doing,
                DaemonErrorKind::Refused {
                    code: status,
                    message,
                },
            ));
        }
        Err(error) => return Err(unknown(doing, &format!("{error} (status {status})"))),
    };
    if status >= 400 || answer.get("type").and_then(Value::as_str) == Some("error") {
        let message = answer
            .get("error")
            .and_then(Value::as_str)
            .map_or_else(|| "no reason given".into(), plain);
        let code = answer
            .get("error_code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let code = code.filter(|code| *code != 0).unwrap_or(status);
        return Err(DaemonError::new(
            doing,
            DaemonErrorKind::Refused { code, message },
        ));
    }
    Ok(answer)
}
