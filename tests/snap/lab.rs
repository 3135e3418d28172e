//! A host that is booted in namespaces of its own, with snapd on it and a home router beside it. Everything that it
//! writes goes into a directory that goes away; the system below is made once and kept in the cache.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::{Report, Step, StepState};

use crate::cgroup::Cgroup;
use crate::common::skipped;
use crate::image;
use crate::machine::{agent_program, lacking, Scratch};
use crate::netns::{namespaces, Netns};
use crate::router::{Router, Service};
use crate::sh;
use crate::sweep;

/// What of Debian's the system is made from.
const INCLUDE: &str =
    "--include=systemd-sysv,dbus,udev,snapd,lxd,lxd-client,btrfs-progs,dnsmasq-base,nftables,iptables,\
                       iproute2,kmod,procps,busybox-static";

/// How long the host may take to boot, an agent to run, and a command to end, before they count as stuck.
const STUCK: Duration = Duration::from_secs(600);

/// What the daemon in the snap keeps.
pub(crate) const LXD_DIR: &str = "/var/snap/lxd/common/lxd";

/// The host; each test has one.
pub(crate) struct Lab {
    router: Router,
    _netns: Netns,
    /// Who waits for process 1 of the host, and has its namespaces.
    init: Child,
    /// Goes after the processes in it.
    _cgroup: Cgroup,
    /// Goes last.
    dir: Scratch,
}

/// What one run of the agent came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its report.
    pub(crate) report: Report,
    /// What it printed.
    pub(crate) printed: String,
}

impl Lab {
    /// Boot a host on which no snap is installed, and whose snapd starts so many seconds late. `None` if something is
    /// missing, which the test has said then.
    pub(crate) fn boot(snapd_is_late: u32) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let hook = include_str!("base.sh").replace("@SNAPS@", include_str!("snaps.sh"));
        let hook = format!("--customize-hook={hook}");
        let base = match lacking(&["mmdebstrap"]) {
            None => image::tree("snapd", image::SUITE, &[INCLUDE, &hook]),
            Some(why) => Err(why),
        };
        let base = match base {
            Ok(base) => base,
            Err(why) => {
                skipped(why);
                return None;
            }
        };
        sweep::sweep();
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let dir = Scratch::new(&id);
        let netns = Netns::new(format!("pi-palmfarm-{id}"));
        let mut router = Router::new(Netns::new(format!("home-palmfarm-{id}")), &netns, &dir.0);
        netns.bridge();
        router.serve(Service::Both);
        for sub in ["root", "upper/var/lib", "work"] {
            fs::create_dir_all(dir.0.join(sub)).unwrap();
        }
        fs::write(dir.0.join("upper/var/lib/late"), snapd_is_late.to_string()).unwrap();
        let cgroup = Cgroup::new(netns.name());
        let mut init = namespaces(&netns, &cgroup);
        init.args(["sh", "-c", include_str!("boot.sh")]);
        init.env("BASE", base).env("DIR", &dir.0);
        init.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.0.join("boot.log")).unwrap());
        let lab = Self {
            init: init.spawn().unwrap(),
            router,
            _netns: netns,
            _cgroup: cgroup,
            dir,
        };
        let asked = || lab.succeeds("systemctl is-active --quiet snapd.socket");
        lab.wait_for("the host has not booted", asked);
        fs::create_dir_all(lab.at("/boot/firmware")).unwrap();
        lab.put(
            "/usr/lib/palmfarm/palmfarm-agent",
            &fs::read(agent_program()).unwrap(),
        );
        lab.done("chmod 755 /usr/lib/palmfarm/palmfarm-agent");
        // Nothing sets the clock here, so the agent must not wait for it.
        lab.put("/run/systemd/timesync/synchronized", b"");
        Some(lab)
    }

    /// The same with LXD's snap installed.
    pub(crate) fn with_lxd() -> Option<Self> {
        let lab = Self::boot(0)?;
        lab.install("core");
        lab.install("lxd");
        Some(lab)
    }

    /// Install a snap that is on the host: `core`, `lxd`, or `next`, which is LXD's next revision.
    pub(crate) fn install(&self, snap: &str) {
        // snapd may be about to start itself anew.
        let line = format!("snap install --dangerous /srv/{snap}.snap");
        self.wait_for("no snap was installed", || self.succeeds(&line));
    }

    /// Where the host's file at `path` is from here.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.init.id()).into()
    }

    /// Put `bytes` at `path` of the host.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// What `line` prints on the host; it must succeed.
    pub(crate) fn done(&self, line: &str) -> String {
        sh::output(&mut self.command(line))
    }

    /// Whether `line` succeeds on the host.
    pub(crate) fn succeeds(&self, line: &str) -> bool {
        sh::succeeds(&mut self.command(line))
    }

    /// Start `line` on the host and return at once.
    pub(crate) fn start(&self, line: &str) -> Child {
        let mut command = self.command(line);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// What `lxc` prints.
    pub(crate) fn lxc(&self, line: &str) -> String {
        self.done(&format!(
            "env LXD_DIR={LXD_DIR} /snap/lxd/current/bin/lxc --force-local {line}"
        ))
    }

    /// The router.
    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// Run the agent on `document` to its end. `meanwhile` sees what it has printed so far, five times a second.
    pub(crate) fn agent(&self, document: &FirstBoot, meanwhile: impl FnMut(&str)) -> Ran {
        let printed = self.agent_until(document, meanwhile, |_| false);
        let report = fs::read(self.at("/var/lib/palmfarm/report.json"));
        let report = report.unwrap_or_else(|error| panic!("no report: {error}\n{printed}"));
        Ran {
            report: serde_json::from_slice(&report).unwrap(),
            printed,
        }
    }

    /// Run the agent on `document` until it ends, or what it has printed is `enough`: then it is killed. Returns what it
    /// printed.
    pub(crate) fn agent_until(
        &self,
        document: &FirstBoot,
        mut meanwhile: impl FnMut(&str),
        enough: impl Fn(&str) -> bool,
    ) -> String {
        let document = serde_json::to_vec_pretty(document).unwrap();
        self.put("/etc/palmfarm/firstboot.json", &document);
        let log = self.dir.0.join("agent.log");
        let out = fs::File::create(&log).unwrap();
        // A unit, as on a card.
        let mut command = self.command(
            "systemd-run --quiet --unit=palmfarm-run --collect --wait --pipe /usr/lib/palmfarm/palmfarm-agent run",
        );
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let begun = Instant::now();
        let mut agent = command.spawn().unwrap();
        loop {
            let printed = fs::read_to_string(&log).unwrap();
            if agent.try_wait().unwrap().is_some() {
                return printed;
            }
            let is_stuck = begun.elapsed() > STUCK;
            if is_stuck || enough(&printed) {
                self.done("systemctl kill --signal=KILL palmfarm-run.service");
                agent.wait().unwrap();
            }
            assert!(!is_stuck, "the agent was stuck:\n{printed}\n{}", self.log());
            meanwhile(&printed);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The end of the host's journal.
    pub(crate) fn log(&self) -> String {
        self.done("journalctl --no-pager --lines=60")
    }

    /// `line`, which has neither quotes nor blanks in its words, on the host. It dies with the thread that started it.
    fn command(&self, line: &str) -> Command {
        let mut command = sh::words("setpriv --pdeathsig KILL nsenter");
        let namespaces = format!("/proc/{}/ns", self.init.id());
        for (option, file) in [
            ("mount", "mnt"),
            ("net", "net"),
            ("uts", "uts"),
            ("ipc", "ipc"),
            ("cgroup", "cgroup"),
            ("pid", "pid_for_children"),
        ] {
            command.arg(format!("--{option}={namespaces}/{file}"));
        }
        command.args(line.split_ascii_whitespace());
        command
    }

    fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            let log = || fs::read_to_string(self.dir.0.join("boot.log")).unwrap_or_default();
            assert!(begun.elapsed() < STUCK, "{what}\n{}", log());
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A host that has not booted has no journal.
            let log = sh::ended(&mut self.command("journalctl --no-pager --lines=80"));
            println!("{}", String::from_utf8_lossy(&log.stdout));
        }
        // `unshare --kill-child` takes process 1 down with it, and with that everything in its namespaces.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

impl Ran {
    /// The step `name` of its report.
    pub(crate) fn step(&self, name: &str) -> &Step {
        let found = self.report.steps.iter().find(|step| step.name == name);
        found.unwrap_or_else(|| panic!("no step {name}:\n{}", self.printed))
    }

    /// No step failed or was skipped.
    #[track_caller]
    pub(crate) fn all_well(&self) -> &Self {
        let bad = |step: &&Step| matches!(step.state, StepState::Failed | StepState::Skipped);
        let bad: Vec<_> = self.report.steps.iter().filter(bad).collect();
        assert!(bad.is_empty(), "{bad:#?}\n{}", self.printed);
        self
    }
}
