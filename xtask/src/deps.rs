//! What the chores need from the distribution, installed on demand.
//!
//! Asks only for what is missing, and only on Debian and Ubuntu with root at hand; elsewhere it says what is
//! missing, so that the caller can skip visibly. It never upgrades or removes an installed package without saying so,
//! and never adds a package source.

use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::sh;

/// A package and what shows that it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// As `apt-get install` takes it.
    pub(crate) name: &'static str,
    /// How to see that it is installed.
    pub(crate) probe: Probe,
}

/// How to see that a package is installed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// This program is found.
    Command(&'static str),
    /// This path exists.
    Path(&'static str),
}

/// A package that brings the program `command`.
pub(crate) const fn command(name: &'static str, command: &'static str) -> Package {
    Package {
        name,
        probe: Probe::Command(command),
    }
}

/// A package that brings the file or directory `path`.
pub(crate) const fn path(name: &'static str, path: &'static str) -> Package {
    Package {
        name,
        probe: Probe::Path(path),
    }
}

impl Package {
    /// Whether it is not there.
    #[cfg(test)]
    pub(crate) fn is_missing(self) -> bool {
        !self.present()
    }

    fn present(self) -> bool {
        match self.probe {
            Probe::Command(name) => sh::find(name).is_some(),
            Probe::Path(path) => Path::new(path).exists(),
        }
    }
}

/// Whether a chore can go on.
#[must_use]
#[derive(Debug)]
pub(crate) enum Ready {
    /// Everything is there.
    Yes,
    /// Something is not; the text says what and why it could not be had.
    Skip(String),
}

impl Ready {
    /// For a chore that cannot do without: the skip becomes an error.
    pub(crate) fn require(self) -> Result<()> {
        match self {
            Self::Yes => Ok(()),
            Self::Skip(reason) => bail!(reason),
        }
    }
}

/// Install those of `packages` that are missing, if that is possible without a question.
pub(crate) fn ensure(packages: &[Package]) -> Ready {
    let missing = || -> Vec<&Package> { packages.iter().filter(|package| !package.present()).collect() };
    let list = |packages: Vec<&Package>| {
        let shown = packages.iter().map(|package| {
            let (Probe::Command(probe) | Probe::Path(probe)) = package.probe;
            format!("{probe} (package {})", package.name)
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let names: Vec<&str> = missing().iter().map(|package| package.name).collect();
    if names.is_empty() {
        return Ready::Yes;
    }
    let Some(apt) = Apt::here() else {
        return Ready::Skip(format!(
            "missing {}; this is neither Debian nor Ubuntu with root (or a password-less sudo), so install it yourself",
            list(missing())
        ));
    };
    eprintln!("installing {}", names.join(" "));
    let installed = apt.install(&names);
    match (missing().is_empty(), installed) {
        (true, Ok(())) => Ready::Yes,
        (_, Err(error)) => Ready::Skip(format!(
            "missing {}; apt-get could not install it: {error:#}",
            list(missing())
        )),
        (false, Ok(())) => Ready::Skip(format!(
            "apt-get succeeded, but this is still missing: {}",
            list(missing())
        )),
    }
}

/// Whether apt-get's packages are Debian's or a derivative's.
pub(crate) fn debian_here() -> bool {
    sh::find("apt-get").is_some() && debian_like(&os_release())
}

/// Install `packages`, each `name=version`, beside everything that is installed: what conflicts is an error.
pub(crate) fn install_exactly(packages: &[String]) -> Result<()> {
    let shown = packages.join(" ");
    let apt =
        Apt::here().with_context(|| format!("installing {shown} needs root or a password-less sudo"))?;
    eprintln!("installing {shown}");
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    apt.try_install(&names, KEEP_OTHERS)
}

/// Who runs this, as far as installing packages and making namespaces goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// Root already.
    Root,
    /// An ordinary user whose sudo asks no password.
    Sudo,
    /// An ordinary user.
    None,
}

/// Who runs this.
pub(crate) fn privilege() -> Privilege {
    if sh::output(&mut sh::cmd("id", ["-u"])).is_ok_and(|uid| uid.trim() == "0") {
        Privilege::Root
    } else if sh::find("sudo").is_some() && sh::succeeds(&mut sh::cmd("sudo", ["-n", "true"])) {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

/// `program` as root: directly, or through a sudo that asks nothing.
pub(crate) fn as_root(who: Privilege, program: &str) -> Command {
    match who {
        Privilege::Sudo => sh::cmd("sudo", ["-n", program]),
        Privilege::Root | Privilege::None => sh::cmd(program, [""; 0]),
    }
}

/// What became of a call of [`rerun_as_root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rerun {
    /// This process is the one to do the work.
    NotNeeded,
    /// A child that ran as root has done the work.
    Done,
}

/// Run this program with `args` once more through sudo, if that is possible and needed. The child sees the same
/// home, caches and tools, and gives what it makes back to the user.
pub(crate) fn rerun_as_root(args: &[&str]) -> Result<Rerun> {
    if privilege() != Privilege::Sudo {
        return Ok(Rerun::NotNeeded);
    }
    let kept = "HOME PATH XDG_CACHE_HOME http_proxy https_proxy no_proxy".split(' ');
    let mut command = as_root(Privilege::Sudo, "env");
    command.args(kept.filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))));
    let program = std::env::current_exe().context("finding this program")?;
    sh::run_shown(command.arg(program).args(args))?;
    Ok(Rerun::Done)
}

/// Make the user who called sudo the owner of what root made under `paths`.
pub(crate) fn give_back(paths: &[&Path]) {
    let id = |name| {
        let id = std::env::var(name).ok();
        id.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) {
        let mut chown = sh::cmd("chown", ["--recursive", "--no-dereference"]);
        // A file that stays root's is not a reason to fail: it can still be read.
        let _ = sh::succeeds(chown.arg(format!("{uid}:{gid}")).args(paths));
    }
}

/// An apt-get that this user may run.
struct Apt {
    who: Privilege,
}

/// How apt-get is told to fail rather than to remove a package that is installed already.
const KEEP_OTHERS: &[&str] = &["--no-remove"];

impl Apt {
    fn here() -> Option<Self> {
        let who = privilege();
        (debian_here() && who != Privilege::None).then_some(Self { who })
    }

    /// The lists on disk may be absent (a container) or too old (a 404), so a failure asks for fresh ones once.
    fn install(&self, names: &[&str]) -> Result<()> {
        if self.try_install(names, KEEP_OTHERS).is_ok() {
            return Ok(());
        }
        // One broken third-party source must not hide the distribution's own lists, hence no `?`.
        let update = sh::run(self.apt().arg("update"));
        if self.try_install(names, KEEP_OTHERS).is_ok() {
            return Ok(());
        }
        // A line of `apt-get --simulate` is `Remv NAME [VERSION]`.
        let mut simulate = self.apt();
        simulate.args(["install", "--simulate", "--no-install-recommends"]);
        let simulated = sh::output(simulate.args(names)).unwrap_or_default();
        let removals = simulated
            .lines()
            .filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next());
        let removals: Vec<&str> = removals.collect();
        if !removals.is_empty() {
            eprintln!("installing {} removes {}", names.join(" "), removals.join(" "));
        }
        let done = self.try_install(names, &[]);
        done.map_err(|error| match update {
            Ok(()) => error,
            Err(update) => error.context(format!("after {update:#}")),
        })
    }

    fn try_install(&self, names: &[&str], options: &[&str]) -> Result<()> {
        let mut apt = self.apt();
        apt.args(["install", "--yes", "--no-install-recommends"]);
        sh::run(apt.args(options).args(names))
    }

    fn apt(&self) -> Command {
        // env(1), because sudo drops the caller's environment.
        let mut command = as_root(self.who, "env");
        command.args("DEBIAN_FRONTEND=noninteractive apt-get --quiet -o DPkg::Lock::Timeout=300".split(' '));
        command
    }
}

fn os_release() -> String {
    std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// os-release(5): `ID`, and `ID_LIKE` for derivatives.
fn debian_like(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split(' '))
        .any(|id| id == "debian" || id == "ubuntu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_debian_and_its_kin() {
        let check = |text: &str, expect: bool| assert_eq!(debian_like(text), expect, "{text}");
        check("ID=debian\n", true);
        check("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n", true);
        check("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", true);
        check("ID=fedora\n", false);
        check("VERSION_ID=debian\n", false);
        check("", false);
    }

    #[test]
    fn what_is_there_is_not_asked_for() {
        assert!(matches!(
            ensure(&[command("coreutils", "ls"), path("base-files", "/etc")]),
            Ready::Yes
        ));
    }
}
