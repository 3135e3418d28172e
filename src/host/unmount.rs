//! Unmounts one filesystem with the programs of this computer, after the person has said yes. Never by force, never
//! lazily, and never more than the one mount point that it is given.
//!
//! The programs do more than the system call: umount(8) runs the helper of a filesystem and knows who may do it, and
//! udisksctl(1) lets the people of a desktop unmount what the desktop mounted for them.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where udisks mounts: `/run/media/USER`, and `/media/USER` on Debian and Ubuntu (udisks(8)).
const BY_UDISKS: [&str; 2] = ["/run/media", "/media"];

/// The filesystem is still mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnmountError {
    /// The program cannot be started.
    #[error("starting {program}")]
    Start {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    /// The program refuses, in its own words.
    #[error("{program}: {says}")]
    Refused { program: &'static str, says: String },
}

/// Unmount the filesystem of the device `node` that is mounted at `target`.
///
/// # Errors
/// It is still mounted; what the program said is in the error.
pub(crate) fn unmount(node: &str, target: &Path) -> Result<(), UnmountError> {
    let is_root = rustix::process::geteuid().is_root();
    if BY_UDISKS.iter().any(|dir| target.starts_with(dir)) && !is_root {
        // Without udisks, fstab(5) may still let the user do it.
        return match run(
            "udisksctl",
            &["unmount", "--no-user-interaction", "-b"],
            node.as_ref(),
        ) {
            Err(UnmountError::Start { .. }) => run("umount", &["--"], target),
            done => done,
        };
    }
    run("umount", &["--"], target)
}

fn run(program: &'static str, arguments: &[&str], last: &Path) -> Result<(), UnmountError> {
    let out = Command::new(program)
        .args(arguments)
        .arg(last)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| UnmountError::Start { program, source })?;
    if out.status.success() {
        return Ok(());
    }
    let says = String::from_utf8_lossy(&out.stderr);
    let says = says.trim();
    let own_name = format!("{program}: ");
    let says = says.strip_prefix(&own_name).unwrap_or(says);
    Err(UnmountError::Refused {
        program,
        says: if says.is_empty() {
            out.status.to_string()
        } else {
            says.lines().collect::<Vec<_>>().join("; ")
        },
    })
}
