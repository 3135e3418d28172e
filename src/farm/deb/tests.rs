//! Packages as they should be, and as a stranger may make them.

use std::io::Write as _;

use flate2::write::GzEncoder;

use super::*;

const CONTROL: &str = "Package: jq\nVersion: 1:1.6-2\nArchitecture: armhf\nDepends: libjq1 (= 1.6-2)\n";

/// A tarball with these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len().try_into().unwrap());
        header.set_mode(0o644);
        // What `set_path` would refuse is written, too.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (name, content) in members {
        bytes.extend(format!("{name:<16}{:<32}{:<10}`\n", 0, content.len()).bytes());
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// A package whose control tarball is `control`, called `name`.
fn deb(name: &str, control: &[u8]) -> Vec<u8> {
    ar(&[
        ("debian-binary", b"2.0\n"),
        (name, control),
        ("data.tar.xz", b"data"),
    ])
}

fn with_control(text: &str) -> Vec<u8> {
    deb(
        "control.tar",
        &tar(&[("./md5sums", b"x"), ("./control", text.as_bytes())]),
    )
}

fn check(bytes: &[u8]) -> Result<Package, String> {
    look(bytes, length(bytes)).map_err(|error| crate::text::chain(&error))
}

#[test]
fn each_packing_is_read() {
    let control = tar(&[("control", CONTROL.as_bytes())]);
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&control).unwrap();
    let zstd = zstd::encode_all(&control[..], 1).unwrap();
    for (name, packed) in [
        ("control.tar", control.clone()),
        ("control.tar.gz/", gzip(&control)),
        ("control.tar.xz", xz.finish().unwrap()),
        ("control.tar.zst", zstd),
    ] {
        let package = check(&deb(name, &packed)).unwrap();
        assert_eq!(
            (package.name.as_str(), package.version.as_str()),
            ("jq", "1:1.6-2"),
            "{name}"
        );
    }
    // Members of other programs are passed over, of any length.
    let odd = ar(&[
        ("debian-binary", b"2.0\n"),
        ("_gpgorigin", b"odd"),
        ("control.tar", &control),
        ("_x", b""),
        ("data.tar.zst", b"x"),
    ]);
    assert_eq!(check(&odd).unwrap().architecture, "armhf");
}

#[test]
fn a_package_that_is_cut_off_is_told_from_other_files() {
    let whole = with_control(CONTROL);
    check(&whole).unwrap();
    for end in 0..whole.len() {
        let error = check(&whole[..end]).unwrap_err();
        let expect = match end {
            0..8 => "it is not an archive of debian-binary, control.tar and data.tar".into(),
            _ => format!("its end is missing: it has {end} bytes"),
        };
        assert_eq!(error, expect, "{end}");
    }
    let other = "it is not an archive of debian-binary, control.tar and data.tar";
    let control = tar(&[("control", CONTROL.as_bytes())]);
    for bytes in [
        b"PK\x03\x04 and something that is longer than a header of ar".to_vec(),
        ar(&[("control.tar", &control), ("data.tar", b"")]),
        ar(&[
            ("debian-binary", b"3.0\n"),
            ("control.tar", &control),
            ("data.tar", b""),
        ]),
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("data.tar", b""),
            ("control.tar", &control),
        ]),
        // dpkg takes no second one either.
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &control),
            ("control.tar", &control),
            ("data.tar", b""),
        ]),
        deb("control.tar.bz2", b"BZh"),
    ] {
        assert_eq!(check(&bytes).unwrap_err(), other);
    }
}

#[test]
fn lengths_that_are_lies_cost_nothing() {
    let whole = with_control(CONTROL);
    let size = 8 + 60 + 4 + 48;
    for (text, expect) in [
        ("9999999999", "its end is missing"),
        ("-1        ", "it is not an archive"),
        ("1e3       ", "it is not an archive"),
        ("          ", "it is not an archive"),
    ] {
        let mut bytes = whole.clone();
        bytes[size..size + 10].copy_from_slice(text.as_bytes());
        let error = check(&bytes).unwrap_err();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
    let mut head = ar(&[("debian-binary", b"2.0\n")]);
    head.extend(format!("{:<16}{:<32}{:<10}`\n", "control.tar", 0, 1_u64 << 30).bytes());
    let error = look(&head[..], 2 << 30).unwrap_err().to_string();
    assert_eq!(
        error,
        "its control.tar has 1073741824 bytes, and 16777216 is the limit"
    );
}

#[test]
fn a_control_file_of_gigabytes_is_not_unpacked() {
    let zeros = vec![0; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = tar::Header::new_gnu();
    header.set_path("control").unwrap();
    header.set_size(4 << 30);
    header.set_cksum();
    gzip.write_all(header.as_bytes()).unwrap();
    for _ in 0..80 {
        gzip.write_all(&zeros).unwrap();
    }
    let error = check(&deb("control.tar.gz", &gzip.finish().unwrap())).unwrap_err();
    let expect =
        "its control.tar.gz cannot be read: it unpacks to more than 67108864 bytes, which is the limit";
    assert_eq!(error, expect);
    let long = vec![b'x'; 2 << 20];
    let error = check(&deb(
        "control.tar.gz",
        &super::tests::gzip(&tar(&[("control", &long)])),
    ))
    .unwrap_err();
    assert_eq!(error, "its control file is not a text of at most 1048576 bytes");
}

#[test]
fn there_is_one_control_file_and_it_names_a_package() {
    let text = CONTROL.as_bytes();
    for (files, expect) in [
        (
            vec![("control", text), ("./control", text)],
            "its control.tar has 2 control files",
        ),
        (
            vec![("../control", text), ("/control", text), ("a/control", text)],
            "its control.tar has 0 control files",
        ),
        (
            vec![("control", &b"\xff"[..])],
            "its control file is not a text of at most 1048576 bytes",
        ),
    ] {
        assert_eq!(check(&deb("control.tar", &tar(&files))).unwrap_err(), expect);
    }
    let check = |from: &str, to: &str, expect: &str| {
        let error = check(&with_control(&CONTROL.replace(from, to))).unwrap_err();
        assert_eq!(error, expect);
    };
    check("Package: jq", "", "its control file has no Package");
    check("jq\n", "../etc/x\n", "../etc/x is not a package: it holds '/'");
    check(
        "jq\n",
        "jq:arm64\n",
        "jq arm64 is not a package: it holds a space",
    );
    check(
        "armhf",
        "any",
        "jq:any=1:1.6-2 is not a package: any is not an architecture such as armhf or arm64",
    );
    check("1:1.6-2", "1/2", "jq:armhf=1/2 is not a package: it holds '/'");
    check(
        "(= 1.6-2)",
        "(1.6-2)",
        "its control file has a dependency that is not one: \"libjq1 (1.6-2)\"",
    );
}
