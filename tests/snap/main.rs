//! The agent on LXD's snap: a root of Debian's packages that says it is Ubuntu, booted in namespaces with systemd as
//! process 1 and Debian's snapd, and snaps that are made here and installed without a store. The snap of LXD has
//! Debian's LXD in it, so that a whole farm comes up on it.
//!
//! Needs root and Debian's packages, and says that it is skipped if it lacks one. It installs nothing on this machine,
//! touches no daemon of it, and removes what it made, even if a test fails; two runs at once do not meet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cases;
mod lab;

#[path = "../common/mod.rs"]
mod common;

#[path = "../lxd/cgroup.rs"]
mod cgroup;
#[path = "../lxd/document.rs"]
#[allow(dead_code, reason = "the tests of the Debian package declare more")]
mod document;
#[path = "../lxd/image.rs"]
#[allow(dead_code, reason = "the tests of the Debian package have more images")]
mod image;
#[path = "../lxd/machine.rs"]
mod machine;
#[path = "../lxd/netns.rs"]
mod netns;
#[path = "../lxd/router.rs"]
#[allow(dead_code, reason = "the tests of the Debian package have more networks")]
mod router;
#[path = "../lxd/sh.rs"]
mod sh;
#[path = "../lxd/sweep.rs"]
mod sweep;
