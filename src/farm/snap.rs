//! What the files of a snap say of themselves: the superblock of its squashfs, and the assertions that `snap download` puts
//! beside it (snapd's `asserts` package). snapd checks their signatures and the digest when it installs the snap; here it is
//! seen that the files go together, and the name is read.

use std::collections::BTreeMap;

use palmfarm_protocol::names;

use super::packing::Packing;

/// How much of the snap is looked at: the superblock (kernel, `fs/squashfs/squashfs_fs.h`).
pub(super) const HEAD: u64 = 96;

/// The largest file of assertions: those of a snap have some 10 KB.
pub(super) const LARGEST_ASSERTIONS: u64 = 1 << 20;

/// Whether a file of so many bytes that begins with `head` is a whole squashfs; an error says why not.
pub(super) fn whole(head: &[u8], bytes: u64) -> Result<(), String> {
    let used = head.get(40..48).and_then(|field| field.try_into().ok());
    match used.map(u64::from_le_bytes) {
        Some(used) if Packing::of(head) == Packing::Squashfs => {
            let missing = used.saturating_sub(bytes);
            if missing > 0 {
                return Err(format!("its last {missing} bytes are missing"));
            }
            Ok(())
        }
        _ => Err("it is not a squashfs".into()),
    }
}

/// What a file is called up to its revision or ending.
pub(super) fn named(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or_default();
    name.split(['_', '.']).next().unwrap_or_default()
}

/// The name of the snap of so many bytes for which these assertions vouch; an error says why they do not.
pub(super) fn vouched(assertions: &[u8], bytes: u64) -> Result<String, String> {
    let text = std::str::from_utf8(assertions).map_err(|_| "it is not text".to_owned())?;
    let all: Vec<_> = text.split("\n\n").map(headers).collect();
    let of_type = |wanted: &'static str| {
        let mut all = all.iter();
        let found = all.find(|one| one.get("type") == Some(&wanted));
        found.ok_or_else(|| format!("it has no assertion of the type {wanted}"))
    };
    let revision = of_type("snap-revision")?;
    let declaration = of_type("snap-declaration")?;
    let size = revision
        .get("snap-size")
        .and_then(|size| size.parse::<u64>().ok());
    match size {
        Some(size) if size == bytes => {}
        Some(size) => return Err(format!("it is about {size} bytes, and the file has {bytes}")),
        None => return Err("its snap-revision has no snap-size".into()),
    }
    if revision.get("snap-id") != declaration.get("snap-id") {
        return Err("its snap-revision and its snap-declaration are about two snaps".into());
    }
    let name = declaration.get("snap-name").copied().unwrap_or_default();
    names::snap(name).map_err(|why| format!("its snap-name is not one: {why}"))?;
    Ok(name.to_owned())
}

/// The headers of an assertion, one a line. What belongs to one of them stands below it, behind blanks, and is not needed.
fn headers(text: &str) -> BTreeMap<&str, &str> {
    let own = text.lines().filter(|line| !line.starts_with(' '));
    own.filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSERTIONS: &str = "type: account-key\nauthority-id: canonical\n\nkey\n\nsignature\n\ntype: \
                              snap-declaration\nformat: 1\nsnap-id: J60k\nplugs:\n  lxd:\n    \
                              snap-name: other\nsnap-name:  lxd\n\nsignature\n\ntype: snap-revision\nsnap-id: \
                              J60k\nsnap-size: 4096\nsnap-revision: 7\n\nsignature\n";

    #[test]
    fn assertions_vouch_for_one_snap() {
        let check = |from: &str, to: &str, expect: Result<&str, &str>| {
            let text = ASSERTIONS.replace(from, to);
            let found = vouched(text.as_bytes(), 4096);
            assert_eq!(found.as_deref().map_err(String::as_str), expect);
        };
        check("", "", Ok("lxd"));
        check(
            "snap-revision\n",
            "snap-x\n",
            Err("it has no assertion of the type snap-revision"),
        );
        check(
            "snap-declaration",
            "x",
            Err("it has no assertion of the type snap-declaration"),
        );
        check(
            "4096",
            "4097",
            Err("it is about 4097 bytes, and the file has 4096"),
        );
        check("4096", "-1", Err("its snap-revision has no snap-size"));
        check(
            "J60k\nsnap-size",
            "J60l\nsnap-size",
            Err("its snap-revision and its snap-declaration are about two snaps"),
        );
        check(
            "name:  lxd",
            "name: ../lxd",
            Err("its snap-name is not one: it holds '.'"),
        );
        assert_eq!(vouched(b"\xff", 1).unwrap_err(), "it is not text");
        assert!(vouched(b"", 0).is_err());
    }

    #[test]
    fn a_snap_is_a_whole_squashfs() {
        let mut head = [0; 96];
        head[..4].copy_from_slice(b"hsqs");
        head[40..48].copy_from_slice(&4000_u64.to_le_bytes());
        assert_eq!(whole(&head, 4096), Ok(()));
        assert_eq!(whole(&head, 3999).unwrap_err(), "its last 1 bytes are missing");
        head[40..48].fill(0xff);
        assert!(whole(&head, u64::MAX - 1).is_err());
        for short in [&head[..47], b"PK", b""] {
            assert_eq!(whole(short, 10).unwrap_err(), "it is not a squashfs");
        }
        assert_eq!(named("carried/lxd_27428.snap"), "lxd");
        assert_eq!(named("core24.snap"), "core24");
    }
}
