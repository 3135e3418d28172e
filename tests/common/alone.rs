//! Tests in a process of their own.
//!
//! Between fork and exec, a child has every descriptor of its parent. While one test starts a program, a device that
//! another test of the same process has open is open in that child, too: it counts as in use by somebody else. So
//! whatever opens a device in the test's own process and cares who else has it runs here.

use std::process::Command;

/// Set in a process that runs one test alone.
const ALONE: &str = "PALMFARM_TEST_ALONE";

/// Run `test`, a closure that the calling test consists of, in a process in which no other test runs.
pub fn alone(test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    passes(&mut again(&test));
}

/// The same with mounts that no other process sees: one that makes a mount namespace meanwhile, such as a container daemon,
/// would keep them.
pub fn with_own_mounts(test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let alone = again(&test);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(alone.get_program()).args(alone.get_args());
    passes(command.env(ALONE, "1"));
}

fn passes(command: &mut Command) {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    for line in said.lines() {
        if line.starts_with("skipped") {
            super::skip::show(&format!("{line}\n"));
        } else {
            // Indented, or the child's result would be counted beside ours.
            println!("  {line}");
        }
    }
    assert!(
        out.status.success() && said.contains("test result: ok. 1 passed"),
        "alone: {}\n{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
}

/// This program once more, with the one test that `test` is, or is a closure of.
pub fn again<T>(_test: &T) -> Command {
    let path = std::any::type_name::<T>();
    // `program::module::test::{{closure}}`; libtest leaves the program out.
    let (_, name) = path.split_once("::").unwrap_or_default();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name.trim_end_matches("::{{closure}}"), "--nocapture"])
        .env(ALONE, "1");
    command
}
