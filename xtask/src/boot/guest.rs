//! Runs commands on the booted card from the router, over ssh with the key that the farm declares. Judges nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use xshell::cmd;

use super::router::Router;
use crate::deps::Package;
use crate::sh;

/// What this needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[("openssh-client", "ssh"), ("openssh-client", "ssh-keygen")];

/// A key pair made for one run.
#[derive(Clone, Debug)]
pub(crate) struct KeyPair {
    pub(crate) private: PathBuf,
    /// As in `authorized_keys`.
    pub(crate) public: String,
}

impl KeyPair {
    /// A new pair in `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let (sh, private) = (sh::shell()?, dir.join("id_ed25519"));
        sh::run(cmd!(
            sh,
            "ssh-keygen -q -t ed25519 -N '' -C 'boot test' -f {private}"
        ))?;
        let public = fs::read_to_string(private.with_extension("pub"))?
            .trim()
            .to_owned();
        Ok(Self { private, public })
    }
}

/// A user's shell on the card.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    /// ssh runs there.
    pub(crate) router: &'a Router,
    /// The card has its public half.
    pub(crate) key: &'a KeyPair,
    pub(crate) user: &'a str,
    /// Of the card.
    pub(crate) address: String,
}

impl Guest<'_> {
    /// What `script` prints, run by the user's shell in the C locale.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        let Self {
            router,
            key,
            user,
            address,
        } = self;
        let key = &key.private;
        let in_c = format!("export LC_ALL=C; {script}");
        // `-F none`: the user's own settings must not matter.
        let ssh = cmd!(
            router,
            "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=60
                -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
                -o ServerAliveInterval=30 -o ServerAliveCountMax=4 -i {key} -l {user} {address} {in_c}"
        );
        sh::output(ssh).with_context(|| format!("running `{script}` on the card"))
    }

    /// The same once `condition`, a command, succeeds; an error if it does not within a minute. It is tried again on the
    /// card, since each login costs an emulated Pi seconds.
    pub(crate) fn sh_once(&self, condition: &str, script: &str) -> Result<String> {
        self.sh(&format!(
            "n=0; until {condition}; do n=$((n + 1)); test $n -lt 20 || exit 1; sleep 3; done; {script}"
        ))
    }

    /// What `script` prints, run by root's shell in the C locale.
    pub(crate) fn root(&self, script: &str) -> Result<String> {
        self.sh(&format!(
            "sudo -n LC_ALL=C sh -c '{}'",
            script.replace('\'', r"'\''")
        ))
    }
}
