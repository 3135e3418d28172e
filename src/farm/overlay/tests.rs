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
        Node::Dir { access } => format!(
            "{volume}:{path}/ {:04o} {}:{}\n",
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
         root:/srv/ 2775 0:0\n\
         root:/srv/empty/ 0755 0:0\n\
         root:/srv/run 0755 0:0 Public \"#!/bin/sh\\n\"\n\
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
        ("owner = 1", "unknown field"),
    ] {
        let fill = |dir: &Path| {
            put(dir, "root/x", "");
            put(dir, "overlay.toml", &format!("[\"root/x\"]\n{rule}\n"));
        };
        refused(fill, why);
    }
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
    header.set_mode(0o4640);
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
        "root:/b 0640 0:0 Public \"x\"\nroot:/bin/a 0755 0:0 Public \"hello\"\n"
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
        check(kind, 64 << 20, "more than 262144 bytes stand before");
    }
    check(b"gL", 300 << 10, "more than 262144 bytes stand before");
    // Folders have no content, so that none is counted.
    check(b"555", 100 << 20, "unpacked it has more than 268435456 bytes");
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
