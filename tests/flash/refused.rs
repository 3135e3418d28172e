//! What is not a card is not written: exit code 1, every reason named, not a byte changed.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::common::agents::{copy_agents, VARIABLE};
use crate::common::alone::alone;
use crate::common::disk::{Access, Disk};
use crate::common::{has, run};
use crate::{exits, flash, folder, is_ready, noise, palmfarm, surrounded, told, MIB, SUDO_BY_NOBODY};

const CARD: u64 = 256 * MIB;

/// Flashing to `disk` is refused for the reason that `expect` names.
fn check(disk: &Disk, node: &str, expect: &str) {
    let dir = folder();
    let before = disk.hash();
    let arguments = flash("farm.yaml", node, &["--allow", "internal", "--allow", "large"]);
    let text = exits(dir.path(), &arguments, 1);
    assert!(text.contains(expect), "{expect}: {text}");
    assert_eq!(disk.hash(), before, "{expect}: the device was changed");
    // Scripts learn the same.
    let arguments = [&arguments[..], &["--json"]].concat();
    let text = exits(dir.path(), &arguments, 1);
    assert!(text.contains("\"exit\":1"), "{text}");
    assert_eq!(disk.hash(), before, "{expect}: the device was changed");
}

#[test]
fn a_disk_in_use_is_refused() {
    if !is_ready() {
        return;
    }
    let mut disk = Disk::new(CARD);
    let part = disk.partition();
    run("mkfs.ext4", &["-q", &part]);
    let target = disk.mount_part(&part, Access::Read);
    check(&disk, disk.node(), &format!("is mounted at {}", target.display()));
    check(&disk, &part, "is a partition, not a whole disk");

    let mut disk = Disk::new(CARD);
    let part = disk.partition();
    disk.swap(&part);
    check(&disk, disk.node(), "is used for swap");

    let mut disk = Disk::new(CARD);
    let upper = disk.loop_over();
    check(&disk, disk.node(), &format!("is in use by {upper}"));
}

#[test]
fn a_disk_that_will_not_do_is_refused() {
    if !is_ready() {
        return;
    }
    check(&Disk::with(CARD, &["-r"]), "/dev/null", "is a character device");
    let read_only = Disk::with(CARD, &["-r"]);
    check(&read_only, read_only.node(), "is read-only");
    let small = Disk::new(64 * MIB);
    check(&small, small.node(), "the image has 100663296");
    let typo = Disk::new(CARD);
    check(&typo, &format!("{}x", typo.node()), "there is no /dev/loop");
    let file = typo.file();
    check(&typo, file.to_str().unwrap(), "is a regular file, not a disk");
}

#[test]
fn the_disk_that_holds_the_image_is_refused() {
    if !is_ready() {
        return;
    }
    let mut disk = Disk::new(CARD);
    run("mkfs.ext4", &["-q", disk.node()]);
    let target = disk.mount(Access::Write);
    let image = noise(&target, 16 * MIB);
    Disk::only_read(&target);
    let before = disk.hash();
    let dir = folder();
    let arguments = flash(image.to_str().unwrap(), disk.node(), &[]);
    let text = exits(dir.path(), &arguments, 1);
    assert!(text.contains("holds the image"), "{text}");
    assert_eq!(disk.hash(), before);
}

#[test]
fn a_device_that_somebody_else_has_open_is_refused() {
    if !is_ready() {
        return;
    }
    alone(|| {
        let disk = Disk::new(CARD);
        // Exclusively, as a mount has it.
        let other = File::options()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(disk.node())
            .unwrap();
        check(&disk, disk.node(), "is in use");
        drop(other);
        // Plainly, as a dd that is still running has it.
        let script = "exec 3<>\"$0\"; echo ready; read end";
        let mut writer = Command::new("sh")
            .args(["-c", script, disk.node()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut ready).unwrap();
        check(&disk, disk.node(), "(sh) is writing to it");
        drop(writer.stdin.take());
        writer.wait().unwrap();
        // Through its memory alone, as a virtual machine has it: the numbers of mmap(2) and its arguments are Linux's.
        let mmap = if cfg!(target_arch = "x86_64") { "9" } else { "222" };
        let script =
            "open(F, '+<', $ARGV[1]) or die; syscall($ARGV[0], 0, 4096, 3, 1, fileno(F), 0) != -1 or die; \
                      close(F); $| = 1; print \"ready\\n\"; <STDIN>";
        for what in [disk.node().to_owned(), disk.file().display().to_string()] {
            let mut writer = Command::new("perl")
                .args(["-e", script, mmap, &what])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut ready).unwrap();
            check(&disk, disk.node(), "(perl) is writing to it");
            drop(writer.stdin.take());
            writer.wait().unwrap();
        }
        let dir = folder();
        exits(dir.path(), &flash("farm.yaml", disk.node(), &[]), 0);
    });
}

#[test]
fn who_may_not_open_the_device_is_told_the_whole_command() {
    if !is_ready() {
        return;
    }
    let disk = Disk::new(CARD);
    let before = disk.hash();
    let dir = folder();
    // This user may not be able to read the folder of the build.
    let program = dir.path().join("palm farm");
    fs::copy(crate::PALMFARM, &program).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let digest = "0".repeat(64);
    let given = [
        "flash",
        "farm.yaml",
        disk.node(),
        "--allow",
        "loop",
        "--sha256",
        &digest,
        "--yes",
    ];
    for (zeroth, expect) in [
        ("./palm farm", "sudo './palm farm' flash"),
        // Found on the search path, which sudo's is not.
        ("palm farm", &format!("sudo '{}' flash", program.display())),
    ] {
        let mut command = Command::new(&program);
        surrounded(command.arg0(zeroth).args(given), dir.path());
        let out = command.uid(65534).gid(65534).output().unwrap();
        let text = told(&out);
        assert_eq!(out.status.code(), Some(1), "{text}");
        let rest = given.get(1..).unwrap().join(" ");
        assert!(text.contains(&format!("{expect} {rest}")), "{text}");
        assert_eq!(disk.hash(), before);
    }
}

#[test]
fn nothing_is_written_unasked() {
    if !is_ready() {
        return;
    }
    let disk = Disk::new(CARD);
    let before = disk.hash();
    let dir = folder();
    // Without a terminal: neither with a device nor without one, and never by --yes alone.
    exits(
        dir.path(),
        &["flash", "farm.yaml", disk.node(), "--allow", "loop"],
        1,
    );
    exits(dir.path(), &["flash", "farm.yaml", "--allow", "loop"], 2);
    exits(dir.path(), &["flash", "farm.yaml", "--yes", "--allow", "loop"], 2);
    exits(
        dir.path(),
        &["flash", "farm.yaml", disk.node(), "--yes", "--allow", "mounted"],
        2,
    );
    // A farm with a mistake in it.
    fs::write(
        dir.path().join("bad.yaml"),
        "farm: 1\nbase: mini\nhostnam: palm\n",
    )
    .unwrap();
    exits(dir.path(), &flash("bad.yaml", disk.node(), &[]), 1);
    // No image at all.
    fs::write(dir.path().join("text.img"), "no image\n".repeat(1000)).unwrap();
    exits(dir.path(), &flash("text.img", disk.node(), &[]), 1);
    assert_eq!(disk.hash(), before);
}

#[test]
fn root_is_given_up_before_a_farm_is_read() {
    if !is_ready() {
        return;
    }
    let disk = Disk::new(CARD);
    let before = disk.hash();
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secret = dir.path().join("farm.yaml");
    // As sudo leaves them.
    let arguments = flash("farm.yaml", disk.node(), &[]);
    let mut by_nobody = palmfarm(dir.path(), &arguments);
    by_nobody.envs(SUDO_BY_NOBODY);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let out = by_nobody.output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("permission denied"), "{}", told(&out));
    assert_eq!(disk.hash(), before);
    // What nobody may read, nobody can flash.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let agents = dir.path().join("agents");
    copy_agents(&agents);
    let out = by_nobody.env(VARIABLE, &agents).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
}

#[test]
fn another_name_of_the_base_is_found_without_root() {
    if !is_ready() || !has("xz") {
        return;
    }
    let disk = Disk::new(CARD);
    // The built-in base, as the file behind the card.
    let mini = concat!(env!("CARGO_MANIFEST_DIR"), "/src/base/mini/mini.img.xz");
    let unpack = "xz -dc \"$0\" | dd of=\"$1\" bs=1M conv=notrunc status=none";
    run("sh", &["-c", unpack, mini, disk.file().to_str().unwrap()]);
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(disk.file(), dir.path().join("base.img")).unwrap();
    let farm = crate::FARM.replace("base: mini", "base: base.img");
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    let agents = dir.path().join("agents");
    copy_agents(&agents);
    let before = disk.hash();
    let mut by_nobody = palmfarm(dir.path(), &flash("farm.yaml", disk.node(), &[]));
    by_nobody.envs(SUDO_BY_NOBODY).env(VARIABLE, &agents);
    let out = by_nobody.output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("holds the image"), "{}", told(&out));
    assert_eq!(disk.hash(), before);
}

#[test]
fn an_output_that_is_something_else_too_is_refused() {
    if !is_ready() || !has("xz") {
        return;
    }
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let mini = concat!(env!("CARGO_MANIFEST_DIR"), "/src/base/mini/mini.img.xz");
    fs::copy(mini, at("base.img.xz")).unwrap();
    fs::create_dir_all(at("overlay/root/etc")).unwrap();
    fs::write(at("overlay/root/etc/issue"), "palm\n").unwrap();
    let farm = crate::FARM.replace("base: mini", "base: base.img.xz\noverlays: [overlay]");
    fs::write(at("farm.yaml"), farm).unwrap();
    let refused = |output: &str, expect: &str| {
        let text = exits(dir.path(), &["build", "farm.yaml", "-o", output], 1);
        assert!(text.contains(expect), "{output}: {text}");
    };
    fs::hard_link(at("base.img.xz"), at("a.img.xz")).unwrap();
    refused("a.img.xz", "is the farm's base");
    fs::hard_link(at("motd.txt"), at("b.img")).unwrap();
    refused("b.img", "is what the farm is made of");
    refused("overlay/root/etc/c.img", "lies in an overlay of the farm");
    // An image that somebody has mounted would be gone with the last name of its file.
    let disk = Disk::new(CARD);
    fs::hard_link(disk.file(), at("d.img")).unwrap();
    refused("d.img", &format!("is in use as {}", disk.node()));
    drop(disk);
    exits(dir.path(), &["build", "farm.yaml", "-o", "d.img"], 0);
    assert_eq!(fs::read_to_string(at("motd.txt")).unwrap(), "welcome\n");
}
