//! The keys of a cluster: who may read them, that none is made twice, and that nothing shows one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use super::{has_agents, palmfarm, told};

fn write_farm(dir: &Path, cards: &str) {
    let farm = format!(
        "farm: 1\nbase: mini\nusers: [{{name: craig, sudo: nopasswd}}]\ncluster: {{keys: secrets/farm.keys, first: palm1}}\n\
         cards: {{{cards}}}\ncontainers:\n  w: {{image: \"images:alpine/3.23\", replicas: 2..4, spread: true}}\n"
    );
    fs::write(dir.join("farm.yaml"), farm).unwrap();
}

const THREE: &str = "palm1: , palm2: , palm3: ";

#[track_caller]
fn done(dir: &Path, args: &[&str]) -> Output {
    let out = palmfarm(dir, args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", told(&out));
    out
}

/// The lines of `text` that are parts of private keys.
fn secrets(text: &str) -> Vec<&str> {
    let mut inside = false;
    let lines = text.lines().map(str::trim).filter(move |line| {
        let was_inside = inside;
        inside = line.contains("BEGIN PRIVATE KEY") || inside && !line.contains("END PRIVATE KEY");
        was_inside && inside
    });
    lines.collect()
}

#[test]
fn keys_are_private_and_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let path = dir.join("secrets/farm.keys");
    write_farm(dir, THREE);
    let out = palmfarm(dir, &["check"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        told(&out).contains("hint: `palmfarm keys new` writes the file"),
        "{}",
        told(&out)
    );
    done(dir, &["keys", "new"]);
    let first = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(secrets(&first).len(), 4 * 3);
    done(dir, &["check"]);

    let out = done(dir, &["keys", "new"]);
    assert!(
        told(&out).contains("has a key pair for every card"),
        "{}",
        told(&out)
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), first);

    write_farm(dir, &format!("{THREE}, palm4: "));
    let out = palmfarm(dir, &["check"]);
    assert!(
        told(&out).contains("there is no pair for palm4"),
        "{}",
        told(&out)
    );
    let out = done(dir, &["keys", "new", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&said["cluster"], &said["cards"]),
        (&false.into(), &serde_json::json!(["palm4"]))
    );
    let second = fs::read_to_string(&path).unwrap();
    assert!(second.starts_with(&first), "a pair that was there has changed");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);

    // What others may have read, or what is no such file, is neither taken nor written over.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let out = palmfarm(dir, &["keys", "new"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("hint: chmod 600 "), "{}", told(&out));
    fs::write(&path, "hunter2: hunter2\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let out = palmfarm(dir, &["keys", "new"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(!told(&out).contains("hunter2"), "{}", told(&out));
    assert_eq!(fs::read_to_string(&path).unwrap(), "hunter2: hunter2\n");

    fs::write(dir.join("farm.yaml"), "farm: 1\nbase: mini\nhostname: palm\n").unwrap();
    let out = palmfarm(dir, &["keys", "new"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("hint: write `cluster: {keys: secrets/farm.keys, first: palm1}`"),
        "{}",
        told(&out)
    );
}

#[test]
fn a_card_has_its_own_key_and_nothing_shows_one() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_farm(dir, THREE);
    done(dir, &["keys", "new"]);
    let keys = fs::read_to_string(dir.join("secrets/farm.keys")).unwrap();
    let secrets = secrets(&keys);
    let hidden = |text: &str, what: &str| {
        let shown = secrets.iter().filter(|line| text.contains(**line)).count();
        assert_eq!(shown, 0, "{what} shows a key");
    };
    let table = done(dir, &["plan"]);
    for line in ["; forms the cluster, at fd", "; joins the cluster, at fd"] {
        assert!(told(&table).contains(line), "{}", told(&table));
    }
    for args in [
        &["plan"][..],
        &["plan", "--files"],
        &["plan", "--format", "json"],
        &["plan", "--format", "html"],
        &["check", "--json"],
    ] {
        hidden(&told(&done(dir, args)), args.last().unwrap());
    }
    let page = told(&done(dir, &["plan", "--format", "html"]));
    assert!(
        page.contains("<br>forms the cluster, at <span class=\"mono\">fd"),
        "{page}"
    );
    let plan = done(dir, &["plan", "--format", "json"]).stdout;
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!(plan["cards"][0]["cluster"]["forms_it"], true);
    assert_eq!(plan["cards"][2]["cluster"]["forms_it"], false);

    for out in ["one", "two"] {
        fs::create_dir(dir.join(out)).unwrap();
        let image = format!("{out}/palm1.img");
        let out = done(dir, &["build", "--card", "palm1", "-o", &image]);
        hidden(&told(&out), "build");
    }
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    assert!(
        read("one/palm1.img") == read("two/palm1.img"),
        "two builds differ"
    );
    let manifest = String::from_utf8(read("one/palm1.img.manifest.json")).unwrap();
    hidden(&manifest, "the manifest");
    let listed = done(dir, &["inspect", "one/palm1.img", "root:/etc/palmfarm/cluster"]);
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap(),
        "cluster.key\nserver.key\n"
    );
    hidden(&told(&done(dir, &["inspect", "one/palm1.img"])), "inspect");
    let manifest = done(
        dir,
        &["inspect", "one/palm1.img", "root:/etc/palmfarm/manifest.json"],
    );
    hidden(&told(&manifest), "the card's manifest");

    // The bundle for a running card has the keys of that card, and only its owner can read it.
    let bundle = |card: &str| {
        let name = format!("{card}.tar");
        done(dir, &["build", "--card", card, "-o", &name]);
        let mode = fs::metadata(dir.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut tar = tar::Archive::new(fs::File::open(dir.join(&name)).unwrap());
        let paths = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string());
        paths.collect::<Vec<_>>()
    };
    let (member, cluster) = (
        "etc/palmfarm/cluster/server.key",
        "etc/palmfarm/cluster/cluster.key",
    );
    assert_eq!(bundle("palm1"), ["etc/palmfarm/firstboot.json", cluster, member]);
    assert_eq!(bundle("palm2"), ["etc/palmfarm/firstboot.json", member]);
}
