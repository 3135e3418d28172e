//! `cargo xtask dist`: `target/dist/palmfarm` with the agents inside, and the agents beside it.

use anyhow::Result;
use fs_err as fs;

use crate::agents::{build_agents, cargo_build, Arch};
use crate::{sh, target_dir};

pub(crate) fn run() -> Result<()> {
    let agents = build_agents(&Arch::ALL)?;
    eprintln!("building palmfarm with the agents inside");
    let mut cargo = cargo_build(&[]);
    cargo.args(["--release", "--package", "palmfarm", "--bin", "palmfarm"]);
    cargo.arg("--target-dir").arg(target_dir());
    sh::run(cargo.env("PALMFARM_AGENT_DIR", &agents))?;
    let dist = target_dir().join("dist");
    fs::create_dir_all(&dist)?;
    let names = Arch::ALL.map(|arch| format!("palmfarm-agent-{}", arch.debian()));
    let from_to = names
        .iter()
        .map(|name| (agents.join(name), dist.join(name)))
        .chain([(target_dir().join("release/palmfarm"), dist.join("palmfarm"))]);
    for (from, to) in from_to {
        // Renamed, because nobody can write to a program that is running.
        let half = to.with_extension("part");
        fs::copy(&from, &half)?;
        fs::rename(&half, &to)?;
        eprintln!("{}", to.display());
    }
    Ok(())
}
