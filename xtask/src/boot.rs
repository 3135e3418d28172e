//! `cargo xtask boot`: a card made from a real base, booted in QEMU beside a home router, and looked at from outside.
//!
//! Nothing is asserted from inside the tool's own reports alone: the router pings the card, ssh logs in, and the
//! report is read from the image after the power is off. Bounded in time, and gone without a trace when it ends.

mod checks;
mod cuts;
mod deadline;
mod disk;
mod farm;
mod guest;
mod lab;
mod look;
mod lxd;
mod off;
mod qemu;
mod rollback;
mod router;
mod stock;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{bail, Context, Result};

use crate::base;
use crate::deps::{self, Package, Privilege, Ready};
use crate::sh;
use checks::Checks;
use lab::Lab;
use qemu::Board;

const USAGE: &str =
    "usage: cargo xtask boot [--renderer networkd|ifupdown] [--lxd | --stock | --rollback | --power-cuts] [--base LAYOUT] [--machine virt|raspi2b] [--tool PALMFARM]";

/// The card's name and host name in every farm that is booted.
const HOST: &str = "palm";

/// Set where what is mounted is seen by nobody else, and goes when the process does.
const OWN_MOUNTS: &str = "PALMFARM_XTASK_OWN_MOUNTS";

/// What to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// A farm.
    Farm(Renderer),
    /// A farm with a container, on the LXD of the base.
    Lxd,
    /// Farms that would cut the Pi off, and a router that is gone.
    Rollback,
    /// One first boot, with the power cut at every point of it.
    PowerCuts,
    /// The base itself, to see that base and harness are sound.
    Stock,
}

/// Who configures the card's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// `boot` with its options.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let (mut trial, mut tool) = (Trial::Farm(Renderer::Networkd), None);
    let mut hardware = Hardware::USUAL;
    let mut words = args.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--stock" => trial = Trial::Stock,
            "--lxd" => trial = Trial::Lxd,
            "--rollback" => trial = Trial::Rollback,
            "--power-cuts" => trial = Trial::PowerCuts,
            "--renderer" => {
                trial = match words.next() {
                    Some("networkd") => Trial::Farm(Renderer::Networkd),
                    Some("ifupdown") => Trial::Farm(Renderer::Ifupdown),
                    _ => bail!("{USAGE}"),
                }
            }
            "--base" => hardware.layout = words.next().context(USAGE)?,
            "--machine" => {
                hardware.board = match words.next() {
                    Some("virt") => Board::Virt,
                    Some("raspi2b") => Board::Raspi2b,
                    _ => bail!("{USAGE}"),
                }
            }
            "--tool" => tool = Some(PathBuf::from(words.next().context(USAGE)?)),
            _ => bail!("{USAGE}"),
        }
    }
    let tool = match (tool, trial) {
        (Some(tool), _) => tool,
        (None, Trial::Stock) => PathBuf::new(),
        // As the user who asked, before anything runs as root.
        (None, _) => tool_with_agents()?,
    };
    let passed = as_root(trial, hardware, &tool)?;
    println!("{passed} checks passed");
    Ok(())
}

/// The base of [`each`], made by another process while this one does something else.
#[derive(Debug)]
pub(crate) struct Ahead(Option<Child>);

impl Ahead {
    /// Begin.
    pub(crate) fn start() -> Self {
        let begin = || -> Result<Child> {
            let log = crate::target_dir().join("base-ahead.log");
            let out = fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
            let program = std::env::current_exe().context("finding this program")?;
            // It must not outlive us.
            let mut base = sh::cmd("setpriv", ["--pdeathsig", "TERM"]);
            let base = base.arg(program).args(["base", Hardware::USUAL.layout]);
            let errors = out.try_clone().context("opening its log again")?;
            base.stdout(out)
                .stderr(errors)
                .spawn()
                .context("starting setpriv")
        };
        // Whatever is wrong here is wrong again, and told, when the base is wanted.
        Self(begin().ok())
    }

    /// Wait until it is made. One that failed is made again, and says why, when it is wanted.
    pub(crate) fn wait(self) {
        if let Some(mut child) = self.0 {
            let _ = child.wait();
        }
    }
}

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hardware<'a> {
    /// The base's layout, and with it the architecture.
    layout: &'a str,
    /// What the card is put into.
    board: Board,
}

impl Hardware<'static> {
    /// What the tests boot.
    const USUAL: Self = Self {
        layout: "jammy",
        board: Board::Virt,
    };
}

/// Cards of these renderers on a 22.04 base, as part of the tests; the number of checks that passed. [`ready`] must
/// have said yes.
pub(crate) fn each(renderers: &[Renderer]) -> Result<u64> {
    let tool = tool_with_agents()?;
    let mut passed = 0_u64;
    for renderer in renderers {
        passed = passed.saturating_add(as_root(Trial::Farm(*renderer), Hardware::USUAL, &tool)?);
    }
    Ok(passed)
}

/// Make the trial here or, where this is not root, in a child that is; a child counts as one check.
fn as_root(trial: Trial, hardware: Hardware<'_>, tool: &Path) -> Result<u64> {
    let tool_word = tool.display().to_string();
    let board = hardware.board.name();
    let mut args = vec!["boot", "--base", hardware.layout, "--machine", board];
    args.extend(["--tool", &tool_word]);
    match trial {
        Trial::Stock => args.push("--stock"),
        Trial::Lxd => args.push("--lxd"),
        Trial::Rollback => args.push("--rollback"),
        Trial::PowerCuts => args.push("--power-cuts"),
        Trial::Farm(renderer) => args.extend(["--renderer", renderer.name()]),
    }
    match deps::again_as_root(&args)? {
        deps::Again::Done => Ok(1),
        deps::Again::NotNeeded => {
            ready().require()?;
            if trial == Trial::PowerCuts && std::env::var_os(OWN_MOUNTS).is_none() {
                deps::ensure(cuts::NEEDS).require()?;
                let mut unshare = sh::cmd("unshare", ["--mount", "--propagation", "private"]);
                let program = std::env::current_exe().context("finding this program")?;
                sh::run_shown(unshare.arg(program).args(&args).env(OWN_MOUNTS, "1"))?;
                return Ok(1);
            }
            boot(trial, hardware, tool)
        }
    }
}

/// Whether a card can be booted here.
pub(crate) fn ready() -> Ready {
    if deps::privilege() != Privilege::Root {
        return Ready::Skip(
            "booting a card needs root: the router has a network namespace of its own".into(),
        );
    }
    if let Ready::Skip(reason) = base::ready() {
        return Ready::Skip(reason);
    }
    let needs: Vec<Package> = [router::NEEDS, qemu::NEEDS, guest::NEEDS, farm::NEEDS, lxd::NEEDS].concat();
    deps::ensure(&needs)
}

/// Make the trial with `tool` as the palmfarm to use; the number of checks that passed.
fn boot(trial: Trial, hardware: Hardware<'_>, tool: &Path) -> Result<u64> {
    let base = base::build(hardware.layout)?;
    match trial {
        Trial::Stock => Lab::with("stock", 3600, |lab| {
            lab.board = hardware.board;
            checked(|checks| stock::trial(lab, &base, checks))
        }),
        Trial::Farm(renderer) => Lab::with(renderer.name(), 7200, |lab| {
            lab.board = hardware.board;
            checked(|checks| farm::trial(lab, &base, tool, renderer, checks))
        }),
        Trial::Lxd => Lab::with("lxd", 7200, |lab| {
            lab.board = hardware.board;
            checked(|checks| lxd::trial(lab, &base, tool, checks))
        }),
        Trial::Rollback => checked(|checks| rollback::trials(&base, tool, checks)),
        Trial::PowerCuts => Lab::with("cuts", 6 * 3600, |lab| {
            checked(|checks| cuts::trial(lab, &base, tool, checks))
        }),
    }
}

/// How many checks `trial` passed; an error if one failed.
fn checked(trial: impl FnOnce(&mut Checks) -> Result<()>) -> Result<u64> {
    let mut checks = Checks::new();
    trial(&mut checks)?;
    checks.finish()
}

/// The tool as it is handed out, with the agents inside.
fn tool_with_agents() -> Result<PathBuf> {
    crate::dist::run(&[])?;
    Ok(crate::target_dir().join("dist/palmfarm"))
}
