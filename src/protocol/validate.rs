//! Whether a first-boot document is consistent in itself. Planning guarantees it for its own documents; any other document
//! is checked before it is used.

use std::collections::BTreeSet;

use crate::firstboot::{Container, FirstBoot, ImageRef, Lxd};
use crate::mac::Mac;
use crate::names;
use crate::paths::{CLUSTER_KEY, MEMBER_KEY};

/// Everything that is wrong with `document`, each as a sentence; empty where it may be acted on.
pub fn flaws(document: &FirstBoot) -> Vec<String> {
    let mut flaws = Vec::new();
    if let Err(why) = names::hostname(&document.hostname) {
        flaws.push(format!("{:?} is not a host name: {why}", document.hostname));
    }
    for (package, file) in &document.carried {
        path(file, &format!("the package {package}"), &mut flaws);
    }
    for package in document.packages.iter().chain(document.carried.keys()) {
        if let Err(why) = names::package(package) {
            flaws.push(format!("{package:?} is not a package name: {why}"));
        }
    }
    for user in &document.daemon_users {
        if let Err(why) = names::user(user) {
            flaws.push(format!("{user:?} is not a login name: {why}"));
        }
    }
    let Some(lxd) = &document.lxd else {
        if !document.containers.is_empty() {
            flaws.push("it has containers, but no container daemon".into());
        }
        return flaws;
    };
    if let Some(Err(why)) = lxd.channel.as_deref().map(names::channel) {
        flaws.push(format!("{:?} is not a channel: {why}", lxd.channel));
    }
    for snap in &lxd.snaps {
        if let Err(why) = names::snap(&snap.name) {
            flaws.push(format!("{:?} is not the name of a snap: {why}", snap.name));
        }
        for file in std::iter::once(&snap.path).chain(&snap.assertions) {
            path(file, &format!("the snap {}", snap.name), &mut flaws);
        }
    }
    let mut seen = Seen::default();
    if let Some(cluster) = &lxd.cluster {
        if cluster.member(&document.card).is_none() {
            flaws.push(format!("{} is not a member of its cluster", document.card));
        }
        seen.aliases.extend(cluster.published.keys().map(String::as_str));
    }
    for image in &lxd.images {
        let alias = &image.alias;
        if !seen.aliases.insert(alias) {
            flaws.push(format!("two images have the alias {alias}"));
        }
        digest(&image.fingerprint, &format!("the image {alias}"), &mut flaws);
        path(&image.path, &format!("the image {alias}"), &mut flaws);
        if let Some(rootfs) = &image.rootfs {
            path(rootfs, &format!("the image {alias}"), &mut flaws);
        }
    }
    for container in &document.containers {
        one(container, lxd, &mut seen, &mut flaws);
    }
    flaws
}

/// The files on the card that `document` names: each path once.
pub fn files(document: &FirstBoot) -> BTreeSet<&str> {
    let images = document.lxd.iter().flat_map(|lxd| &lxd.images);
    let images = images.flat_map(|image| std::iter::once(&image.path).chain(&image.rootfs));
    let pushed = document.containers.iter().flat_map(|one| &one.files);
    let pushed = pushed.map(|file| &file.source);
    let cluster = document.lxd.iter().flat_map(|lxd| &lxd.cluster);
    let keys = cluster.flat_map(|cluster| {
        let forms_it = cluster.first == document.card;
        [Some(MEMBER_KEY), forms_it.then_some(CLUSTER_KEY)]
    });
    let snaps = document.lxd.iter().flat_map(|lxd| &lxd.snaps);
    let snaps = snaps.flat_map(|snap| std::iter::once(&snap.path).chain(&snap.assertions));
    let carried = document.carried.values().chain(snaps);
    let named = images.chain(pushed).chain(carried).map(String::as_str);
    named.chain(keys.flatten()).collect()
}

/// What earlier parts of a document have taken.
#[derive(Default)]
struct Seen<'a> {
    names: BTreeSet<&'a str>,
    macs: BTreeSet<Mac>,
    /// Of carried images, of those that earlier containers publish, and of those that other cards have.
    aliases: BTreeSet<&'a str>,
}

fn one<'a>(container: &'a Container, lxd: &Lxd, seen: &mut Seen<'a>, flaws: &mut Vec<String>) {
    let name = container.name.as_str();
    if let Err(why) = names::container(name) {
        flaws.push(format!("{name:?} is not a container name: {why}"));
    }
    if !seen.names.insert(name) {
        flaws.push(format!("two containers are called {name}"));
    }
    if !seen.macs.insert(container.mac) {
        flaws.push(format!(
            "{name} has the hardware address of another, {}",
            container.mac
        ));
    }
    digest(&container.digest, name, flaws);
    match &container.image {
        ImageRef::Local(alias) if !seen.aliases.contains(alias.as_str()) => {
            flaws.push(format!(
                "{name} is made from {alias}, which is neither carried nor published before it"
            ));
        }
        ImageRef::Remote { remote, .. } if !lxd.remotes.contains_key(remote) => {
            flaws.push(format!(
                "{name} wants an image of {remote}, which is not a declared server"
            ));
        }
        ImageRef::Local(_) | ImageRef::Remote { .. } => {}
    }
    for profile in &container.profiles {
        if !lxd.preseed.profiles.iter().any(|one| one.name == *profile) {
            flaws.push(format!("{name} has the profile {profile}, which is not declared"));
        }
    }
    for file in &container.files {
        path(&file.path, name, flaws);
        path(&file.source, name, flaws);
        digest(&file.sha256, name, flaws);
    }
    if let Some(alias) = &container.publish {
        if !seen.aliases.insert(alias) {
            flaws.push(format!(
                "{name} publishes {alias}, which is another image's alias"
            ));
        }
    }
}

fn path(path: &str, whose: &str, flaws: &mut Vec<String>) {
    let named = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    let absolute = path
        .strip_prefix('/')
        .is_some_and(|inside| inside.split('/').all(named));
    if !absolute {
        flaws.push(format!(
            "{path:?}, a file of {whose}, is not a plain absolute path"
        ));
    }
}

fn digest(text: &str, whose: &str, flaws: &mut Vec<String>) {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        flaws.push(format!("malformed SHA-256 of {whose}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    /// A document with one container and one image, `edit`ed.
    fn check(edit: impl FnOnce(&mut Value), expect: &[&str]) {
        let digest = "0123456789abcdef".repeat(4);
        let mut document = json!({
            "version": 2, "card": "palm", "hostname": "palm",
            "network": {"uplink": "eth0", "vlan": null, "bridge": "br0", "renderer": "networkd", "mac": null,
                "ipv4": "dhcp", "ipv6": "auto", "rollback_seconds": 120},
            "packages": ["btrfs-progs"], "daemon_users": ["craig"],
            "lxd": {"flavour": "lxd", "upgrade": false, "remotes": {"images": "https://images.example"},
                "preseed": {"config": {}, "storage_pools": [], "networks": [],
                    "profiles": [{"name": "default", "description": "", "config": {}, "devices": {}}]},
                "images": [{"alias": "alpine", "path": "/var/lib/a", "rootfs": null, "fingerprint": digest}]},
            "contents": {"@": {"image": {"local": "alpine"},
                "files": [{"path": "/a", "source": "/b", "sha256": digest, "mode": 420}],
                "run": [], "publish": "web_image"}},
            "containers": [{"name": "web", "digest": "@", "profiles": ["default"],
                "mac": "00:16:3e:00:00:01", "predicted": [], "config": {}, "devices": {}}],
            "boot_mount": "/boot/firmware",
        });
        edit(&mut document);
        let text = document.to_string().replace("\"@\"", &format!("\"{digest}\""));
        let document: FirstBoot = serde_json::from_str(&text).unwrap();
        assert_eq!(flaws(&document), expect);
    }

    #[test]
    fn each_flaw_is_reported() {
        check(|_| {}, &[]);
        check(
            |d| d["lxd"] = Value::Null,
            &["it has containers, but no container daemon"],
        );
        check(
            |d| d["hostname"] = json!("a b"),
            &["\"a b\" is not a host name: it holds a space"],
        );
        check(
            |d| d["packages"][0] = json!("--purge"),
            &["\"--purge\" is not a package name: it does not start with a letter or digit"],
        );
        check(
            |d| d["lxd"]["snaps"] = json!([{"name": "-x", "path": "/a/", "assertions": null}]),
            &[
                "\"-x\" is not the name of a snap: it starts or ends with a hyphen",
                "\"/a/\", a file of the snap -x, is not a plain absolute path",
            ],
        );
        check(
            |d| d["carried"] = json!({"-y": "x.deb"}),
            &[
                "\"x.deb\", a file of the package -y, is not a plain absolute path",
                "\"-y\" is not a package name: it does not start with a letter or digit",
            ],
        );
        check(
            |d| d["contents"]["@"]["image"] = json!({"local": "web_image"}),
            &["web is made from web_image, which is neither carried nor published before it"],
        );
        check(
            |d| d["contents"]["@"]["image"] = json!({"remote": {"remote": "other", "alias": "a"}}),
            &["web wants an image of other, which is not a declared server"],
        );
        check(
            |d| d["contents"]["@"]["files"][0]["source"] = json!("/a/../../etc/shadow"),
            &["\"/a/../../etc/shadow\", a file of web, is not a plain absolute path"],
        );
        check(
            |d| d["lxd"]["images"][0]["fingerprint"] = json!("00"),
            &["malformed SHA-256 of the image alpine"],
        );
        check(
            |d| d["containers"][0]["profiles"][0] = json!("small"),
            &["web has the profile small, which is not declared"],
        );
        check(
            |d| d["contents"]["@"]["publish"] = json!("alpine"),
            &["web publishes alpine, which is another image's alias"],
        );
        check(
            |d| {
                let twin = d["containers"][0].clone();
                d["containers"].as_array_mut().unwrap().push(twin);
            },
            &[
                "two containers are called web",
                "web has the hardware address of another, 00:16:3e:00:00:01",
                "web publishes web_image, which is another image's alias",
            ],
        );
    }

    #[test]
    fn every_file_is_named_once() {
        check(
            |d| {
                d["lxd"]["snaps"] =
                    json!([{"name": "lxd", "path": "/c/lxd.snap", "assertions": "/c/lxd.assert"}]);
                d["carried"] = json!({"jq:armhf=1.6-2": "/c/jq_armhf.deb"});
                let document: FirstBoot = serde_json::from_value(d.clone()).unwrap();
                let expect = [
                    "/b",
                    "/c/jq_armhf.deb",
                    "/c/lxd.assert",
                    "/c/lxd.snap",
                    "/var/lib/a",
                ];
                assert_eq!(files(&document), BTreeSet::from(expect));
            },
            &[],
        );
    }
}
