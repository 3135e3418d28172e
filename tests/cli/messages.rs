//! Exit codes, and what is printed on which channel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::common::have_root;
use super::{command, farm_in, has_agents, palmfarm, told};

#[test]
fn a_wrong_command_line_is_usage() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["bild"],
        &["build", "farm.yaml"],
        &["lock", "--update", "x"],
    ] {
        let out = palmfarm(dir.path(), args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", told(&out));
        assert!(out.stdout.is_empty(), "{args:?}: {}", told(&out));
    }
    assert_eq!(palmfarm(dir.path(), &["--help"]).status.code(), Some(0));
    assert_eq!(palmfarm(dir.path(), &["--version"]).status.code(), Some(0));
}

#[test]
fn a_farm_that_is_wrong_is_refused_with_every_problem() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("farm.yaml"),
        "farm: 1\nbase: mini\nhostnam: palm\nnetwork: {vlan: 5000}\n",
    )
    .unwrap();
    let out = palmfarm(dir.path(), &["check", "farm.yaml"]);
    let said = String::from_utf8(out.stderr.clone()).unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        said.contains("farm.yaml:3:1: error: unknown key \"hostnam\""),
        "{said}"
    );
    assert!(said.contains("hint: did you mean \"hostname\"?"), "{said}");
    assert!(said.contains("farm.yaml:4:17: error: "), "{said}");

    let out = palmfarm(dir.path(), &["check", "--json", "farm.yaml"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    let lines: Vec<serde_json::Value> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.len() >= 2 && lines.iter().all(|line| line["event"] == "problem"),
        "{lines:?}"
    );
}

#[test]
fn a_reader_that_has_gone_away_ends_nothing() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let warned = "farm: 1\nbase: mini\nhostname: palm\n";
    fs::write(dir.path().join("warned.yaml"), warned).unwrap();
    for args in [
        &["devices"][..],
        &["devices", "--json"],
        &["check", "farm.yaml"],
        &["check", "warned.yaml"],
        &["plan", "farm.yaml"],
        &["schema"],
        &["build", "farm.yaml", "-o", "x.img"],
        &["build", "farm.yaml", "-o", "x.img", "--json"],
        &["inspect", "x.img"],
        &["inspect", "x.img", "root:/usr/sbin/palmfarm-agent"],
    ] {
        let out = command(dir.path())
            .args(args)
            .stdout(closed())
            .stderr(closed())
            .output();
        assert_eq!(out.unwrap().status.code(), Some(0), "{args:?}");
    }
    let out = command(dir.path())
        .args(["check", "missing.yaml"])
        .stderr(closed())
        .output();
    assert_eq!(out.unwrap().status.code(), Some(1));
    assert!(dir.path().join("x.img").exists());
}

#[test]
fn quiet_prints_errors_only() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("farm.yaml"),
        "farm: 1\nbase: mini\nhostname: palm\n",
    )
    .unwrap();
    let keys = include_str!("../../src/farm/testdata/ssh_keys.txt");
    fs::write(dir.path().join("key.pub"), keys).unwrap();
    for args in [
        &["check", "farm.yaml", "--quiet"][..],
        &["build", "farm.yaml", "-o", "x.img", "--quiet"],
        &["init", "other.yaml", "--quiet", "--key", "key.pub"],
        &["man", "pages", "--quiet"],
    ] {
        let out = palmfarm(dir.path(), args);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", told(&out));
        assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{}", told(&out));
    }
    let out = palmfarm(dir.path(), &["check", "--quiet", "missing.yaml"]);
    assert!(!out.stderr.is_empty());
}

#[test]
fn a_base_that_nobody_knows_is_a_problem_of_the_farm() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("farm.yaml"),
        "farm: 1\nbase: ubuntu-22.04-armfh\nhostname: palm\n",
    )
    .unwrap();
    let out = palmfarm(dir.path(), &["check", "farm.yaml"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    let said = String::from_utf8(out.stderr).unwrap();
    for expect in [
        "farm.yaml:2:7: error: there is no base called \"ubuntu-22.04-armfh\"",
        "hint: did you mean \"ubuntu-22.04-armhf\"?",
    ] {
        assert!(said.contains(expect), "{expect}: {said}");
    }
}

#[test]
fn names_do_not_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        ["check", "bad\u{1b}[2J\u{1b}]0;x\u{7}.yaml"],
        ["inspect", "bad\u{1b}[2J.img"],
    ] {
        let out = palmfarm(dir.path(), &args);
        assert_eq!(out.status.code(), Some(1), "{}", told(&out));
        assert!(
            !out.stderr.contains(&0x1b) && !out.stderr.contains(&7),
            "{}",
            told(&out)
        );
    }
}

#[test]
fn a_plan_shows_nothing_that_may_be_secret() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let farm = "farm: 1\nbase: mini\nhostname: palm\nfiles: {/etc/key.pem: key.pem}\n\
                lxd: {profiles: {db: {config: {environment.DB_PASSWORD: planted-secret}}}}\n\
                containers:\n  web:\n    image: images:alpine/3.23\n    profiles: [default, extbridge, db]\n\
                \x20   config: {user.user-data: planted-secret}\n    run: [mysql --password=planted-secret]\n";
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    fs::write(dir.path().join("key.pem"), "planted-secret\n").unwrap();
    fs::set_permissions(dir.path().join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    for format in [&["text", "--files"][..], &["json"], &["html"]] {
        let out = palmfarm(dir.path(), &[&["plan", "farm.yaml", "--format"], format].concat());
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        assert!(
            !told(&out).contains("planted-secret"),
            "{format:?}: {}",
            told(&out)
        );
    }
    let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "x.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let manifest = fs::read_to_string(dir.path().join("x.img.manifest.json")).unwrap();
    assert!(!manifest.contains("planted-secret"), "{manifest}");
    let key = palmfarm(dir.path(), &["inspect", "x.img", "root:/etc/key.pem"]);
    assert_eq!(key.stdout, b"planted-secret\n");
    // Who knows everything but a password could try passwords until the digest is right.
    assert!(
        !told(&out).contains("sha256") && manifest.contains("\"sha256\""),
        "{}",
        told(&out)
    );
}

#[test]
fn a_file_that_is_private_here_and_not_declared_so_is_told() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let farm = |files: &str| {
        let farm =
            format!("farm: 1\nbase: mini\nhostname: palm\nusers: []\nfiles: {{{files}}}\noverlays: [site]\n");
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    };
    fs::create_dir_all(dir.path().join("site/root/etc")).unwrap();
    for file in ["key.pem", "site/root/etc/key", "site/root/etc/other"] {
        fs::write(dir.path().join(file), "planted-secret\n").unwrap();
        fs::set_permissions(dir.path().join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    farm("/etc/key.pem: key.pem");
    let said = told(&palmfarm(dir.path(), &["check", "farm.yaml"]));
    for expect in [
        "warning: nobody but you can read \"key.pem\", but everybody on the Pi can",
        "hint: write {file: \"key.pem\", secret: true} if it is private, else: chmod 644 key.pem",
        "warning: of the files of this overlay 2 can be read by nobody but you, and by everybody on the Pi; the first is \
         root/etc/key",
    ] {
        assert!(said.contains(expect), "{expect}: {said}");
    }
    // What the hints say.
    farm("/etc/key.pem: {file: \"key.pem\", secret: true}");
    let rules = "[\"root/etc/key\"]\nsecret = true\n[\"root/etc/other\"]\nmode = \"0640\"\nowner = \"0:7\"\n";
    fs::write(dir.path().join("site/overlay.toml"), rules).unwrap();
    let said = told(&palmfarm(dir.path(), &["check", "farm.yaml"]));
    assert!(!said.contains("nobody but you"), "{said}");
    let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "x.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let card = palmfarm(
        dir.path(),
        &["inspect", "x.img", "root:/etc/palmfarm/manifest.json"],
    );
    let card: serde_json::Value = serde_json::from_slice(&card.stdout).unwrap();
    for (path, mode, gid) in [
        ("/etc/key.pem", "0600", 0),
        ("/etc/key", "0600", 0),
        ("/etc/other", "0640", 7),
    ] {
        let files = card["files"].as_array().unwrap();
        let entry = files.iter().find(|entry| entry["path"] == path).unwrap();
        assert_eq!(
            (&entry["mode"], &entry["gid"]),
            (&mode.into(), &gid.into()),
            "{entry}"
        );
        assert!(
            entry["secret"] == true && entry.get("sha256").is_none_or(serde_json::Value::is_null),
            "{entry}"
        );
    }
}

#[test]
fn the_umask_of_a_checkout_changes_no_image() {
    if !has_agents() {
        return;
    }
    let build = |umask: &str| {
        let dir = tempfile::tempdir().unwrap();
        let make = "mkdir -p site/root/etc site/root/srv/empty; echo a > site/root/etc/a; \
                    printf '#!/bin/sh\\n' > site/root/run.sh; chmod u+x site/root/run.sh; echo b > b";
        let made = std::process::Command::new("sh")
            .args(["-c", &format!("umask {umask}; {make}")])
            .current_dir(dir.path())
            .status();
        assert!(made.unwrap().success());
        let farm = "farm: 1\nbase: mini\nhostname: palm\nusers: []\nfiles: {/etc/b: b}\noverlays: [site]\n";
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
        let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "x.img"]);
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        fs::read(dir.path().join("x.img")).unwrap()
    };
    assert!(build("022") == build("077"), "the images differ");
}

#[test]
fn credentials_in_urls_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let sha256 = "0".repeat(64);
    for base in [
        "https://me:planted-secret@a.example/x.img",
        "ftp://me:planted-secret@a.example/x.img",
        "https://a.example/x.img?token=planted-secret",
        "ftp://a.example/x.img?token=planted-secret",
    ] {
        let farm = format!(
            "farm: 1\n{{base: '{base}', sha256: {sha256}, hostname: palm, lxd: {{remotes: {{images: '{base}'}}}}, \
             containers: {{c: {{image: '{base}', config: {{environment.T: planted-secret}}, bogus: 1}}}}}}\n"
        );
        let farm = farm.replacen("farm: 1\n{", "{farm: 1, ", 1);
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
        for args in [
            &["check", "farm.yaml"][..],
            &["plan", "farm.yaml"],
            &["base", "fetch", base, "--sha256", "x"],
        ] {
            let said = told(&palmfarm(dir.path(), args));
            assert!(!said.contains("planted-secret"), "{args:?}: {said}");
        }
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_not_passed_by() {
    let dir = tempfile::tempdir().unwrap();
    for (variable, value) in [
        ("ALL_PROXY", "socks5://me:planted-secret@127.0.0.1:1"),
        ("https_proxy", "http://x:planted-secret@h:p"),
    ] {
        let out = super::command(dir.path())
            .args(["base", "fetch", "ubuntu-22.04-armhf"])
            .env(variable, value)
            .output()
            .unwrap();
        let said = told(&out);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(
            said.contains(variable) && !said.contains("planted-secret"),
            "{said}"
        );
    }
}

#[test]
fn root_reads_no_more_than_who_asked_for_it() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("only-root");
    fs::write(&file, "x").unwrap();
    if !have_root() {
        return;
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(
        dir.path().join("farm.yaml"),
        "farm: 1\nbase: mini\nhostname: palm\nfiles: {/etc/x: only-root}\n",
    )
    .unwrap();
    let build: &[&str] = &["build", "farm.yaml", "-o", "x.img"];
    for args in [&["check", "farm.yaml"], &["plan", "farm.yaml"], build] {
        for gid in [Some("65534"), None] {
            let mut command = command(dir.path());
            command.args(args).env("SUDO_UID", "65534").env_remove("SUDO_GID");
            command.envs(gid.map(|gid| ("SUDO_GID", gid)));
            let out = command.output().unwrap();
            // With half of an answer, nothing is done at all.
            let expect = if gid.is_some() { 1 } else { 3 };
            assert_eq!(out.status.code(), Some(expect), "{args:?}: {}", told(&out));
        }
    }
    assert!(!dir.path().join("x.img").exists());
}

#[test]
fn a_good_farm_is_ok_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let out = palmfarm(dir.path(), &["check", "farm.yaml"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "ok: 1 card with 4 containers, on mini\n"
    );
}

#[test]
fn a_reader_that_goes_away_causes_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let shell = format!("\"{}\" plan farm.yaml | head -n 1", super::PALMFARM);
    let out = command(dir.path()).get_current_dir().map(|dir| {
        std::process::Command::new("sh")
            .args(["-c", &shell])
            .current_dir(dir)
            .env("PALMFARM_TEST_PASSWORD", "x")
            .output()
    });
    let out = out.unwrap().unwrap();
    assert!(!told(&out).contains("bug in palmfarm"), "{}", told(&out));
}

#[test]
fn a_line_with_a_problem_shows_no_value_of_a_key_that_may_be_secret() {
    let dir = tempfile::tempdir().unwrap();
    for lines in [
        "containers: {w: {image: \"images:alpine/3.23\", config: {environmentx.PW: 'hunter2'}}}",
        "containers: {w: {image: \"images:alpine/3.23\", config: {environment.PW: {a: hunter2}}}}",
        "lxd: {config: {core.trust_password: hunter2}}",
        "lxd: {profiles: {p: {config: {limits.cpus: 2, user.token: hunter2}}}}",
    ] {
        let farm = format!("farm: 1\nbase: ubuntu-24.04-arm64\nhostname: palm\nusers: []\n{lines}\n");
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
        let out = palmfarm(dir.path(), &["check", "farm.yaml"]);
        let said = told(&out);
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains("*******"), "{said}");
    }
}
