//! The agent's farm steps on the real daemons: Debian's LXD, and once Debian 13's Incus, in network, mount, process and
//! control-group namespaces of its own, a stand-in for the home router beside it, and the real agent on a first-boot
//! document.
//!
//! Needs root and Debian's packages, and says that it is skipped if it lacks one. It installs nothing, touches no
//! daemon of the system, and removes what it made, even if a test fails; two runs at once do not meet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod card;
mod carried;
mod cgroup;
mod chance;
mod cluster;
mod cluster_chance;
mod cluster_cut;
mod cluster_later;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod docker;
mod document;
mod doubt;
mod find;
mod fleet;
mod image;
mod incus;
mod lab;
mod machine;
mod netns;
mod owner;
mod pi;
mod predict;
mod proxy;
mod remote;
mod replicas;
mod router;
mod running;
mod sh;
mod state;
mod story;
mod sweep;
mod trouble;
mod used;
