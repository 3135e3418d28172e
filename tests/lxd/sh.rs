//! Running other programs. Each is given an empty standard input; a failure is a panic with what it printed.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// `program` with `args`, reading nothing.
pub(crate) fn cmd<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    command
}

/// `line`, which has neither quotes nor blanks in its words.
pub(crate) fn words(line: &str) -> Command {
    let mut words = line.split_ascii_whitespace();
    cmd(words.next().unwrap_or_default(), words)
}

/// Run it to its end, whatever that is.
pub(crate) fn ended(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("starting {command:?}: {error}"))
}

/// What it prints; it must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let done = ended(command);
    assert!(
        done.status.success(),
        "{command:?} ended with {}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Run it; it must succeed.
pub(crate) fn run(command: &mut Command) {
    drop(output(command));
}

/// Whether it succeeds; what it prints is lost.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    ended(command).status.success()
}

/// Whether there is a program of that name.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}
