//! `palmfarm flash` from outside, on real loop devices: what it writes, what it refuses, what it leaves behind when it
//! is stopped, and how it asks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod named;
mod refused;
mod stopped;
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::agents::{give_agents, has_agents};
use common::disk::can_loop;
use tempfile::TempDir;

/// The tool under test.
const PALMFARM: &str = env!("CARGO_BIN_EXE_palmfarm");

/// A farm on the built-in base.
const FARM: &str = "farm: 1\nbase: mini\nhostname: palm\nfiles: {/etc/motd: motd.txt}\n";

const MIB: u64 = 1 << 20;

/// A folder with a farm in it.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("farm.yaml"), FARM).unwrap();
    fs::write(dir.path().join("motd.txt"), "welcome\n").unwrap();
    dir
}

/// The tool in `dir`.
fn palmfarm(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PALMFARM);
    command.args(args);
    surrounded(&mut command, dir);
    command
}

/// What the tool sees of the machine: a cache and agents of the tests', and no sudo.
fn surrounded(command: &mut Command, dir: &Path) {
    command.current_dir(dir).env("XDG_CACHE_HOME", dir.join("cache"));
    give_agents(command);
    for variable in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
        command.env_remove(variable);
    }
}

/// The words that flash `what` to the loop device `node` without a question, and `more`.
fn flash<'a>(what: &'a str, node: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["flash", what, node, "--yes", "--allow", "loop"], more].concat()
}

/// The variables that sudo sets if the user `nobody` calls it; 65534 is that user's number everywhere.
const SUDO_BY_NOBODY: [(&str, &str); 3] = [
    ("SUDO_UID", "65534"),
    ("SUDO_GID", "65534"),
    ("SUDO_USER", "nobody"),
];

/// How it ended and what it printed.
fn told(out: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// Run the tool, which must exit with `code`; all it printed.
fn exits(dir: &Path, args: &[&str], code: i32) -> String {
    let out = palmfarm(dir, args).output().unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", told(&out));
    told(&out)
}

/// Whether this machine has what the tests of whole cards need; if not, the calling test says that it is skipped.
fn is_ready() -> bool {
    has_agents() && can_loop()
}

/// An image of `size` bytes of noise with a partition table, all of which matters.
fn noise(dir: &Path, size: u64) -> PathBuf {
    let mut state = 7_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = std::iter::repeat_with(|| next().to_le_bytes());
    // One MiB of it, and each further one turned by a byte more: quick, and no two are alike.
    let mut mib: Vec<u8> = words.take(1 << 17).flatten().collect();
    let mut bytes = Vec::new();
    for _ in 0..size / MIB {
        bytes.extend_from_slice(&mib);
        mib.rotate_left(1);
    }
    // One partition of a type that nothing looks into, from 1 MiB to the end (an MBR as sfdisk writes it).
    bytes[446..510].fill(0);
    let mut entry = [0_u8; 16];
    entry[4] = 0xda;
    entry[8..12].copy_from_slice(&2048_u32.to_le_bytes());
    let sectors = u32::try_from(size / 512 - 2048).unwrap();
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    bytes[446..462].copy_from_slice(&entry);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = dir.join("noise.img");
    fs::write(&path, bytes).unwrap();
    path
}
