//! A build depends on its inputs alone, needs no rights, and starts nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::common::agents::{copy_agents, give_agents};
use super::common::{have_root, skipped};
use super::{command, farm_in, has_agents, told, PALMFARM};

/// Build in a folder of its own and give back the image.
fn build(setup: impl FnOnce(&mut Command), args: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let mut command = command(dir.path());
    command.args(["build", "farm.yaml", "-o", "palm.img"]).args(args);
    setup(&mut command);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", told(&out));
    fs::read(dir.path().join("palm.img")).unwrap()
}

#[test]
fn the_same_farm_gives_the_same_bits_everywhere() {
    if !has_agents() {
        return;
    }
    let plain = build(|_| {}, &[]);
    let elsewhere = build(
        |command| {
            command
                .env("TZ", "Pacific/Kiritimati")
                .env("LANG", "tr_TR.UTF-8")
                .env("LC_ALL", "tr_TR.UTF-8");
            command.env("HOME", "/nonexistent").env_remove("USER");
        },
        &["--threads", "1"],
    );
    assert!(plain == elsewhere, "time zone, locale, home, threads");
    let masked = build(
        |command| {
            let program = command.get_program().to_owned();
            let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let dir = command.get_current_dir().unwrap().to_owned();
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "umask 077; exec \"$0\" \"$@\""])
                .arg(program)
                .args(args)
                .current_dir(&dir);
            shell
                .env("PALMFARM_TEST_PASSWORD", super::PASSWORD)
                .env("XDG_CACHE_HOME", dir.join("cache"));
            give_agents(&mut shell);
            *command = shell;
        },
        &["--threads", "3"],
    );
    assert!(plain == masked, "umask, threads");
}

/// Make `path` and what is below it readable for everybody: temporary folders are their owner's alone.
fn open_up(path: &Path) {
    let mode = if path.is_dir() { 0o777 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for entry in fs::read_dir(path).into_iter().flatten() {
        open_up(&entry.unwrap().path());
    }
}

#[test]
fn an_ordinary_user_builds_without_programs_or_devices() {
    if !has_agents() {
        return;
    }
    if !have_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    // Another user may not be able to reach the program in its own folder.
    fs::copy(PALMFARM, dir.path().join("palmfarm")).unwrap();
    let agents = dir.path().join("agents");
    copy_agents(&agents);
    open_up(dir.path());
    fs::set_permissions(dir.path().join("palmfarm"), fs::Permissions::from_mode(0o755)).unwrap();
    let trace = dir.path().join("trace");
    let mut strace = Command::new("/usr/bin/strace");
    strace
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=execve,execveat,openat,open,mount,ioctl",
            "-o",
        ])
        .arg(&trace);
    strace
        .arg(dir.path().join("palmfarm"))
        .args(["build", "farm.yaml", "-o", "palm.img"]);
    strace
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", "")
        .env("PALMFARM_AGENT_DIR", &agents);
    strace
        .env("PALMFARM_TEST_PASSWORD", super::PASSWORD)
        .env("HOME", dir.path());
    // 65534 is the user nobody, everywhere.
    let out = match strace.uid(65534).gid(65534).output() {
        Ok(out) => out,
        Err(error) => {
            skipped(format!("strace cannot be run here: {error}"));
            return;
        }
    };
    assert!(out.status.success(), "{}", told(&out));
    let trace = fs::read_to_string(&trace).unwrap();
    let started = trace.lines().filter(|line| line.contains("execve")).count();
    assert_eq!(started, 1, "only the tool itself is started:\n{trace}");
    for line in trace.lines() {
        let device = line.contains("\"/dev/") && !line.contains("/dev/null") && !line.contains("/dev/tty");
        assert!(!device && !line.contains("mount("), "{line}");
    }
}
