//! Image files of every shape, made here, and files that are none.

use std::io::Write;

use super::*;

/// What a file of a test's tarball holds.
const ARMHF: &[u8] = &header(1, 40);
const AMD64: &[u8] = &header(2, 62);

const fn header(class: u8, machine: u8) -> [u8; 64] {
    let mut bytes = [0; 64];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = *b"\x7fELF";
    bytes[4] = class;
    bytes[5] = 1;
    bytes[18] = machine;
    bytes
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len().try_into().unwrap());
        header.set_mode(0o755);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn metadata(architecture: &str) -> Metadata {
    Metadata {
        architecture: architecture.into(),
    }
}

/// The superblock of a squashfs of `used` bytes.
fn squashfs(used: u64) -> Vec<u8> {
    let mut bytes = b"hsqs".to_vec();
    bytes.resize(96, 0);
    bytes[40..48].copy_from_slice(&used.to_le_bytes());
    bytes
}

const META: (&str, &[u8]) = ("metadata.yaml", b"architecture: armv7l\ncreation_date: 1\n");

#[test]
fn shapes_are_told_apart() {
    let check = |files: &[(&str, &[u8])], expect: Shape| assert_eq!(look(&tar(files)).unwrap(), expect);
    let armhf = Some(Machine::Known(Arch::Armhf));
    let unified = Shape::Unified {
        metadata: metadata("armv7l"),
        machine: armhf,
    };
    check(&[META, ("rootfs/bin/sh", ARMHF)], unified.clone());
    // The metadata may come last, paths may begin with a dot.
    check(
        &[("rootfs/usr/bin/sh", ARMHF), ("./metadata.yaml", META.1)],
        unified,
    );
    check(
        &[META, ("templates/hostname.tpl", b"x")],
        Shape::Metadata(metadata("armv7l")),
    );
    check(
        &[
            ("etc/os-release", b"NAME=x\nPRETTY_NAME=\"Alpine Linux v3.20\"\n"),
            // Firmware of another machine lies deeper.
            ("usr/lib/firmware/a.elf", AMD64),
            ("bin/script", b"#!/bin/sh\n"),
            ("sbin/init", ARMHF),
            ("sbin/later", AMD64),
        ],
        Shape::Rootfs {
            machine: armhf,
            release: Some("Alpine Linux v3.20".into()),
        },
    );
    assert_eq!(look(&squashfs(96)).unwrap(), Shape::Squashfs);
}

#[test]
fn packings_do_not_matter() {
    let plain = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let expect = look(&plain).unwrap();
    for packed in [gzip.finish().unwrap(), xz.finish().unwrap(), zstd] {
        assert_eq!(look(&packed).unwrap(), expect);
        // LXD imports it, and each container then fails.
        let more = look(&[&packed[..], b"more"].concat()).unwrap_err();
        assert!(more.hint().is_some_and(|hint| hint.contains("again")), "{more}");
        // Cut anywhere, it is an error or still recognised, and never a panic.
        for cut in 0..packed.len() {
            drop(look(&packed[..cut]));
        }
        assert!(look(&packed[..packed.len() / 2]).is_err());
    }
}

#[test]
fn what_is_no_image_is_told() {
    let check = |bytes: &[u8], expect: &str| {
        let error = look(bytes).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    };
    check(b"", "it is a tarball with neither");
    check(b"BZh9", "it is packed with bzip2");
    check(
        &[b'x'; 2000],
        "it cannot be read to its end as a tarball (not packed)",
    );
    check(
        b"\x1f\x8bnonsense",
        "it cannot be read to its end as a tarball (gzip)",
    );
    check(&tar(&[("readme", b"x")]), "it is a tarball with neither");
    let mut absolute = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    absolute[..14].copy_from_slice(b"/metadata.yaml");
    // The digits of the header's sum (pax(1)).
    absolute[148..156].fill(b' ');
    let sum: u32 = absolute[..512].iter().map(|byte| u32::from(*byte)).sum();
    absolute[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    check(&absolute, "/metadata.yaml in it is an absolute path");
    check(&tar(&[("rootfs/bin/sh", ARMHF)]), "it is a tarball with neither");
    check(&squashfs(97), "its end is missing: it has 96 bytes");
    check(b"hsqs", "its end is missing");
    check(b"QFI\xfb", "it is the image of a virtual machine");
    check(
        &tar(&[META, ("rootfs.img", b"x")]),
        "it is the image of a virtual machine",
    );
    let bomb = b"a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
        d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
        g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    check(&tar(&[("metadata.yaml", bomb)]), "LXD does not import");
}

#[test]
fn metadata_that_lxd_does_not_import_is_refused() {
    let check = |text: &str, expect: Result<(), &str>| {
        let found = look(&tar(&[("metadata.yaml", text.as_bytes())]));
        let found = found.map(drop).map_err(|error| error.to_string());
        match expect {
            Ok(()) => assert_eq!(found, Ok(()), "{text}"),
            Err(why) => assert!(
                found.as_ref().is_err_and(|found| found.contains(why)),
                "{text}: {found:?}"
            ),
        }
    };
    for (text, verdict) in METADATA_VERDICTS {
        check(text, *verdict);
    }
}

/// What LXD 5.0 says is in tests/lxd/carried.rs.
const METADATA_VERDICTS: &[(&str, Result<(), &str>)] = &[
    ("architecture: armv7l\ncreation_date: 1\n", Ok(())),
    ("\u{feff}architecture: armv7l\r\ncreation_date: 1\r\n", Ok(())),
    ("architecture: armv7l\ncreation_date: 1\nproperties: {release: 22.04, serial: 20240101, x: null}\n", Ok(())),
    ("architecture: armv7l\ncreation_date: 1\ntemplates: {/etc/hostname: {when: [create], template: h.tpl}}\n", Ok(())),
    ("a: [", Err("")),
    ("- a", Err("it is not a mapping")),
    ("properties: {}", Err("it names no architecture")),
    ("architecture: armv7l\n", Err("it has no creation_date")),
    ("architecture: armv7l\ncreation_date: 0\n", Err("its creation_date is 0")),
    ("architecture: armv7l\ncreation_date: 2024-01-01\n", Err("its creation_date is \"2024-01-01\"")),
    ("architecture: armv7l\ncreation_date: 1\nexpiry_date: never\n", Err("its expiry_date")),
    ("architecture: armv7l\ncreation_date: 1\nproperties: [a]\n", Err("not a mapping")),
    ("architecture: armv7l\ncreation_date: 1\nproperties: {a: [b]}\n", Err("\"a\" is not a single value")),
    ("architecture: armv7l\ncreation_date: 1\ntemplates: {/x: {when: create, template: x}}\n", Err("`when`")),
];

#[test]
fn an_image_that_was_cut_is_refused() {
    let plain = tar(&[
        META,
        ("rootfs/bin/sh", ARMHF),
        ("rootfs/more", &vec![b'x'; 100_000]),
    ]);
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let mut xz = xz.finish().unwrap();
    assert!(look(&xz).is_ok());
    let cut = xz.len() - 20;
    assert!(matches!(look(&xz[..cut]), Err(ImageError::Cut(_))));
    // Zeros may follow, in words of four.
    xz.extend([0; 8]);
    assert!(look(&xz).is_ok());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(look(&gzip).is_ok() && look(&gzip[..gzip.len() - 20]).is_err());
}

/// The head of a tarball with one member that is said to have 3 GiB, and the first MiB of it.
fn bomb(kind: u8) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(3 << 30);
    header.set_cksum();
    [&header.as_bytes()[..], &vec![0; 1 << 20]].concat()
}

#[test]
fn names_without_end_are_not_held() {
    for kind in *b"LKx" {
        let plain = bomb(kind);
        for bytes in [zstd::encode_all(&plain[..], 1).unwrap(), plain] {
            let error = look(&bytes).unwrap_err();
            assert!(matches!(error, ImageError::TooMuch(_)), "{error}");
            assert!(
                error.to_string().starts_with("more than 262144 bytes of names"),
                "{error}"
            );
        }
    }
}

#[test]
fn an_image_is_unpacked_to_so_many_bytes_and_no_further() {
    let plain = tar(&[("bin/sh", ARMHF), ("srv/zeros", &vec![0; 1 << 20])]);
    assert!(shape::look_within(&plain, 2 << 20).is_ok());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for bytes in [plain, gzip.finish().unwrap()] {
        let error = shape::look_within(&bytes, 1 << 20).unwrap_err().to_string();
        assert!(
            error.starts_with("it unpacks to more than 1048576 bytes"),
            "{error}"
        );
    }
}

#[test]
fn memory_that_a_packing_asks_for_is_bounded() {
    let plain = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let mut xz = xz.finish().unwrap();
    assert!(look(&xz).is_ok());
    // The header of the first block: its size in units of 4 bytes, less one; flags; LZMA2, one byte of properties, the
    // size of the dictionary (.xz file format 1.2.1, sections 3.1 and 5.3.1).
    let end = 12 + (usize::from(xz[12]) + 1) * 4;
    assert_eq!(xz[14..16], [0x21, 1]);
    xz[16] = 40;
    let check = crc32fast::hash(&xz[12..end - 4]).to_le_bytes();
    xz[end - 4..end].copy_from_slice(&check);
    // A frame with a window of 1 GiB and one raw block (RFC 8878, sections 3.1.1.1.2 and 3.1.1.2).
    let mut zstd = b"\x28\xb5\x2f\xfd\x00\xa0".to_vec();
    let block = (u32::try_from(plain.len()).unwrap() << 3) | 1;
    zstd.extend(&block.to_le_bytes()[..3]);
    zstd.extend(&plain);
    for (bytes, most) in [(xz, 72), (zstd.clone(), 128)] {
        let error = look(&bytes).unwrap_err();
        assert!(
            matches!(error, ImageError::Memory(found, _) if found == most),
            "{error}"
        );
    }
    // 128 MiB, which `zstd --ultra -22` takes.
    zstd[5] = 0x88;
    assert!(look(&zstd).is_ok());
}

#[test]
fn metadata_is_the_same_every_time_and_read_again() {
    let made = metadata_for("alpine", Arch::Armhf, Some("Alpine \"3.20\""), 1_700_000_000, &[]).unwrap();
    assert_eq!(
        made,
        metadata_for("alpine", Arch::Armhf, Some("Alpine \"3.20\""), 1_700_000_000, &[]).unwrap()
    );
    assert_eq!(look(&made).unwrap(), Shape::Metadata(metadata("armv7l")));
    let mut archive = tar::Archive::new(&made[..]);
    let mut texts = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        texts.push(text);
    }
    let yaml: serde_json::Value = serde_yaml::from_str(&texts[0]).unwrap();
    assert_eq!(yaml["creation_date"], 1_700_000_000);
    assert_eq!(yaml["properties"]["description"], "alpine: Alpine \"3.20\"");
    assert_eq!(yaml["templates"]["/etc/hostname"]["template"], "hostname.tpl");
    assert_eq!(texts[1], "{{ container.name }}\n");
}
