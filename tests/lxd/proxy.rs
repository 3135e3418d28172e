//! A unix socket between the agent and the daemon that counts the requests for a change, and can kill the agent
//! (SIGKILL, by its process) after any one of them. It changes nothing that passes.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// When the agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// By itself.
    Never,
    /// The daemon has the whole of the `n`th request for a change (the first is 1) and may not have read it yet, or has hung up on it.
    Sent(usize),
    /// The daemon has answered the `n`th request, and nobody has read that.
    Answered(usize),
    /// By itself; the `n`th request waits until [`Proxy::saw`] has been told of it, so that somebody else is faster.
    Late(usize),
}

/// A running agent, once it is one.
pub(crate) type Victim = Arc<Mutex<Option<Child>>>;

/// The socket.
pub(crate) struct Proxy {
    path: PathBuf,
    changes: Arc<Mutex<Vec<String>>>,
    last: Arc<Mutex<Option<Instant>>>,
    seen: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listen on `path` and pass all on to `daemon`.
    pub(crate) fn new(path: &Path, daemon: &Path, victim: Victim, kill: Kill) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let last = Arc::new(Mutex::new(None));
        let seen = Arc::new(AtomicUsize::new(0));
        let serve = {
            let (daemon, changes, over) = (daemon.to_owned(), Arc::clone(&changes), Arc::clone(&over));
            let (last, seen) = (Arc::clone(&last), Arc::clone(&seen));
            move || {
                for agent in listener.incoming().flatten() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let before = changes.lock().unwrap().len();
                    // A daemon that is away is what the agent should see, too.
                    let _ = pass(&agent, &daemon, &changes, &victim, kill, &seen);
                    if changes.lock().unwrap().len() > before {
                        *last.lock().unwrap() = Some(Instant::now());
                    }
                }
            }
        };
        let thread = Some(thread::spawn(serve));
        Self {
            path: path.into(),
            changes,
            last,
            seen,
            over,
            thread,
        }
    }

    /// Each request for a change so far, as `METHOD path`.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }
}

impl Proxy {
    /// The test has done what it had to do after so many requests for a change.
    pub(crate) fn saw(&self, changes: usize) {
        self.seen.store(changes, Ordering::SeqCst);
    }

    /// When the last of them was answered.
    pub(crate) fn last(&self) -> Option<Instant> {
        *self.last.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&self.path));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn pass(
    mut agent: &UnixStream,
    daemon: &Path,
    changes: &Mutex<Vec<String>>,
    victim: &Victim,
    kill: Kill,
    seen: &AtomicUsize,
) -> io::Result<()> {
    let mut from = BufReader::new(agent);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
        .unwrap_or(0);
    let request = head.split(" HTTP/").next().unwrap_or_default();
    let mut count = 0;
    if !request.starts_with("GET ") {
        let mut changes = changes.lock().unwrap();
        changes.push(request.into());
        count = changes.len();
    }
    while kill == Kill::Late(count) && seen.load(Ordering::SeqCst) < count {
        thread::sleep(Duration::from_millis(10));
    }
    let mut to = UnixStream::connect(daemon)?;
    // A daemon may answer and hang up before it has read the body. Its answer is there all the same, and however the
    // request or the answer ends, an agent that is to die does.
    let sent = to
        .write_all(head.as_bytes())
        .and_then(|()| io::copy(&mut from.take(length), &mut to));
    // Half a request would keep daemon and socket waiting for each other.
    if !sent.as_ref().is_ok_and(|sent| *sent == length) {
        let _ = to.shutdown(Shutdown::Write);
    }
    if kill == Kill::Sent(count) {
        end(victim);
        return sent.map(drop);
    }
    if kill == Kill::Answered(count) {
        let read = to.read_to_end(&mut Vec::new());
        end(victim);
        return read.map(drop);
    }
    io::copy(&mut to, &mut agent)?;
    Ok(())
}

fn end(victim: &Victim) {
    loop {
        // The agent can be faster than the note of who it is.
        if let Some(agent) = victim.lock().unwrap().as_mut() {
            agent.kill().unwrap();
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
