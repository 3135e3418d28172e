//! What `build` leaves behind, and what it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::common::has;
use super::{command, farm_in, has_agents, palmfarm, told, PASSWORD};

fn names(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn image_manifest_and_map_come_together() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let out_dir = dir.path().join("out");
    fs::create_dir(&out_dir).unwrap();
    let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "out/palm.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert_eq!(
        names(&out_dir),
        ["palm.img", "palm.img.bmap", "palm.img.manifest.json"]
    );

    // Nothing that is published knows the password, and the image knows only its hash.
    for name in names(&out_dir) {
        let bytes = fs::read(out_dir.join(&name)).unwrap();
        assert!(
            !bytes
                .windows(PASSWORD.len())
                .any(|window| window == PASSWORD.as_bytes()),
            "{name}"
        );
    }
    let manifest = fs::read_to_string(out_dir.join("palm.img.manifest.json")).unwrap();
    assert!(!manifest.contains("$6$"), "{manifest}");

    let out = palmfarm(dir.path(), &["inspect", "out/palm.img", "root:/etc/motd"]);
    assert_eq!(
        String::from_utf8(out.stdout.clone()).unwrap(),
        "welcome\n",
        "{}",
        told(&out)
    );
    let out = palmfarm(dir.path(), &["inspect", "out/palm.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    for expect in [
        "card palm: 4 containers; br0 over eth0, ",
        "\n  host palm\n",
        "\n  user craig\n",
        "\n  container web  00:16:3e:",
    ] {
        assert!(told(&out).contains(expect), "{expect}: {}", told(&out));
    }
    for (path, expect) in [
        (
            "root:/etc/palmfarm",
            "firstboot.json\nhost.json\nlxd-preseed.yaml\nmanifest.json\n",
        ),
        ("boot:", "cmdline.txt\n"),
        ("root:/etc/hostname", "palm\n"),
    ] {
        let out = palmfarm(dir.path(), &["inspect", "out/palm.img", path]);
        assert!(told(&out).contains(expect), "{path}: {}", told(&out));
    }
}

#[test]
fn a_build_that_fails_touches_nothing() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out/palm.img"), "the former one").unwrap();
    fs::write(
        dir.path().join("broken.img.xz"),
        b"\xfd7zXZ\0 and then nothing that makes sense",
    )
    .unwrap();
    let farm = fs::read_to_string(dir.path().join("farm.yaml"))
        .unwrap()
        .replace("base: mini", "base: broken.img.xz");
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "out/palm.img"]);
    assert!(matches!(out.status.code(), Some(1 | 3)), "{}", told(&out));
    assert_eq!(names(&dir.path().join("out")), ["palm.img"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("out/palm.img")).unwrap(),
        "the former one"
    );
}

#[test]
fn a_base_is_neither_overwritten_nor_customized_twice() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let built = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "palm.img"]);
    assert_eq!(built.status.code(), Some(0), "{}", told(&built));
    let image = fs::read(dir.path().join("palm.img")).unwrap();
    let again = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    let again = again.replace("base: mini", "base: palm.img");
    fs::write(dir.path().join("again.yaml"), again).unwrap();
    std::os::unix::fs::symlink("palm.img", dir.path().join("link.img")).unwrap();
    for (output, why) in [
        (
            "palm.img",
            "palm.img is the farm's base, and would be overwritten",
        ),
        (
            "link.img",
            "link.img is the farm's base, and would be overwritten",
        ),
        ("other.img", "palmfarm has put a farm on it already"),
    ] {
        let out = palmfarm(dir.path(), &["build", "again.yaml", "-o", output]);
        assert_eq!(out.status.code(), Some(1), "{}", told(&out));
        assert!(told(&out).contains(why), "{}", told(&out));
    }
    let judged = palmfarm(dir.path(), &["doctor", "palm.img"]);
    assert!(
        told(&judged).contains("`palmfarm inspect` shows what is on this one"),
        "{}",
        told(&judged)
    );
    assert!(fs::read(dir.path().join("palm.img")).unwrap() == image);
    assert!(!dir.path().join("other.img").exists());
}

#[test]
fn a_base_that_was_compared_with_nothing_is_named() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let mini = concat!(env!("CARGO_MANIFEST_DIR"), "/src/base/mini/mini.img.xz");
    fs::copy(mini, dir.path().join("stock.img.xz")).unwrap();
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    let farm = farm.replace("base: mini", "base: stock.img.xz");
    fs::write(dir.path().join("farm.yaml"), &farm).unwrap();
    let build = || told(&palmfarm(dir.path(), &["build", "farm.yaml", "-o", "palm.img"]));
    let said = build();
    assert!(said.contains("note: the base is palmfarm mini (in the layout of Ubuntu 22.04), armhf, and its file was compared with no digest"), "{said}");
    let (_, digest) = said.split_once("`sha256: ").unwrap();
    let digest = digest.get(..64).unwrap();
    let held = farm.replace(
        "base: stock.img.xz",
        &format!("base: stock.img.xz\nsha256: {digest}"),
    );
    fs::write(dir.path().join("farm.yaml"), held).unwrap();
    assert!(!build().contains("compared with no digest"));
}

#[test]
fn what_a_farm_is_made_of_is_not_overwritten() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    fs::write(dir.path().join("motd.tar"), "welcome\n").unwrap();
    fs::write(dir.path().join("farm.yaml"), farm.replace("motd.txt", "motd.tar")).unwrap();
    fs::copy(dir.path().join("motd.tar"), dir.path().join("x.img.bmap")).unwrap();
    fs::remove_file(dir.path().join("motd.tar")).unwrap();
    fs::hard_link(dir.path().join("x.img.bmap"), dir.path().join("motd.tar")).unwrap();
    for output in ["motd.tar", "x.img"] {
        let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", output]);
        assert_eq!(out.status.code(), Some(1), "{}", told(&out));
        let why = "is what the farm is made of, and would be overwritten";
        assert!(told(&out).contains(why), "{}", told(&out));
        assert_eq!(
            fs::read_to_string(dir.path().join("motd.tar")).unwrap(),
            "welcome\n"
        );
    }
}

#[test]
fn a_build_that_is_killed_leaves_no_half_image() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    fs::create_dir(dir.path().join("out")).unwrap();
    let reference = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "whole.img"]);
    assert_eq!(reference.status.code(), Some(0), "{}", told(&reference));
    let whole = fs::read(dir.path().join("whole.img")).unwrap();
    for step in 0..25_u64 {
        let mut child = command(dir.path())
            .args(["build", "farm.yaml", "-o", "out/palm.img"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(step * 11));
        // One that is done already cannot be killed; the image must be whole then.
        child.kill().unwrap();
        child.wait().unwrap();
        if dir.path().join("out/palm.img").exists() {
            assert!(
                fs::read(dir.path().join("out/palm.img")).unwrap() == whole,
                "killed after {} ms",
                step * 11
            );
        }
        for name in names(&dir.path().join("out")) {
            fs::remove_file(dir.path().join("out").join(name)).unwrap();
        }
    }
}

#[test]
fn a_fleet_is_what_its_cards_are_alone() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    let cards =
        "cards:\n  palm1: {mac: \"b8:27:eb:6c:02:88\"}\n  palm2: {mac: \"b8:27:eb:11:22:33\"}\n  palm3: {}\n";
    fs::write(dir.path().join("farm.yaml"), format!("{farm}{cards}")).unwrap();
    let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "fleet"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let mut images = Vec::new();
    for card in ["palm1", "palm2", "palm3"] {
        let alone = format!("{card}.img");
        let out = palmfarm(dir.path(), &["build", "farm.yaml", "--card", card, "-o", &alone]);
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        for end in ["", ".bmap", ".manifest.json"] {
            let read = |path: String| fs::read(dir.path().join(path)).unwrap();
            let (one, other) = (read(format!("fleet/{alone}{end}")), read(format!("{alone}{end}")));
            assert!(one == other, "{alone}{end}");
        }
        images.push(fs::read(dir.path().join(&alone)).unwrap());
    }
    assert!(
        images[0] != images[1] && images[1] != images[2],
        "the cards are all the same"
    );
    // One image for three cards is a mistake, and makes nothing.
    let out = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "one.img"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(!dir.path().join("one.img").exists());
}

#[test]
fn builds_that_share_a_base_do_not_disturb_each_other() {
    if !has_agents() || !has("xz") || !has("gzip") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let mini = concat!(env!("CARGO_MANIFEST_DIR"), "/src/base/mini/mini.img.xz");
    let pack = "xz -dc \"$0\" | gzip -1 > base.img.gz";
    let packed = Command::new("sh")
        .args(["-c", pack, mini])
        .current_dir(dir.path())
        .status();
    assert!(packed.unwrap().success());
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    fs::write(
        dir.path().join("farm.yaml"),
        farm.replace("base: mini", "base: base.img.gz"),
    )
    .unwrap();
    let names = ["a.img", "b.img", "c.img"];
    let mut builds: Vec<Child> = names
        .iter()
        .map(|name| {
            command(dir.path())
                .args(["build", "farm.yaml", "-o", name])
                .spawn()
                .unwrap()
        })
        .collect();
    // Meanwhile, the base gets another name again and again, and the cache is cleaned.
    let link = dir.path().join("link");
    while builds.iter_mut().any(|build| build.try_wait().unwrap().is_none()) {
        fs::hard_link(dir.path().join("base.img.gz"), &link).unwrap();
        fs::remove_file(&link).unwrap();
        let out = palmfarm(dir.path(), &["base", "clean"]);
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    }
    for build in builds {
        let out = build.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    }
    let images: Vec<Vec<u8>> = names
        .iter()
        .map(|name| fs::read(dir.path().join(name)).unwrap())
        .collect();
    assert!(images[0] == images[1] && images[1] == images[2]);
}

#[test]
fn a_card_brings_the_host_key_of_its_host() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let farm = fs::read_to_string(dir.path().join("farm.yaml")).unwrap();
    fs::write(
        dir.path().join("farm.yaml"),
        format!("{farm}ssh: {{host_keys: keys}}\n"),
    )
    .unwrap();
    let missing = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "palm.img"]);
    assert_eq!(missing.status.code(), Some(1), "{}", told(&missing));
    let hint = "hint: mkdir -p keys && ssh-keygen -q -t ed25519 -N '' -C palm -f keys/palm\n";
    assert!(told(&missing).contains(hint), "{}", told(&missing));
    fs::create_dir(dir.path().join("keys")).unwrap();
    let key = include_str!("../../src/farm/testdata/host_key");
    fs::write(dir.path().join("keys/palm"), key).unwrap();
    let only_owner = fs::Permissions::from_mode(0o600);
    fs::set_permissions(dir.path().join("keys/palm"), only_owner).unwrap();
    let built = palmfarm(dir.path(), &["build", "farm.yaml", "-o", "palm.img"]);
    assert_eq!(built.status.code(), Some(0), "{}", told(&built));
    let printed = |path: &str| {
        let out = palmfarm(dir.path(), &["inspect", "palm.img", path]);
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(printed("root:/etc/ssh/ssh_host_ed25519_key"), key);
    let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINN4cMlZ2s6Qvt7AnD0JtIbYe92nRtth8+ngY5s60f76";
    assert_eq!(
        printed("root:/etc/ssh/ssh_host_ed25519_key.pub"),
        format!("{public} palm\n")
    );
    // Otherwise cloud-init would make another one in its place.
    let seed = printed("root:/var/lib/cloud/seed/nocloud-net/user-data");
    assert!(seed.contains("ssh_deletekeys: false"), "{seed}");
    let plan = palmfarm(dir.path(), &["plan", "farm.yaml"]);
    assert!(told(&plan).contains("palm,palm.local"), "{}", told(&plan));
    let manifest = fs::read_to_string(dir.path().join("palm.img.manifest.json")).unwrap();
    assert!(!manifest.contains("PRIVATE KEY"));
}
