//! What the chores need from the distribution, installed on demand.
//!
//! Asks only for what is missing, and only on Debian and Ubuntu with root at hand; elsewhere it says what is
//! missing, so that the caller can skip visibly. It never upgrades or removes what is there without saying so,
//! and never adds a package source.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::sh;

/// A package and what shows that it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// As `apt-get install` takes it: a name, or `name=version`.
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

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.probe {
            Probe::Command(command) => write!(f, "{command} (package {})", self.name),
            Probe::Path(path) => write!(f, "{path} (package {})", self.name),
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
    /// For a chore that is pointless without: the skip becomes an error.
    pub(crate) fn require(self) -> Result<()> {
        match self {
            Self::Yes => Ok(()),
            Self::Skip(reason) => bail!(reason),
        }
    }
}

/// See that `packages` are there, installing the missing ones where that is possible without a question.
pub(crate) fn ensure(packages: &[Package]) -> Ready {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ready::Yes;
    }
    let Some(apt) = Apt::here() else {
        return Ready::Skip(format!(
            "missing {}; this is neither Debian nor Ubuntu with root (or a password-less sudo), so install it yourself",
            list(&missing)
        ));
    };
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    eprintln!("installing {}", names.join(" "));
    if let Err(error) = apt.install(&names) {
        return Ready::Skip(format!(
            "missing {}; apt-get could not install it: {error:#}",
            list(&missing)
        ));
    }
    let still = self::missing(packages);
    if still.is_empty() {
        Ready::Yes
    } else {
        Ready::Skip(format!(
            "apt-get succeeded, but there is still no {}",
            list(&still)
        ))
    }
}

/// Whether apt-get's packages are Debian's or a derivative's.
pub(crate) fn debian_here() -> bool {
    sh::find("apt-get").is_some() && debian_like(&os_release())
}

/// Install `packages`, each `name=version`, beside everything that is installed: what conflicts is an error.
pub(crate) fn install_exactly(packages: &[String]) -> Result<()> {
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let Some(apt) = Apt::here() else {
        bail!(
            "installing {} needs root or a password-less sudo",
            names.join(" ")
        );
    };
    eprintln!("installing {}", names.join(" "));
    apt.try_install(&names, Others::Keep)
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

/// What became of a call of [`again_as_root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// This process is the one to do the work.
    NotNeeded,
    /// A child with root's rights has done it.
    Done,
}

/// Run this program with `args` once more through sudo, where that is possible and needed. The child sees the same
/// home, caches and tools, and gives what it makes back to the user.
pub(crate) fn again_as_root(args: &[&str]) -> Result<Again> {
    if privilege() != Privilege::Sudo {
        return Ok(Again::NotNeeded);
    }
    let kept = std::env::vars().filter(|(name, _)| {
        matches!(
            name.as_str(),
            "HOME" | "PATH" | "XDG_CACHE_HOME" | "http_proxy" | "https_proxy" | "no_proxy"
        )
    });
    let mut command = as_root(Privilege::Sudo, "env");
    command.args(kept.map(|(name, value)| format!("{name}={value}")));
    let program = std::env::current_exe().context("finding this program")?;
    sh::run_shown(command.arg(program).args(args))?;
    Ok(Again::Done)
}

/// Make the user who called sudo the owner of what root made under `paths`.
pub(crate) fn give_back(paths: &[&Path]) {
    let id = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) {
        let mut chown = sh::cmd(
            "chown",
            ["--recursive", "--no-dereference", &format!("{uid}:{gid}")],
        );
        // A file that stays root's is no reason to fail: it can still be read.
        let _ = sh::succeeds(chown.args(paths));
    }
}

fn missing(packages: &[Package]) -> Vec<Package> {
    packages
        .iter()
        .copied()
        .filter(|package| !package.present())
        .collect()
}

fn list(packages: &[Package]) -> String {
    packages
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// An apt-get that this user may run.
struct Apt {
    who: Privilege,
}

/// What may happen to packages that are installed already.
#[derive(Clone, Copy)]
enum Others {
    Keep,
    MayGo,
}

impl Apt {
    fn here() -> Option<Self> {
        let who = privilege();
        let usable = sh::find("apt-get").is_some() && who != Privilege::None && debian_like(&os_release());
        usable.then_some(Self { who })
    }

    /// The lists on disk may be absent (a container) or too old (a 404), so a failure asks for fresh ones once.
    fn install(&self, names: &[&str]) -> Result<()> {
        if self.try_install(names, Others::Keep).is_ok() {
            return Ok(());
        }
        // One broken third-party source must not hide the distribution's own lists, hence no `?`.
        let update = sh::run(self.apt().arg("update"));
        if self.try_install(names, Others::Keep).is_ok() {
            return Ok(());
        }
        let gone = self.removals(names);
        if !gone.is_empty() {
            eprintln!("installing {} removes {}", names.join(" "), gone.join(" "));
        }
        self.try_install(names, Others::MayGo)
            .map_err(|error| match update {
                Ok(()) => error,
                Err(update) => error.context(format!("after {update:#}")),
            })
    }

    fn try_install(&self, names: &[&str], others: Others) -> Result<()> {
        let mut apt = self.apt();
        apt.args(["install", "--yes", "--no-install-recommends"]);
        if matches!(others, Others::Keep) {
            apt.arg("--no-remove");
        }
        sh::run(apt.args(names))
    }

    /// What apt-get would take away; a line of `apt-get --simulate` is `Remv NAME [VERSION]`.
    fn removals(&self, names: &[&str]) -> Vec<String> {
        let mut apt = self.apt();
        apt.args(["install", "--simulate", "--no-install-recommends"])
            .args(names);
        let text = sh::output(&mut apt).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next())
            .map(str::to_owned)
            .collect()
    }

    fn apt(&self) -> Command {
        // env(1), because sudo drops the caller's environment.
        let mut command = as_root(self.who, "env");
        command.args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "--quiet",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
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
