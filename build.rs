//! Embeds the agents that `cargo xtask dist` built, when `PALMFARM_AGENT_DIR` names the folder they are in.
//! Without it the tool is whole but for the agents, which it then looks for at run time.
//!
//! Only release builds embed: the tests name the folder at run time, and a build that depended on it would be rebuilt
//! whenever `cargo test` and `cargo xtask test` follow each other, and whenever the agent changes.

use std::path::Path;
use std::{env, fs};

/// Architectures as Debian names them; each is `palmfarm-agent-ARCH` in the folder.
const ARCHITECTURES: [&str; 3] = ["armhf", "arm64", "amd64"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut dir = None;
    if env::var("PROFILE")? == "release" {
        println!("cargo:rerun-if-env-changed=PALMFARM_AGENT_DIR");
        dir = env::var_os("PALMFARM_AGENT_DIR");
    }
    let out = env::var("OUT_DIR")?;
    let mut table = String::from("&[\n");
    for arch in ARCHITECTURES {
        let Some(dir) = &dir else { continue };
        let agent = Path::new(dir).join(format!("palmfarm-agent-{arch}"));
        println!("cargo:rerun-if-changed={}", agent.display());
        if agent.is_file() {
            let copy = Path::new(&out).join(format!("palmfarm-agent-{arch}"));
            fs::copy(&agent, &copy)?;
            table.push_str(&format!(
                "    (\"{arch}\", include_bytes!({:?})),\n",
                copy.display().to_string()
            ));
        }
    }
    table.push_str("]\n");
    fs::write(Path::new(&out).join("agents.rs"), table)?;
    Ok(())
}
