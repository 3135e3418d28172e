//! The files that a farm names.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{brief, completed, read_in};
use expect_test::{expect, Expect};
use palmfarm::farm::parse;
use palmfarm::pipeline;

use super::deb::{control, deb};

/// Make files that are what their names say.
pub(crate) fn fill(dir: &Path, names: &[&str]) {
    for name in names {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let content: &[u8] = match name.rsplit('.').next() {
            Some("xz") => b"\xfd7zXZ\0",
            Some("tar") => &tar(),
            Some("snap") => &snap(),
            Some("assert") => {
                b"type: snap-declaration\nsnap-id: x\nsnap-name: lxd\n\nsigned\n\ntype: snap-revision\nsnap-id: x\n\
                  snap-size: 96\n\nsigned\n"
            }
            Some("deb") => &deb(&control("jq", "1.6-2", "armhf", "libc6 (>= 2.34)")),
            Some("img") => &[0; 512],
            _ => b"content\n",
        };
        fs::write(path, content).unwrap();
    }
}

/// The superblock of an empty squashfs.
fn snap() -> Vec<u8> {
    let mut head = vec![0; 96];
    head[..4].copy_from_slice(b"hsqs");
    head[40] = 96;
    head
}

/// The head of an empty archive.
fn tar() -> Vec<u8> {
    let mut head = vec![0; 512];
    head[257..262].copy_from_slice(b"ustar");
    head
}

/// The problems of a farm with `lines` in the folder `dir` are `expect`.
#[track_caller]
fn check(dir: &Path, lines: &str, expect: &Expect) {
    expect.assert_eq(&brief(&read_in(&completed(lines), dir)));
}

#[test]
fn what_is_named_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fill(dir, &["motd.txt", "a.tar.xz", "run.sh"]);
    fs::create_dir(dir.join("folder")).unwrap();
    check(
        dir,
        "files: {/etc/motd: motd, /etc/a: motd.txt, /etc/b: folder, /etc/c: /dev/zero}\n",
        &expect![[r#"
            1:20 error: there is no file "motd" (did you mean "motd.txt"?)
            1:52 error: "folder" cannot be used: it is not a regular file
            1:68 error: "/dev/zero" cannot be used: it is not a regular file
        "#]],
    );
    check(
        dir,
        "overlays: [folder, a.tar.xz, motd.txt, nowhere]\n",
        &expect![[r#"
            1:30 error: "motd.txt" is not a folder or a tar archive, perhaps compressed (gz, xz, zst)
            1:40 error: there is no file "nowhere" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        dir,
        "images: {a: {file: a.tar.xz}, b: {file: motd.txt}, c: {file: a.tar, metadata: run.sh}}\n",
        &expect![[r#"
            1:41 error: "motd.txt" is not a tar archive, perhaps compressed (gz, xz, zst, bz2), or a squashfs
            1:62 error: there is no file "a.tar" (did you mean "a.tar.xz"?)
            1:79 error: "run.sh" is not a tar archive, perhaps compressed (gz, xz, zst, bz2)
        "#]],
    );
    check(
        dir,
        "base: images/x.img\n",
        &expect![[r#"
            1:7 error: there is no file "images/x.img" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        dir,
        "base: ./folder\n",
        &expect![[r#"
        1:7 error: "./folder" cannot be used: it is not a regular file
    "#]],
    );
    check(
        dir,
        "containers: {a: {image: \"images:a\", files: {/x: nowhere}, run: [a, {script: run.sh}, {script: rnu.sh}]}}\n", &expect![[r#"
            1:49 error: there is no file "nowhere" (names of files begin at the folder of the farm file)
            1:95 error: there is no file "rnu.sh" (did you mean "run.sh"?)
        "#]]);
}

#[test]
fn scripts_are_text() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (content, expect) in [
        (&b"echo hello\n"[..], expect![[""]]),
        (
            b"",
            expect![[r#"
            1:52 warning: the script is empty (it does nothing)
        "#]],
        ),
        (
            b"\xff",
            expect![[r#"
                1:52 error: "s" is not a script: it is not UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 s > NEW, and then mv NEW s)
            "#]],
        ),
        (
            b"a\0b",
            expect![[r#"
                1:52 error: "s" is not a script: it holds a NUL byte (a script is a text; run a program from `files`, or from the image)
            "#]],
        ),
        (
            b"a\r\nb\r\n",
            expect![[r#"
                1:52 warning: of the script "s": it has the line ends of Windows, and the carriage return is taken for a part of the line (sed -i '1s/^\xEF\xBB\xBF//; s/\r$//' s)
            "#]],
        ),
    ] {
        fs::write(dir.join("s"), content).unwrap();
        check(
            dir,
            "containers: {a: {image: \"images:a\", run: [{script: s}]}}\n",
            &expect,
        );
    }
}

#[test]
fn a_card_carries_so_many_images() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["a.tar.xz"]);
    for (count, expect) in [
        (100, expect![[""]]),
        (
            101,
            expect![[r#"
        1:1 error: these are 101 images, and 100 is the most that a card carries (containers can have one image in common, and the rest from an image server)
    "#]],
        ),
    ] {
        let images: Vec<_> = (0..count)
            .map(|number| format!("i{number}: {{file: a.tar.xz}}"))
            .collect();
        check(
            dir.path(),
            &format!("images: {{{}}}\n", images.join(", ")),
            &expect,
        );
    }
}

/// What planning says of a farm with `lines` in the folder `dir`.
#[track_caller]
fn check_planned(dir: &Path, lines: &str, expect: &Expect) {
    let text = completed(lines).replace("ANY_KEY", super::KEY);
    let read = parse(
        "farm.yaml",
        text.as_bytes(),
        dir,
        &super::no_environment,
        Some(&pipeline::judge),
    );
    expect.assert_eq(&brief(&read));
}

#[test]
fn what_containers_run_fits_into_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mebibyte = "\n".repeat(1 << 20);
    fs::write(dir.join("s"), format!("true{}", &mebibyte[4..])).unwrap();
    let scripts = ["{script: s}"; 100].join(", ");
    check_planned(
        dir,
        &format!("containers: {{a: {{image: \"images:a\"}}, b: {{image: \"images:a\", replicas: 1..999, run: [{scripts}]}}}}\n"),
        &expect![[r#"
            1:38 error: what the containers up to b run and are configured with has more than 16777216 bytes, and the agent reads no more (push what is long with `files` and run it from there, or put it into an image)
        "#]],
    );
    // However many replicas share it, a line is there once.
    let line = "x".repeat(900_000);
    let farm =
        format!("containers: {{w: {{image: \"images:a\", replicas: 1..900, run: [{{command: {line}}}]}}}}\n");
    check_planned(dir, &farm, &expect![[""]]);
    // Under names that are many for one file.
    let scripts: Vec<_> = (0..99)
        .map(|number| format!("{{script: {}s}}", "./".repeat(number)))
        .collect();
    check_planned(
        dir,
        &format!(
            "containers: {{a: {{image: \"images:a\", run: [{}]}}}}\n",
            scripts.join(", ")
        ),
        &expect![[r#"
            1:14 error: what the containers up to a run and are configured with has more than 16777216 bytes, and the agent reads no more (push what is long with `files` and run it from there, or put it into an image)
        "#]],
    );
}

#[test]
fn passwords_can_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = dir.join("craig");
    let user = "users: [{name: craig, ssh_keys: [ANY_KEY], password: {file: craig}}]\n";
    check(
        dir,
        user,
        &expect![[r#"
            1:147 error: there is no file "craig" (names of files begin at the folder of the farm file)
        "#]],
    );
    for (content, mode, expect) in [
        ("secret\nmore\n", 0o600, expect![[""]]),
        (
            "secret\r\n",
            0o644,
            expect![[r#"
            1:147 warning: other users of this machine can read the password (chmod 600 craig)
        "#]],
        ),
        (
            "",
            0o600,
            expect![[r#"
            1:147 error: the password of craig from craig is empty
        "#]],
        ),
        (
            "ANY_HASH",
            0o600,
            expect![[r#"
                1:147 error: the password of craig from craig is a hash already; write it as {hash: …}
            "#]],
        ),
        (
            "a\u{7}b",
            0o600,
            expect![[r#"
                1:147 error: the password of craig from craig holds a control or invisible character, which nobody can type
            "#]],
        ),
    ] {
        fs::write(&file, content.replace("ANY_HASH", super::HASH)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        check(dir, user, &expect);
    }
    check(
        dir,
        "users: [{name: craig, ssh_keys: [ANY_KEY], password: {env: CRAIG}}]\n",
        &expect![[r#"
            1:146 warning: the password of craig comes from the environment, and CRAIG is not set (it must be set where the card is built)
        "#]],
    );
}

#[test]
fn host_keys_are_there_for_each_card() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fill(dir, &["keys/palm2"]);
    fs::write(
        dir.join("keys/palm1"),
        include_str!("../../src/farm/testdata/host_key"),
    )
    .unwrap();
    let mode = |file: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(dir.join("keys").join(file), mode).unwrap();
    };
    mode("palm1", 0o600);
    mode("palm2", 0o600);
    let told = |lines: &str| brief(&read_in(&completed(lines), dir));
    let found = told("ssh: {host_keys: keys/}\ncards: {palm1: {}, b: {hostname: palm2}, palm3: {}}\n");
    assert!(!found.contains("palm1"), "{found}");
    let other = "1:18 error: \"keys/palm2\" is not a host key: it is not a private key of OpenSSH (";
    let none = "1:18 error: there is no host key \"keys/palm3\" for palm3 (mkdir -p keys && ssh-keygen -q -t ed25519 -N '' -C palm3 -f keys/palm3)";
    assert!(found.contains(other) && found.contains(none), "{found}");
    mode("palm1", 0o644);
    let found = told("ssh: {host_keys: keys}\ncards: {palm1: {}}\nfiles: {/etc/ssh/ssh_host_ed25519_key: {file: keys/palm1, secret: true}}\n");
    assert!(
        found.contains("other users of this machine can read the host key"),
        "{found}"
    );
    assert!(
        found.contains("3:9 error: `ssh: host_keys:` brings this file, too"),
        "{found}"
    );
}

#[test]
fn a_tilde_is_the_home_folder_in_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let (home, farm) = (dir.path().join("home"), dir.path().join("farm"));
    let keys = include_str!("../../src/farm/testdata/ssh_keys.txt");
    fill(
        &home,
        &["motd.txt", "base.img", "secret", "site/root/etc/x", "run.sh"],
    );
    fs::write(home.join("key.pub"), keys).unwrap();
    fs::create_dir(&farm).unwrap();
    let text = "farm: 1\nbase: ~/base.img\nhostname: palm\n\
        users: [{name: craig, ssh_keys: [{file: ~/key.pub}], password: {file: ~/secret}}]\n\
        files: {/etc/motd: ~/motd.txt}\noverlays: [~/site]\n\
        containers: {web: {image: \"images:a\", run: [{script: ~/run.sh}]}}\n";
    let environment = |name: &str| (name == "HOME").then(|| home.clone().into_os_string());
    let read = |environment: &dyn Fn(&str) -> Option<OsString>| {
        parse(
            "farm.yaml",
            text.as_bytes(),
            &farm,
            environment,
            Some(&pipeline::judge),
        )
    };
    let loaded = read(&environment).unwrap_or_else(|refused| panic!("{}", brief(&Err(refused))));
    assert_eq!(loaded.farm.users[0].authorized_keys().len(), keys.lines().count());
    let gathered = palmfarm::farm::assets::gather(&loaded).unwrap();
    assert_eq!(&*gathered.sources["~/motd.txt"], b"content\n");
    let hashes = palmfarm::farm::assets::hashes(&loaded, "palm", &environment).unwrap();
    assert!(hashes.contains_key("craig"));
    // Without a home it is a name like any other.
    let lost = brief(&read(&super::no_environment));
    assert_eq!(lost.matches("there is no file \"~/").count(), 6, "{lost}");
}
