//! `cargo xtask demo`: the first command on a fresh machine. It builds agent and tool, turns `examples/farm.yaml`
//! into a card image on the built-in base, which needs no download, and shows what is on it.

use std::process::Command;

use anyhow::{ensure, Result};
use fs_err as fs;

use crate::{dist, sh, target_dir, workspace_dir};

/// The line of the example that names its base.
const BASE: &str = "\nbase: ubuntu-24.04-arm64\n";

pub(crate) fn run() -> Result<()> {
    dist::run()?;
    fs::create_dir_all(target_dir().join("demo"))?;
    let on_mini = example_on_mini()?;
    let farm = "target/demo/farm.yaml";
    fs::write(target_dir().join("demo/farm.yaml"), on_mini)?;
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

/// The text of `examples/farm.yaml` on the base that needs no download.
pub(crate) fn example_on_mini() -> Result<String> {
    let example = fs::read_to_string(workspace_dir().join("examples/farm.yaml"))?;
    let on_mini = example.replace(BASE, "\nbase: mini\n");
    ensure!(
        on_mini != example,
        "examples/farm.yaml has another base than {BASE:?}"
    );
    Ok(on_mini)
}
