//! What the image tests share: images made by mkfs, and judges that are not ours.
//!
//! Every image is a fresh file in a directory of its own: the kernel caches what it saw through a loop device, and a
//! path that is used again can show it old blocks.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(unreachable_pub, reason = "test programs have no public interface")]
#![allow(
    missing_docs,
    reason = "fields of test images say by their names what they are"
)]

pub mod make;
pub mod oracle;

use std::path::Path;
use std::process::Command;

/// Run `program` and return what it prints; a failure is a failed test that shows all of it.
pub fn run(program: &str, args: &[&str]) -> String {
    let (ok, text) = attempt(program, args);
    assert!(ok, "{program} {}: {text}", args.join(" "));
    text
}

/// Run `program`; whether it succeeded, and what it printed on both channels.
pub fn attempt(program: &str, args: &[&str]) -> (bool, String) {
    // mke2fs and the like live where an ordinary user's PATH does not look.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("starting {program}: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    (done.status.success(), text)
}

/// Take a mount away. A program that another test starts at this moment has our open files until it is itself, and keeps
/// the mount busy for that long.
pub fn unmount(at: &Path) {
    for _ in 0..250 {
        let (gone, _) = attempt("umount", &[at.to_str().unwrap_or_default()]);
        if gone {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Whether every one of `programs` is there; else a line that says what is skipped and why.
pub fn have(programs: &[&str], what: &str) -> bool {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| {
            !["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
                .iter()
                .any(|dir| Path::new(dir).join(program).exists())
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    println!("skipped: {what}: no {}", missing.join(", "));
    false
}

/// Whether the tests run as root, which loop devices and mounts need.
pub fn is_root() -> bool {
    run("id", &["-u"]).trim() == "0"
}
