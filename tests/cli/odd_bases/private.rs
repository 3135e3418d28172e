//! Files of a farm that are private, or need a mode, by their very path or content.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use palmfarm::edit::tree::{CardPath, Volume};

use super::{base, can_run, card, plan, refused, run, text, volumes};
use crate::common::base::put;
use crate::common::make::Image;
use crate::told;

/// Not anybody's key, and put together here so that nobody takes this file for one.
fn key() -> String {
    format!(
        "-----BEGIN OPENSSH {0}-----\nhunter2\n-----END OPENSSH {0}-----\n",
        "PRIVATE KEY"
    )
}

/// Mode and owner of what is at `path` of the root filesystem.
fn access(card: &Image, path: &str) -> String {
    let path = CardPath::new(path).unwrap();
    let stat = volumes(card).reader(Volume::Root).stat(&path).unwrap().unwrap();
    stat.access.unwrap().to_string()
}

/// As a checkout by git(1) makes it.
fn open(image: &Image, path: &str, content: &str) {
    put(image.dir.path(), path, content);
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(image.dir.path().join(path), mode).unwrap();
}

const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

#[test]
fn what_is_private_by_its_path_is_neither_open_nor_shown() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        put(root, "etc/shadow", "root:*:1::::::\n");
        put(root, "etc/issue", "base\n");
        put(root, "usr/bin/tool", "#!/bin/sh\n");
        put(root, "etc/private.conf", "base\n");
    });
    for change in [
        "sif /etc/shadow gid 42",
        "sif /etc/shadow mode 0100640",
        "sif /etc/issue uid 7",
        "sif /usr/bin/tool mode 0104755",
        "sif /etc/private.conf mode 0100600",
    ] {
        image.debugfs(change);
    }
    open(
        &image,
        "ov/root/etc/shadow",
        "root:*:1::::::\nnina:hunter2:1::::::\n",
    );
    open(&image, "ov/root/etc/issue", "farm\n");
    open(&image, "ov/root/etc/private.conf", "farm\n");
    open(&image, "ov/root/root/.ssh/id_ed25519", "hunter2\n");
    open(&image, "key", &key());
    open(&image, "tool", "#!/bin/true\n");
    open(&image, "sudoers", "Defaults insults\n");
    let archive = ["tar", "--mode=0664", "-cf", "ov.tar", "-C", "ov", "root"];
    assert!(std::process::Command::new(archive[0])
        .args(&archive[1..])
        .current_dir(image.dir.path())
        .status()
        .unwrap()
        .success());
    for overlay in ["ov", "ov.tar"] {
        let more = format!(
            "overlays: [{overlay}]\nfiles: {{{HOST_KEY}: key, /usr/bin/tool: tool, /etc/sudoers.d/nina: sudoers}}\n\
             containers: {{web: {{image: \"images:a\", files: {{/root/.netrc: key}}}}}}\n"
        );
        let said = told(&plan(&image, &more));
        assert!(said.contains(HOST_KEY) && !said.contains("hunter2"), "{said}");
        let made = card(&image, &more);
        for (path, expect) in [
            ("/etc/shadow", "0640 0:42"),
            (HOST_KEY, "0600 0:0"),
            ("/root/.ssh/id_ed25519", "0600 0:0"),
            ("/etc/sudoers.d/nina", "0440 0:0"),
            ("/usr/bin/tool", "0755 0:0"),
        ] {
            assert_eq!(access(&made, path), expect, "{overlay}: {path}");
        }
        // An archive has modes of its own.
        let (issue, private) = match overlay {
            "ov" => ("0644 7:0", "0600 0:0"),
            _ => ("0664 7:0", "0664 0:0"),
        };
        assert_eq!(access(&made, "/etc/issue"), issue);
        assert_eq!(access(&made, "/etc/private.conf"), private);
        // cloud-init would remove the key at the first boot.
        let seed = text(&made, Volume::Root, "/var/lib/cloud/seed/nocloud-net/user-data");
        assert!(seed.contains("\nssh_deletekeys: false\n"), "{seed}");
        let document = text(&made, Volume::Root, "/etc/palmfarm/firstboot.json");
        assert!(document.contains("\"mode\": 384"), "{document}");
        let manifest = text(&made, Volume::Root, "/etc/palmfarm/manifest.json");
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let listed = manifest["files"].as_array().unwrap().iter();
        let secret: Vec<&str> = listed
            .filter(|file| file["secret"] == true)
            .map(|file| file["path"].as_str().unwrap())
            .collect();
        for path in ["/etc/shadow", HOST_KEY, "/usr/lib/palmfarm/farm/web/root/.netrc"] {
            assert!(secret.contains(&path), "{path}: {secret:?}");
        }
    }
    let seed = "/var/lib/cloud/seed/nocloud-net/user-data";
    assert!(!text(&card(&image, ""), Volume::Root, seed).contains("ssh_deletekeys"));
}

#[test]
fn what_would_be_open_is_refused() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    open(&image, "key", &key());
    open(&image, "ov/root/srv/tls.pem", &key());
    let check = |more: &str| run(&image, "craig", more, &["check", "farm.yaml"]);
    let refuse = |more: &str, message: &str, hint: &str| {
        let out = check(more);
        refused(&out, message, "");
        assert!(told(&out).contains(hint), "{hint}: {}", told(&out));
        assert!(!told(&out).contains("hunter2"));
    };
    refuse(
        "files: {/etc/sudoers: {file: key, mode: \"0777\"}}\n",
        "its mode is 0777, and a file at this path may have 0440 at most",
        "leave its mode out",
    );
    let holds = "it holds a private key, and everybody on the card could read it";
    let hint = "{file: \"key\", secret: true}";
    refuse("files: {/srv/tls.pem: key}\n", holds, hint);
    let pushed = "containers: {web: {image: \"images:a\", files: {/srv/tls.pem: key}}}\n";
    refuse(pushed, holds, hint);
    refuse(
        "overlays: [ov]\n",
        holds,
        "name it in overlay.toml with `secret = true`",
    );
    // What the hints say.
    for good in [
        "files: {/srv/tls.pem: {file: key, secret: true}}\n",
        "files: {/srv/tls.pem: {file: key, mode: \"0644\"}}\n",
        "files: {/etc/sudoers: key}\n",
    ] {
        let out = check(good);
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        assert!(!told(&plan(&image, good)).contains("hunter2"));
    }
    put(
        image.dir.path(),
        "ov/overlay.toml",
        "[\"root/srv/tls.pem\"]\nsecret = true\n",
    );
    assert_eq!(check("overlays: [ov]\n").status.code(), Some(0));
}

#[test]
fn the_home_of_a_user_is_not_made_roots() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    open(&image, "ov/root/home/craig/.config/x", "x\n");
    open(&image, "x", "x\n");
    let check = |more: &str| run(&image, "craig", more, &["check", "farm.yaml"]);
    let hint = "put it below /etc/skel";
    refused(
        &check("overlays: [ov]\n"),
        "/home/craig/.config/x would make /home/craig root's",
        "",
    );
    let out = check("files: {/home/craig/x: {file: x, owner: \"1000:1000\"}}\n");
    refused(&out, "/home/craig/x would make /home/craig root's", "");
    assert!(told(&out).contains(hint), "{}", told(&out));
    // Nobody's home.
    assert_eq!(check("files: {/home/shared/x: x}\n").status.code(), Some(0));
    let owned = "owner = \"1000:1000\"\n";
    let rules = ["home/craig", "home/craig/.config", "home/craig/.config/x"];
    let tables = |rules: &[&str]| -> String {
        let table = |path: &&str| format!("[\"root/{path}\"]\n{owned}");
        rules.iter().map(table).collect()
    };
    put(image.dir.path(), "ov/overlay.toml", &tables(&rules[..1]));
    refused(
        &check("overlays: [ov]\n"),
        "would make /home/craig/.config root's",
        "",
    );
    put(image.dir.path(), "ov/overlay.toml", &tables(&rules));
    let made = card(&image, "overlays: [ov]\n");
    for path in rules {
        let path = format!("/{path}");
        assert!(access(&made, &path).ends_with(" 1000:1000"), "{path}");
    }
    assert_eq!(check("files: {/etc/skel/x: x}\n").status.code(), Some(0));
}
