//! `cargo xtask dist`: `target/dist/palmfarm` with the agents inside, and the agents beside it.

use std::fs;

use anyhow::{Context, Result};

use crate::agents::{build_agents, cargo_build, Arch};
use crate::{sh, target_dir};

/// Run it.
pub(crate) fn run() -> Result<()> {
    let agents = build_agents(&Arch::ALL)?;
    eprintln!("building palmfarm with the agents inside");
    let mut cargo = cargo_build(&[]);
    cargo.args(["--release", "--package", "palmfarm", "--bin", "palmfarm"]);
    cargo.arg("--target-dir").arg(target_dir());
    sh::run(cargo.env("PALMFARM_AGENT_DIR", &agents))?;
    let dist = target_dir().join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("creating {}", dist.display()))?;
    let names = Arch::ALL.map(|arch| format!("palmfarm-agent-{}", arch.debian()));
    let from_to = names
        .iter()
        .map(|name| (agents.join(name), dist.join(name)))
        .chain([(target_dir().join("release/palmfarm"), dist.join("palmfarm"))]);
    for (from, to) in from_to {
        // A rename, because a program that is running cannot be written.
        let half = to.with_extension("part");
        fs::copy(&from, &half)
            .and_then(|_| fs::rename(&half, &to))
            .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        eprintln!("{}", to.display());
    }
    Ok(())
}
