//! Paths that a card cannot have, and paths that look odd and can be had.

use palmfarm::base::mounts;
use palmfarm::edit::tree::{Access, IfThere, Node};

use crate::common::{self, make, oracle};
use crate::refused::{check, refusal, small};
use crate::{directory, edited, file, link, root, TOOLS};

#[test]
fn paths_that_cannot_be() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let any = || file(b"x", 0o644);
    check(
        &image,
        &[("/circle/x", any())],
        "/circle leads through more than 40 symlinks",
    );
    check(
        &image,
        &[("/ping/x", any())],
        "/ping leads through more than 40 symlinks",
    );
    check(
        &image,
        &[("/nowhere/x", any())],
        "/nowhere/x leads through a symlink to \"not/there\", which does not exist",
    );
    check(
        &image,
        &[("/etc/file/x", any())],
        "/etc/file/x is not possible: in the root filesystem, file is not a directory",
    );
    check(
        &image,
        &[("/to-file/x", any())],
        "/to-file/x is not possible: in the root filesystem, file is not a directory",
    );
    let in_the_way =
        |wanted| format!("root:/etc is a directory in the base, but the plan has {wanted} there");
    check(&image, &[("/etc", any())], &in_the_way("a file"));
    check(&image, &[("/etc", link("x"))], &in_the_way("a symlink"));
    check(&image, &[("/etc", Node::Absent)], &in_the_way("nothing"));
    let no_directory =
        |path| format!("root:{path} is not a directory in the base, but the plan has one there");
    for path in ["/etc/file", "/to-file", "/nowhere"] {
        check(&image, &[(path, directory(0o755))], &no_directory(path));
    }
    check(
        &image,
        &[("/lib/x", any()), ("/usr/lib/x", file(b"y", 0o644))],
        "/lib/x and /usr/lib/x are the same place in the root filesystem, but the plan has different nodes \
         there",
    );
    check(
        &image,
        &[("/etc/file", Node::Absent), ("/etc/file/now/below", any())],
        "the plan removes root:/etc/file, but puts /etc/file/now/below below it",
    );
    check(
        &image,
        &[("/x", file(b"", 0o10_000))],
        "the mode 0o10000 of /x has more than the twelve bits of a mode",
    );
    let nobody = Access {
        mode: 0o644,
        uid: u32::MAX,
        gid: 0,
    };
    check(
        &image,
        &[(
            "/x",
            Node::Dir {
                access: nobody,
                if_there: IfThere::Set,
            },
        )],
        "the owner or group of /x is 4294967295, which means \"none\"",
    );
    check(
        &image,
        &[("/x", link(&"a/".repeat(2048)))],
        "the target of the symlink /x has 4096 bytes, and this filesystem takes 4095",
    );
    check(
        &image,
        &[("/x", link(""))],
        "the target of the symlink /x has 0 bytes, and this filesystem takes 4095",
    );
    check(
        &image,
        &[("/x", link(&"a".repeat(256)))],
        "the target of the symlink /x has a part of more than 255 bytes",
    );
}

#[test]
fn nothing_is_put_where_nobody_would_see_it() {
    if !common::have(TOOLS) {
        return;
    }
    let image = make::JAMMY.make_with(|root| {
        for dir in ["etc", "run", "var", "srv/data"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (link, target) in [
            ("var/run", "/run"),
            ("srv/in", "data/../data"),
            ("mnt", "srv/data"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
    });
    let covered = |nodes: &[(&str, Node)]| {
        let mut tree = root(nodes.iter().map(|(path, node)| (*path, node.clone())));
        tree.cover(mounts::all("LABEL=data /mnt ext4 defaults 0 2\n"));
        tree
    };
    let any = || file(b"x", 0o644);
    let at_run = "is covered by a filesystem in memory";
    let at_data = "/srv/data is covered by what /etc/fstab mounts there (ext4)";
    for (path, node, why) in [
        ("/run/x", any(), at_run),
        ("/run/a/b/c", any(), at_run),
        ("/var/run/x", any(), at_run),
        ("/var/run/x", directory(0o755), at_run),
        ("/srv/data/x", any(), at_data),
        ("/srv/in/x", link("y"), at_data),
        ("/mnt/x", any(), at_data),
        ("/tmp/x", any(), "/tmp is covered by"),
    ] {
        let said = refusal(&image, &covered(&[(path, node)]));
        assert!(
            said.starts_with(&format!("nobody would see root:{path} on the Pi: ")),
            "{said}"
        );
        assert!(said.ends_with(why) || said.contains(why), "{said}");
    }
    let fine = covered(&[
        ("/run/gone", Node::Absent),
        ("/srv/data", directory(0o700)),
        ("/srv/database", any()),
        ("/srv/new", link("/run/x")),
    ]);
    edited(&image, &fine);
}

#[test]
fn a_folder_of_the_base_keeps_what_is_not_asked_for() {
    if !common::have(TOOLS) {
        return;
    }
    let image = make::JAMMY.make_with(|root| {
        use std::os::unix::fs::PermissionsExt as _;
        for (dir, mode) in [("tmp", 0o1777), ("root", 0o700), ("srv", 0o2750), ("opt", 0o711)] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    });
    let dir = |mode: u16, gid: u32, if_there: IfThere| Node::Dir {
        access: Access { mode, uid: 0, gid },
        if_there,
    };
    let tree = root([
        ("/tmp", dir(0o755, 7, IfThere::Keep)),
        ("/root", dir(0o755, 7, IfThere::SetOwner)),
        ("/srv", dir(0o2775, 7, IfThere::SetMode)),
        ("/opt", dir(0o755, 7, IfThere::Set)),
        ("/new", dir(0o1777, 7, IfThere::Keep)),
    ]);
    let walk = oracle::kernel_walk(&edited(&image, &tree));
    for (path, expect) in [
        ("/tmp", "01777 0"),
        ("/root", "00700 7"),
        ("/srv", "02775 0"),
        ("/opt", "00755 7"),
        ("/new", "01777 7"),
    ] {
        let seen = &walk[path];
        assert_eq!(format!("{:05o} {}", seen.mode, seen.gid), expect, "{path}");
    }
}

#[test]
fn paths_that_look_odd_and_can_be() {
    if !common::have(TOOLS) {
        return;
    }
    let image = small();
    let any = || file(b"x", 0o644);
    let after = edited(
        &image,
        &root([
            ("/circle", any()),
            ("/lib/x", any()),
            ("/usr/lib/x", any()),
            ("/out/x", any()),
            ("/to-file/x/y", Node::Absent),
            ("/nowhere/x", Node::Absent),
            ("/etc/longest", link(&"a/".repeat(2047))),
            ("/etc/file", Node::Absent),
        ]),
    );
    oracle::assert_whole(&after);
    if common::is_root() {
        let walk = oracle::kernel_walk(&after);
        for name in ["/circle", "/usr/lib/x", "/etc/x"] {
            assert_eq!(
                walk.get(name).map(|seen| &seen.kind),
                Some(&oracle::SeenKind::File(b"x".to_vec())),
                "{name}"
            );
        }
    } else {
        common::skipped_in_part("what the kernel sees: it needs root");
    }
}
