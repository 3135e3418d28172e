//! What `watch`, `push` and `find` refuse before they send anything, and what they tell ssh.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::common::have;
use super::{command, farm_in, palmfarm, told};

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

/// Stands in PATH for ssh(1): it notes how the real one understands its arguments, which keys of hosts that one would
/// have, and says in the end that it does not trust the host.
const DISTRUSTS: &str = r#"#!/bin/sh
"$SSH" -G "$@" > understood
file=$(sed -n 's/^userknownhostsfile //p' understood)
ssh-keygen -F palmfarm -f "$file" > found
printf '%s\r\n' "$SAYS" 'Host key verification failed.' >&2
exit 255
"#;

/// What `watch` of a farm with these keys of `ssh` says, and how ssh was started: its settings, and the keys.
fn distrusted(dir: &Path, keys: &str, says: &str) -> (String, String, String) {
    farm_in(dir);
    let farm = std::fs::read_to_string(dir.join("farm.yaml")).unwrap();
    std::fs::write(dir.join("farm.yaml"), format!("{farm}ssh: {{{keys}}}\n")).unwrap();
    let (bin, path) = (dir.join("bin"), std::env::var_os("PATH").unwrap());
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(bin.join("ssh"), DISTRUSTS).unwrap();
    std::fs::set_permissions(bin.join("ssh"), Permissions::from_mode(0o755)).unwrap();
    let ssh = std::env::split_paths(&path)
        .map(|folder| folder.join("ssh"))
        .find(|file| file.is_file());
    let all = [bin].into_iter().chain(std::env::split_paths(&path));
    let output = command(dir)
        .args(["watch", "farm.yaml", "192.0.2.1"])
        .env("PATH", std::env::join_paths(all).unwrap())
        .env("SSH", ssh.unwrap())
        .env("SAYS", says)
        .env("TMPDIR", dir.join("bin"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let noted = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    (told(&output), noted("understood"), noted("found"))
}

#[test]
fn ssh_is_given_the_host_key_that_the_farm_brings() {
    if !have(&["ssh", "ssh-keygen"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("keys/palm");
    std::fs::create_dir(dir.path().join("keys")).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(keygen.status().unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let public: Vec<&str> = public.split(' ').take(2).collect();

    let (said, understood, found) = distrusted(dir.path(), "host_keys: keys", "");
    for setting in [
        "stricthostkeychecking true",
        "hostkeyalgorithms ssh-ed25519",
        "hostkeyalias palmfarm",
    ] {
        assert!(
            understood.lines().any(|line| line == setting),
            "{setting}: {understood}"
        );
    }
    assert!(found.contains(&public.join(" ")), "{found}");
    assert!(
        said.contains("192.0.2.1 has another SSH host key than the farm brings"),
        "{said}"
    );
    let left = std::fs::read_dir(dir.path().join("bin")).unwrap().count();
    assert_eq!(left, 1, "the file of keys was left");
}

#[test]
fn without_one_ssh_has_its_own_settings() {
    if !have(&["ssh", "ssh-keygen"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let changed = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @";
    let (said, understood, _) = distrusted(dir.path(), "password: false", changed);
    assert!(!understood.contains("palmfarm"), "{understood}");
    assert!(
        said.contains("hint: ") && said.contains("ssh-keygen -R 192.0.2.1"),
        "{said}"
    );
    let (said, ..) = distrusted(dir.path(), "password: false", "");
    assert!(said.contains("compare the key: ssh craig@192.0.2.1"), "{said}");
}
