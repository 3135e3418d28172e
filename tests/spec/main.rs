//! `farm.yaml` as its owner meets it: text in, problems out.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "expect-test writes its strings in this form"
)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod addresses;
mod broken_yaml;
mod cards;
mod cluster;
mod containers;
#[path = "../common/deb.rs"]
#[allow(unreachable_pub, reason = "test programs have no public interface")]
mod deb;
mod files;
mod hints;
mod random;
mod refused;
mod releases;
mod schema;
mod sections;
mod values;
mod yaml;

use std::ffi::OsString;
use std::path::Path;

use expect_test::{expect, Expect};
use palmfarm::farm::problem::Problems;
use palmfarm::farm::{parse, FarmText, LoadedFarm, Refused};

/// A public key whose private half was thrown away.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICorqWM4j0btbLPu4wPY2u0bjp/o/qDYBsuvzSlZKXx8 craig@laptop";

/// A hash of `x`: perl -e 'print crypt("x", "\$6\$rounds=10000\$abc")'.
const HASH: &str = "$6$rounds=10000$abc$UCUqOk6gcu9ZZtND2Z0UgYk8lwpVRmtR53Lsvl5g.kCesFgYAcUnyv3CZaGPARyVDChSCfm/81bYK.MFc2KRz1";

fn no_environment(_: &str) -> Option<OsString> {
    None
}

/// The farm in `text`, in a folder with nothing in it.
fn read(text: &str) -> Result<LoadedFarm, Refused> {
    let empty = tempfile::tempdir().unwrap();
    read_in(text, empty.path())
}

fn read_in(text: &str, dir: &Path) -> Result<LoadedFarm, Refused> {
    let text = text.replace("ANY_KEY", KEY).replace("ANY_HASH", HASH);
    let result = parse("farm.yaml", text.as_bytes(), dir, &no_environment, None);
    schema::agrees(&text, &result);
    result
}

/// Both ends of reading a farm: its text, and what there is to say of it.
fn said(result: &Result<LoadedFarm, Refused>) -> (&FarmText, &Problems) {
    match result {
        Ok(farm) => (&farm.text, &farm.warnings),
        Err(refused) => (refused.text(), refused.problems()),
    }
}

/// Each problem in a line: `3:1 error: message (hint)`.
fn brief(result: &Result<LoadedFarm, Refused>) -> String {
    let (text, problems) = said(result);
    let mut out = String::new();
    for line in text.lines(problems) {
        let severity = format!("{:?}", line.severity).to_lowercase();
        out.push_str(&format!(
            "{}:{} {severity}: {}",
            line.line, line.column, line.message
        ));
        if let Some(hint) = line.hint {
            out.push_str(&format!(" ({hint})"));
        }
        out.push('\n');
    }
    out
}

/// The problems of the farm in `text`, all of it, are `expect`.
#[track_caller]
fn whole(text: &str, expect: &Expect) {
    expect.assert_eq(&brief(&read(text)));
}

/// `lines` and, after them, whatever a farm needs beside them so that nothing else is to say.
fn completed(lines: &str) -> String {
    let mut text = format!("{}\n", lines.trim_end());
    for need in [
        "farm: 1",
        "base: ubuntu-26.04-arm64",
        "hostname: palm",
        "users: [{name: craig, ssh_keys: [ANY_KEY]}]",
    ] {
        let key = need.split_inclusive(':').next().unwrap();
        if !lines.lines().any(|line| line.starts_with(key)) {
            text.push_str(need);
            text.push('\n');
        }
    }
    text
}

/// The problems of a farm with `lines` in it are `expect`; the first of the lines is line 1.
#[track_caller]
fn check(lines: &str, expect: &Expect) {
    expect.assert_eq(&brief(&read(&completed(lines))));
}

/// A farm with `lines` in it is read as it should be, and nothing is to say of it.
#[track_caller]
fn good(lines: &str) -> palmfarm::farm::Farm {
    let result = read(&completed(lines));
    assert_eq!(brief(&result), "", "{lines}");
    result.unwrap().farm
}

#[test]
fn a_problem_has_its_line_a_caret_and_a_hint() {
    let result = read(
        "\
farm: 1
base: mini
hostnam: palm
users:
  - name: Craig
    ssh_keys: [ANY_KEY]
    password: hunter2
    groups: sudo
network: {vlan: 5000, bridge: br0, uplink: }
containers:
  web: {imag: x}
",
    );
    let (text, problems) = said(&result);
    expect![[r#"
        farm.yaml:3:1: error: unknown key "hostnam" in the farm
          3 | hostnam: palm
            | ^^^^^^^
        hint: did you mean "hostname"?
        farm.yaml:5:11: error: "Craig" is not a login name: it holds 'C'
          5 |   - name: Craig
            |           ^^^^^
        hint: did you mean "craig"?
        farm.yaml:7:15: error: `password` is a mapping, since a farm must not hold clear text
          7 |     password: *******
            |               ^^^^^^^
        hint: write {hash: …}, {file: PATH} or {env: NAME}
        farm.yaml:9:17: error: `vlan` is a whole number from 1 to 4094, not "5000"
          9 | network: {vlan: 5000, bridge: br0, uplink: }
            |                 ^^^^
        farm.yaml:9:36: error: `uplink` has no value
          9 | network: {vlan: 5000, bridge: br0, uplink: }
            |                                    ^^^^^^
        hint: write one, or leave the key out
        farm.yaml:11:9: error: unknown key "imag" in container "web"
          11 |   web: {imag: x}
             |         ^^^^
        hint: did you mean "image"?
        farm.yaml:2:7: warning: no Pi starts from `mini`: it is for trying palmfarm out
          2 | base: mini
            |       ^^^^
        hint: `palmfarm base suggest 3` says which image suits a Pi 3
    "#]]
    .assert_eq(&text.render(problems));
}

#[test]
fn a_problem_as_json() {
    let result = read(&completed("timezone: Europe/Wien"));
    let (text, problems) = said(&result);
    let lines: Vec<String> = text
        .lines(problems)
        .map(|line| serde_json::to_string(&line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            r#"{"event":"problem","file":"farm.yaml","line":1,"column":11,"severity":"error","message":"\"Europe/Wien\" is not a time zone","hint":"time zones have names such as Europe/Vienna; `timedatectl list-timezones` lists them"}"#
        ]
    );
}

#[test]
fn the_whole_of_version_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    files::fill(
        dir.path(),
        &[
            "images/alpine-armhf.tar.xz",
            "site/index.html",
            "web-setup.sh",
            "docker-setup.sh",
            "motd.txt",
            "extra.tar",
            "debs/jq.deb",
        ],
    );
    std::fs::create_dir_all(dir.path().join("overlays/site")).unwrap();
    let result = read_in(include_str!("example.yaml"), dir.path());
    // One `mac` for two cards is the one thing to be said of it.
    assert_eq!(
        brief(&result),
        "43:10 warning: on each of 2 cards this container has the same MAC \
         (on one LAN they take each other's address; leave `mac` out, and each card has its own)\n"
    );
    let farm = result.unwrap().farm;
    let second = farm.card(Some("palm2")).unwrap();
    assert_eq!(second.network.vlan, Some(42));
    assert_eq!(second.hostname, "palm2");
    assert_eq!(farm.containers[2].names().len(), 9);
    assert_eq!(farm.lxd.unwrap().storage.size, Some(15_000_000_000));
}
