//! `cargo xtask demo`: the first command on a fresh machine. It builds agent and tool, turns `examples/farm.yaml`
//! into a card image on the built-in base, and shows what is on it.

use std::process::Command;

use anyhow::Result;
use fs_err as fs;

use crate::{dist, sh, target_dir, workspace_dir};

pub(crate) fn run() -> Result<()> {
    dist::run()?;
    fs::create_dir_all(target_dir().join("demo"))?;
    let farm = "examples/farm.yaml";
    let card = "target/demo/palm.img";
    let network = "root:/etc/systemd/network/05-palmfarm-br0.network";
    let prefix = "2001:db8:ebbd:2080::/64";
    for words in [
        &["check", farm][..],
        &["build", farm, "-o", card],
        &["inspect", card],
        &["inspect", card, network],
        &["plan", farm, "--prefix", prefix, "--format", "hosts"],
    ] {
        // As a user types it, in the workspace.
        let mut palmfarm = Command::new(target_dir().join("dist/palmfarm"));
        sh::run_shown(palmfarm.args(words).current_dir(workspace_dir()))?;
    }
    println!("\nthe card image is {card}; write it to a card, or look further with palmfarm inspect");
    Ok(())
}
