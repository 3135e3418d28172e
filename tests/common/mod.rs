//! What the tests share: images made by mkfs, judges that are not ours, devices that are let go, and how a test is
//! skipped.
//!
//! Every image is a fresh file in a directory of its own: the kernel caches what it saw through a loop device, and a
//! path that is used again can show it old blocks.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(unused_imports, reason = "each test program uses a part of this")]
#![allow(unreachable_pub, reason = "test programs have no public interface")]
#![allow(
    missing_docs,
    reason = "fields of test images say by their names what they are"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod agents;
pub mod alone;
pub mod base;
pub mod deb;
pub mod disk;
pub mod make;
pub mod oracle;
mod skip;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub use skip::{skipped, skipped_in_part};

/// Where the administrators' tools live, which an ordinary user's `PATH` leaves out.
const SBIN: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// How long what is busy may stay so, and how long to wait before the next try.
const BUSY: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(20);

/// Run `program` and return what it prints; if it fails, the test fails and shows all of it.
pub fn run(program: &str, args: &[&str]) -> String {
    let (ok, printed, errors) = ended(program, args);
    assert!(ok, "{program} {}: {printed}{errors}", args.join(" "));
    printed.trim_end().to_owned()
}

/// Run `program`; whether it succeeded, and what it printed on both channels.
pub fn attempt(program: &str, args: &[&str]) -> (bool, String) {
    let (ok, printed, errors) = ended(program, args);
    (ok, printed + &errors)
}

fn ended(program: &str, args: &[&str]) -> (bool, String, String) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("starting {program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

/// Run `program` until it succeeds; whether it did. For what lets go of devices and mounts: they are busy while a
/// program that another test starts is not itself yet and has our open files, and while udev or blkid looks at them.
pub fn patiently(program: &str, args: &[&str]) -> bool {
    let begun = Instant::now();
    loop {
        let (done, trouble) = attempt(program, args);
        if done {
            return true;
        }
        if begun.elapsed() > BUSY {
            eprintln!("{program} {}: {trouble}", args.join(" "));
            return false;
        }
        std::thread::sleep(MOMENT);
    }
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    SBIN.iter().any(|dir| Path::new(dir).join(program).exists())
}

/// Whether every one of `programs` is there; if not, the calling test says that it is skipped.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !has(program)).collect();
    if !missing.is_empty() {
        skipped(format!("there is no {}", missing.join(", ")));
    }
    missing.is_empty()
}

/// Whether the tests run as root, which loop devices and mounts need.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is root; if not, the calling test says that it is skipped.
pub fn have_root() -> bool {
    if !is_root() {
        skipped("it needs root");
    }
    is_root()
}
