//! A whole lab: home router, Pi with its daemon, a directory as the card, and the real agent run on a document.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::{Report, Step, StepState};

use crate::common::skipped;
use crate::image;
use crate::machine::{agent_program, lacking, Scratch};
use crate::netns::Netns;
use crate::pi::Pi;
use crate::proxy::{Kill, Proxy, Victim};
use crate::router::Router;
use crate::sweep;

/// How long an agent may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(300);

/// A lab of its own; each test has one.
pub(crate) struct Lab {
    /// The daemon and its network.
    pub(crate) pi: Pi,
    /// The router.
    pub(crate) router: Router,
    /// Goes last.
    dir: Scratch,
}

/// What one run of the agent came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Each request for a change that it sent, as `METHOD path`.
    pub(crate) changes: Vec<String>,
    /// How long after its start the last of them was answered.
    pub(crate) changed: Option<Duration>,
    /// Its report, if it lived to write one.
    pub(crate) report: Option<Report>,
    /// The most memory that was resident, in KiB.
    pub(crate) resident_kib: u64,
    /// Wall clock.
    pub(crate) took: Duration,
    /// What it printed.
    pub(crate) printed: String,
}

impl Lab {
    /// A lab with a router that hands out nothing yet; `None` if something is missing, which the test has said then.
    pub(crate) fn new() -> Option<Self> {
        if let Some(why) = lacking(&["lxd", "lxc", "mkfs.btrfs"]) {
            skipped(why);
            return None;
        }
        Some(Self::with(None))
    }

    /// The same with Debian's Incus in the place of LXD.
    pub(crate) fn incus() -> Option<Self> {
        let tree = match lacking(&["mmdebstrap"]) {
            None => image::incus(),
            Some(why) => Err(why),
        };
        match tree {
            Ok(tree) => Some(Self::with(Some(&tree))),
            Err(why) => {
                skipped(why);
                None
            }
        }
    }

    fn with(tree: Option<&Path>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        sweep::sweep();
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let dir = Scratch::new(&id);
        let netns = Netns::new(format!("pi-palmfarm-{id}"));
        let router = Router::new(Netns::new(format!("home-palmfarm-{id}")), &netns, &dir.0);
        let pi = Pi::new(netns, &dir.0, tree);
        let lab = Self { pi, router, dir };
        for sub in ["proc", "sys", "var/lib/palmfarm", "boot/firmware"] {
            fs::create_dir_all(lab.card().join(sub)).unwrap();
        }
        // Nothing sets the clock here, so the agent must not wait for it.
        lab.put("run/systemd/timesync/synchronized", b"");
        lab
    }

    /// Where the card's files lie.
    pub(crate) fn card(&self) -> PathBuf {
        self.dir.0.join("card")
    }

    /// Put `bytes` at `path` of the card.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.card().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Run the agent to its end.
    pub(crate) fn agent(&self, document: &FirstBoot) -> Ran {
        self.agent_until(document, Kill::Never)
    }

    /// Run the agent until it ends or is killed.
    pub(crate) fn agent_until(&self, document: &FirstBoot, kill: Kill) -> Ran {
        self.agent_while(document, kill, |_| {})
    }

    /// Run the agent on `document`; `meanwhile` sees how many changes it has asked for, every 20 ms.
    pub(crate) fn agent_while(&self, document: &FirstBoot, kill: Kill, meanwhile: impl FnMut(usize)) -> Ran {
        self.put(
            "etc/palmfarm/firstboot.json",
            &serde_json::to_vec_pretty(document).unwrap(),
        );
        self.run(&["run"], kill, meanwhile)
    }

    /// Run the agent with the words of a command, in which `CARD` is the directory of the card.
    pub(crate) fn command(&self, words: &[&str]) -> Ran {
        self.command_until(words, Kill::Never)
    }

    /// The same until it is killed.
    pub(crate) fn command_until(&self, words: &[&str], kill: Kill) -> Ran {
        self.run(words, kill, |_| {})
    }

    fn run(&self, words: &[&str], kill: Kill, mut meanwhile: impl FnMut(usize)) -> Ran {
        let report = self.card().join("var/lib/palmfarm/report.json");
        let _ = fs::remove_file(&report);
        let victim: Victim = Arc::new(Mutex::new(None));
        let socket = self.dir.0.join("agent.socket");
        let proxy = Proxy::new(&socket, &self.pi.socket(), Arc::clone(&victim), kill);
        let printed = self.dir.0.join("agent.log");
        let log = fs::File::create(&printed).unwrap();
        let mut command = self.agent_command(words);
        command.env("LXD_SOCKET", &socket).env("INCUS_SOCKET", &socket);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let begun = Instant::now();
        *victim.lock().unwrap() = Some(command.spawn().unwrap());
        let mut resident_kib = 0;
        let status = loop {
            if let Some(agent) = victim.lock().unwrap().as_mut() {
                resident_kib = resident_kib.max(resident(agent.id()));
                if let Some(status) = agent.try_wait().unwrap() {
                    break status;
                }
                if begun.elapsed() > STUCK {
                    agent.kill().unwrap();
                }
            }
            let changes = proxy.changes().len();
            meanwhile(changes);
            proxy.saw(changes);
            std::thread::sleep(Duration::from_millis(20));
        };
        let took = begun.elapsed();
        let printed = fs::read_to_string(printed).unwrap_or_default();
        assert!(took < STUCK, "the agent was stuck:\n{printed}\n{}", self.pi.log());
        let report = fs::read(report)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Ran {
            status,
            changes: proxy.changes(),
            changed: proxy.last().map(|last| last - begun),
            report,
            resident_kib,
            took,
            printed,
        }
    }

    /// The agent below the card's root, in a mount namespace in which that has the kernel's file systems, too: the
    /// agent that is on the card, if there is one.
    fn agent_command(&self, words: &[&str]) -> Command {
        let script =
            "mount --bind /proc \"$1/proc\" && mount --rbind /sys \"$1/sys\" && card=$1 && shift && \
                      exec \"$agent\" --root \"$card\" \"$@\"";
        let own = self.card().join("usr/lib/palmfarm/palmfarm-agent");
        let agent = if own.is_file() {
            own
        } else {
            agent_program().into()
        };
        let mut command = self.pi.command("sh");
        command
            .args(["-c", script, "sh"])
            .arg(self.card())
            .env("agent", agent);
        let card = self.card().display().to_string();
        command.args(words.iter().map(|word| word.replace("CARD", &card)));
        command
    }
}

impl Ran {
    /// The step `name` of its report.
    pub(crate) fn step(&self, name: &str) -> &Step {
        let steps = &self
            .report
            .as_ref()
            .unwrap_or_else(|| panic!("no report:\n{}", self.printed))
            .steps;
        let found = steps.iter().find(|step| step.name == name);
        found.unwrap_or_else(|| panic!("no step {name} in {steps:#?}"))
    }

    /// It ended well: no step failed or was skipped.
    #[track_caller]
    pub(crate) fn all_well(&self) -> &Self {
        let steps = &self
            .report
            .as_ref()
            .unwrap_or_else(|| panic!("no report:\n{}", self.printed))
            .steps;
        let bad = |step: &&Step| matches!(step.state, StepState::Failed | StepState::Skipped);
        let bad: Vec<_> = steps.iter().filter(bad).collect();
        assert!(
            bad.is_empty() && self.status.success(),
            "{bad:#?}\n{}",
            self.printed
        );
        self
    }
}

/// The most resident memory of a process so far, in KiB (proc(5), `VmHWM`).
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // Before it is the agent, the process is `setpriv` and `ip`.
    if !status.starts_with("Name:\tpalmfarm-agent") {
        return 0;
    }
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}
