//! Stacked loop devices of every shape: what rests on what the target rests on is in use, whatever its names are, and no
//! `--allow` changes that.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use palmfarm::card::{Allow, OpenError, Refusal};

use crate::common::alone::alone;
use crate::common::disk::{can_loop, Access, Disk};
use crate::common::{attempt, run, skipped_in_part};

const SIZE: u64 = 64 << 20;

/// The reasons against the device at `node`, if everything is allowed, by name and in words; nothing on it is changed.
fn reasons(disk: &Disk, node: &str, image: Option<&Path>) -> Vec<(&'static str, String)> {
    let before = disk.hash();
    let refused = Disk::judge(node, image, 0, &Allow::ALL).err().unwrap_or_default();
    assert_eq!(disk.hash(), before, "{node} was changed");
    refused
        .iter()
        .map(|reason| (reason.code(), reason.to_string()))
        .collect()
}

/// `node` is refused, and these are the names of the reasons.
fn check(shape: &str, disk: &Disk, node: &str, image: Option<&Path>, expect: &[&str]) {
    let found = reasons(disk, node, image);
    let mut codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
    codes.dedup();
    assert_eq!(codes, expect, "{shape}: {node}: {found:#?}");
}

#[test]
fn a_loop_device_over_a_device_is_refused_with_the_reason() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    let part = disk.partition();
    run("mkfs.ext4", &["-q", &part]);
    disk.mount_part(&part, Access::Read);
    let node = disk.node().to_owned();
    // Over the disk of a mounted partition, over that partition, and over a part of the disk.
    for arguments in [&[&node[..]][..], &[&part], &["-o", "1048576", &node]] {
        let upper = disk.another(arguments);
        check(
            &format!("{arguments:?}"),
            &disk,
            &upper,
            None,
            &["loop-over-device"],
        );
        let top = disk.another(&[&upper]);
        check(
            "a loop device over that",
            &disk,
            &top,
            None,
            &["loop-over-device"],
        );
    }
    // A node outside /dev, and one that is gone.
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    let number = fs::read_to_string(format!("/sys/class/block/{}/dev", &node[5..])).unwrap();
    let (major, minor) = number.trim().split_once(':').unwrap();
    run("mknod", &[own.to_str().unwrap(), "b", major, minor]);
    let upper = disk.another(&[own.to_str().unwrap()]);
    check("a node outside /dev", &disk, &upper, None, &["loop-over-device"]);
    fs::remove_file(own).unwrap();
    check("a node that is gone", &disk, &upper, None, &["loop-over-device"]);
    let said = &reasons(&disk, &upper, None)[0].1;
    assert_eq!(
        said,
        &format!("is a loop device over {node}, which is a device and not a file")
    );
}

/// Every way in which the file of `disk` has another name.
fn names(disk: &mut Disk) -> Vec<(&'static str, PathBuf)> {
    let file = disk.file();
    let folder = file.parent().unwrap().to_owned();
    let hard = folder.join("hard link");
    fs::hard_link(&file, &hard).unwrap();
    let link = folder.join("link");
    symlink(&file, &link).unwrap();
    let bind = disk
        .mount_what(&["--bind", folder.to_str().unwrap()])
        .join("disk");
    let mut found = vec![
        ("the same path", file.clone()),
        ("a hard link", hard),
        ("a link", link),
        ("a bind mount of the folder", bind),
    ];
    // The file in the upper and in the lower layer, and an overlay over an overlay.
    let dir = |name: &str| {
        let dir = folder.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir.to_str().unwrap().to_owned()
    };
    let layer = dir("layer");
    fs::hard_link(&file, folder.join("layer/disk")).unwrap();
    let empty = dir("empty");
    let upper = format!("lowerdir={empty},upperdir={layer},workdir={}", dir("work"));
    let (works, said) = attempt("mount", &["-t", "overlay", "overlay", "-o", &upper, &dir("try")]);
    if !works {
        skipped_in_part(format!("overlays: {said}"));
        return found;
    }
    run("umount", &[&dir("try")]);
    let on_upper = disk.mount_what(&["-t", "overlay", "overlay", "-o", &upper]);
    found.push(("the upper layer of an overlay", on_upper.join("disk")));
    let lower = format!("lowerdir={layer}:{empty}");
    let on_lower = disk.mount_what(&["-t", "overlay", "overlay", "-o", &lower]);
    found.push(("a lower layer of an overlay", on_lower.join("disk")));
    let twice = format!(
        "lowerdir={}:{empty}",
        on_lower.to_str().unwrap().replace(' ', "\\ ")
    );
    let target = dir("twice");
    if attempt("mount", &["-t", "overlay", "overlay", "-o", &twice, &target]).0 {
        run("umount", &[&target]);
        let on_both = disk.mount_what(&["-t", "overlay", "overlay", "-o", &twice]);
        found.push(("an overlay over an overlay", on_both.join("disk")));
    }
    found
}

#[test]
fn a_second_loop_device_over_the_same_file_is_seen() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    let node = disk.node().to_owned();
    check("alone", &disk, &node, None, &[]);
    for (shape, path) in names(&mut disk) {
        // As the image, of which the disk is a copy by another name.
        check(
            &format!("the image by {shape}"),
            &disk,
            &node,
            Some(&path),
            &["contains-image"],
        );
        // For reading: a file in the lower layer of an overlay cannot be written in place.
        let other = disk.another(&["-r", path.to_str().unwrap()]);
        check(shape, &disk, &node, None, &["same-file"]);
        check(shape, &disk, &other, None, &["same-file", "read-only"]);
        disk.detach(&other);
    }
    let file = disk.file();
    let file = file.to_str().unwrap();
    for arguments in [
        &["-o", "1048576", file][..],
        &["-o", "1048576", "--sizelimit", "1048576", file],
        &["-b", "4096", file],
    ] {
        let other = disk.another(arguments);
        check(&format!("{arguments:?}"), &disk, &node, None, &["same-file"]);
        disk.detach(&other);
    }
    let said = {
        let other = disk.another(&[file]);
        // The file is gone, but not for those who have it.
        fs::remove_file(file).unwrap();
        fs::remove_file(disk.file().with_file_name("hard link")).unwrap();
        let refused = Disk::judge(&node, None, 0, &Allow::ALL).unwrap_err();
        assert_eq!(refused[0].hint(), Some(format!("losetup -d {other}")));
        (refused[0].to_string(), other)
    };
    assert_eq!(said.0, format!("has the same file behind it as {}", said.1));
    fs::write(file, "another file of that name").unwrap();
    let refused = Disk::judge(&node, None, 0, &Allow::ALL).unwrap_err();
    assert_eq!(
        refused.iter().map(Refusal::code).collect::<Vec<_>>(),
        ["same-file"]
    );
    disk.detach(&said.1);
    // What has its path now is not what is behind it.
    check("alone again", &disk, &node, Some(Path::new(file)), &[]);
}

#[test]
fn what_is_mounted_through_another_loop_device_is_named() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    let node = disk.node().to_owned();
    run("mkfs.ext4", &["-q", &node]);
    let file = disk.file();
    let other = disk.another(&["-r", file.to_str().unwrap()]);
    let target = disk.mount_part(&other, Access::Read);
    let found = reasons(&disk, &node, None);
    let codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["mounted", "same-file"], "{found:?}");
    assert_eq!(
        found[0].1,
        format!("is mounted at {} (through {other})", target.display())
    );
    // What it says can be done ends it.
    let refused = Disk::judge(&node, None, 0, &Allow::ALL).unwrap_err();
    let hints: Vec<String> = refused.iter().filter_map(Refusal::hint).collect();
    assert_eq!(hints[1..], [format!("losetup -d {other}")]);
    run("sh", &["-c", &hints[0]]);
    disk.detach(&other);
    disk.forget(&[target.to_str().unwrap()]);
    check("let go", &disk, &node, None, &[]);
}

#[test]
fn a_swap_file_behind_a_loop_device_is_seen() {
    if !can_loop() {
        return;
    }
    let disk = Disk::new(SIZE);
    // A swap file has no holes.
    fs::write(disk.file(), vec![0; usize::try_from(SIZE).unwrap()]).unwrap();
    let hard = disk.file().with_file_name("swap");
    fs::hard_link(disk.file(), &hard).unwrap();
    let hard = hard.to_str().unwrap();
    run("mkswap", &[hard]);
    let (works, said) = attempt("swapon", &[hard]);
    if !works {
        skipped_in_part(format!("a swap file: {said}"));
        return;
    }
    let refused = Disk::judge(disk.node(), None, 0, &Allow::ALL);
    run("swapoff", &[hard]);
    let codes: Vec<&str> = refused.unwrap_err().iter().map(Refusal::code).collect();
    assert_eq!(codes, ["swap"]);
}

#[test]
fn a_file_that_a_program_is_writing_is_not_written() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let disk = Disk::new(SIZE);
        let hard = disk.file().with_file_name("of a virtual machine");
        fs::hard_link(disk.file(), &hard).unwrap();
        let before = disk.hash();
        let begin = |script: &str| {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .arg(&hard)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            child
        };
        let end = |mut child: std::process::Child| {
            drop(child.stdin.take());
            child.wait().unwrap();
        };
        let writer = begin("exec 3<>\"$0\"; echo ready; read end");
        let opened = disk.approved().open();
        let pid = writer.id();
        end(writer);
        match opened {
            Err(OpenError::Busy { by, .. }) => {
                assert_eq!(by, [format!("process {pid} (sh) is writing to it")]);
            }
            other => panic!("{other:?}"),
        }
        // Who only reads it does no harm.
        let reader = begin("exec 3<\"$0\"; echo ready; read end");
        drop(disk.approved().open().unwrap());
        end(reader);
        assert_eq!(disk.hash(), before);
    });
}
