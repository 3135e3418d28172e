//! The agent's commands: what each does, in which order, and what it says at the end.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{FirstBoot, Lxd, VERSION};
use palmfarm_protocol::network::Renderer;
use palmfarm_protocol::paths::DOCUMENT;
use palmfarm_protocol::report::{Outcome, State};

use crate::daemon::{find_socket, Daemon};
use crate::farm::{self, Change, Trouble};
use crate::journal::{crc32, Entry, Journal};
use crate::progress::Progress;
use crate::root::{read_text, Root};
use crate::{bridge, clock, confirm, ifupdown, lock, lxd, network, packages, report, seed};

/// How long the container daemon may take to appear: a snap is still being seeded when the boot is over.
const DAEMON: Duration = Duration::from_secs(600);

/// How long the addresses of containers that were just made or started may take before the report is closed.
const ADDRESSES: Duration = Duration::from_secs(60);

/// How long they may take while the host itself has just begun: the daemon starts all containers at once, and ten of
/// them on a Pi 2 are in each other's way.
const BOOTING: Duration = Duration::from_secs(180);

/// Until when a host has just begun, in seconds since the kernel did.
const YOUNG: u64 = 900;

/// How long they may take where nothing was changed.
const LOOK: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ending {
    /// All is as declared.
    Done,
    /// Nothing was touched.
    Refused,
    /// Something could not be made true.
    Failed,
}

/// The document, and a digest of it.
pub fn document(file: &Path) -> Result<(FirstBoot, String), Trouble> {
    let shown = file.display();
    let text = read_text(file).map_err(|error| Trouble::new(format!("reading {shown}: {error}")))?;
    let document: FirstBoot = serde_json::from_str(&text).map_err(|error| {
        let version = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("version")?.as_u64());
        Trouble::new(match version {
            Some(version) if version != u64::from(VERSION) => unknown_version(file, version),
            _ => format!("reading {shown}: {error}"),
        })
    })?;
    if document.version != VERSION {
        return Err(Trouble::new(unknown_version(file, u64::from(document.version))));
    }
    Ok((document, format!("{:08x}-{}", crc32(text.as_bytes()), text.len())))
}

/// `palmfarm-agent bridge`: before systemd-networkd.
pub fn bridge(root: &Root, document: &FirstBoot) -> Ending {
    ending(bridge::fill(root, &document.network).map(|_| true))
}

/// `palmfarm-agent seed`: before cloud-init.
pub fn seed(root: &Root) -> Ending {
    ending(seed::prepare(root).map(|_| true))
}

/// `palmfarm-agent network`: beside the boot.
pub fn network(root: &Root, document: &FirstBoot) -> Ending {
    let outcome = network::watch(root, document);
    if let Ok(Outcome::RolledBack) = outcome {
        // A run that is at work sees it in the journal and reports it; before the first one nobody else does.
        if let Ok(Some(_lock)) = lock::take(root) {
            let runs = Journal::open(root).unwrap_or_default().runs();
            let mut report = report::begin(root, document, runs);
            report.state = State::Failed;
            report::publish(root, document, &report);
        }
    }
    ending(outcome.map(|outcome| outcome != Outcome::RolledBack))
}

/// `palmfarm-agent run`: make true what the document declares.
pub fn run(root: &Root, document: &FirstBoot, digest: &str) -> Ending {
    run_after(root, document, digest, || Ok(()))
}

/// The same, once `first` is done, which nothing else disturbs.
pub(crate) fn run_after(
    root: &Root,
    document: &FirstBoot,
    digest: &str,
    first: impl FnOnce() -> Result<(), Trouble>,
) -> Ending {
    let lock = match lock::take(root) {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            say!("another run is at work; `palmfarm-agent status` shows how far it is");
            return Ending::Refused;
        }
        Err(error) => {
            say!("taking the lock below /run/palmfarm: {error}");
            return Ending::Failed;
        }
    };
    if let Err(trouble) = first() {
        return ending(Err(trouble));
    }
    let journal = Journal::open(root).and_then(|mut journal| {
        if journal.confirmed(&confirm::digest(&document.network)) {
            journal.shorten(root)?;
        }
        let number = journal.runs().saturating_add(1);
        journal.add(root, Entry::Run { number })?;
        Ok(journal)
    });
    let journal = journal.unwrap_or_else(|error| {
        // A card that is full or broken must still come up and say so.
        say!("keeping the journal {}: {error}", crate::journal::PATH);
        Journal::default()
    });
    let mut progress = Progress::new(root, document, journal, digest);
    steps(root, document, &mut progress);
    let state = progress.finish(digest);
    drop(lock);
    ending(Ok(state == State::Done))
}

/// Each step needs what stands above it, as far as it says so.
fn steps(root: &Root, document: &FirstBoot, progress: &mut Progress<'_>) {
    if seed::concerns(root) {
        progress.take("cloud-init", || seed::step(root));
    }
    let online = progress.take("network", || network::step(root, &document.network));
    if network::outcome(root, &document.network) == Outcome::RolledBack {
        progress.skip(
            "farm",
            "there is no bridge to put it on until the network is mended",
        );
        return;
    }
    let ifupdown = document.network.renderer == Renderer::Ifupdown;
    if document.lxd.is_some() || !document.packages.is_empty() {
        progress.take("clock", || clock::step(root, DOCUMENT));
    }
    let mut installed = true;
    if !document.packages.is_empty() {
        installed = progress.take("packages", || packages::install(root, &document.packages));
    }
    if ifupdown && online && installed {
        progress.take("ifupdown", || ifupdown::switch(root, &document.network));
    } else if ifupdown {
        progress.skip(
            "ifupdown",
            "its packages are not installed, or the network is not up yet",
        );
    }
    if let Some(lxd) = &document.lxd {
        farm(root, document, lxd, progress);
    }
}

/// The container daemon and everything on it.
fn farm(root: &Root, document: &FirstBoot, declared: &Lxd, progress: &mut Progress<'_>) {
    // Where this fails there may still be a daemon, of an older version.
    progress.take("lxd", || lxd::step(root, declared));
    let mut found = None;
    progress.take("daemon", || {
        let end = Instant::now() + DAEMON;
        loop {
            let trouble = match find_socket(root.dir(), declared.flavour) {
                Some(socket) => match Daemon::connect(&socket.socket) {
                    Ok(daemon) => {
                        found = Some(daemon);
                        return Ok(Change::Unchanged);
                    }
                    Err(error) if !error.is_passing() => return Err(error.into()),
                    Err(error) => error.into(),
                },
                None => Trouble::new("no container daemon is installed: none of its sockets is there"),
            };
            if Instant::now() > end {
                return Err(trouble);
            }
            sleep(Duration::from_secs(2));
        }
    });
    let Some(daemon) = found else {
        progress.skip("farm", "the container daemon is not there");
        progress.containers(farm::unknown(document));
        return;
    };
    if !document.daemon_users.is_empty() {
        let users = &document.daemon_users;
        progress.take("people", || lxd::people(root, declared.flavour, users));
    }
    farm::converge(&daemon, document, declared, root.dir(), progress);
    let patience = if progress.has_changed_the_farm() {
        farm::Patience::Fresh(ADDRESSES)
    } else if uptime(root).is_some_and(|seconds| seconds < YOUNG) {
        farm::Patience::Booting(BOOTING)
    } else {
        farm::Patience::Old(LOOK)
    };
    progress.containers(farm::survey(&daemon, document, declared, patience));
}

/// Seconds since the kernel began: the first number in `/proc/uptime` (proc(5)), without its fraction.
fn uptime(root: &Root) -> Option<u64> {
    root.line("/proc/uptime")?.split('.').next()?.parse().ok()
}

fn ending(done: Result<bool, Trouble>) -> Ending {
    match done {
        Ok(true) => Ending::Done,
        Ok(false) => Ending::Failed,
        Err(trouble) => {
            say!("palmfarm-agent: {trouble}");
            for line in &trouble.output {
                say!("    | {line}");
            }
            Ending::Failed
        }
    }
}

fn unknown_version(file: &Path, version: u64) -> String {
    format!(
        "reading {}: it has version {version}, and this agent knows {VERSION}: the palmfarm that made the card is not \
         the one that the agent is from",
        file.display()
    )
}
