//! Folders and archives as overlays: what becomes of good ones, and why bad ones are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::*;

/// Every node as one line.
fn listing(overlay: &Overlay) -> String {
    let line = |(volume, path, planned): &(Volume, CardPath, Planned)| match &planned.node {
        Node::File { content, access } => format!(
            "{volume}:{path} {:04o} {}:{} {:?} {:?}\n",
            access.mode,
            access.uid,
            access.gid,
            planned.privacy,
            String::from_utf8_lossy(content)
        ),
        Node::Dir { access, if_there } => format!(
            "{volume}:{path}/ {:04o} {}:{} {if_there:?}\n",
            access.mode, access.uid, access.gid
        ),
        Node::Symlink { target } => format!("{volume}:{path} -> {target}\n"),
        Node::Absent => format!("{volume}:{path} absent\n"),
    };
    overlay.nodes.iter().map(line).collect()
}

fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_folder() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "root/etc/motd", "hello\n");
    put(dir.path(), "root/etc/key", "s");
    put(dir.path(), "root/usr/local/bin/run", "#!/bin/sh\n");
    put(dir.path(), "root/srv/run", "#!/bin/sh\n");
    let runs = fs::Permissions::from_mode(0o4710);
    fs::set_permissions(dir.path().join("root/srv/run"), runs).unwrap();
    put(dir.path(), "boot/overlays/x.dtbo", "x");
    fs::create_dir_all(dir.path().join("root/srv/empty")).unwrap();
    std::os::unix::fs::symlink("../motd", dir.path().join("root/etc/link")).unwrap();
    let rules = "[\"root/usr/local/bin/run\"]\nmode = \"0755\"\n[\"root/etc/key\"]\nmode = \"400\"\nuid = 7\ngid = 8\n\
                 [\"root/srv\"]\nmode = \"2775\"\n";
    put(dir.path(), "overlay.toml", rules);
    assert_eq!(
        listing(&read("site", dir.path()).unwrap()),
        "boot:/overlays/x.dtbo 0644 0:0 Public \"x\"\n\
         root:/etc/key 0400 7:8 Secret \"s\"\n\
         root:/etc/link -> ../motd\n\
         root:/etc/motd 0644 0:0 Public \"hello\\n\"\n\
         root:/srv/ 2775 0:0 SetMode\n\
         root:/srv/empty/ 0755 0:0 Keep\n\
         root:/srv/run 0755 0:0 Undeclared \"#!/bin/sh\\n\"\n\
         root:/usr/local/bin/run 0755 0:0 Public \"#!/bin/sh\\n\"\n"
    );
}

/// The folder that `fill` makes is refused, with `why` in the message.
fn refused(fill: impl FnOnce(&Path), why: &str) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let error = read("site", dir.path()).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn folders_that_are_refused() {
    refused(|dir| put(dir, "etc/motd", ""), "goes below `root/`");
    refused(|dir| put(dir, "overlay.toml", "x"), "overlay.toml");
    refused(
        |dir| put(dir, "overlay.toml", "[\"root/x\"]\nmode = \"0755\"\n"),
        "not in the overlay",
    );
    for (rule, why) in [
        ("mode = \"788\"", "octal"),
        ("mode = 493", "invalid type"),
        ("user = 1", "unknown field"),
        ("owner = \"craig\"", "neither root nor two numbers"),
        ("owner = \"1:1\"\nuid = 1", "both"),
        ("secret = true\nmode = \"0644\"", "lets everybody read it"),
    ] {
        let fill = |dir: &Path| {
            put(dir, "root/x", "");
            put(dir, "overlay.toml", &format!("[\"root/x\"]\n{rule}\n"));
        };
        refused(fill, why);
    }
    let on_fat = |dir: &Path| {
        put(dir, "boot/x", "");
        put(dir, "overlay.toml", "[\"boot/x\"]\nsecret = true\n");
    };
    refused(on_fat, "FAT has neither owners nor permissions");
    let folder = |dir: &Path| {
        put(dir, "root/x/y", "");
        put(dir, "overlay.toml", "[\"root/x\"]\nsecret = true\n");
    };
    refused(folder, "no content that could be secret");
    refused(|dir| fs::create_dir_all(dir.join("boot/empty")).unwrap(), "FAT");
    let link = |dir: &Path| {
        fs::create_dir_all(dir.join("boot")).unwrap();
        std::os::unix::fs::symlink("x", dir.join("boot/link")).unwrap();
    };
    refused(link, "FAT has no symbolic links");
    let pipe = |dir: &Path| {
        fs::create_dir_all(dir.join("root")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.join("root/socket")).unwrap());
    };
    refused(pipe, "a socket");
}

/// A tar file with one entry as `change` leaves it, after one that is fine.
fn archive(change: impl FnOnce(&mut Header), content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = Builder::new(file.reopen().unwrap());
    let mut header = Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    header.set_uid(1000);
    header.set_entry_type(EntryType::Regular);
    builder
        .append_data(&mut header, "./root/bin/a", &b"hello"[..])
        .unwrap();
    let mut header = Header::new_gnu();
    header.set_size(content.len().try_into().unwrap());
    header.set_mode(0o640);
    header.set_entry_type(EntryType::Regular);
    name(&mut header, "root/b");
    change(&mut header);
    header.set_cksum();
    builder.append(&header, content).unwrap();
    builder.finish().unwrap();
    file
}

/// Put `path` in as it is: `set_path` would refuse what is to be refused here.
fn name(header: &mut Header, path: &str) {
    let name = &mut header.as_old_mut().name;
    name.fill(0);
    name[..path.len()].copy_from_slice(path.as_bytes());
}

#[test]
fn an_archive() {
    let file = archive(|_| {}, b"x");
    assert_eq!(
        listing(&read("extra.tar", file.path()).unwrap()),
        "root:/b 0640 0:0 Secret \"x\"\nroot:/bin/a 0755 0:0 Public \"hello\"\n"
    );
    let file = archive(
        |header| {
            header.set_entry_type(EntryType::Symlink);
            header.set_link_name("../x").unwrap();
        },
        b"",
    );
    assert!(listing(&read("extra.tar", file.path()).unwrap()).contains("root:/b -> ../x\n"));
}

/// `bytes` as gzip, xz and zstd pack them.
fn compressed(bytes: &[u8]) -> [Vec<u8>; 3] {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(bytes).unwrap();
    let zstd = zstd::encode_all(bytes, 1).unwrap();
    [gzip.finish().unwrap(), xz.finish().unwrap(), zstd]
}

#[test]
fn a_compressed_archive_is_what_is_in_it() {
    let plain = fs::read(archive(|_| {}, b"x").path()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    // The name says nothing.
    let found = |bytes: &[u8]| {
        fs::write(file.path(), bytes).unwrap();
        let read = read("extra.zip", file.path()).map(|overlay| listing(&overlay));
        read.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    };
    let expect = found(&plain).unwrap();
    let end = found(&[&plain[..], b"more"].concat()).unwrap_err();
    assert!(
        end.ends_with("something follows the end of the tar file"),
        "{end}"
    );
    let two = found(&plain.repeat(2)).unwrap_err();
    assert_eq!(two, end);
    let padded = [plain.clone(), vec![0; 100_000]].concat();
    assert_eq!(found(&padded).unwrap(), expect);
    for (inside, packed) in compressed(&plain).into_iter().enumerate() {
        assert_eq!(found(&packed).unwrap(), expect, "{inside}");
        for bad in [
            &[&packed[..], b"more"].concat()[..],
            &packed[..packed.len() - 9],
            &packed[..40],
        ] {
            let error = found(bad).unwrap_err();
            assert!(error.contains("it cannot be unpacked ("), "{inside}: {error}");
        }
    }
    let [two, ..] = compressed(&plain.repeat(2));
    assert_eq!(found(&two).unwrap_err(), end);
    let [text, ..] = compressed(&[b'x'; 2000]);
    assert!(found(&text).is_err());
    assert!(found(b"BZh91AY&SY").unwrap_err().contains("it is packed (bzip2)"));
}

#[test]
fn archives_that_are_refused() {
    let check = |change: &dyn Fn(&mut Header), content: &[u8], why: &str| {
        let file = archive(change, content);
        let error = read("extra.tar", file.path()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    check(&|header| name(header, "/etc/shadow"), b"", "absolute");
    check(&|header| name(header, "root/../../etc/shadow"), b"", "leads out");
    check(&|header| name(header, "../x"), b"", "leads out");
    check(&|header| name(header, "etc/x"), b"", "goes below `root/`");
    check(&|header| name(header, "root//x"), b"", "part of it is empty");
    check(&|header| name(header, "root/bin/a"), b"", "twice");
    check(&|header| header.set_entry_type(EntryType::Link), b"", "hard link");
    check(&|header| header.set_entry_type(EntryType::Block), b"", "device");
    check(&|header| header.set_entry_type(EntryType::Fifo), b"", "pipe");
    check(
        &|header| header.set_entry_type(EntryType::GNUSparse),
        b"",
        "reading",
    );
    check(&|header| header.set_entry_type(EntryType::new(b'Z')), b"", "kind");
    check(&|header| header.set_size(u64::MAX / 2), b"", "bytes, and");
    check(
        &|header| header.set_mode(0o4755),
        b"",
        "its mode is 4755, and on the card it would belong to root",
    );
    check(&|header| header.set_mode(0o2755), b"", "its mode is 2755");
}

/// What becomes of the folder that `fill` makes, packed by tar(1) with `options`.
fn packed(fill: impl FnOnce(&Path), options: &[&str]) -> Result<String, OverlayError> {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("site");
    fs::create_dir(&top).unwrap();
    fill(&top);
    let tar = dir.path().join("site.tar");
    let made = std::process::Command::new("tar")
        .args(options)
        .arg("-cf")
        .args([&tar, Path::new("-C"), &top, Path::new(".")])
        .status();
    assert!(made.unwrap().success());
    read("site.tar", &tar).map(|overlay| listing(&overlay))
}

fn mode(dir: &Path, path: &str, mode: u32) {
    fs::create_dir_all(dir.join(path)).unwrap();
    fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn folders_of_an_archive_have_its_mode_where_the_base_has_none() {
    let fill = |dir: &Path| {
        mode(dir, "root/tmp", 0o1777);
        mode(dir, "root/srv/team", 0o2770);
        put(dir, "root/srv/team/a", "x");
        put(dir, "root/srv/usual/a", "x");
    };
    assert_eq!(
        packed(fill, &[]).unwrap(),
        "root:/srv/team/ 2770 0:0 Keep\n\
         root:/srv/team/a 0644 0:0 Public \"x\"\n\
         root:/srv/usual/a 0644 0:0 Public \"x\"\n\
         root:/tmp/ 1777 0:0 Keep\n"
    );
}

#[test]
fn a_program_that_runs_as_another_is_named_by_its_owner() {
    let fill = |rules: &'static str| {
        move |dir: &Path| {
            put(dir, "root/usr/bin/x", "x");
            let runs = fs::Permissions::from_mode(0o4755);
            fs::set_permissions(dir.join("root/usr/bin/x"), runs).unwrap();
            if !rules.is_empty() {
                put(dir, "overlay.toml", rules);
            }
        }
    };
    let error = packed(fill(""), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "overlay site.tar: root/usr/bin/x: its mode is 4755, and on the card it would belong to root"
    );
    assert!(error.hint().unwrap().contains("overlay.toml"));
    let rules = "[\"root/usr/bin/x\"]\nmode = \"4750\"\nowner = \"0:27\"\n";
    assert_eq!(
        packed(fill(rules), &[]).unwrap(),
        "root:/usr/bin/x 4750 0:27 Secret \"x\"\n"
    );
}

#[test]
fn a_sparse_file_is_refused_under_its_own_name() {
    for options in [
        &["--format=gnu", "-S"][..],
        &["--format=pax", "--sparse-version=0.0", "-S"],
        &["--format=pax", "--sparse-version=0.1", "-S"],
        &["--format=pax", "--sparse-version=1.0", "-S"],
    ] {
        let fill = |dir: &Path| {
            put(dir, "root/opt/data", "x");
            let file = fs::File::options()
                .write(true)
                .open(dir.join("root/opt/data"))
                .unwrap();
            file.set_len(5 << 20).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"end", 4 << 20).unwrap();
        };
        let error = packed(fill, options).unwrap_err();
        let name = error.to_string();
        assert!(
            name.ends_with("root/opt/data: it is packed as a sparse file"),
            "{options:?}: {name}"
        );
        assert!(error.hint().unwrap().contains("--sparse"));
        // What the hint says.
        assert!(packed(fill, &options[..1]).is_ok());
    }
}

#[test]
fn attributes_that_would_be_lost_are_refused() {
    let check = |records: &[(&str, &[u8])], expect: Result<(), &str>| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = Builder::new(file.reopen().unwrap());
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(1);
        builder.append_data(&mut header, "root/a", &b"x"[..]).unwrap();
        builder.finish().unwrap();
        let found = read("extra.tar", file.path())
            .map(drop)
            .map_err(|error| error.to_string());
        match expect {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(why) => assert!(
                found.as_ref().is_err_and(|found| found.contains(why)),
                "{found:?}"
            ),
        }
    };
    check(
        &[
            ("mtime", b"1.5"),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("RHT.security.selinux", b"x"),
        ],
        Ok(()),
    );
    check(&[("LIBARCHIVE.xattr.com.apple.provenance", b"x")], Ok(()));
    let capability = "root/a: it has the extended attribute security.capability";
    check(
        &[("SCHILY.xattr.security.capability", b"\x01\0")],
        Err(capability),
    );
    check(
        &[("SCHILY.xattr.user.mine", b"x")],
        Err("the extended attribute user.mine"),
    );
    check(
        &[("SCHILY.acl.access", b"user::rw-,user:7:r--")],
        Err("an access control list"),
    );
    // A line break in a value could hide a record from one reader and show it to another.
    check(&[("comment", b"x\n15 path=root/b\n")], Err("line break"));
}

#[test]
fn what_a_sparse_file_is_said_to_hold_is_not_read() {
    let check = |kinds: &[u8], size: u64, why: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (kind, at) in kinds.iter().zip(0..) {
            let mut header = Header::new_gnu();
            name(&mut header, "root/b");
            header.set_entry_type(EntryType::new(*kind));
            header.set_mode(0o755);
            header.set_size(size);
            header.set_cksum();
            let at = at * (size + 512);
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), header.as_bytes(), at).unwrap();
            file.as_file().set_len(at + 512 + size).unwrap();
        }
        let error = read("extra.tar", file.path()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    for kind in [b"L", b"K", b"x"] {
        check(kind, 64 << 20, "more than 262144 bytes of names");
    }
    check(b"g", 300 << 10, "its extended header cannot be read");
    // Folders have no content, so that none is counted.
    check(b"555", 100 << 20, "it unpacks to more than 268435456 bytes");
}

#[test]
fn what_is_no_archive() {
    let check = |content: &[u8], why: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let error = read("extra.tar", file.path()).unwrap_err();
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains(why), "{error}");
    };
    check(b"\x1f\x8b\x08", "gzip");
    check(b"\xfd7zXZ\0\0", "xz");
    check(b"", "or it is empty");
    check(&[0; 1024], "or it is empty");
    check(b"hello", "reading");
    check(&[b'x'; 512], "reading");
    assert!(matches!(
        read("extra.tar", Path::new("/nonexistent/extra.tar")),
        Err(OverlayError::Read { .. })
    ));
}
