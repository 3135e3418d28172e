//! A stand-in for the Pi: namespaces with `eth0`, `br0` and Debian's lxd in them, all below a directory of its own.
//! The daemon of the system, its socket and its directory are never touched.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use palmfarm::farm::Flavour;
use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::netns::{namespaces, Netns};
use crate::sh;

/// The daemon in its namespaces.
pub(crate) struct Pi {
    netns: Netns,
    /// `LXD_DIR` or `INCUS_DIR`.
    dir: PathBuf,
    flavour: Flavour,
    /// Process 1 of the namespaces, or rather who waits for it.
    init: Child,
    talk: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    /// Goes after the processes in it.
    _cgroup: Cgroup,
}

impl Pi {
    /// Bring up `br0` over the `eth0` that is in `netns` already, and the daemon: Debian's LXD, or the Incus of the
    /// system in `tree`.
    pub(crate) fn new(netns: Netns, dir: &Path, tree: Option<&Path>) -> Self {
        netns.bridge();
        let cgroup = Cgroup::new(netns.name());
        let dir = dir.join("lxd");
        fs::create_dir(&dir).unwrap();
        let mut init = namespaces(&netns, &cgroup);
        init.args(["--mount-proc", "sh", "-c", include_str!("namespace.sh")])
            .env("LXD_DIR", &dir);
        init.envs(tree.map(|tree| ("TREE", tree)));
        let log = fs::File::create(dir.with_extension("init.log")).unwrap();
        init.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut init = init.spawn().unwrap();
        let orders = init.stdin.take().unwrap();
        let answers = BufReader::new(init.stdout.take().unwrap());
        let pi = Self {
            netns,
            dir,
            flavour: if tree.is_some() {
                Flavour::Incus
            } else {
                Flavour::Lxd
            },
            init,
            talk: RefCell::new((orders, answers)),
            _cgroup: cgroup,
        };
        pi.answer("up");
        pi.start();
        pi
    }

    /// Start the daemon and wait until it answers.
    pub(crate) fn start(&self) {
        self.order("start");
        if self.flavour == Flavour::Lxd {
            sh::run(sh::words("lxd waitready --timeout=60").env("LXD_DIR", &self.dir));
            return;
        }
        for _ in 0..600 {
            if sh::succeeds(&mut self.curl("/1.0/instances")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("incusd does not answer\n{}", self.log());
    }

    /// End the daemon; containers run on.
    pub(crate) fn stop(&self) {
        self.order("stop");
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("unix.socket")
    }

    /// `lxc` with `line`, which has neither quotes nor blanks in its words.
    pub(crate) fn lxc(&self, line: &str) -> Command {
        let mut lxc = sh::words("lxc");
        lxc.args(line.split_ascii_whitespace());
        lxc.env("LXD_DIR", &self.dir).env("HOME", &self.dir);
        lxc
    }

    /// What `line` prints in the container `name`, which must be something: LXD before 5.14 now and then loses what a short
    /// program has printed where the machine is busy (canonical/lxd, issue 11890).
    pub(crate) fn printed(&self, name: &str, line: &str) -> String {
        let mut tries = (0..3).map(|_| sh::output(&mut self.lxc(&format!("exec {name} -- {line}"))));
        tries.find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// A shell with `script`, in which `lxc` speaks to the daemon.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut shell = sh::cmd("sh", ["-c", script]);
        shell.env("LXD_DIR", &self.dir).env("HOME", &self.dir);
        shell
    }

    /// What the daemon's API answers to a GET of `path`.
    pub(crate) fn query(&self, path: &str) -> Value {
        let text = sh::output(&mut self.curl(path));
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        answer["metadata"].take()
    }

    fn curl(&self, path: &str) -> Command {
        let mut curl = sh::words("curl --silent --fail --noproxy * --max-time 60 --unix-socket");
        curl.arg(self.socket()).arg(format!("http://daemon{path}"));
        curl
    }

    /// `lxd init --dump`.
    pub(crate) fn dump(&self) -> String {
        sh::output(sh::words("lxd init --dump").env("LXD_DIR", &self.dir))
    }

    /// `program` in the Pi's network.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.netns.command(program)
    }

    /// The end of what the daemon logged.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn order(&self, order: &str) {
        writeln!(self.talk.borrow_mut().0, "{order}").unwrap();
        self.answer(order);
    }

    fn answer(&self, expect: &str) {
        let mut line = String::new();
        self.talk.borrow_mut().1.read_line(&mut line).unwrap();
        let log = fs::read_to_string(self.dir.with_extension("init.log")).unwrap_or_default();
        assert_eq!(line.trim_end(), expect, "the namespaces of the Pi:\n{log}");
    }
}

impl Drop for Pi {
    fn drop(&mut self) {
        // `unshare --kill-child` takes process 1 down with it, and with that everything in its namespaces.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}
