//! The tool from outside, as people and scripts use it: what it prints, its exit code, the files that it leaves, and
//! what it does to the machine meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod build;
mod carry;
mod cluster;
mod declared;
mod doctor;
mod examples;
mod first_farm;
mod generated;
mod lan;
mod messages;
mod mistakes;
mod odd_bases;
mod plans;
mod remote;
mod surroundings;
mod terminal;

use std::path::Path;
use std::process::{Command, Output};

use common::agents::{give_agents, has_agents};

/// The tool under test.
const PALMFARM: &str = env!("CARGO_BIN_EXE_palmfarm");

/// A farm that uses much of what there is, on the built-in base.
const FARM: &str = r#"farm: 1
base: mini
hostname: palm
timezone: Europe/Vienna
locale: en_GB.UTF-8
users:
  - name: craig
    groups: [sudo, lxd]
    ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV craig@laptop"]
    password: {env: PALMFARM_TEST_PASSWORD}
    sudo: password
boot: {cmdline: [swapaccount=1], config: {gpu_mem: 16}}
lxd: {storage: {driver: btrfs, size: 5GB}}
containers:
  web: {image: "images:alpine/3.23", run: ["apk add nginx"], publish: web_image}
  w: {image: web_image, replicas: 2..4}
files: {/etc/motd: motd.txt}
rc_local: ["modprobe br_netfilter"]
"#;

/// The password of [`FARM`]'s user, which must never appear anywhere.
const PASSWORD: &str = "correct-horse-battery-4711";

/// Put [`FARM`] and what it names into `dir`.
fn farm_in(dir: &Path) {
    std::fs::write(dir.join("farm.yaml"), FARM).unwrap();
    std::fs::write(dir.join("motd.txt"), "welcome\n").unwrap();
}

/// Run the tool in `dir`.
fn palmfarm(dir: &Path, args: &[&str]) -> Output {
    command(dir).args(args).output().unwrap()
}

/// The tool in `dir`, with the password of [`FARM`] at hand.
fn command(dir: &Path) -> Command {
    let mut command = Command::new(PALMFARM);
    command.current_dir(dir).env("PALMFARM_TEST_PASSWORD", PASSWORD);
    command.env("XDG_CACHE_HOME", dir.join("cache"));
    command.env_remove("CLICOLOR_FORCE");
    give_agents(&mut command);
    command
}

/// What went wrong, whole, for the message of a failed test.
fn told(out: &Output) -> String {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    format!("{}\n{stdout}\n{stderr}", out.status)
}
