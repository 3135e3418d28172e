//! Cards that bring what the first boot would fetch: which packages are refused, with what is said then, and what is on
//! the card.

use std::fs;

use expect_test::{expect, Expect};

use super::common::base::put;
use super::common::deb::{control, deb};
use super::odd_bases::{base, can_run};
use super::{palmfarm, told};

const FARM: &str = "farm: 1\nbase: image.img\nhostname: palm\nusers: []\npackages: [jq]\ncarry: {packages: [debs, ./libonig.deb]}\n";

/// What dpkg says of a package that is installed.
const LIBC: &str =
    "Package: libc6\nStatus: install ok installed\nArchitecture: armhf\nVersion: 2.35-0ubuntu3\n\n";

#[test]
fn packages_lie_on_the_card_if_it_has_all_that_they_need() {
    if !can_run() {
        return;
    }
    let image = base(|root| put(root, "var/lib/dpkg/status", LIBC));
    let dir = image.dir.path();
    fs::create_dir(dir.join("debs")).unwrap();
    fs::write(dir.join("farm.yaml"), FARM).unwrap();
    let package = |file: &str, name: &str, version: &str, architecture: &str, depends: &str| {
        fs::write(
            dir.join(file),
            deb(&control(name, version, architecture, depends)),
        )
        .unwrap();
    };
    let check = |expect: &Expect| {
        let out = palmfarm(dir, &["check", "farm.yaml"]);
        expect.assert_eq(&String::from_utf8(out.stderr).unwrap());
    };
    let plan = || palmfarm(dir, &["plan", "farm.yaml", "--files"]);
    package(
        "debs/jq.deb",
        "jq",
        "1:1.6-2",
        "armhf",
        "libjq1 (= 1:1.6-2), libc6 (>= 2.34)",
    );
    package(
        "debs/libjq1_1.6.deb",
        "libjq1",
        "1:1.6-1",
        "armhf",
        "libonig5 (>= 6.8), libc6 (>= 2.99) | musl",
    );
    package("libonig.deb", "libonig5", "6.9", "armhf", "");
    check(&expect![[r"
        note: the carried packages need of the base: libc6 (>= 2.34), libc6 (>= 2.99) | musl, libjq1 (= 1:1.6-2)
        hint: `palmfarm plan` looks whether it has them
    "]]);
    let out = plan();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    // How fast the base was read is said before.
    let said = String::from_utf8(out.stderr).unwrap();
    expect![[r"
        palmfarm: comparing the carried packages with those of the base: neither the card nor Ubuntu 22.04.5 LTS has libc6 (>= 2.99) | musl for libjq1, libjq1 (= 1:1.6-2) for jq
        hint: carry them, too: on Ubuntu 22.04.5 LTS for armhf, or in a container of it, `apt-get update && apt-get download libc6 libjq1` gets the files
    "]]
    .assert_eq(said.split_at(said.find("palmfarm: ").unwrap()).1);

    package(
        "debs/libjq1_1.6.deb",
        "libjq1",
        "1:1.6-2",
        "armhf",
        "libonig5 (>= 6.8)",
    );
    let out = plan();
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let out = palmfarm(dir, &["build", "farm.yaml", "-o", "card.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let on_card = |path: &str| palmfarm(dir, &["inspect", "card.img", path]).stdout;
    let document: serde_json::Value =
        serde_json::from_slice(&on_card("root:/etc/palmfarm/firstboot.json")).unwrap();
    let carried = serde_json::json!({
        "jq:armhf=1:1.6-2": "/var/lib/palmfarm/carried/jq_armhf.deb",
        "libjq1:armhf=1:1.6-2": "/var/lib/palmfarm/carried/libjq1_armhf.deb",
        "libonig5:armhf=6.9": "/var/lib/palmfarm/carried/libonig5_armhf.deb",
    });
    assert_eq!(document["carried"], carried);
    let jq = fs::read(dir.join("debs/jq.deb")).unwrap();
    assert_eq!(on_card("root:/var/lib/palmfarm/carried/jq_armhf.deb"), jq);
    let manifest: serde_json::Value =
        serde_json::from_slice(&on_card("root:/etc/palmfarm/manifest.json")).unwrap();
    assert!(manifest
        .to_string()
        .contains("/var/lib/palmfarm/carried/libjq1_armhf.deb"));
    // A card that is running gets them, too.
    let out = palmfarm(dir, &["build", "farm.yaml", "-o", "card.tar"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let mut tar = tar::Archive::new(fs::File::open(dir.join("card.tar")).unwrap());
    let names = tar
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string());
    let packages = names.filter(|name| name.contains("carried"));
    assert_eq!(packages.count(), 3);

    // What no base decides is told before one is looked at.
    package("debs/jq.deb", "jq", "1:1.6-2", "riscv64", "");
    package("debs/other.deb", "libonig5", "6.8", "armhf", "");
    fs::write(dir.join("debs/zero.deb"), "").unwrap();
    check(&expect![[r#"
        farm.yaml:6:20: error: "debs/jq.deb" is for riscv64, and no card is
          6 | carry: {packages: [debs, ./libonig.deb]}
            |                    ^^^^
        hint: carry the package for armhf or arm64
        farm.yaml:6:20: error: "debs/zero.deb" is not a Debian package to carry: it is not an archive of debian-binary, control.tar and data.tar
          6 | carry: {packages: [debs, ./libonig.deb]}
            |                    ^^^^
        hint: `apt-get download NAME` makes such files
        farm.yaml:6:26: error: "debs/other.deb" and "./libonig.deb" are one package, libonig5
          6 | carry: {packages: [debs, ./libonig.deb]}
            |                          ^^^^^^^^^^^^^
        hint: keep the one that cards should have
    "#]]);
}

#[test]
fn a_folder_without_packages_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("debs")).unwrap();
    fs::write(dir.path().join("debs/readme.txt"), "x").unwrap();
    let arm64 = deb(&control("jq", "1", "arm64", ""));
    fs::write(dir.path().join("jq.deb"), arm64).unwrap();
    let farm = "farm: 1\nbase: mini\nhostname: palm\nusers: []\ncarry: {packages: [debs, jq.dbe, jq.deb, debs/readme.txt]}\n";
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    let out = palmfarm(dir.path(), &["check", "farm.yaml"]);
    assert_eq!(out.status.code(), Some(1));
    expect![[r#"
        farm.yaml:5:20: error: "debs" cannot be used: there is no file in it that ends in .deb
          5 | carry: {packages: [debs, jq.dbe, jq.deb, debs/readme.txt]}
            |                    ^^^^
        farm.yaml:5:26: error: there is no file "jq.dbe"
          5 | carry: {packages: [debs, jq.dbe, jq.deb, debs/readme.txt]}
            |                          ^^^^^^
        hint: did you mean "jq.deb"?
        farm.yaml:5:34: error: "jq.deb" is for arm64, and the base is armhf
          5 | carry: {packages: [debs, jq.dbe, jq.deb, debs/readme.txt]}
            |                                  ^^^^^^
        hint: carry the package for armhf
        farm.yaml:5:42: error: "debs/readme.txt" is not a Debian package to carry: it is not an archive of debian-binary, control.tar and data.tar
          5 | carry: {packages: [debs, jq.dbe, jq.deb, debs/readme.txt]}
            |                                          ^^^^^^^^^^^^^^^
        hint: `apt-get download NAME` makes such files
        farm.yaml:2:7: warning: no Pi starts from `mini`: it is for trying palmfarm out
          2 | base: mini
            |       ^^^^
        hint: `palmfarm base suggest 3` says which image suits a Pi 3
    "#]].assert_eq(&String::from_utf8(out.stderr).unwrap());
}

#[test]
fn snaps_come_with_their_assertions() {
    let dir = tempfile::tempdir().unwrap();
    let snap = |name: &str, used: u8| {
        let mut head = [0; 96];
        head[..4].copy_from_slice(b"hsqs");
        head[40] = used;
        fs::write(dir.path().join(name), head).unwrap();
    };
    let check = |carry: &str, more: &str, expect: &Expect| {
        let farm = format!(
            "farm: 1\nbase: ubuntu-24.04-arm64\nhostname: palm\nusers: []\ncarry: {{lxd: [{carry}]}}\n{more}"
        );
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
        let out = palmfarm(dir.path(), &["check", "farm.yaml"]);
        expect.assert_eq(&String::from_utf8(out.stderr).unwrap());
    };
    snap("lxd_1.snap", 96);
    snap("core24_1.snap", 97);
    fs::write(dir.path().join("own.snap"), "own").unwrap();
    check(
        "own.snap, core24_1.snap, lxd_1.snap, Lxd.snap",
        "",
        &expect![[r#"
            farm.yaml:5:15: error: "own.snap" is not a snap: it is not a squashfs
              5 | carry: {lxd: [own.snap, core24_1.snap, lxd_1.snap, Lxd.snap]}
                |               ^^^^^^^^
            hint: get it again: `snap download`
            farm.yaml:5:25: error: "core24_1.snap" is not a snap: its last 1 bytes are missing
              5 | carry: {lxd: [own.snap, core24_1.snap, lxd_1.snap, Lxd.snap]}
                |                         ^^^^^^^^^^^^^
            hint: get it again: `snap download`
            farm.yaml:5:40: error: "lxd_1.snap" has no assertions: there is no file "lxd_1.assert"
              5 | carry: {lxd: [own.snap, core24_1.snap, lxd_1.snap, Lxd.snap]}
                |                                        ^^^^^^^^^^
            hint: `snap download` makes both files; for a snap of your own, write {file: "lxd_1.snap", dangerous: true}
            farm.yaml:5:52: error: there is no file "Lxd.snap"
              5 | carry: {lxd: [own.snap, core24_1.snap, lxd_1.snap, Lxd.snap]}
                |                                                    ^^^^^^^^
            hint: did you mean "lxd_1.snap"?
        "#]],
    );
    snap("core24_1.snap", 96);
    let assertions = |id: &str, size| {
        format!("type: snap-declaration\nsnap-id: x\nsnap-name: {id}\n\ns\n\ntype: snap-revision\nsnap-id: x\nsnap-size: {size}\n\ns\n")
    };
    fs::write(dir.path().join("core24_1.assert"), assertions("core24", 96)).unwrap();
    fs::write(dir.path().join("lxd_1.assert"), assertions("lxd", 95)).unwrap();
    check(
        "core24_1.snap, lxd_1.snap",
        "",
        &expect![[r#"
        farm.yaml:5:30: error: "lxd_1.assert" does not vouch for "lxd_1.snap": it is about 95 bytes, and the file has 96
          5 | carry: {lxd: [core24_1.snap, lxd_1.snap]}
            |                              ^^^^^^^^^^
        hint: `snap download` makes both files; keep them as they are
    "#]],
    );
    check(
        "core24_1.snap, {file: core24_1.snap, dangerous: true}",
        "",
        &expect![[r"
            farm.yaml:5:9: error: none of these is the snap of LXD
              5 | carry: {lxd: [core24_1.snap, {file: core24_1.snap, dangerous: true}]}
                |         ^^^
            hint: `snap download lxd` gets it; the base that it needs, such as core24, comes the same way
            farm.yaml:5:30: error: the snap core24 is here twice
              5 | carry: {lxd: [core24_1.snap, {file: core24_1.snap, dangerous: true}]}
                |                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "]],
    );
    fs::write(dir.path().join("lxd_1.assert"), assertions("lxd", 96)).unwrap();
    check(
        "core24_1.snap, lxd_1.snap",
        "lxd: {channel: 5.21/stable, upgrade: true}\n",
        &expect![[r"
            farm.yaml:6:7: error: `channel` asks the snap store, and the snap of LXD is carried so that nobody needs it
              6 | lxd: {channel: 5.21/stable, upgrade: true}
                |       ^^^^^^^
            hint: leave `channel` out; on the Pi, `snap refresh lxd --channel=…` changes the version later on
            farm.yaml:6:29: error: `upgrade` asks the snap store, and the snap of LXD is carried so that nobody needs it
              6 | lxd: {channel: 5.21/stable, upgrade: true}
                |                             ^^^^^^^
            hint: leave `upgrade` out; on the Pi, `snap refresh lxd --channel=…` changes the version later on
        "]],
    );
    check(
        "core24_1.snap, lxd_1.snap",
        "lxd: {flavour: incus}\n",
        &expect![[r"
            farm.yaml:5:9: error: Incus is a Debian package, and `lxd` is about a snap
              5 | carry: {lxd: [core24_1.snap, lxd_1.snap]}
                |         ^^^
            hint: carry the package: `carry: {packages: [FOLDER]}`
        "]],
    );
    check("core24_1.snap, lxd_1.snap", "", &expect![[""]]);
}
