//! The tool as people get it: one static program with the agents inside. It links and embeds; what is made of the
//! program afterwards is the business of `dist` and `release`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

use crate::agents::{self, Arch};
use crate::{sh, target_dir};

/// Build the tool for `arch` with the agents of the folder `agents` inside, and return where it is.
///
/// It is linked statically with glibc, so that one file runs on every Linux of that architecture, whatever its C library
/// is. `src/host/host_names.rs` says what that means for the names of hosts.
pub(crate) fn build(arch: Arch, agents: &Path) -> Result<PathBuf> {
    let scripts = agents.join("tools");
    let toolchain = agents::toolchain(arch, &scripts)?;
    let flags = ["-Ctarget-feature=+crt-static", "-Clink-arg=-fuse-ld=bfd"].map(str::to_owned);
    let mut cargo = agents::cargo_build(&flags);
    agents::cross(&mut cargo, arch, &toolchain);
    cargo.args(["--release", "--package", "palmfarm", "--bin", "palmfarm"]);
    cargo
        .args(["--target", arch.triple()])
        .arg("--target-dir")
        .arg(target_dir());
    sh::run(cargo.env("PALMFARM_AGENT_DIR", agents))
        .with_context(|| format!("building the tool for {}", arch.debian()))?;
    Ok(target_dir().join(arch.triple()).join("release/palmfarm"))
}

/// Put `built` where people look for it. It is renamed, because nobody can write to a program that is running.
pub(crate) fn place(built: &Path, at: &Path) -> Result<()> {
    let half = at.with_extension("part");
    fs::copy(built, &half)?;
    fs::rename(&half, at)?;
    eprintln!("{}", at.display());
    Ok(())
}
