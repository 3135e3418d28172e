//! What a lab needs of the machine that it is on: programs, the right to make namespaces, the agent, and a directory of its
//! own that goes away with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::image::BUSYBOX;
use crate::sh;
use crate::sweep;

/// The agent for this machine: the one in `PALMFARM_AGENT_DIR`, or a new one.
pub(crate) fn agent_program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            _ => "armhf",
        };
        let made = std::env::var_os("PALMFARM_AGENT_DIR").map(PathBuf::from);
        let made = made.map(|dir| dir.join(format!("palmfarm-agent-{arch}")));
        if let Some(made) = made.filter(|made| made.is_file()) {
            return made;
        }
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut build = sh::cmd(&cargo, ["build", "--quiet", "--package", "palmfarm-agent"]);
        sh::run(
            build
                .args(["--profile", "agent", "--target-dir"])
                .arg(target)
                .current_dir(env!("CARGO_MANIFEST_DIR")),
        );
        target.join("agent/palmfarm-agent")
    })
}

/// What this machine lacks for a lab with `programs`.
pub(crate) fn lacking(programs: &[&str]) -> Option<String> {
    if sh::output(&mut sh::words("id -u")).trim() != "0" {
        return Some("needs root for namespaces".into());
    }
    let all = ["ip", "nsenter", "unshare", "setpriv", "sysctl", "dnsmasq", "curl"];
    let mut all = all.iter().chain(programs);
    let missing = all.find(|program| !sh::exists(program));
    if let Some(missing) = missing {
        return Some(format!("there is no {missing}"));
    }
    if !Path::new(BUSYBOX).is_file() {
        return Some(format!("there is no {BUSYBOX} (package busybox-static)"));
    }
    if !sh::succeeds(&mut sh::words("unshare --net --mount --pid --fork --cgroup true")) {
        return Some("this machine lets nobody make namespaces".into());
    }
    None
}

/// A directory that goes away.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// Make the one with this identifier.
    pub(crate) fn new(id: &str) -> Self {
        // Short, because the path of a unix socket has at most 107 bytes (unix(7)).
        let dir = Path::new(sweep::TMP).join(format!("palmfarm-lxd-{id}"));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let keep = std::env::var_os("PALMFARM_KEEP").is_some();
        if !keep {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
