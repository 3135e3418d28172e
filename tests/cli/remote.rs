//! What `watch`, `push` and `find` refuse before they send anything.

use super::{farm_in, palmfarm};

/// The command ends as a wrong command line, and says `message` and the hint.
fn check(has_farm: bool, args: &[&str], message: &str, hint: &str) {
    let dir = tempfile::tempdir().unwrap();
    if has_farm {
        farm_in(dir.path());
    }
    let output = palmfarm(dir.path(), args);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {printed}");
    assert!(
        printed.contains(message) && printed.contains(hint),
        "{args:?}: {printed}"
    );
}

#[test]
fn a_pi_must_be_named_somehow() {
    check(
        false,
        &["watch"],
        "no farm and no host were named",
        "hint: name the Pi",
    );
    check(
        false,
        &["push", "--yes", "palm.local"],
        "no farm was named",
        "hint: name the farm file",
    );
    check(
        true,
        &["watch", "palm.local", "farm.yaml"],
        "palm.local is not a farm file",
        "hint: the farm comes first",
    );
    check(
        false,
        &["find", "--card", "palm1"],
        "--card needs a farm",
        "hint: name the farm file",
    );
}

#[test]
fn nobody_changes_a_pi_without_being_told() {
    check(
        true,
        &["push", "192.0.2.1"],
        "nobody can be asked",
        "hint: --yes changes it without asking",
    );
    check(true, &["push", "--yes", "--dry-run"], "cannot be used with", "");
    check(
        true,
        &["find", "--once", "--timeout", "1m"],
        "cannot be used with",
        "",
    );
}
