//! Problems on a terminal: their colours, and where their lines break.

use std::fs;
use std::path::Path;

use expect_test::expect;

use super::command;
use super::mistakes::FARM;

/// What the tool prints on a terminal of so many columns, with the command's variables set.
fn on_a_terminal(dir: &Path, columns: u32, variables: &str) -> String {
    let line = format!(
        "stty cols {columns}; {variables} {} check farm.yaml",
        super::PALMFARM
    );
    let out = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(dir)
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .env_remove("CLICOLOR_FORCE")
        // A CI system is not a terminal with more colours.
        .env("CI", "true")
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().replace('\r', "")
}

#[test]
fn a_terminal_has_colours_and_whole_words() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = FARM.replace("ipv4: dhcp", "ipv4: 192.168.1.10/24");
    fs::write(dir.path().join("farm.yaml"), wrong).unwrap();
    let plain = String::from_utf8(
        command(dir.path())
            .args(["check", "farm.yaml"])
            .output()
            .unwrap()
            .stderr,
    )
    .unwrap();
    let coloured = on_a_terminal(dir.path(), 400, "");
    for part in [
        "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m",
        "\u{1b}[1m\u{1b}[36mhint:\u{1b}[0m",
    ] {
        assert!(coloured.contains(part), "{coloured:?}");
    }
    for variables in ["NO_COLOR=1", "TERM=dumb"] {
        assert_eq!(on_a_terminal(dir.path(), 400, variables), plain);
    }
    let narrow = on_a_terminal(dir.path(), 40, "NO_COLOR=1");
    expect![[r#"
        farm.yaml:6:9: error: `ipv4` is dhcp,
          none or a mapping with a fixed
          address, not "192.168.1.10/24"
          6 |   ipv4: 192.168.1.10/24
            |         ^^^^^^^^^^^^^^^
        hint: write {address: 192.168.1.10/24,
          gateway: 192.168.1.1, dns:
          [192.168.1.1]}, with your router's
          address as gateway and resolver
    "#]]
    .assert_eq(&narrow);
}
