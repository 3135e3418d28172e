//! The agents that cards carry: built into this program, or in a folder beside it. It never returns a program for another
//! architecture than the one that was asked for: such a card would boot and then do nothing.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::Arch;
use crate::farm::lxd_image::Machine;

/// What `cargo xtask dist` puts into the program: Debian's name of the architecture and the agent's bytes.
const EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/agents.rs"));

/// The variable that names a folder of agents, for a palmfarm that has none built in.
const FOLDER: &str = "PALMFARM_AGENT_DIR";

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It is neither built in nor in a folder.
    #[error(
        "no agent for {arch}: this palmfarm has none built in, and there is no {}",
        list(looked)
    )]
    Missing {
        /// What it was wanted for.
        arch: Arch,
        /// Every path that was tried.
        looked: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("reading the agent {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not an agent for this architecture.
    #[error("{origin} is not a program for {arch}")]
    WrongMachine {
        /// What it was wanted for.
        arch: Arch,
        /// Where it came from.
        origin: String,
    },
}

impl AgentError {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(format!(
                "`cargo xtask dist` builds target/dist/palmfarm with the agents inside; or let {FOLDER} name a folder that \
                 has them"
            )),
            Self::WrongMachine { .. } => Some("`cargo xtask dist` rebuilds it".into()),
            Self::Read { .. } => None,
        }
    }
}

/// The agent for `arch`: from inside this program, else from the folder that `PALMFARM_AGENT_DIR` names, else from
/// this program's own folder.
pub fn agent(arch: Arch) -> Result<Cow<'static, [u8]>, AgentError> {
    if let Some((_, bytes)) = EMBEDDED.iter().find(|(name, _)| *name == arch.debian()) {
        let origin = || "the agent inside this palmfarm".to_owned();
        return checked(arch, Cow::Borrowed(bytes), origin);
    }
    let named = std::env::var_os(FOLDER).map(PathBuf::from);
    let own = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(Path::to_owned));
    beside(arch, named.into_iter().chain(own))
}

/// The agent from the first of `folders` that has one.
fn beside(arch: Arch, folders: impl Iterator<Item = PathBuf>) -> Result<Cow<'static, [u8]>, AgentError> {
    let mut looked = Vec::new();
    for folder in folders {
        let path = folder.join(format!("palmfarm-agent-{arch}"));
        match std::fs::read(&path) {
            Ok(bytes) => return checked(arch, Cow::Owned(bytes), || path.display().to_string()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => looked.push(path),
            Err(source) => return Err(AgentError::Read { path, source }),
        }
    }
    Err(AgentError::Missing { arch, looked })
}

fn checked(
    arch: Arch,
    bytes: Cow<'static, [u8]>,
    origin: impl FnOnce() -> String,
) -> Result<Cow<'static, [u8]>, AgentError> {
    if Machine::of(&bytes) == Some(Machine::Known(arch)) {
        Ok(bytes)
    } else {
        let origin = origin();
        Err(AgentError::WrongMachine { arch, origin })
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" and no ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, data: u8, machine: u16) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend([class, data, 1]);
        bytes.resize(64, 0);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn takes_only_the_right_one() {
        let scratch = std::env::temp_dir().join(format!("palmfarm-agents-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let folders = || [scratch.join("none"), scratch.clone()].into_iter();
        let missing = beside(Arch::Armhf, folders()).unwrap_err();
        assert!(
            missing.hint().unwrap().starts_with("`cargo xtask dist`"),
            "{missing}"
        );
        let missing = missing.to_string();
        assert!(missing.contains("none/palmfarm-agent-armhf and no "), "{missing}");

        let right = header(1, 1, 40);
        std::fs::write(scratch.join("palmfarm-agent-armhf"), &right).unwrap();
        std::fs::write(scratch.join("palmfarm-agent-arm64"), &right).unwrap();
        assert_eq!(beside(Arch::Armhf, folders()).unwrap(), right);
        let wrong = beside(Arch::Arm64, folders()).unwrap_err().to_string();
        assert!(
            wrong.contains("palmfarm-agent-arm64 is not a program for arm64"),
            "{wrong}"
        );
        std::fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn what_is_inside_is_right() {
        for arch in [Arch::Armhf, Arch::Arm64, Arch::Amd64] {
            match agent(arch) {
                Ok(bytes) => assert_eq!(Machine::of(&bytes), Some(Machine::Known(arch))),
                Err(AgentError::Missing { .. }) => eprintln!("skipped: no agent for {arch} was built"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
