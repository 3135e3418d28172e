//! The container daemon – LXD 3.0 to 5.21, Incus 6 – over its REST API on the unix socket.
//!
//! REST rather than the `lxc` program: the API's paths have been the same since 2018 but for the one that
//! [`Daemon::instances`] hides, while options, output and even the name of the program changed; an exit code says
//! less than the API's error; and a snap's `lxc` cannot read files outside its own view.
//! Nothing here decides what a farm should be.

#[cfg(test)]
mod hostile;
mod http;
mod pushed;
mod socket;

use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use http::{exchange, Body, Broken, Request};
pub use pushed::{exec, pull_text, push_file, Exit, PushError};
pub use socket::{find_socket, Found};

/// How long the daemon may take to answer what needs no work: it is started on the first request, and a Pi 2
/// takes most of a minute to load it from an SD card.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long one look at an operation lasts.
const LOOK: Duration = Duration::from_secs(30);

/// A daemon that answered once.
pub struct Daemon {
    socket: PathBuf,
    instances: &'static str,
    version: String,
    /// Its process, as it calls it itself.
    process: Cell<u64>,
    changes: Cell<u32>,
}

/// Why the daemon did not do what was asked.
#[derive(Debug)]
pub struct DaemonError {
    doing: String,
    why: Why,
}

/// What went wrong.
#[derive(Debug)]
pub enum Why {
    /// It could not be reached, or hung up.
    Unreachable(String),
    /// It answered with an error.
    Refused {
        /// HTTP status.
        code: u16,
        /// Its own words.
        message: String,
    },
    /// It accepted the work and failed at it.
    Failed(String),
    /// It was still at work when the time was over.
    Late(Duration),
    /// Its answer is none that this agent knows.
    Unknown(String),
}

impl DaemonError {
    /// What went wrong.
    #[must_use]
    pub fn why(&self) -> &Why {
        &self.why
    }

    /// Whether trying the same again later may help: the daemon restarts when it is upgraded.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self.why,
            Why::Unreachable(_) | Why::Late(_) | Why::Refused { code: 503, .. }
        )
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.doing)?;
        match &self.why {
            Why::Unreachable(why) => write!(f, "the container daemon does not answer: {why}"),
            Why::Refused { code, message } => write!(f, "the container daemon refused ({code}): {message}"),
            Why::Failed(message) => write!(f, "the container daemon failed: {message}"),
            Why::Late(waited) => write!(
                f,
                "the container daemon was not done after {} s",
                waited.as_secs()
            ),
            Why::Unknown(what) => write!(
                f,
                "the container daemon gave an answer that is not understood: {what}"
            ),
        }
    }
}

impl std::error::Error for DaemonError {}

/// A result of the daemon.
pub type Asked<T> = Result<T, DaemonError>;

impl Daemon {
    /// Ask the daemon behind `socket` who it is.
    ///
    /// # Errors
    /// [`Why::Unreachable`], where nothing listens; [`Why::Unknown`], where it is no LXD or Incus.
    pub fn connect(socket: &Path) -> Asked<Self> {
        let mut daemon = Self {
            socket: socket.into(),
            instances: "/1.0/instances",
            version: String::new(),
            process: Cell::new(0),
            changes: Cell::new(0),
        };
        let doing = format!("asking who listens on {}", socket.display());
        let about = daemon.call(&doing, "GET", "/1.0", None)?;
        let environment = about.get("environment");
        let version = environment
            .and_then(|environment| environment.get("server_version"))
            .and_then(Value::as_str);
        daemon.version = version
            .ok_or_else(|| unknown(&doing, "it has no server_version"))?
            .into();
        daemon.process.set(process(&about));
        // LXD before 3.19 has only `containers`; Incus and LXD from 6.7 have only `instances`.
        let extensions = about.get("api_extensions").and_then(Value::as_array);
        let has_instances = extensions.is_some_and(|all| all.iter().any(|one| one == "instances"));
        if !has_instances {
            daemon.instances = "/1.0/containers";
        }
        Ok(daemon)
    }

    /// The daemon's own version, such as `5.0.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The collection of containers: `/1.0/instances`, or `/1.0/containers` before LXD 3.19.
    #[must_use]
    pub fn instances(&self) -> &'static str {
        self.instances
    }

    /// Whether it is there and has not been started anew since it was last asked who it is.
    #[must_use]
    pub fn stayed(&self) -> bool {
        self.call("asking for the server", "GET", "/1.0", None)
            .is_ok_and(|about| process(&about) == self.process.get())
    }

    /// Wait at most `patience` until it answers again; whether it does.
    #[must_use]
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

    /// How many requests have asked for a change; a run that finds everything true asks for none.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.changes.get()
    }

    /// Read `path`; `None` where there is no such thing.
    ///
    /// # Errors
    /// Anything but an answer or 404.
    pub fn look(&self, doing: &str, path: &str) -> Asked<Option<Value>> {
        match self.call(doing, "GET", path, None) {
            Ok(value) => Ok(Some(value)),
            Err(DaemonError {
                why: Why::Refused { code: 404, .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ask for a change and wait at most `patience` until it is made. Returns the metadata of the answer or of
    /// the operation.
    ///
    /// # Errors
    /// All of [`Why`].
    pub fn change(
        &self,
        doing: &str,
        method: &str,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Asked<Value> {
        self.count();
        let answer = self.call_raw(doing, method, path, Some(body))?;
        self.settle(doing, answer, patience)
    }

    /// Ask for the end of what is at `path` and wait as [`Daemon::change`] does. Such a request has no body: it would
    /// mean nothing (RFC 9110, section 9.3.5), and the daemon does not read it.
    ///
    /// # Errors
    /// All of [`Why`].
    pub fn delete(&self, doing: &str, path: &str, patience: Duration) -> Asked<Value> {
        self.count();
        let answer = self.call_raw(doing, "DELETE", path, None)?;
        self.settle(doing, answer, patience)
    }

    /// Send `length` bytes as they are (an image, a file) and wait as [`Daemon::change`] does.
    ///
    /// # Errors
    /// All of [`Why`].
    pub fn upload(
        &self,
        doing: &str,
        path: &str,
        headers: &[(&str, &str)],
        upload: &mut Upload<'_>,
        patience: Duration,
    ) -> Asked<Value> {
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

    /// Wait until the daemon is at work on nothing: what was begun before a power cut or by another program may
    /// still be under way, and looks unfinished until then.
    ///
    /// # Errors
    /// All of [`Why`].
    pub fn settle_down(&self, patience: Duration) -> Asked<()> {
        let doing = "waiting for the container daemon to finish what it is at";
        let begun = Instant::now();
        loop {
            let all = self
                .look(doing, "/1.0/operations?recursion=1")?
                .unwrap_or_default();
            // By status, then a list: {"running": [{…}, …]}. Other classes are connections that people hold open.
            let running = all.get("running").and_then(Value::as_array).into_iter().flatten();
            // What runs in a container may run for ever; a container that was being provisioned is made anew anyhow.
            let task = |one: &&Value| {
                let is = |key: &str, value: &str| one.get(key).and_then(Value::as_str) == Some(value);
                is("class", "task") && !is("description", "Executing command")
            };
            let Some(id) = running
                .filter(task)
                .find_map(|one| one.get("id").and_then(Value::as_str))
            else {
                return Ok(());
            };
            let left = patience.checked_sub(begun.elapsed());
            let left = left.ok_or_else(|| DaemonError {
                doing: doing.into(),
                why: Why::Late(patience),
            })?;
            let path = format!(
                "/1.0/operations/{}/wait?timeout={}",
                encoded(id),
                left.min(LOOK).as_secs().max(1)
            );
            // It may be over, and forgotten, before we ask.
            self.look(doing, &path)?;
        }
    }

    /// Read `path` as bytes, without the envelope that the API's own answers have; `None` on 404.
    ///
    /// # Errors
    /// All of [`Why`].
    pub fn fetch(&self, doing: &str, path: &str) -> Asked<Option<Vec<u8>>> {
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

    fn call(&self, doing: &str, method: &str, path: &str, body: Option<&Value>) -> Asked<Value> {
        let mut answer = self.call_raw(doing, method, path, body)?;
        Ok(answer.get_mut("metadata").map(Value::take).unwrap_or_default())
    }

    fn call_raw(&self, doing: &str, method: &str, path: &str, body: Option<&Value>) -> Asked<Value> {
        let text = body.map(Value::to_string);
        let mut bytes = text.as_deref().unwrap_or_default().as_bytes();
        let headers: &[_] = if text.is_some() {
            &[("Content-Type", "application/json")]
        } else {
            &[]
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let body = text.is_some().then_some(Body {
            length,
            bytes: &mut bytes,
        });
        let request = Request {
            method,
            target: path,
            headers,
            patience: PATIENCE,
        };
        let answer = exchange(&self.socket, &request, body).map_err(|broken| unreachable(doing, &broken))?;
        envelope(doing, answer.status, &answer.body)
    }

    /// Wait for the operation that `answer` names, if it names one.
    fn settle(&self, doing: &str, mut answer: Value, patience: Duration) -> Asked<Value> {
        if answer.get("type").and_then(Value::as_str) != Some("async") {
            return Ok(answer.get_mut("metadata").map(Value::take).unwrap_or_default());
        }
        let operation = answer
            .get("operation")
            .and_then(Value::as_str)
            .filter(|path| is_path(path, "/1.0/operations/"));
        let operation = operation.ok_or_else(|| unknown(doing, "an operation without a path"))?;
        // The clock may be set while we wait, so the time is counted on the monotonic one.
        let begun = Instant::now();
        loop {
            let left = patience
                .checked_sub(begun.elapsed())
                .ok_or_else(|| self.give_up(doing, operation, patience))?;
            let seconds = left.min(LOOK).as_secs().max(1);
            let path = format!("{operation}/wait?timeout={seconds}");
            let mut state = self.call(doing, "GET", &path, None)?;
            // 100 to 199: at work; 200: done; 400 and 401: failed, cancelled (LXD's doc/rest-api.md).
            match state.get("status_code").and_then(Value::as_u64) {
                Some(200) => return Ok(state.get_mut("metadata").map(Value::take).unwrap_or_default()),
                Some(100..=199) => {}
                Some(400 | 401) => {
                    let message = state.get("err").and_then(Value::as_str).unwrap_or_default();
                    return Err(DaemonError {
                        doing: doing.into(),
                        why: Why::Failed(plain(message)),
                    });
                }
                code => return Err(unknown(doing, &format!("an operation with status {code:?}"))),
            }
        }
    }

    /// Cancel what takes too long, so that it does not go on behind the next try.
    fn give_up(&self, doing: &str, operation: &str, patience: Duration) -> DaemonError {
        // Not every operation can be cancelled; the one that cannot is met again as an object that exists.
        drop(self.call(doing, "DELETE", operation, None));
        DaemonError {
            doing: doing.into(),
            why: Why::Late(patience),
        }
    }
}

/// Bytes to send, with their number.
pub struct Upload<'a> {
    /// How many.
    pub length: u64,
    /// Where from.
    pub bytes: &'a mut dyn Read,
}

/// A path segment or query value with everything but unreserved characters percent-encoded (RFC 3986, 2.3).
#[must_use]
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

/// The longest message of the daemon's that is shown, in characters; a failed download comes with a whole URL.
const LONGEST_MESSAGE: usize = 1000;

/// What the daemon says, fit for a report that people read in a terminal.
fn plain(message: &str) -> String {
    let shown = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(LONGEST_MESSAGE).collect()
}

/// Whether `path` lies below `above` and can stand in a request.
fn is_path(path: &str, above: &str) -> bool {
    path.starts_with(above) && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The number of the daemon's process (LXD's doc/rest-api.yaml, `server_pid`).
fn process(about: &Value) -> u64 {
    let environment = about.get("environment");
    let process = environment.and_then(|environment| environment.get("server_pid"));
    process.and_then(Value::as_u64).unwrap_or(0)
}

fn unreachable(doing: &str, broken: &Broken) -> DaemonError {
    DaemonError {
        doing: doing.into(),
        why: Why::Unreachable(broken.to_string()),
    }
}

fn unknown(doing: &str, what: &str) -> DaemonError {
    DaemonError {
        doing: doing.into(),
        why: Why::Unknown(what.into()),
    }
}

/// Take an answer out of HTTP: every one of the API is a JSON object with a `type`.
fn envelope(doing: &str, status: u16, body: &[u8]) -> Asked<Value> {
    let answer: Value = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) if status >= 400 => {
            let message = plain(&String::from_utf8_lossy(body));
            return Err(DaemonError {
                doing: doing.into(),
                why: Why::Refused {
                    code: status,
                    message,
                },
            });
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
        return Err(DaemonError {
            doing: doing.into(),
            why: Why::Refused { code, message },
        });
    }
    Ok(answer)
}
