//! `palmfarm image fetch` from outside, with a publisher on the loopback interface.

use std::fs;
use std::path::Path;
use std::process::Command;

use palmfarm::base::source::Sha256Sum;

use crate::command::{palmfarm, tls_server, told};
use crate::names;
use crate::server::{Served, Server};

const FOLDER: &str = "alpine/v3.23/releases/armv7";
const FILE: &str = "alpine-minirootfs-3.23.3-armv7.tar.gz";

/// What a root filesystem for the machine with this number in ELF has at the least, packed.
fn rootfs(machine: u8) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["bin", "etc", "sbin", "usr"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let mut program = b"\x7fELF\x01\x01\x01".to_vec();
    program.resize(64, 0);
    program[18] = machine;
    fs::write(dir.path().join("bin/busybox"), program).unwrap();
    fs::write(
        dir.path().join("etc/os-release"),
        "PRETTY_NAME=\"Alpine Linux v3.23\"\n",
    )
    .unwrap();
    let out = Command::new("tar")
        .args(["--create", "--gzip", "--directory"])
        .arg(dir.path())
        .arg(".")
        .output()
        .unwrap();
    assert!(out.status.success());
    out.stdout
}

/// The publisher's list, in Alpine's form.
fn list(bytes: &[u8]) -> String {
    format!(
        "---\n-\n  title: \"Standard\"\n  arch: armv7\n  version: 3.23.3\n  flavor: alpine-standard\n  sha256: {0}\n-\n  \
         title: \"Mini root filesystem\"\n  desc: |\n    Minimal root filesystem.\n\n  branch: v3.23\n  arch: armv7\n  \
         version: 3.23.3\n  flavor: alpine-minirootfs\n  file: {FILE}\n  date: 2026-01-27\n  size: {1}\n  sha256: {2}\n",
        "0".repeat(64),
        bytes.len(),
        Sha256Sum::of(bytes)
    )
}

/// A server that has `bytes`, whatever its list says.
fn publisher(bytes: &[u8], list: &str) -> Server {
    let server = Server::start();
    server.serve(
        &format!("/{FOLDER}/latest-releases.yaml"),
        Served::new(list.as_bytes()),
    );
    server.serve(&format!("/{FOLDER}/{FILE}"), Served::new(bytes));
    server
}

fn fetch(dir: &Path, mirror: &str, more: &[&str]) -> std::process::Output {
    let args = ["image", "fetch", "alpine/3.23", "--mirror", mirror];
    palmfarm(dir).args(args).args(more).output().unwrap()
}

#[test]
fn what_is_printed_makes_a_farm_that_carries_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = rootfs(40);
    let folder = dir.path().join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    let answer = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    fs::write(
        folder.join("latest-releases.yaml"),
        answer(list(&bytes).as_bytes()),
    )
    .unwrap();
    fs::write(folder.join(FILE), answer(&bytes)).unwrap();
    let Some((mut server, port)) = tls_server(dir.path(), "DNS:localhost,IP:127.0.0.1") else {
        return;
    };
    let mirror = format!("https://localhost:{port}/alpine");
    let out = palmfarm(dir.path())
        .env("SSL_CERT_FILE", dir.path().join("cert.pem"))
        .args([
            "image",
            "fetch",
            "alpine/3.23",
            "--arch",
            "armhf",
            "--mirror",
            &mirror,
        ])
        .output()
        .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let stem = FILE.strip_suffix(".tar.gz").unwrap();
    let made = [format!("{stem}.metadata.tar"), FILE.to_owned()];
    assert_eq!(names(&dir.path().join("images")), made);
    assert_eq!(fs::read(dir.path().join("images").join(FILE)).unwrap(), bytes);
    let lines = String::from_utf8(out.stdout).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let farm = format!(
        "farm: 1\nbase: mini\nhostname: palm\nlxd: {{}}\n{lines}containers: {{web: {{image: alpine}}}}\n"
    );
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    let checked = palmfarm(dir.path()).arg("check").output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", told(&checked));
    // The metadata has the day of the release, and what starts the network.
    let metadata = fs::read(dir.path().join("images").join(&made[0])).unwrap();
    let metadata = String::from_utf8_lossy(&metadata);
    for part in [
        "1769472000",
        "\"armv7l\"",
        "/etc/inittab",
        "::sysinit:/sbin/ifup -a",
    ] {
        assert!(metadata.contains(part), "{part}: {metadata}");
    }
}

#[test]
fn only_what_the_list_and_the_person_name_gets_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (right, other) = (rootfs(40), rootfs(62));
    let sum = |bytes: &[u8]| Sha256Sum::of(bytes).to_string();
    let check = |server: &Server, more: &[&str], code: i32, message: &str| {
        let out = fetch(dir.path(), &server.url("/alpine"), more);
        assert_eq!(out.status.code(), Some(code), "{}", told(&out));
        assert!(told(&out).contains(message), "{message}: {}", told(&out));
        let said = told(&out);
        assert!(said.contains("hint: "), "{said}");
        assert!(!dir
            .path()
            .join("images/alpine-minirootfs-3.23.3-armv7.metadata.tar")
            .exists());
    };
    let server = publisher(&right, &list(&right));
    check(
        &server,
        &[],
        1,
        "the list of digests on an http mirror is not authenticated",
    );
    assert!(server.requests().is_empty());
    check(&server, &["--sha256", &sum(&other)], 1, "the mirror lists");
    assert!(names(dir.path()).is_empty());
    let lies = publisher(&other, &list(&right));
    check(&lies, &["--sha256", &sum(&right)], 1, "SHA-256");
    assert!(names(&dir.path().join("images")).is_empty());
    let without = publisher(&right, "---\n- {flavor: alpine-standard}\n");
    check(
        &without,
        &["--sha256", &sum(&right)],
        1,
        "alpine-minirootfs-3.23.*-armv7.tar.gz",
    );
    let for_another = publisher(&other, &list(&other));
    check(
        &for_another,
        &["--sha256", &sum(&other)],
        1,
        "is not a root filesystem for armhf",
    );
    let out = fetch(dir.path(), &server.url("/alpine"), &["--sha256", &sum(&right)]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    // It is there: only the list is asked for again.
    let before = server.requests().len();
    fetch(dir.path(), &server.url("/alpine"), &["--sha256", &sum(&right)]);
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn a_distribution_that_publishes_none_is_told_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = palmfarm(dir.path())
        .args(["image", "fetch", "debian/12", "--arch", "armhf"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    let said = told(&out);
    assert!(
        said.contains("the Debian project publishes no root filesystem for containers"),
        "{said}"
    );
    assert!(
        said.contains("hint: on a computer with Debian, `mmdebstrap "),
        "{said}"
    );
    assert!(names(dir.path()).is_empty());
}
