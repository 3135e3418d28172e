//! Talking to the booted card from the router, over ssh with the key that the farm declares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::router::Router;
use crate::deps::{command, Package};
use crate::sh;

/// What talking to it needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    command("openssh-client", "ssh"),
    command("openssh-client", "ssh-keygen"),
];

/// A key pair made for one run.
#[derive(Debug)]
pub(crate) struct KeyPair {
    private: PathBuf,
    /// As it stands in `authorized_keys`.
    pub(crate) public: String,
}

impl KeyPair {
    /// A new pair in `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let private = dir.join("id_ed25519");
        let mut keygen = sh::cmd(
            "ssh-keygen",
            ["-q", "-t", "ed25519", "-N", "", "-C", "boot test", "-f"],
        );
        sh::run(keygen.arg(&private))?;
        let public = private.with_extension("pub");
        let public = fs::read_to_string(&public).with_context(|| format!("reading {}", public.display()))?;
        Ok(Self {
            private,
            public: public.trim().to_owned(),
        })
    }
}

/// A user's shell on the card.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    /// Where ssh starts from.
    pub(crate) router: &'a Router,
    /// Whose key is on the card.
    pub(crate) key: &'a KeyPair,
    /// Login name.
    pub(crate) user: &'a str,
    /// Where the card is expected.
    pub(crate) address: &'a str,
}

impl Guest<'_> {
    /// What `script` prints, run by the user's shell.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        sh::output(self.ssh().arg(script)).with_context(|| format!("running `{script}` on the card"))
    }

    /// What `script` prints, run by root's shell.
    pub(crate) fn root(&self, script: &str) -> Result<String> {
        self.sh(&format!("sudo -n sh -c '{}'", script.replace('\'', r"'\''")))
    }

    /// Tell the card to go off; the connection may break before it says so.
    pub(crate) fn power_off(&self) {
        let _ = self.root("systemctl poweroff");
    }

    fn ssh(&self) -> Command {
        let mut ssh = self.router.cmd("ssh");
        // `-F none`: the settings of whoever runs this must not matter.
        ssh.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ConnectTimeout=60",
        ])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ])
        .args(["-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=4"])
        .arg("-i")
        .arg(&self.key.private)
        .args(["-l", self.user, self.address]);
        ssh
    }
}
