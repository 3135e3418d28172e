//! Real loop devices, judged by this machine's own facts: each refusal leaves every byte as it was.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use palmfarm::card::{probe, AlignedBuf, Allow, CardIo, Ejected, Medium, OpenError, Refusal};
use palmfarm::edit::block::ReadAt;
use palmfarm::host::privileges::{drop_privileges, Dropped};

use crate::common::alone::{again, alone};
use crate::common::disk::{can_loop, Access, Disk};
use crate::common::{has, run, skipped, skipped_in_part};

const SIZE: u64 = 64 << 20;

/// The reasons against the disk, which is not changed by asking.
fn check(
    disk: &Disk,
    image: Option<&Path>,
    image_size: u64,
    allowed: &[Allow],
    expect: &[&str],
) -> Vec<Refusal> {
    check_path(disk.node(), disk, image, image_size, allowed, expect)
}

fn check_path(
    path: &str,
    disk: &Disk,
    image: Option<&Path>,
    image_size: u64,
    allowed: &[Allow],
    expect: &[&str],
) -> Vec<Refusal> {
    let before = disk.hash();
    let judged = Disk::judge(path, image, image_size, allowed);
    let refused = judged.err().unwrap_or_default();
    let mut codes: Vec<&str> = refused.iter().map(Refusal::code).collect();
    codes.dedup();
    assert_eq!(codes, expect, "{path}: {refused:#?}");
    assert_eq!(disk.hash(), before, "{path} was changed");
    refused
}

#[test]
fn a_free_loop_device_must_be_allowed() {
    if !can_loop() {
        return;
    }
    let disk = Disk::new(SIZE);
    check(&disk, None, SIZE, &[], &["loop"]);
    check(&disk, None, SIZE, &[Allow::Internal, Allow::Large], &["loop"]);
    check(&disk, None, SIZE, &[Allow::Loop], &[]);
    check(&disk, None, SIZE + 1, &[Allow::Loop], &["too-small"]);
    let large = Disk::new(300 << 30);
    let judged = Disk::judge(large.node(), None, 0, &[Allow::Loop]).unwrap_err();
    assert_eq!(judged.iter().map(Refusal::code).collect::<Vec<_>>(), ["large"]);
}

#[test]
fn sectors_of_a_size_that_cards_do_not_have_are_refused() {
    if !can_loop() {
        return;
    }
    let disk = Disk::with(SIZE, &["-b", "4096"]);
    let refused = check(&disk, None, SIZE, &Allow::ALL, &["sector-size"]);
    assert!(
        refused[0].to_string().contains("sectors of 4096 bytes"),
        "{}",
        refused[0]
    );
}

#[test]
fn a_mounted_partition_is_refused() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    let part = disk.partition();
    check_path(&part, &disk, None, 0, &Allow::ALL, &["not-whole-disk"]);
    run("mkfs.ext4", &["-q", &part]);
    let target = disk.mount_part(&part, Access::Read);
    let refused = check(&disk, None, 0, &Allow::ALL, &["mounted"]);
    let target = target.to_str().unwrap();
    assert_eq!(
        refused[0].to_string(),
        format!("is mounted at {target} (through {part})")
    );
    assert_eq!(refused[0].hint(), Some(format!("umount '{target}'")));
}

#[test]
fn the_disk_that_holds_the_image_is_refused() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    run("mkfs.ext4", &["-q", disk.node()]);
    let target = disk.mount(Access::Write);
    let image = target.join("image");
    fs::write(&image, b"image").unwrap();
    Disk::only_read(&target);
    check(
        &disk,
        Some(&image),
        5,
        &Allow::ALL,
        &["mounted", "contains-image"],
    );

    // A loop device over the image itself, from which it would be read while it is written.
    let disk = Disk::new(SIZE);
    check(&disk, Some(&disk.file()), SIZE, &Allow::ALL, &["contains-image"]);
    // The card itself given as the image.
    check(
        &disk,
        Some(Path::new(disk.node())),
        SIZE,
        &Allow::ALL,
        &["contains-image"],
    );
}

#[test]
fn swap_is_refused() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    let part = disk.partition();
    disk.swap(&part);
    let refused = check(&disk, None, 0, &Allow::ALL, &["swap"]);
    assert_eq!(refused[0].hint(), Some(format!("swapoff {part}")));
}

#[test]
fn a_device_under_another_is_refused() {
    if !can_loop() {
        return;
    }
    let mut disk = Disk::new(SIZE);
    let upper = disk.loop_over();
    let refused = check(&disk, None, 0, &Allow::ALL, &["holder"]);
    assert_eq!(refused[0].hint(), Some(format!("losetup -d {upper}")));
    println!("tried as a holder: a loop device over the disk");

    if has("mkfs.btrfs") {
        let mut one = Disk::new(256 << 20);
        let other = Disk::new(256 << 20);
        run(
            "mkfs.btrfs",
            &["-q", "-d", "raid1", "-m", "raid1", one.node(), other.node()],
        );
        one.mount(Access::Read);
        // mountinfo names only one of the two.
        check(&one, None, 0, &Allow::ALL, &["mounted", "volume"]);
        check(&other, None, 0, &Allow::ALL, &["mounted", "volume"]);
        println!("tried as a holder: btrfs over two disks");
    } else {
        skipped_in_part("btrfs over two disks: there is no mkfs.btrfs");
    }
}

#[test]
fn a_device_under_device_mapper_is_refused() {
    if !can_loop() {
        return;
    }
    let devices = fs::read_to_string("/proc/devices").unwrap();
    if !devices.contains("device-mapper") || !has("dmsetup") {
        skipped("there is no device-mapper in this kernel, or no dmsetup");
        return;
    }
    let disk = Disk::new(SIZE);
    let name = format!("palmfarm-{}", std::process::id());
    let table = format!("0 {} linear {} 0", SIZE / 512, disk.node());
    run("dmsetup", &["create", &name, "--table", &table]);
    let refused = Disk::judge(disk.node(), None, 0, &Allow::ALL);
    run("dmsetup", &["remove", "--retry", &name]);
    let refused = refused.unwrap_err();
    assert_eq!(refused[0].code(), "holder");
    assert_eq!(refused[0].hint(), Some(format!("dmsetup remove {name}")));
}

#[test]
fn a_device_in_an_array_is_refused() {
    if !can_loop() {
        return;
    }
    if !Path::new("/proc/mdstat").exists() || !has("mdadm") {
        skipped("there is no md in this kernel, or no mdadm");
        return;
    }
    let disk = Disk::new(SIZE);
    let name = format!("/dev/md/palmfarm-{}", std::process::id());
    run(
        "mdadm",
        &[
            "--create",
            &name,
            "--run",
            "--force",
            "--level=1",
            "--raid-devices=1",
            disk.node(),
        ],
    );
    let refused = Disk::judge(disk.node(), None, 0, &Allow::ALL);
    run("mdadm", &["--stop", &name]);
    assert_eq!(refused.unwrap_err()[0].code(), "holder");
}

#[test]
fn a_read_only_device_is_refused() {
    if !can_loop() {
        return;
    }
    let disk = Disk::with(SIZE, &["-r"]);
    check(&disk, None, 0, &Allow::ALL, &["read-only"]);
}

#[test]
fn a_path_that_is_not_a_disk_is_refused_and_nothing_is_made() {
    if !can_loop() {
        return;
    }
    let disk = Disk::new(SIZE);
    let typo = format!("{}x", disk.node());
    check_path(&typo, &disk, None, 0, &Allow::ALL, &["missing"]);
    assert!(!Path::new(&typo).exists(), "a typo made a file");
    let file = disk.file();
    check_path(
        file.to_str().unwrap(),
        &disk,
        None,
        0,
        &Allow::ALL,
        &["not-block-device"],
    );
    // A link to the disk is as good as the disk's own name.
    let link = file.with_file_name("by-id");
    std::os::unix::fs::symlink(disk.node(), &link).unwrap();
    check_path(link.to_str().unwrap(), &disk, None, 0, &Allow::ALL, &[]);
}

#[test]
fn a_device_that_another_has_is_not_opened() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let disk = Disk::new(SIZE);
        let before = disk.hash();
        let other = File::options()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(disk.node())
            .unwrap();
        assert!(matches!(disk.approved().open(), Err(OpenError::Busy { .. })));
        drop(other);
        let card = disk.approved().open().unwrap();
        // As long as it is ours, no other process can mount it or open it exclusively.
        assert!(matches!(disk.approved().open(), Err(OpenError::Busy { .. })));
        drop(card);
        assert_eq!(disk.hash(), before);
    });
}

#[test]
fn a_mount_that_cannot_be_seen_still_refuses() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let disk = Disk::new(SIZE);
        run("mkfs.ext4", &["-q", disk.node()]);
        let before = disk.hash();
        // In a mount namespace of its own, as containers and snaps have, without the copies of other tests' mounts, which
        // would keep their devices busy.
        let script = r#"sort -r /proc/self/mounts | while read -r device at _; do
            case $device in /dev/loop*) umount "$(printf %b "$at")" 2> /dev/null ;; esac
        done
        mount -o ro "$0" /mnt && echo mounted && read end"#;
        let mut hidden = Command::new("unshare")
            .args(["-m", "sh", "-c", script, disk.node()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(hidden.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "mounted\n");
        let opened = disk.approved().open();
        hidden.stdin.take().unwrap().write_all(b"\n").unwrap();
        hidden.wait().unwrap();
        let error = opened.unwrap_err().to_string();
        let expect = format!(
            "{} is in use: process {} (sh) has it mounted at /mnt",
            disk.node(),
            hidden.id()
        );
        assert!(error.starts_with(&expect), "{error}");
        assert_eq!(disk.hash(), before);
    });
}

#[test]
fn another_medium_is_not_written() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let grow = |disk: &Disk, size: u64| {
            File::options()
                .write(true)
                .open(disk.file())
                .unwrap()
                .set_len(size)
                .unwrap();
            run("losetup", &["-c", disk.node()]);
        };
        // Between the check and the opening.
        let disk = Disk::new(SIZE);
        let approved = disk.approved();
        grow(&disk, SIZE * 2);
        let error = approved.open().unwrap_err();
        assert!(matches!(error, OpenError::Replaced(_)), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("its size in bytes was 67108864, now it is 134217728"),
            "{error}"
        );

        // While it is open.
        let card = disk.approved().open().unwrap();
        card.verify_identity().unwrap();
        grow(&disk, SIZE);
        assert!(card.verify_identity().is_err());
        drop(card);

        // The same node, of the same size, over another file: what the kernel's count of media is for.
        let approved = disk.approved();
        if approved.identity().diskseq.is_none() {
            skipped_in_part("another file under the same node: this kernel does not count media");
            return;
        }
        let again = || {
            let file = disk.file();
            let status = Command::new("losetup").args(["-d", disk.node()]).status();
            let attached = Command::new("losetup")
                .args([disk.node(), file.to_str().unwrap()])
                .status();
            status.unwrap().success() && attached.unwrap().success()
        };
        if again() {
            let error = approved.open().unwrap_err();
            assert!(error.to_string().contains("its medium was"), "{error}");
        } else {
            skipped_in_part("another file under the same node: another run took the loop device");
        }
    });
}

#[test]
fn what_is_written_is_on_the_device() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let disk = Disk::new(SIZE);
        let card = CardIo::new(disk.approved().open().unwrap());
        let mut bytes = AlignedBuf::new(1 << 20);
        for (byte, at) in bytes.iter_mut().zip(0_u32..) {
            *byte = u8::try_from(at % 251).unwrap();
        }
        card.write_all(3 << 20, &bytes).unwrap();
        card.write_all(SIZE - (1 << 20), &bytes).unwrap();
        assert!(card.write_all(SIZE - 4096, &bytes).is_err(), "beyond the end");
        assert!(card.write_all(513, &bytes).is_err(), "not aligned");
        card.flush().unwrap();
        let mut seen = AlignedBuf::new(1 << 20);
        card.read_exact(3 << 20, &mut seen).unwrap();
        assert!(seen[..] == bytes[..]);
        // Read past the kernel's copy: what another way changed meanwhile is seen.
        let behind = File::options().write(true).open(disk.file()).unwrap();
        behind.write_all_at(&[0xee; 4096], 3 << 20).unwrap();
        card.read_exact(3 << 20, &mut seen).unwrap();
        assert!(seen[..4096] == [0xee; 4096]);
        assert!(seen[4096..] == bytes[4096..]);
        // And at any offset.
        let mut some = [0; 1000];
        card.read_exact_at((3 << 20) + 4000, &mut some).unwrap();
        assert!(some[..96] == [0xee; 96] && some[96..] == bytes[4096..5000]);
        card.verify_identity().unwrap();
        assert_eq!(card.into_medium().eject().unwrap(), Ejected::NotNeeded);
        let file = File::open(disk.file()).unwrap();
        let mut seen = vec![0; 1 << 20];
        file.read_exact_at(&mut seen, SIZE - (1 << 20)).unwrap();
        assert!(seen[..] == bytes[..]);
    });
}

#[test]
fn an_honest_device_passes_the_probe() {
    if !can_loop() {
        return;
    }
    alone(|| {
        let disk = Disk::new(32 << 30);
        let card = CardIo::new(disk.approved().open().unwrap());
        let started = Instant::now();
        let probed = probe(&card, [1; 16]).unwrap();
        let stamps = probed.ranges().len();
        println!(
            "probe of a 32 GiB loop device: {stamps} stamps, {:?}",
            started.elapsed()
        );
        probed.finish(&card, &|offset| offset < 4 << 30).unwrap();
        card.flush().unwrap();
        drop(card);
        let file = File::open(disk.file()).unwrap();
        let mut head = vec![1; 1 << 20];
        file.read_exact_at(&mut head, 0).unwrap();
        assert!(head.iter().all(|byte| *byte == 0), "the first MiB was touched");
        let mut last = vec![1; 4096];
        file.read_exact_at(&mut last, (32 << 30) - 4096).unwrap();
        assert!(
            last.iter().all(|byte| *byte == 0),
            "a stamp was left beyond the image"
        );
    });
}

/// What [`root_is_given_up_for_good`] does in a process of its own: the whole process becomes another user.
fn give_up_root(node: &str) {
    let card = Disk::judge(node, None, 0, &[Allow::Loop])
        .unwrap()
        .open()
        .unwrap();
    let Dropped::User(user) = drop_privileges().unwrap() else {
        panic!("still root");
    };
    assert_eq!((user.uid, user.gid), (65_534, 65_534));
    assert!(
        File::open("/etc/shadow").is_err(),
        "root's files can still be read"
    );
    let others = std::thread::spawn(|| File::open("/etc/shadow").is_err());
    assert!(others.join().unwrap());
    let again = Disk::judge(node, None, 0, &[Allow::Loop]).unwrap().open();
    assert!(matches!(again, Err(OpenError::Denied { .. })), "{again:?}");
    // The card is still ours.
    card.verify_identity().unwrap();
    let card = CardIo::new(card);
    let mut bytes = AlignedBuf::new(4096);
    bytes.fill(0x5a);
    card.write_all(1 << 20, &bytes).unwrap();
    card.flush().unwrap();
    card.verify_identity().unwrap();
    assert!(card.medium().reread_partitions().is_err(), "only root may");
    println!("all of it");
}

#[test]
fn root_is_given_up_for_good() {
    const NODE: &str = "PALMFARM_TEST_NODE";
    if let Ok(node) = std::env::var(NODE) {
        return give_up_root(&node);
    }
    if !can_loop() {
        return;
    }
    let disk = Disk::new(SIZE);
    let output = again(&root_is_given_up_for_good)
        .env(NODE, disk.node())
        .envs([
            ("SUDO_UID", "65534"),
            ("SUDO_GID", "65534"),
            ("SUDO_USER", "nobody"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("all of it"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
