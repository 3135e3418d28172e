//! `palmfarm flash` from outside, on real loop devices: what it writes, what it refuses, what it leaves behind when it
//! is stopped, and how it asks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod asked;
mod refused;
#[path = "../device/stage.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod stage;
mod stopped;
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    command.args(args).current_dir(dir);
    command.env("XDG_CACHE_HOME", dir.join("cache"));
    for variable in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
        command.env_remove(variable);
    }
    command
}

/// What it printed and how it ended.
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

/// Whether this machine has what the tests of whole cards need; says so where not.
fn is_ready() -> bool {
    let agents = std::env::var_os("PALMFARM_AGENT_DIR").is_some();
    if !agents {
        println!("skipped: PALMFARM_AGENT_DIR names no agents; cargo xtask test builds them");
    }
    agents && stage::can_loop()
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
    let mut bytes: Vec<u8> = words.take(usize::try_from(size / 8).unwrap()).flatten().collect();
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
