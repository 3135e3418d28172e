//! The way from an installed tool to an own farm: `init`, the name of the farm file, keys beside it, and where images may go.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use expect_test::{expect, expect_file, Expect};

use super::common::{have, have_root};
use super::{command, farm_in, told, PALMFARM};

/// Public keys whose private halves were thrown away.
const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICorqWM4j0btbLPu4wPY2u0bjp/o/qDYBsuvzSlZKXx8 nina@laptop";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV old@laptop";

/// `script`, run by somebody whose home is `dir/home`, who has two keys and a locale.
fn nina(dir: &Path, mut command: Command) -> Command {
    let ssh = dir.join("home/.ssh");
    fs::create_dir_all(&ssh).unwrap();
    fs::write(ssh.join("id_ed25519.pub"), format!("{ED25519}\n")).unwrap();
    fs::write(ssh.join("deploy.pub"), format!("{OTHER}\n")).unwrap();
    fs::write(ssh.join("id_ed25519"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    for variable in [
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_USER",
        "LC_ALL",
        "PKEXEC_UID",
        "DOAS_USER",
    ] {
        command.env_remove(variable);
    }
    command
        .env("HOME", dir.join("home"))
        .env("LANG", "de_AT.utf8")
        .current_dir(dir);
    command
}

fn init(dir: &Path, args: &[&str]) -> Output {
    let mut command = nina(dir, command(dir));
    command.arg("init").args(args).output().unwrap()
}

/// `palmfarm init` at a terminal, with `typed` on it: what was shown, and its exit code.
fn at_a_terminal(dir: &Path, typed: &str) -> (Option<i32>, String) {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command"]);
    script.arg(format!("{PALMFARM} init")).arg("/dev/null");
    let mut script = nina(dir, script)
        .env("TERM", "dumb")
        .env("SHELL", "/bin/sh")
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

/// `check` has nothing to say of the farm in `dir`.
fn is_sound(dir: &Path) {
    let out = nina(dir, command(dir)).arg("check").output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", told(&out));
}

#[test]
fn options_answer_every_question() {
    let dir = tempfile::tempdir().unwrap();
    let out = init(
        dir.path(),
        &[
            "--board=4",
            "--hostname=palm4",
            "--user=nina",
            "--key=~/.ssh/deploy.pub",
            "--key=~/.ssh/id_ed25519.pub",
            "--timezone=Europe/Vienna",
            "--locale=en_GB.UTF-8",
            "--ipv4=192.168.1.10/24",
            "--gateway=192.168.1.1",
            "--container=web",
            "--container=db=debian/12",
        ],
    );
    // Beside another key, that of the examples is a key like others.
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    expect_file!["golden/answered.yaml"].assert_eq(&farm);
    is_sound(dir.path());
}

#[test]
fn without_a_terminal_it_says_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let out = init(dir.path(), &["--user=nina", "--timezone=Europe/Vienna"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    expect![[r"
        taken without a question: base ubuntu-24.04-arm64, host name palm, user nina, time zone Europe/Vienna, locale de_AT.UTF-8, IPv4 dhcp
        who may log in: ssh-ed25519 SHA256:GA9UtAcnZ69G8nMH6R2VLrvFuM6Pwo4G3KkTBMiFCtQ nina@laptop
        wrote farm.yaml; next: palmfarm check farm.yaml, then with the card in the reader: sudo palmfarm flash farm.yaml
    "]]
    .assert_eq(&String::from_utf8(out.stderr).unwrap());
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    expect_file!["golden/taken.yaml"].assert_eq(&farm);
    is_sound(dir.path());

    // Never over a file, not even where a link leads nowhere.
    let again = init(dir.path(), &["--yes"]);
    assert_eq!(again.status.code(), Some(1), "{}", told(&again));
    assert_eq!(fs::read_to_string(dir.path().join("farm.yaml")).unwrap(), farm);
    let printed = init(dir.path(), &["-", "--user=nina", "--timezone=Europe/Vienna"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), farm);

    // A Pi 2 takes 32 bits, and for those LXD's server has no images.
    let out = init(dir.path(), &["pi2.yaml", "--board=2", "--user=nina"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let farm = fs::read_to_string(dir.path().join("pi2.yaml")).unwrap();
    assert!(
        farm.contains("\nbase: ubuntu-22.04-armhf\n") && !farm.contains("\ncontainers:"),
        "{farm}"
    );
    let mut check = nina(dir.path(), command(dir.path()));
    let out = check.args(["check", "pi2.yaml"]).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", told(&out));
}

#[test]
fn a_wrong_option_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (
            &["--board=orange"],
            "--board orange: \"orange\" is not a Raspberry Pi",
        ),
        (
            &["--hostname=Palm_1"],
            "--hostname Palm_1: \"Palm_1\" is not a host name",
        ),
        (
            &["--user=root"],
            "--user root: \"root\" is an account of the system itself",
        ),
        (&["--timezone=Europe/Wien"], "--timezone Europe/Wien: "),
        (&["--locale=german"], "--locale german: "),
        (
            &["--ipv4=192.168.1.10"],
            "has no prefix length; is it 192.168.1.10/24?",
        ),
        (
            &["--ipv4=192.168.1.10/24", "--gateway=10.0.0.1"],
            "--gateway 10.0.0.1: ",
        ),
        (&["--container=we_b"], "--container we_b: "),
        (&["--key=nowhere.pub"], "nowhere.pub: no such file or directory\n"),
        (
            &["--key=home/.ssh/id_ed25519"],
            "it is a private key, which must stay secret",
        ),
        (&["--github=../x"], "is not the name of an account at GitHub"),
        (
            &["--board=2", "--container=web"],
            "has been reported to have no images for armhf",
        ),
    ];
    for (args, expect) in cases {
        let out = init(dir.path(), args);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", told(&out));
        assert!(told(&out).contains(expect), "{args:?}: {}", told(&out));
        assert!(!dir.path().join("farm.yaml").exists(), "{args:?}");
    }
}

#[test]
fn without_a_key_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut init = nina(dir.path(), command(dir.path()));
    fs::remove_dir_all(dir.path().join("home/.ssh")).unwrap();
    let out = init.args(["init", "--yes"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("ssh-keygen -t ed25519"), "{}", told(&out));
    assert!(!dir.path().join("farm.yaml").exists());
}

#[test]
fn at_a_terminal_it_asks() {
    // Of the package bsdutils or util-linux-extra.
    if !have(&["script"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Which Pi, keys, host name, user, time zone, locale, address, router, containers: some wrong at first.
    let typed = "orange\n3\n9\n2 1\n\nNina\nnina\nEurope/Wien\nEurope/Vienna\n\n192.168.1.10/24\n10.0.0.1\n192.168.1.1\ntiny\n";
    let (code, shown) = at_a_terminal(dir.path(), typed);
    assert_eq!(code, Some(0), "{shown}");
    for expect in [
        "which Raspberry Pi: 2, 3, 4, 5 or zero2w? [3]",
        "\"orange\" is not a Raspberry Pi",
        "1: ~/.ssh/id_ed25519.pub, ssh-ed25519 SHA256:",
        "2: ~/.ssh/deploy.pub, ",
        "9 is not a number from 1 to 2",
        "host name of the Pi? [palm]",
        "\"Nina\" is not a login name",
        "locale, or none? [de_AT.UTF-8]",
        "wrote farm.yaml",
    ] {
        assert!(shown.contains(expect), "{expect}: {shown}");
    }
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    expect_file!["golden/asked.yaml"].assert_eq(&farm);
    is_sound(dir.path());

    // A key may be pasted.
    fs::remove_file(dir.path().join("farm.yaml")).unwrap();
    let key = fs::read_to_string(dir.path().join("home/.ssh/id_ed25519.pub")).unwrap();
    let typed = format!("\n{}\n\n\n\n\n\n\n", key.trim());
    let (code, shown) = at_a_terminal(dir.path(), &typed);
    assert_eq!(code, Some(0), "{shown}");
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    assert!(farm.contains(key.trim()), "{farm}");
    is_sound(dir.path());

    // Enter takes what is proposed, and the end of the input nothing.
    fs::remove_file(dir.path().join("farm.yaml")).unwrap();
    let (code, shown) = at_a_terminal(dir.path(), "\n\n\u{4}");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("nothing was written"), "{shown}");
    assert!(!dir.path().join("farm.yaml").exists());
}

/// What `palmfarm ARGS` says in `dir`, and that it refuses.
#[track_caller]
fn refused(dir: &Path, args: &[&str], expect: &Expect) {
    let out = nina(dir, command(dir)).args(args).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", told(&out));
    expect.assert_eq(&String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_is_not_a_farm_file_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    refused(
        dir,
        &["check"],
        &expect![[r"
            palmfarm: there is no farm file farm.yaml
            hint: `palmfarm init` writes one; or name yours
        "]],
    );
    farm_in(dir);
    refused(
        dir,
        &["plan", "frm.yaml"],
        &expect![[r"
            palmfarm: there is no farm file frm.yaml
            hint: did you mean farm.yaml?
        "]],
    );
    fs::create_dir(dir.join("sub")).unwrap();
    refused(
        dir,
        &["check", "sub"],
        &expect![[r"
            palmfarm: sub is a folder, not a farm file
        "]],
    );
    fs::write(dir.join("sub/farm.yaml"), "farm: 1\n").unwrap();
    refused(
        dir,
        &["build", "sub", "-o", "x.img"],
        &expect![[r"
            palmfarm: sub is a folder, not a farm file
            hint: name the file in it: sub/farm.yaml
        "]],
    );
    let mut image = vec![0; 2 << 20];
    image[510..512].copy_from_slice(b"\x55\xaa");
    fs::write(dir.join("palm.img"), image).unwrap();
    refused(
        dir,
        &["check", "palm.img"],
        &expect![[r"
            palmfarm: palm.img is an image, not a farm file
            hint: `palmfarm flash palm.img` writes it to a card, and `palmfarm inspect palm.img` shows what is on it
        "]],
    );
    let out = nina(dir, command(dir)).arg("check").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
}

#[test]
fn an_image_is_not_written_among_devices_nor_into_an_unforeseen_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    farm_in(dir);
    for output in [
        "/dev/palmfarm-test",
        "/dev/palmfarm-test.img",
        "/dev/shm/palmfarm-test.img",
        "/dev/../dev/x",
    ] {
        let out = nina(dir, command(dir))
            .args(["build", "-o", output])
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1), "{output}: {}", told(&out));
        let hint = format!("to write a card: palmfarm flash farm.yaml {output}");
        assert!(told(&out).contains(&hint), "{}", told(&out));
        assert!(!Path::new(output).exists(), "{output}");
    }
    let out = nina(dir, command(dir))
        .args(["build", "-o", "palm"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("palm.img.zst for a packed one, palm.tar for a running card"),
        "{}",
        told(&out)
    );
    assert!(!dir.join("palm").exists());
}

#[test]
fn keys_come_from_files_also_of_the_home_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let farm = |keys: &str| {
        let text = format!(
            "farm: 1\nbase: ubuntu-24.04-arm64\nhostname: palm\nusers: [{{name: nina, ssh_keys: [{keys}], sudo: nopasswd}}]\n"
        );
        fs::write(dir.join("farm.yaml"), text).unwrap();
        let out = nina(dir, command(dir)).arg("check").output().unwrap();
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert_eq!(
        farm("{file: ~/.ssh/id_ed25519.pub}, {file: home/.ssh/deploy.pub}"),
        ""
    );
    for (keys, expect) in [
        (
            "{file: ~/.ssh/id_ed25519}",
            "\"~/.ssh/id_ed25519\" cannot be used: line 1 is not a public key: it is a private key",
        ),
        (
            "{file: ~/.ssh/id_ed2551.pub}",
            "there is no file \"~/.ssh/id_ed2551.pub\"",
        ),
        (
            "{file: ~/.ssh/id_ed2551.pub}",
            "hint: did you mean \"id_ed25519.pub\"?",
        ),
        (
            "{file: ~/.ssh}",
            "\"~/.ssh\" cannot be used: it is not a regular file",
        ),
        (
            "~/.ssh/id_ed25519.pub",
            "hint: if it is a file, write {file: \"~/.ssh/id_ed25519.pub\"}",
        ),
        ("gh:nina", "hint: write {github: nina}"),
        ("{gh: nina}", "unknown key \"gh\" in an SSH key"),
        (
            "{github: nina, launchpad: nina}",
            "an SSH key comes from one place",
        ),
        (
            "{github: nina}",
            "warning: the keys of github:nina are not in palmfarm.lock, so no card has them yet",
        ),
        (
            "{github: nina}",
            "hint: `palmfarm lock` fetches them, and so do `palmfarm build` and `palmfarm flash`",
        ),
    ] {
        let said = farm(keys);
        assert!(said.contains(expect), "{keys}: {said}");
    }
    // Without the network and without a pin there is no card, since the user could not log in.
    let out = nina(dir, command(dir))
        .args(["build", "--offline", "-o", "x.img"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("`palmfarm lock farm.yaml` fetches them"),
        "{}",
        told(&out)
    );
    fs::write(dir.join("palmfarm.lock"), "version = 2\n").unwrap();
    let said = farm("{github: nina}");
    assert!(
        said.contains("error: palmfarm.lock cannot be used: it is of version 2"),
        "{said}"
    );
}

#[test]
fn through_sudo_the_home_folder_is_that_of_who_called() {
    if !have_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let farm = "farm: 1\nbase: ubuntu-24.04-arm64\nhostname: palm\n\
        users: [{name: nina, ssh_keys: [{file: ~/.ssh/id_ed25519.pub}]}]\n";
    fs::write(dir.join("farm.yaml"), farm).unwrap();
    let root = nina(dir, command(dir)).arg("check").output().unwrap();
    assert_eq!(root.status.code(), Some(0), "{}", told(&root));
    // `daemon` has a home in /etc/passwd, and no key in it; `HOME` is still that of root.
    let mut through_sudo = nina(dir, command(dir));
    for (name, value) in [("SUDO_UID", "1"), ("SUDO_GID", "1"), ("SUDO_USER", "daemon")] {
        through_sudo.env(name, value);
    }
    let out = through_sudo.arg("check").output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("there is no file \"~/.ssh/id_ed25519.pub\""),
        "{}",
        told(&out)
    );
}
