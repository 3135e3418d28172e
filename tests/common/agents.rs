//! The agents that the cards of tests carry.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a folder that has them already, as `cargo xtask test` does.
pub const VARIABLE: &str = "PALMFARM_AGENT_DIR";

static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The folder of the agents, or why there is none. What is not there yet is built by `cargo xtask agents`, for the
/// architecture of the built-in base; it is built once, since cargo locks its folder for one program at a time.
pub fn agents() -> Result<&'static Path, &'static str> {
    let given = || std::env::var_os(VARIABLE).map(PathBuf::from);
    let folder = FOLDER.get_or_init(|| given().map_or_else(build, Ok));
    folder.as_deref().map_err(String::as_str)
}

/// Whether there are agents; if not, the calling test says that it is skipped.
pub fn has_agents() -> bool {
    let found = agents();
    if let Err(why) = found {
        super::skipped(format!("there is no agent for the card: {why}"));
    }
    found.is_ok()
}

/// Let `palmfarm` find the agents, if a test has asked for them.
pub fn give_agents(palmfarm: &mut Command) -> &mut Command {
    match FOLDER.get() {
        Some(Ok(folder)) => palmfarm.env(VARIABLE, folder),
        _ => palmfarm,
    }
}

/// Copy the agents to the new folder `to`, where everybody may read them: a checkout may lie where only root goes.
pub fn copy_agents(to: &Path) {
    let everybody = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(to).unwrap();
    for agent in fs::read_dir(agents().unwrap()).unwrap() {
        let agent = agent.unwrap().path();
        if agent.is_file() {
            let copy = to.join(agent.file_name().unwrap());
            fs::copy(&agent, &copy).unwrap();
            everybody(&copy, 0o644);
        }
    }
    everybody(to, 0o755);
}

fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["run", "--quiet", "--package", "xtask", "--", "agents", "armhf"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .map_err(|error| format!("starting cargo: {error}"))?;
    if built.status.success() {
        let printed = String::from_utf8_lossy(&built.stdout);
        Ok(printed.trim_end().into())
    } else {
        let trouble = String::from_utf8_lossy(&built.stderr);
        // On one line: that is what a skip has.
        Err(trouble.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}
