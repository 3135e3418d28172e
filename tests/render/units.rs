//! The rendered units before systemd itself: `systemd-analyze verify` loads them with the machine's own units and with
//! cloud-init's ordering as Ubuntu has it, and computes the whole boot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use palmfarm::base::BaseFacts;
use palmfarm::edit::tree::{Node, Tree};

use crate::bases;
use crate::common::skipped;
use crate::farms::{clustered, rendered};

/// How Ubuntu orders cloud-init: the network stage waits for the network and comes before sysinit.target, the last one
/// comes after multi-user.target.
const CLOUD_INIT: [(&str, &str); 5] = [
    (
        "cloud-init-local.service",
        "DefaultDependencies=no\nWants=network-pre.target\nAfter=systemd-remount-fs.service\nBefore=network-pre.target",
    ),
    (
        "cloud-init.service",
        "DefaultDependencies=no\nAfter=cloud-init-local.service systemd-networkd-wait-online.service\n\
         Before=network-online.target sysinit.target",
    ),
    (
        "cloud-config.service",
        "Wants=network-online.target\nAfter=network-online.target cloud-init.service",
    ),
    (
        "cloud-final.service",
        "Wants=network-online.target\nAfter=network-online.target cloud-config.service rc-local.service multi-user.target",
    ),
    ("snapd.seeded.service", "Before=multi-user.target"),
];

/// What `systemd-analyze verify` says of the boot of `tree`, with `more` added to the unit that it names; `None`
/// if there is no such program.
fn verify(tree: &Tree, more: Option<(&str, &str)>) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let put = |path: &Path, text: &[u8]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (_, path, planned) in tree.iter() {
        if !path.as_str().starts_with("/etc/systemd/system/") {
            continue;
        }
        let full = root.join(&path.as_str()[1..]);
        match &planned.node {
            Node::File { content, .. } => put(&full, content),
            Node::Symlink { target } => {
                fs::create_dir_all(full.parent().unwrap()).unwrap();
                symlink(target, &full).unwrap();
            }
            Node::Dir { .. } | Node::Absent => {}
        }
    }
    for (name, unit) in CLOUD_INIT {
        let text = format!("[Unit]\n{unit}\n[Service]\nType=oneshot\nExecStart=/bin/true\n");
        put(&root.join("vendor").join(name), text.as_bytes());
        let wants = root.join("vendor/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink(format!("../{name}"), wants.join(name)).unwrap();
    }
    if let Some((name, text)) = more {
        put(
            &root.join(format!("etc/systemd/system/{name}.d/99-more.conf")),
            text.as_bytes(),
        );
    }
    let ours = tree.iter().filter(|(_, path, planned)| {
        matches!(planned.node, Node::File { .. })
            && path.name().starts_with("palmfarm-")
            && [".service", ".timer"]
                .iter()
                .any(|kind| path.name().ends_with(kind))
    });
    let ours: Vec<&str> = ours.map(|(_, path, _)| path.name()).collect();
    let path = format!(
        "{}:{}:/lib/systemd/system",
        root.join("etc/systemd/system").display(),
        root.join("vendor").display()
    );
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "multi-user.target"])
        .args(ours)
        .env("SYSTEMD_UNIT_PATH", path)
        .env("LC_ALL", "C")
        .output();
    let Ok(output) = output else {
        skipped("there is no systemd-analyze here");
        return None;
    };
    // The agent is on the card and not on this machine.
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said
        .lines()
        .filter(|line| !(line.contains("/usr/lib/palmfarm/") && line.contains("is not executable")))
        .filter(|line| line.contains("palmfarm") || line.contains("cycle") || line.contains("wait-online"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

fn check(base: &BaseFacts, yaml: &str) {
    if let Some(said) = verify(&rendered(yaml, base), None) {
        assert_eq!(said, "", "{}: {yaml}", base.release);
    }
}

#[test]
fn systemd_takes_every_unit_and_finds_no_cycle() {
    for base in [bases::bionic(), bases::jammy(), bases::resolute()] {
        check(&base, include_str!("article.yaml"));
        check(&base, "hostname: palm\nnetwork: {renderer: ifupdown}\n");
        check(
            &base,
            "hostname: palm\nnetwork: {bridge: none, vlan: 42}\nrc_local: [\"true\"]\n",
        );
        check(&base, "hostname: palm\nnetwork: {uplink: enx-b827}\n");
        if let Some(said) = verify(&clustered("palm1", &base, "").1, None) {
            assert_eq!(said, "", "{}: a cluster", base.release);
        }
    }
}

#[test]
fn a_cycle_and_a_wrong_key_would_be_seen() {
    let tree = rendered(include_str!("article.yaml"), &bases::jammy());
    let check = |text: &str, expect: &str| {
        if let Some(said) = verify(&tree, Some(("palmfarm-firstboot.service", text))) {
            assert!(said.contains(expect), "{said}");
        }
    };
    check("[Unit]\nBefore=sysinit.target\n", "ordering cycle");
    check("[Service]\nNoSuchKey=1\n", "NoSuchKey");
}

#[test]
fn what_documents_a_unit_is_on_the_card() {
    let tree = rendered(include_str!("article.yaml"), &bases::jammy());
    let mut named = 0;
    for (_, unit, planned) in tree.iter() {
        let Node::File { content, .. } = &planned.node else {
            continue;
        };
        let text = String::from_utf8_lossy(content);
        for documentation in text
            .lines()
            .filter_map(|line| line.strip_prefix("Documentation="))
        {
            let file = documentation.strip_prefix("file:");
            let found = tree.iter().any(|(_, path, _)| Some(path.as_str()) == file);
            assert!(found, "{}: {documentation}", unit.as_str());
            named += 1;
        }
    }
    assert_eq!(named, 5);
}
