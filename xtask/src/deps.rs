//! What the chores need from the distribution, installed on demand.
//!
//! Installs only what is missing, and only on Debian and Ubuntu with root at hand. Elsewhere an error says what is
//! missing, and the caller prints what it skips. It never upgrades or removes an installed package without saying so, and
//! never adds a package source.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::sh;

/// A package as `apt-get install` takes it, and what shows that it is installed: a program, or the absolute path of a file
/// or directory.
pub(crate) type Package = (&'static str, &'static str);

pub(crate) fn is_installed((_, proof): Package) -> bool {
    if proof.starts_with('/') {
        Path::new(proof).exists()
    } else {
        sh::find(proof).is_some()
    }
}

/// Install those of `packages` that are missing, if that is possible without a question. An error says what is missing
/// and why it could not be installed.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing = || -> Vec<Package> {
        let missing = packages.iter().copied();
        missing.filter(|package| !is_installed(*package)).collect()
    };
    let list = |packages: Vec<Package>| {
        let shown = packages
            .iter()
            .map(|(name, proof)| format!("{proof} (package {name})"));
        shown.collect::<Vec<_>>().join(", ")
    };
    let names: Vec<&str> = missing().iter().map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let Some(apt) = Apt::here() else {
        bail!(
            "missing {}; this is neither Debian nor Ubuntu with root (or a password-less sudo), so install it yourself",
            list(missing())
        );
    };
    eprintln!("installing {}", names.join(" "));
    if let Err(error) = apt.install(&names) {
        bail!(
            "missing {}; apt-get could not install it: {error:#}",
            list(missing())
        );
    }
    match missing() {
        none if none.is_empty() => Ok(()),
        some => bail!("apt-get succeeded, but this is still missing: {}", list(some)),
    }
}

/// Whether apt-get's packages are Debian's or a derivative's.
pub(crate) fn debian_here() -> bool {
    sh::find("apt-get").is_some() && debian_like(&os_release())
}

/// Of each archive of Debian's main component that this machine uses: its address, its release as the machine calls it,
/// and its codename, such as `bookworm`, `bookworm-updates`.
pub(crate) fn debian_archives() -> Result<Vec<[String; 3]>> {
    let format = "$(REPO_URI) $(RELEASE) $(CODENAME) $(COMPONENT)";
    let mut targets = sh::cmd("apt-get", ["indextargets", "--format", format]);
    let targets = sh::output(targets.args(["Created-By: Packages", "Origin: Debian"]))?;
    Ok(main_archives(&targets))
}

fn main_archives(index_targets: &str) -> Vec<[String; 3]> {
    let found = index_targets
        .lines()
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [uri, release, codename, "main"] => Some([uri, release, codename].map(str::to_owned)),
            _ => None,
        });
    found.collect::<BTreeSet<_>>().into_iter().collect()
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

/// How this process can become root, which installing packages and making namespaces needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// It is root.
    Root,
    /// Through a sudo that asks no password.
    Sudo,
    /// It cannot.
    None,
}

pub(crate) fn privilege() -> Privilege {
    if sh::output(&mut sh::cmd("id", ["-u"])).is_ok_and(|uid| uid.trim() == "0") {
        Privilege::Root
    } else if sh::find("sudo").is_some() && sh::succeeds(&mut sh::cmd("sudo", ["-n", "true"])) {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

/// `program` as root: directly, or through a sudo that asks no password.
pub(crate) fn as_root(who: Privilege, program: &str) -> Command {
    match who {
        Privilege::Sudo => sh::cmd("sudo", ["-n", program]),
        Privilege::Root | Privilege::None => sh::cmd(program, [""; 0]),
    }
}

/// Run this program with `args` once more through sudo, if that is possible and needed; whether it was. The child sees the
/// same home, caches and tools, and gives what it makes back to the user.
pub(crate) fn rerun_as_root(args: &[&str]) -> Result<bool> {
    if privilege() != Privilege::Sudo {
        return Ok(false);
    }
    let kept = "HOME PATH XDG_CACHE_HOME http_proxy https_proxy no_proxy".split(' ');
    let mut command = as_root(Privilege::Sudo, "env");
    command.args(kept.filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))));
    let program = std::env::current_exe().context("finding this program")?;
    sh::run_shown(command.arg(program).args(args))?;
    Ok(true)
}

/// Make the user who called sudo the owner of what root made below `paths`.
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

/// An apt-get that this user may run as root.
struct Apt(Privilege);

/// With it, apt-get fails rather than removes an installed package.
const KEEP_OTHERS: &[&str] = &["--no-remove"];

impl Apt {
    fn here() -> Option<Self> {
        let who = privilege();
        (debian_here() && who != Privilege::None).then_some(Self(who))
    }

    /// The lists on disk may be missing (in a container) or too old (then there is a 404), so after a failure they are
    /// updated once.
    fn install(&self, names: &[&str]) -> Result<()> {
        if self.try_install(names, KEEP_OTHERS).is_ok() {
            return Ok(());
        }
        // A failure may be that of one third-party source, so the packages are tried again in any case.
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
        let mut command = as_root(self.0, "env");
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
    fn an_archive_of_the_main_component_is_listed_once() {
        let text =
            "m://a/ stable bookworm main\nm://a/ stable bookworm main\nm://a/ stable bookworm contrib\n\n\
                    m://b/ bookworm-updates bookworm-updates main\n";
        let expect = [
            ["m://a/", "stable", "bookworm"],
            ["m://b/", "bookworm-updates", "bookworm-updates"],
        ];
        assert_eq!(main_archives(text), expect);
    }

    #[test]
    fn what_is_there_is_not_asked_for() {
        ensure(&[("coreutils", "ls"), ("base-files", "/etc")]).unwrap();
    }
}
