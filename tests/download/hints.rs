//! What a person is told to do about a download that does not come.

use std::fs;

use crate::command::{palmfarm, told};

#[test]
fn certificates_that_are_not_there_are_said_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = palmfarm(dir.path());
    command.args(["base", "fetch", "ubuntu-24.04-arm64"]);
    let out = command
        .env("SSL_CERT_FILE", "/nowhere/cert.pem")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("/nowhere/cert.pem"), "{}", told(&out));
    assert!(
        told(&out).contains("hint: let SSL_CERT_FILE name"),
        "{}",
        told(&out)
    );
}

#[test]
fn a_base_that_cannot_be_downloaded_may_come_by_other_ways() {
    let dir = tempfile::tempdir().unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGbM8nNwcKJ2v9nhOn4y2pCqcHl3bH7jxUHy0HtWqVd0 nina";
    let farm = format!(
        "farm: 1\nbase: ubuntu-24.04-arm64\nhostname: palm\nusers: [{{name: nina, sudo: nopasswd, ssh_keys: [{key:?}]}}]\n"
    );
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    let mut command = palmfarm(dir.path());
    command.args(["build", "farm.yaml", "-o", "palm.img"]);
    // Nobody listens on port 1.
    command.env("HTTPS_PROXY", "http://127.0.0.1:1");
    let out = command.current_dir(dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
    let way = "put ubuntu-24.04.4-preinstalled-server-arm64+raspi.img.xz, downloaded elsewhere, beside the farm file";
    assert!(told(&out).contains(way), "{}", told(&out));
}
