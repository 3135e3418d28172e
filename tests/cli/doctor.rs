//! `palmfarm doctor` says of a base what `plan` says of it, and nothing that a bug report must not have.

use std::fs;
use std::process::Output;

use super::common::base::put;
use super::odd_bases::{base, can_run, plan, put_boot};
use super::{palmfarm, told};

/// Findings of `palmfarm --json doctor image.img`: verdict, what it is about, message.
fn findings(out: &Output) -> Vec<(String, String, String)> {
    let text = String::from_utf8(out.stdout.clone()).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["event"] == "finding")
        .map(|line| {
            let [verdict, about, message] =
                ["verdict", "about", "message"].map(|key| line[key].as_str().unwrap_or("").to_owned());
            let has_hint = line["hint"].as_str().is_some_and(|hint| !hint.is_empty());
            assert_eq!(has_hint, verdict == "refused", "{line}");
            (verdict, about, message)
        })
        .collect()
}

#[test]
fn a_base_as_published_passes() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let out = palmfarm(image.dir.path(), &["doctor", "image.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let said = String::from_utf8(out.stdout).unwrap();
    for line in [
        "system: Ubuntu 22.04.5 LTS, armhf, systemd 249",
        "firmware: command line /cmdline.txt, configuration /config.txt",
        "cloud-init: has never run here",
        "sshd: starts at boot",
        "lxd: snapd has LXD's snap or installs it",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert!(!said.contains("refused:"), "{said}");
}

#[test]
fn what_plan_undoes_and_refuses_is_found_and_no_secret() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        let shadow = "root:*:1::\nsshd:!:1::\nnina:$6$saltsalt$HASHHASHHASH:1::\n";
        put(root, "etc/shadow", shadow);
        put(root, "etc/cloud/cloud-init.disabled", "");
        put(root, "etc/ssh/ssh_host_rsa_key", "PRIVATEPRIVATE");
        put(root, "usr/lib/systemd/system/NetworkManager.service", "[Unit]\n");
        let wifi = "network: {wifis: {wlan0: {access-points: {HomeWifi: {password: WIFIPASSWORD}}}}}\n";
        put(root, "etc/netplan/50-wifi-HomeWifi.yaml", wifi);
        put(root, "etc/ssh/sshd_config", "AllowUsers nina\nPort 2222\n");
        put(root, "etc/fstab", "LABEL=other / ext4 defaults 0 1\n");
        put(root, "var/lib/lxd/server.crt", "CERTIFICATE");
    });
    let line =
        "root=LABEL=elsewhere cloud-init=disabled cloud-config-url=http://me:URLSECRET@host/ rootwait\n";
    put_boot(&image, "cmdline.txt", line);
    let out = palmfarm(image.dir.path(), &["--json", "doctor", "image.img"]);
    let said = told(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for secret in [
        "HASHHASH",
        "PRIVATE",
        "HomeWifi",
        "WIFIPASSWORD",
        "URLSECRET",
        "CERTIFICATE",
    ] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
    let found = findings(&out);
    let planned = told(&plan(&image, ""));
    let refused: Vec<_> = found
        .iter()
        .filter(|(verdict, ..)| verdict == "refused")
        .collect();
    assert_eq!(refused.len(), 5, "{refused:?}");
    for (_, _, message) in refused {
        assert!(planned.contains(message), "{message}: {planned}");
    }
    let undone = |about: &str| {
        found
            .iter()
            .any(|(verdict, of, _)| verdict == "undone" && of == about)
    };
    for path in [
        "boot:/cmdline.txt",
        "root:/etc/cloud/cloud-init.disabled",
        "root:/etc/shadow",
        "root:/etc/ssh/ssh_host_rsa_key",
        "root:/etc/systemd/system/NetworkManager.service",
    ] {
        assert!(undone(path), "{path}: {found:?}");
    }
}

#[test]
fn an_image_that_cannot_be_a_base_is_a_finding() {
    if !can_run() {
        return;
    }
    // A finished card, one for no system that is known, one that was cut, and what is no image.
    let image = base(|_| {});
    let check = |name: &str, expect: &str| {
        let out = palmfarm(image.dir.path(), &["--json", "doctor", name]);
        assert_eq!(out.status.code(), Some(1), "{}", told(&out));
        let found = findings(&out);
        let refused: Vec<_> = found
            .iter()
            .filter(|(verdict, ..)| verdict == "refused")
            .collect();
        assert!(
            matches!(refused.as_slice(), [(_, _, message)] if message.contains(expect)),
            "{found:?}"
        );
    };
    let built = super::odd_bases::run(&image, "craig", "", &["build", "farm.yaml", "-o", "card.img"]);
    assert_eq!(built.status.code(), Some(0), "{}", told(&built));
    check("card.img", "palmfarm has put a farm on it already");
    let whole = fs::read(&image.path).unwrap();
    fs::write(image.dir.path().join("cut.img"), &whole[..whole.len() / 2]).unwrap();
    check("cut.img", "reading the partitions of the base");
    fs::write(image.dir.path().join("text.img"), vec![b'x'; 1 << 20]).unwrap();
    // What holds no disk at all is not opened.
    let out = palmfarm(image.dir.path(), &["--json", "doctor", "text.img"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        findings(&out).is_empty() && told(&out).contains("\"event\":\"error\""),
        "{}",
        told(&out)
    );
    let other = base(|root| fs::remove_file(root.join("usr/lib/ld-linux-armhf.so.3")).unwrap());
    fs::copy(&other.path, image.dir.path().join("other.img")).unwrap();
    check("other.img", "no loader of armhf, arm64 or amd64");
    let full = base(|root| {
        fs::remove_file(root.join("usr/lib/systemd/system/cloud-final.service")).unwrap();
    });
    fs::copy(&full.path, image.dir.path().join("stage.img")).unwrap();
    check("stage.img", "has no cloud-final.service");
}
