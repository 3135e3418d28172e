//! `cargo xtask demo`: the first command on a fresh machine. It builds agent and tool, turns `examples/farm.yaml`
//! into a card image on the built-in base, and shows what is on it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh::run_shown as run;
use crate::workspace_dir as root;

/// Build the demo.
pub(crate) fn run_demo() -> Result<()> {
    let tool = crate::dist::tool()?;
    let out = root().join("target/demo");
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let card = out.join("palm.img");
    let farm = root().join("examples/farm.yaml");
    let palmfarm = || Command::new(&tool);
    run(palmfarm().arg("check").arg(&farm))?;
    run(palmfarm().arg("build").arg(&farm).arg("-o").arg(&card))?;
    run(palmfarm().arg("inspect").arg(&card))?;
    run(palmfarm().arg("inspect").arg(&card).arg("root:/etc/systemd/network/05-palmfarm-uplink.network"))?;
    run(palmfarm().arg("plan").arg(&farm).args(["--prefix", "2001:db8:ebbd:2080::/64", "--format", "zone"]))?;
    println!("\nthe card image is {}", shown(&card));
    Ok(())
}

fn shown(path: &PathBuf) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
