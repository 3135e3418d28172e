//! `cargo xtask dist`: `target/dist/palmfarm` for this machine with the agents inside, and the agents beside it.

use anyhow::{Context, Result};
use fs_err as fs;

use crate::agents::{build_agents, Arch};
use crate::{target_dir, tool};

pub(crate) fn run() -> Result<()> {
    let agents = build_agents(&Arch::ALL)?;
    eprintln!("building palmfarm with the agents inside");
    let here = Arch::here().context("palmfarm is built for x86-64, arm64 and armhf")?;
    let built = tool::build(here, &agents)?;
    let dist = target_dir().join("dist");
    fs::create_dir_all(&dist)?;
    for arch in Arch::ALL {
        let name = format!("palmfarm-agent-{}", arch.debian());
        tool::place(&agents.join(&name), &dist.join(&name))?;
    }
    tool::place(&built, &dist.join("palmfarm"))
}
