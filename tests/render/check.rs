//! What `check` says of what a farm names: whatever would stop a plan later, at its place in the farm file.

use expect_test::{expect, Expect};

use crate::farms::judged;
use crate::images::{tar, ARM64, ARMHF, META};

/// What is said of a farm with `lines` and `files`.
fn check(lines: &str, files: &[(&str, &[u8])], expect: &Expect) {
    expect.assert_eq(&judged(&format!("hostname: palm\n{lines}\n"), files));
}

/// What is said of the carried image `file`, where its metadata file is `metadata`.
fn check_image(file: &[u8], metadata: Option<&[u8]>, expect: &Expect) {
    let mut files = vec![("a.tar", file)];
    files.extend(metadata.map(|metadata| ("m.tar", metadata)));
    let beside = metadata.map_or("", |_| ", metadata: m.tar");
    check(&format!("images: {{a: {{file: a.tar{beside}}}}}"), &files, expect);
}

#[test]
fn boot_has_one_set_of_rules() {
    check(
        "boot: {config: {a-b: 1, x.y: 2, ok: \" 1\", gpu_mem: 16}}",
        &[],
        &expect![[r#"
            4:17 "a-b" is not a key of config.txt: it may have letters, digits, underscores and colons
            4:25 "x.y" is not a key of config.txt: it may have letters, digits, underscores and colons
            4:37 "ok= 1" is not a line of config.txt: a value is one line without white space around it
        "#]],
    );
    check(
        "boot: {config: [a-b=1, x.y=2, \"ok= 1\", gpu_mem=16]}",
        &[],
        &expect![[r#"
            4:17 "a-b=1" is not a line of config.txt: KEY may have letters, digits, underscores and colons
            4:24 "x.y=2" is not a line of config.txt: KEY may have letters, digits, underscores and colons
            4:31 "ok= 1" is not a line of config.txt: a value is one line without white space around it
        "#]],
    );
    check(
        "boot: {cmdline: ['x=\"y\"', ä, \"\\a\", quiet]}",
        &[],
        &expect![[r#"
            4:18 "x=\"y\"" is not a word of the kernel command line: it holds '"'
            4:27 "ä" is not a word of the kernel command line: it holds 'ä'
            4:30 `cmdline` is one line of text, and this holds '\u{7}'
        "#]],
    );
    let long = "x".repeat(98);
    check(
        &format!("boot: {{config: {{gpu_mem: {long}}}}}"),
        &[],
        &expect![[r#"
        4:26 "gpu_mem=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… is not a line of config.txt: it has 106 bytes, and the firmware reads no more than 98 bytes of a line
    "#]],
    );
    let words: Vec<String> = (0..4).map(|at| format!("k{at}={long}")).collect();
    check(
        &format!("boot: {{cmdline: [{}]}}", words.join(", ")),
        &[],
        &expect![[""]],
    );
    let words: Vec<String> = (0..5).map(|at| format!("k{at}={long}")).collect();
    check(
        &format!("boot: {{cmdline: [{}]}}", words.join(", ")),
        &[],
        &expect![[r"
        4:8 these words have 510 bytes, and the kernel has room for 448 beside the base's own
    "]],
    );
}

#[test]
fn the_shape_of_an_image_is_judged() {
    let (unified, rootfs, meta) = (
        tar(&[META, ("rootfs/bin/sh", ARMHF)]),
        tar(&[("bin/sh", ARMHF)]),
        tar(&[META]),
    );
    check_image(&unified, None, &expect![[""]]);
    check_image(&rootfs, None, &expect![[""]]);
    check_image(&rootfs, Some(&meta), &expect![[""]]);
    check_image(&crate::farms::SQUASHFS, Some(&meta), &expect![[""]]);
    check_image(
        b"BZh91AY&SY",
        None,
        &expect![[r#"
            4:20 "a.tar" is not an image: it is packed with bzip2 (repack it: bunzip2 -c IMAGE | xz > IMAGE.xz)
        "#]],
    );
    check_image(
        b"\xfd7zXZ\0",
        None,
        &expect![[r#"
            4:20 "a.tar" is not an image: its end is missing: it has 6 bytes (download it again, or pack it again)
        "#]],
    );
    check_image(
        b"readme",
        None,
        &expect![[r#"
        4:20 "a.tar" is not a tar archive, perhaps compressed (gz, xz, zst, bz2), or a squashfs
    "#]],
    );
    check_image(
        &tar(&[("readme", b"x")]),
        None,
        &expect![[r#"
            4:20 "a.tar" is not an image: it is a tarball with neither metadata.yaml nor a root filesystem at its top level (a plain root filesystem has bin, etc and usr at its top: tar -C ROOTFS -cJf IMAGE.tar.xz .)
        "#]],
    );
    check_image(
        &crate::farms::SQUASHFS,
        None,
        &expect![[r"
        4:20 the image a: its `file` is the squashfs of a split image (give the other part too: {file: rootfs.squashfs, metadata: META.tar.xz})
    "]],
    );
    check_image(
        &meta,
        None,
        &expect![[r"
        4:20 the image a: its `file` is the metadata of a split image ({file: ROOTFS, metadata: META.tar.xz})
    "]],
    );
    check_image(
        &unified,
        Some(&meta),
        &expect![[r"
        4:37 the image a: its `file` has metadata already (leave `metadata` out)
    "]],
    );
    check_image(
        &rootfs,
        Some(&unified),
        &expect![[r"
        4:37 the image a: its `metadata` is not a tarball of metadata.yaml and templates
    "]],
    );
    check_image(
        &tar(&[("etc/hostname", b"x")]),
        None,
        &expect![[r"
        4:20 the image a (a.tar) is a root filesystem without any program in bin, sbin or lib (give it with metadata of its own: {file: ROOTFS, metadata: META.tar.xz})
    "]],
    );
    check_image(
        &tar(&[("bin/sh", ARM64)]),
        None,
        &expect![[r"
        4:20 the image a (a.tar) is for arm64, and the base is armhf (take the armhf build of the image)
    "]],
    );
    check_image(
        &tar(&[META, ("rootfs/bin/sh", ARM64)]),
        None,
        &expect![[r"
        4:20 the metadata of the image a (a.tar) says armv7l, but the programs in it are for arm64
    "]],
    );
}

#[test]
fn what_the_base_is_for_is_known_by_its_name_alone() {
    let farm = |base: &str, file: &[u8]| {
        let yaml = "hostname: palm\nimages: {a: {file: a.tar}}\n";
        let mut disk = [0; 512];
        disk[510..].copy_from_slice(&[0x55, 0xaa]);
        let files = [("a.tar", file), ("b.img", &disk)];
        crate::farms::judged_on(base, yaml, &files)
    };
    let arm64 = tar(&[("bin/sh", ARM64)]);
    let alien = tar(&[
        ("metadata.yaml", b"architecture: riscv64\ncreation_date: 1\n"),
        ("rootfs/x", b""),
    ]);
    let torn = tar(&[META, ("rootfs/bin/sh", ARM64)]);
    for (base, file, expect) in [
        ("ubuntu-22.04-arm64", &arm64, expect![[""]]),
        (
            "ubuntu-22.04-armhf",
            &arm64,
            expect![[r"
            4:20 the image a (a.tar) is for arm64, and the base is armhf (take the armhf build of the image)
        "]],
        ),
        ("./b.img", &arm64, expect![[""]]),
        (
            "./b.img",
            &alien,
            expect![[r"
                4:20 the image a (a.tar) is for riscv64, and no card is (take the armhf or arm64 build of the image)
            "]],
        ),
        (
            "./b.img",
            &torn,
            expect![[r"
            4:20 the metadata of the image a (a.tar) says armv7l, but the programs in it are for arm64
        "]],
        ),
    ] {
        expect.assert_eq(&farm(base, file));
    }
}

#[test]
fn what_cannot_be_read_has_its_place() {
    let big = vec![0; 50 << 20];
    check(
        "overlays: [o]",
        &[("o/root/x1", &big), ("o/root/x2", &big), ("o/root/x3", &big)],
        &expect![[r"
            4:12 overlay o: it has more than 134217728 bytes (put large things into a package or a container image)
        "]],
    );
    check(
        "files: {/etc/a: motd.txt}\noverlays: [o]",
        &[
            ("o/root/etc/a/b", b"x"),
            ("o/boot/x", b"x"),
            ("o/boot/X", b"x"),
            ("o/boot/a:b", b""),
        ],
        &expect![[r"
            5:12 overlay o: boot/a:b: a part of it has a character that FAT does not allow
        "]],
    );
    check(
        "files: {/etc/a: motd.txt}\noverlays: [o]",
        &[("o/root/etc/a/b", b"x"), ("o/boot/x", b"x"), ("o/boot/X", b"x")],
        &expect![[r"
            5:12 boot:/x and boot:/X are one name on FAT (leave one of the two out)
            5:12 root:/etc/a/b cannot be: /etc/a is a file in what the farm names (leave one of the two out)
        "]],
    );
    check(
        "overlays: [o]\nunheard_of: 1",
        &[("o/etc/motd", b"x")],
        &expect![[r#"
            4:12 overlay o: etc: an overlay has `boot/`, `root/` and `overlay.toml`; what belongs at / goes below `root/`
            5:1 unknown key "unheard_of" in the farm (the keys here are farm, base, sha256, hostname, timezone, locale, users, ssh, boot, lxd, images, containers, packages, carry, files, overlays, rc_local, dns, cluster, network, cards)
        "#]],
    );
}
