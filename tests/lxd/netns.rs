//! A named network namespace that goes away with its owner.

use std::process::Command;

use crate::sh;

/// A network namespace of this process.
pub(crate) struct Netns(String);

impl Netns {
    /// Make it; nobody else may have one of that name.
    pub(crate) fn new(name: String) -> Self {
        sh::run(&mut sh::words(&format!("ip netns add {name}")));
        Self(name)
    }

    /// Its name for ip(8).
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// `program` in it, with a sysfs that shows its interfaces. What is spawned is the program itself, and it dies with
    /// the thread that spawned it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = sh::words("setpriv --pdeathsig KILL ip netns exec");
        command.arg(&self.0).arg(program);
        command
    }

    /// `ip` with `line`, in it.
    pub(crate) fn ip(&self, line: &str) {
        sh::run(&mut sh::words(&format!("ip -n {} {line}", self.0)));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = sh::succeeds(&mut sh::words(&format!("ip netns delete {}", self.0)));
    }
}
