//! The agent's commands: what each does, in which order, and how it ends.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::{FirstBoot, Lxd, VERSION};
use palmfarm_protocol::network::Renderer;
use palmfarm_protocol::paths::DOCUMENT;
use palmfarm_protocol::report::{Outcome, State};

use crate::cluster::{self, Entry};
use crate::daemon::{find_socket, Daemon};
use crate::farm::{self, AddressWait, Farm};
use crate::journal::{self, Journal};
use crate::progress::Progress;
use crate::root::{read_text, uptime, Root};
use crate::step::{StepError, StepListener};
use crate::{bridge, clock, digest, ifupdown, lock, lxd, network, packages, report, seed, snap};

/// How long the container daemon may take to appear: a snap is still being seeded at the end of the boot.
const DAEMON: Duration = Duration::from_secs(600);

/// How long one try to reach it may take. A member of a cluster answers nothing until most cards are on, and whoever waits
/// for it looks meanwhile whether it is to give way.
const TRY: Duration = Duration::from_secs(20);

/// How long the report waits for the addresses of containers that were just made or started.
const ADDRESSES: Duration = Duration::from_secs(60);

/// The same while the host has just booted: the daemon starts all containers at once, and ten of them slow each other
/// down on a Pi 2.
const BOOTING: Duration = Duration::from_secs(180);

/// For how many seconds after the kernel's start a host counts as just booted.
const YOUNG: u64 = 900;

/// The same if nothing was changed.
const LOOK: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ExitStatus {
    /// All is as declared.
    Done,
    /// The command was refused, and nothing was touched.
    Refused,
    /// Something could not be made true.
    Failed,
}

/// Run `command` on the document in the file `named`, or on the card's own.
pub fn with_document(
    root: &Root,
    named: Option<&str>,
    command: impl FnOnce(&FirstBoot, &str) -> ExitStatus,
) -> ExitStatus {
    let file = named.map_or_else(|| root.at(DOCUMENT), PathBuf::from);
    match document(&file) {
        Ok((document, digest)) => command(&document, &digest),
        Err(error) => {
            say!("palmfarm-agent: {error}");
            ExitStatus::Refused
        }
    }
}

/// The document in `file`, and a digest of it.
pub(crate) fn document(file: &Path) -> Result<(FirstBoot, String), StepError> {
    let shown = file.display();
    let text = read_text(file).map_err(|error| StepError::new(format!("reading {shown}: {error}")))?;
    parse(file, &text)
}

/// The same from the text of `file`.
pub(crate) fn parse(file: &Path, text: &str) -> Result<(FirstBoot, String), StepError> {
    let document: FirstBoot = serde_json::from_str(text).map_err(|error| {
        let version = serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|value| value.get("version")?.as_u64());
        StepError::new(match version {
            Some(version) if version != u64::from(VERSION) => unknown_version(file, version),
            _ => format!("reading {}: {error}", file.display()),
        })
    })?;
    if document.version != VERSION {
        return Err(StepError::new(unknown_version(file, u64::from(document.version))));
    }
    Ok((document, digest::of(text)))
}

/// `palmfarm-agent bridge`: before systemd-networkd.
pub fn bridge(root: &Root, document: &FirstBoot) -> ExitStatus {
    exit_status(bridge::fill(root, &document.network).map(|_| true))
}

/// `palmfarm-agent seed`: before cloud-init.
pub fn seed(root: &Root) -> ExitStatus {
    exit_status(seed::prepare(root).map(|_| true))
}

/// `palmfarm-agent network`: beside the boot.
pub fn network(root: &Root, document: &FirstBoot) -> ExitStatus {
    let outcome = network::watch(root, document);
    if let Ok(Outcome::RolledBack) = outcome {
        // A run that is at work finds it in the journal and reports it; before the first run nobody else does.
        if let Ok(Some(_lock)) = lock::take(root) {
            // The number is only shown to people, and the report matters more.
            let runs = Journal::open(root).unwrap_or_default().runs();
            let mut report = report::begin(root, document, runs);
            report.state = State::Failed;
            report::publish(root, document, &report);
        }
    }
    exit_status(outcome.map(|outcome| outcome != Outcome::RolledBack))
}

/// `palmfarm-agent run`: make true what the document declares.
pub fn run(root: &Root, document: &FirstBoot, digest: &str) -> ExitStatus {
    run_with(root, document, digest, lock::take_soon(root), || Ok(()))
}

/// The same after `first`, with the lock held all the time. A run that only waits for other cards gives way.
pub(crate) fn run_after(
    root: &Root,
    document: &FirstBoot,
    digest: &str,
    first: impl FnOnce() -> Result<(), StepError>,
) -> ExitStatus {
    run_with(root, document, digest, lock::take_from_waiting(root), first)
}

fn run_with(
    root: &Root,
    document: &FirstBoot,
    digest: &str,
    lock: io::Result<Option<lock::Lock>>,
    first: impl FnOnce() -> Result<(), StepError>,
) -> ExitStatus {
    let lock = match lock {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            say!("another run is at work; `palmfarm-agent status` shows how far it is");
            return ExitStatus::Refused;
        }
        Err(error) => {
            say!("taking the lock below /run/palmfarm: {error}");
            return ExitStatus::Failed;
        }
    };
    if let Err(error) = first() {
        return exit_status(Err(error));
    }
    let number = journal::begin_run(root).unwrap_or_else(|error| {
        // A card that is full or broken must still come up and say so.
        say!("writing to {}: {error}", journal::PATH);
        0
    });
    let mut progress = Progress::new(root, document, digest, number);
    steps(root, document, &mut progress);
    farm::hand_over_all(root);
    let state = progress.finish();
    drop(lock);
    exit_status(Ok(state == State::Done))
}

/// The steps in their order. A step that needs an earlier one is skipped if that one failed.
fn steps(root: &Root, document: &FirstBoot, progress: &mut Progress<'_>) {
    if seed::concerns(root) {
        progress.take("cloud-init", &mut || seed::step(root));
    }
    let online = progress.take("network", &mut || network::step(root, &document.network));
    if network::outcome(root, &document.network) == Outcome::RolledBack {
        progress.skip(
            "farm",
            "it needs the bridge, and the declared network was rolled back",
        );
        return;
    }
    let ifupdown = document.network.renderer == Renderer::Ifupdown;
    if document.lxd.is_some() || !document.packages.is_empty() {
        progress.take_noting(clock::STEP, &mut |note| clock::step(root, DOCUMENT, note));
    }
    let mut installed = true;
    if !(document.packages.is_empty() && document.carried.is_empty()) {
        installed = progress.take("packages", &mut || {
            packages::install(root, &document.packages, &document.carried)
        });
    }
    if ifupdown && online && installed {
        progress.take("ifupdown", &mut || ifupdown::switch(root, &document.network));
    } else if ifupdown {
        progress.skip(
            "ifupdown",
            "its packages are not installed, or the network is not up",
        );
    }
    if let Some(lxd) = &document.lxd {
        farm(root, document, lxd, progress);
    }
}

/// The container daemon and everything on it.
fn farm(root: &Root, document: &FirstBoot, declared: &Lxd, progress: &mut Progress<'_>) {
    // If this fails, there may still be a daemon of an older version.
    progress.take("lxd", &mut || lxd::step(root, declared));
    let mut entry = Entry::new();
    let mut hold = None;
    progress.begin("daemon");
    let connected = cluster::place_keys(root, document, declared).and_then(|change| {
        hold = lxd::hold(root, declared);
        Ok((connect(root, declared, &mut entry, progress)?, change))
    });
    let (connected, change) = match connected {
        Ok((daemon, change)) => (Some(daemon), Ok(change)),
        Err(error) => (None, Err(error)),
    };
    progress.conclude("daemon", String::new(), change);
    let Some(daemon) = connected else {
        progress.skip("farm", "there is no container daemon");
        progress.containers(farm::unknown(document));
        return;
    };
    if !document.daemon_users.is_empty() {
        let users = &document.daemon_users;
        progress.take("people", &mut || {
            lxd::add_users_to_group(root, declared.flavour, users)
        });
    }
    let farm = Farm::new(&daemon, declared, root, &document.card);
    if declared.cluster.is_some() && !cluster::enter(&farm, document, &mut entry, progress) {
        progress.skip("farm", "this card is not in its cluster");
        progress.containers(farm::unknown(document));
        return;
    }
    farm::converge(&farm, document, progress);
    drop(hold);
    if lxd::has_refreshes(root, declared) {
        progress.take_noting("refreshes", &mut |note| {
            lxd::leave_refreshes(root, declared, note)
        });
    }
    let wait = if progress.has_changed_the_farm() {
        AddressWait::Fresh(ADDRESSES)
    } else if uptime(root).is_some_and(|seconds| seconds < YOUNG) {
        AddressWait::Booting(BOOTING)
    } else {
        AddressWait::Old(LOOK)
    };
    progress.containers(farm::survey(&daemon, document, declared, wait));
    progress.cluster(cluster::look(&farm, root));
}

/// Wait for the daemon.
fn connect(
    root: &Root,
    declared: &Lxd,
    entry: &mut Entry,
    progress: &mut Progress<'_>,
) -> Result<Daemon, StepError> {
    let begun = Instant::now();
    loop {
        let error = match find_socket(root.dir(), declared.flavour) {
            Some(socket) => match Daemon::connect_within(&socket, TRY) {
                Ok(daemon) => return Ok(daemon),
                Err(error) if !(error.is_passing() || error.is_without_quorum()) => return Err(error.into()),
                Err(error) => error.into(),
            },
            None => StepError::new("no container daemon is installed: it has no socket"),
        };
        if let Some(why) = entry.outlast(root, declared)? {
            progress.begin(&format!("daemon: {why}"));
            cluster::give_way(root)?;
        } else if begun.elapsed() > DAEMON && !snap::is_changing(root, begun) {
            return Err(error);
        }
        sleep(Duration::from_secs(2));
    }
}

fn exit_status(done: Result<bool, StepError>) -> ExitStatus {
    match done {
        Ok(true) => ExitStatus::Done,
        Ok(false) => ExitStatus::Failed,
        Err(error) => {
            say!("palmfarm-agent: {error}");
            for line in &error.output {
                say!("    | {line}");
            }
            ExitStatus::Failed
        }
    }
}

fn unknown_version(file: &Path, version: u64) -> String {
    format!(
        "reading {}: it has version {version}, but this agent only knows version {VERSION}: the card was made by \
         another version of palmfarm than the agent",
        file.display()
    )
}
