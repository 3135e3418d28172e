//! `cargo xtask boot`: a card made from a real base, booted in QEMU beside a home router, and looked at from outside.
//!
//! Nothing is asserted from the tool's own reports alone: the router pings the card, ssh logs in, and the report is read
//! from the image after the power is off. Bounded in time. Never leaves anything of the network or of a machine behind.

mod checks;
mod cluster;
mod cuts;
mod deadline;
mod disk;
mod farm;
mod guest;
mod lab;
mod laptop;
mod look;
mod lxd;
mod mdns;
mod off;
mod offline;
mod qemu;
mod rollback;
mod router;
mod stock;
mod table;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::{anyhow, bail, Context, Result};
use checks::Checks;
use cuts::Choice;
use fs_err as fs;
use lab::Lab;
use qemu::Board;
use xshell::cmd;

use crate::base;
use crate::deps::{self, Privilege};
use crate::sh;

/// The card's name and host name in every farm that is booted.
const HOST: &str = "palm";

/// The layout that the tests boot.
const USUAL: &str = "jammy";

/// The layout of [`USUAL`] in which LXD is not a package.
const WITHOUT_LXD: &str = "jammy-snap";

/// Set in a process with a mount namespace of its own: no other process sees its mounts, and they end with it.
const OWN_MOUNTS: &str = "PALMFARM_XTASK_OWN_MOUNTS";

/// What to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// A farm that carries all that its first boot installs; the router's uplink is cut.
    Offline,
    /// A farm.
    Farm(Renderer),
    /// A farm with a container, on the LXD of the base; `from_laptop` says whether it is also looked for, watched and
    /// changed from the router.
    Lxd { from_laptop: bool },
    /// A farm of so many cards that form a cluster.
    Cluster { members: u8 },
    /// Farms that would cut the Pi off, and a router that is gone.
    Rollback,
    /// One first boot, with the power cut at every point of it.
    PowerCuts(Choice),
    /// The base itself, to see that base and harness are sound.
    Stock,
}

/// Who configures the card's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Renderer {
    /// systemd-networkd.
    Networkd,
    /// ifupdown, as in the article.
    Ifupdown,
}

impl Renderer {
    /// As in the farm file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Networkd => "networkd",
            Self::Ifupdown => "ifupdown",
        }
    }
}

/// What to boot, and on what.
#[derive(Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Options {
    /// Boot a farm whose network this configures
    #[arg(long, value_enum, group = "trial", default_value = "networkd")]
    renderer: Renderer,
    /// Boot a farm that carries packages, LXD as a snap and an image; the router's uplink is cut
    #[arg(long, group = "trial")]
    offline: bool,
    /// Boot a farm with a container, on the LXD of the base
    #[arg(long, group = "trial")]
    lxd: bool,
    /// The same, and do from the router what one does on a laptop: find, watch, palm.local, push
    #[arg(long, group = "trial")]
    lan: bool,
    /// Boot several cards of one farm that form a cluster
    #[arg(long, group = "trial")]
    cluster: bool,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 2, requires = "cluster")]
    #[arg(value_parser = clap::value_parser!(u8).range(2..=3))]
    members: u8,
    /// Boot the base itself, to see that base and harness are sound
    #[arg(long, group = "trial")]
    stock: bool,
    /// Boot farms that would cut the Pi off, and one whose router is gone
    #[arg(long, group = "trial")]
    rollback: bool,
    /// Cut the power at every point of one first boot, and boot some of the cards that are left
    #[arg(long, group = "trial")]
    power_cuts: bool,
    /// How many of the cards that power cuts left are booted
    #[arg(long, value_name = "N", default_value_t = 20, requires = "power_cuts")]
    cuts: usize,
    /// What the random choices of --power-cuts follow from [default: the time]
    #[arg(long, value_name = "SEED", requires = "power_cuts")]
    seed: Option<std::num::NonZeroU64>,
    /// The base: bionic, jammy, noble or resolute [default: jammy, with --offline jammy-snap]
    #[arg(long, value_name = "LAYOUT")]
    base: Option<String>,
    /// The board that QEMU emulates
    #[arg(long, value_enum, default_value = "virt")]
    machine: Board,
    /// The palmfarm that makes the card [default: the one that `cargo xtask dist` makes]
    #[arg(long, value_name = "PALMFARM")]
    tool: Option<PathBuf>,
}

impl Options {
    fn trial(&self) -> Trial {
        match self {
            Self { offline: true, .. } => Trial::Offline,
            Self { lxd, lan, .. } if *lxd || *lan => Trial::Lxd { from_laptop: *lan },
            Self {
                cluster: true,
                members,
                ..
            } => Trial::Cluster { members: *members },
            Self { stock: true, .. } => Trial::Stock,
            Self { rollback: true, .. } => Trial::Rollback,
            Self { power_cuts: true, .. } => Trial::PowerCuts(Choice {
                seed: self.seed.map_or_else(seconds_now, u64::from),
                boots: self.cuts,
            }),
            _ => Trial::Farm(self.renderer),
        }
    }
}

/// Seconds since 1970, as a seed.
fn seconds_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs())
}

/// What stands behind the number of checks in the last line of [`run`].
const PASSED: &str = " checks passed";

/// Boot.
pub(crate) fn run(options: &Options) -> Result<()> {
    let trial = options.trial();
    let tool = match (&options.tool, trial) {
        (Some(tool), _) => tool.clone(),
        (None, Trial::Stock) => PathBuf::new(),
        // Built as the user who started this, before anything runs as root.
        (None, _) => tool_with_agents()?,
    };
    let usual = match trial {
        Trial::Offline => WITHOUT_LXD,
        _ => USUAL,
    };
    let base = options.base.as_deref().unwrap_or(usual);
    let passed = as_root(trial, base, options.machine, &tool)?;
    println!("{passed}{PASSED}");
    Ok(())
}

/// Another process, which makes the base of [`Beside`] while this one does something else.
#[derive(Debug)]
pub(crate) struct Ahead(Option<Child>);

impl Ahead {
    pub(crate) fn start() -> Self {
        let begin = || -> Result<Child> {
            let (sh, program) = (sh::shell()?, std::env::current_exe()?);
            // It must not outlive this process.
            let base = cmd!(sh, "setpriv --pdeathsig TERM {program} base {USUAL}");
            sh::start_logged(base, &crate::target_dir().join("base-ahead.log"))
        };
        // A failure is ignored here: it happens again, and is reported, when the base is used.
        Self(begin().ok())
    }

    /// Wait until it is made or has failed.
    fn wait(self) {
        if let Some(mut child) = self.0 {
            let _ = child.wait();
        }
    }
}

/// Boots that go on beside other tests: a booted card keeps one processor busy, and half of the tests mostly wait.
pub(crate) struct Beside(JoinHandle<Vec<(Renderer, Result<u64>)>>);

impl Beside {
    /// Boot a card of each of these renderers on a 22.04 base, one after the other, once the base is made. Call [`ready`]
    /// first.
    pub(crate) fn start(base: Ahead, renderers: &'static [Renderer]) -> Result<Self> {
        let tool = tool_with_agents()?;
        Ok(Self(std::thread::spawn(move || {
            base.wait();
            let boots = renderers.iter();
            boots.map(|&one| (one, boot_logged(one, &tool))).collect()
        })))
    }

    /// Wait for the boots and print what they said; the number of checks that passed.
    pub(crate) fn finish(self) -> Result<u64> {
        let boots = self.0.join();
        let boots = boots.map_err(|_| anyhow!("the thread that boots cards panicked"))?;
        let mut passed = 0_u64;
        for (renderer, boot) in boots {
            eprint!("{}", fs::read_to_string(log_of(renderer)).unwrap_or_default());
            let checks = boot.with_context(|| format!("booting a card with {}", renderer.name()))?;
            passed = passed.saturating_add(checks);
        }
        Ok(passed)
    }
}

fn log_of(renderer: Renderer) -> PathBuf {
    crate::target_dir().join(format!("boot-{}.log", renderer.name()))
}

/// Boot in a process whose output goes into a file.
fn boot_logged(renderer: Renderer, tool: &Path) -> Result<u64> {
    let (sh, program, log) = (sh::shell()?, std::env::current_exe()?, log_of(renderer));
    let name = renderer.name();
    let boot = cmd!(
        sh,
        "setpriv --pdeathsig TERM {program} boot --renderer {name} --base {USUAL} --tool {tool}"
    );
    let status = sh::start_logged(boot, &log)?.wait()?;
    let said = fs::read_to_string(&log)?;
    if !status.success() {
        bail!("it ended with {status}; {} says why", log.display());
    }
    let passed = said
        .lines()
        .rev()
        .find_map(|line| line.strip_suffix(PASSED)?.parse().ok());
    passed.with_context(|| format!("{} does not say how many checks passed", log.display()))
}

/// Run the trial here or, if this is not root, in a child that is; a child counts as one check.
fn as_root(trial: Trial, layout: &str, board: Board, tool: &Path) -> Result<u64> {
    let tool_word = tool.display().to_string();
    let (seed, cuts, count);
    let mut args = vec!["boot", "--base", layout, "--machine", board.name()];
    args.extend(["--tool", &tool_word]);
    match trial {
        Trial::Stock => args.push("--stock"),
        Trial::Offline => args.push("--offline"),
        Trial::Lxd { from_laptop } => args.push(if from_laptop { "--lan" } else { "--lxd" }),
        Trial::Cluster { members } => {
            count = members.to_string();
            args.extend(["--cluster", "--members", &count]);
        }
        Trial::Rollback => args.push("--rollback"),
        Trial::PowerCuts(choice) => {
            (seed, cuts) = (choice.seed.to_string(), choice.boots.to_string());
            args.extend(["--power-cuts", "--seed", &seed, "--cuts", &cuts]);
        }
        Trial::Farm(renderer) => args.extend(["--renderer", renderer.name()]),
    }
    if deps::rerun_as_root(&args)? {
        return Ok(1);
    }
    ready()?;
    if matches!(trial, Trial::PowerCuts(_)) && std::env::var_os(OWN_MOUNTS).is_none() {
        deps::ensure(cuts::NEEDS)?;
        let (sh, program) = (sh::shell()?, std::env::current_exe()?);
        let unshare = cmd!(sh, "unshare --mount --propagation private {program} {args...}");
        unshare.env(OWN_MOUNTS, "1").run()?;
        return Ok(1);
    }
    boot(trial, layout, board, tool)
}

/// Whether a card can be booted here; an error says why not.
pub(crate) fn ready() -> Result<()> {
    if deps::privilege() != Privilege::Root {
        bail!("booting a card needs root: the router has a network namespace of its own");
    }
    base::ready()?;
    deps::ensure(&[router::NEEDS, qemu::NEEDS, guest::NEEDS, farm::NEEDS, lxd::NEEDS].concat())
}

/// Run the trial with the palmfarm `tool`; the number of checks that passed.
fn boot(trial: Trial, layout: &str, board: Board, tool: &Path) -> Result<u64> {
    let base = base::build(layout)?;
    let mut checks = Checks::new();
    checks.show("what the base has in place of Ubuntu's", &base.stand_in);
    let (name, seconds) = match trial {
        Trial::Rollback => {
            rollback::trials(&base, tool, &mut checks)?;
            return checks.finish();
        }
        Trial::Stock => ("stock", 3600),
        Trial::Offline => ("offline", 7200),
        Trial::Farm(renderer) => (renderer.name(), 7200),
        Trial::Lxd { from_laptop: false } => ("lxd", 7200),
        Trial::Lxd { from_laptop: true } => ("lan", 7200),
        Trial::Cluster { .. } => ("cluster", 4 * 3600),
        Trial::PowerCuts(_) => ("cuts", 12 * 3600),
    };
    Lab::with(name, seconds, |lab| {
        lab.board = board;
        match trial {
            Trial::Stock => stock::trial(lab, &base, &mut checks)?,
            Trial::Offline => offline::trial(lab, &base, tool, &mut checks)?,
            Trial::Farm(renderer) => farm::trial(lab, &base, tool, renderer, &mut checks)?,
            Trial::Lxd { from_laptop } => lxd::trial(lab, &base, tool, from_laptop, &mut checks)?,
            Trial::Cluster { members } => cluster::trial(lab, members, &base, tool, &mut checks)?,
            Trial::PowerCuts(choice) => cuts::trial(lab, &base, tool, choice, &mut checks)?,
            // Above, with labs of its own.
            Trial::Rollback => {}
        }
        checks.finish()
    })
}

/// The tool as users get it, with the agents inside.
fn tool_with_agents() -> Result<PathBuf> {
    crate::dist::run()?;
    Ok(crate::target_dir().join("dist/palmfarm"))
}
