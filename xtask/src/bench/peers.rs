//! The programs with which people write cards today, each used as its documentation says. Installs nothing outside the
//! cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::deps::Package;
use crate::{cache, sh};

/// What the peers need from the distribution.
pub(crate) const NEEDS: &[Package] = &[("bmap-tools", "bmaptool")];

/// Peers that are crates, and their versions.
const CRATES: [(&str, &str); 2] = [("bmap-rs", "0.2.3"), ("caligula", "0.5.0")];

/// Something that writes an image to a device.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What to call it.
    pub(crate) name: String,
    script: &'static str,
    program: PathBuf,
}

impl Peer {
    /// A command that writes `image` to `node`; `bmap` is the block map of the image.
    pub(crate) fn command(&self, image: &Path, bmap: &Path, node: &str) -> Command {
        let mut shell = sh::cmd("sh", ["-c", self.script]);
        shell.arg(image).arg(node).arg(bmap).arg(&self.program);
        shell
    }
}

/// `xzcat | dd`: the baseline of the ratios.
pub(crate) fn xzcat_dd() -> Peer {
    Peer {
        name: "xzcat \\| dd bs=4M oflag=direct".into(),
        // `fullblock` fills whole blocks from the pipe: direct writes of anything less fail.
        script:
            "set -e; xzcat \"$0\" | dd of=\"$1\" bs=4M iflag=fullblock oflag=direct conv=fsync status=none",
        program: PathBuf::new(),
    }
}

/// The others that can be used here; one that cannot is printed.
pub(crate) fn others() -> Vec<Peer> {
    let mut peers = vec![
        Peer {
            name: "xz -T0 -dc \\| dd bs=4M oflag=direct".into(),
            script: "set -e; xz -T0 -dc \"$0\" | dd of=\"$1\" bs=4M iflag=fullblock oflag=direct conv=fsync status=none",
            program: PathBuf::new(),
        },
        Peer {
            name: "bmaptool copy".into(),
            script: "bmaptool --quiet copy --bmap \"$2\" \"$0\" \"$1\"",
            program: PathBuf::new(),
        },
    ];
    for (name, version) in CRATES {
        let script = match name {
            // It looks for the map beside the image.
            "bmap-rs" => "cp \"$2\" \"$(dirname \"$2\")/image.bmap\"; exec \"$3\" copy \"$(dirname \"$2\")/image.xz\" \"$1\"",
            _ => "exec \"$3\" burn --force --interactive never --root never --compression xz --hash skip -o \"$1\" \"$0\"",
        };
        match installed(name, version) {
            Ok(program) => peers.push(Peer {
                name: format!("{name} {version}"),
                script,
                program,
            }),
            Err(error) => println!("skipped: {name}: {error:#}"),
        }
    }
    peers
}

/// The program of a crate, built once and kept in the user's cache.
fn installed(name: &str, version: &str) -> Result<PathBuf> {
    let key = cache::Key::default().with(name).with(version);
    let entry = cache::entry(&format!("peer-{name}"), &key, |dir| {
        let sh = sh::shell()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let install = cmd!(
            sh,
            "{cargo} install --quiet --locked --no-track --version {version} --root {dir} {name}"
        );
        sh::run(install).with_context(|| format!("building {name} {version}"))
    })?;
    Ok(entry.join("bin").join(name))
}
