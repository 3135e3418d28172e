//! At a terminal, the person is asked: which card, and then for its name.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::disk::Disk;
use crate::common::have;
use crate::{folder, is_ready, surrounded, MIB, PALMFARM};

/// Run the tool at a terminal that script(1) makes, with `typed` on it; its exit code and what was shown.
fn at_a_terminal(arguments: &str, typed: &str) -> (Option<i32>, String) {
    let dir = folder();
    let command = format!("{PALMFARM} {arguments}");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    surrounded(&mut script, dir.path());
    let mut script = script
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    script.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let out = script.wait_with_output().unwrap();
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stdout).into_owned(),
    )
}

fn can_ask() -> bool {
    // Of the package bsdutils or util-linux-extra.
    have(&["script"]) && is_ready()
}

#[test]
fn only_the_name_of_the_card_will_do() {
    if !can_ask() {
        return;
    }
    let disk = Disk::new(256 * MIB);
    let before = disk.hash();
    let name = disk.node().trim_start_matches("/dev/");
    let arguments = format!("flash farm.yaml {} --allow loop", disk.node());
    for answer in ["y\n", "yes\n", "\n", "/dev\n"] {
        let (code, shown) = at_a_terminal(&arguments, answer);
        assert_eq!(code, Some(1), "{answer:?}: {shown}");
        assert!(shown.contains(&format!("type {name} to overwrite it")), "{shown}");
        assert!(shown.contains("nothing was touched"), "{shown}");
        assert_eq!(disk.hash(), before, "{answer:?}");
    }
    let (code, shown) = at_a_terminal(&arguments, &format!("{name}\n"));
    assert_eq!(code, Some(0), "{shown}");
    // What is about to be lost was shown.
    assert!(
        shown.contains("268.4 MB") && shown.contains("on it now: nothing that is known"),
        "{shown}"
    );
    assert_ne!(disk.hash(), before);
}

#[test]
fn a_card_is_picked_by_number() {
    if !can_ask() {
        return;
    }
    let disk = Disk::new(256 * MIB);
    let before = disk.hash();
    let arguments = "flash farm.yaml --allow loop";
    let (code, shown) = at_a_terminal(arguments, "0\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains(disk.node()), "{shown}");
    // Other tests have disks of their own on the list.
    let row = shown
        .lines()
        .find(|line| line.contains(&format!("{},", disk.node())))
        .unwrap();
    let number = row.split(':').next().unwrap().trim();
    let (code, shown) = at_a_terminal(arguments, &format!("{number}\nno\n"));
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(disk.hash(), before);
    // Without the loop devices, a machine may have no card at all; then there is nothing to pick.
    let (code, shown) = at_a_terminal("flash farm.yaml", "x\n");
    assert_eq!(code, Some(1), "{shown}");
}
