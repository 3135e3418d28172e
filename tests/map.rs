//! The map of free blocks against what dumpe2fs and fsck.vfat say of the same filesystems.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use palmfarm::map::{allocated, Extents, Range};

/// Run a tool of the distribution; `None`, with the reason printed, where it is not installed.
fn tool(program: &str, args: &[&str]) -> Option<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let out = match Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
    {
        Ok(out) => out,
        Err(error) => {
            println!("skipped: {program} cannot be run here: {error}");
            return None;
        }
    };
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn content(dir: &Path) {
    for nth in 0..40_u8 {
        let below = dir.join(format!("dir{}", nth % 7));
        fs::create_dir_all(&below).unwrap();
        fs::write(
            below.join(format!("file{nth}")),
            vec![nth; usize::from(nth) * 7001],
        )
        .unwrap();
    }
}

/// The free bytes of the one filesystem that `image` is.
fn free(image: &Path) -> Extents {
    let bytes = fs::read(image).unwrap();
    let size = u64::try_from(bytes.len()).unwrap();
    allocated(&bytes, &[Range { start: 0, size }])
        .unwrap()
        .complement(size)
}

fn check_ext4(block: u64, mib: u64, options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (root, image) = (dir.path().join("root"), dir.path().join("image"));
    content(&root);
    // Whole from the start: mke2fs ends the file at the last block that it writes.
    fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
    let (image_name, block_name) = (image.display().to_string(), block.to_string());
    let root_name = root.display().to_string();
    let mut args = vec!["-q", "-F", "-t", "ext4", "-b", &block_name, "-d", &root_name];
    args.extend(options);
    args.push(&image_name);
    if tool("mke2fs", &args).is_none() {
        return;
    }
    let mut expect = Extents::default();
    for list in tool("dumpe2fs", &[&image_name])
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks: "))
    {
        for run in list.split(", ").filter(|run| !run.is_empty()) {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            expect.add(first * block, (last + 1) * block);
        }
    }
    assert!(!expect.is_empty(), "dumpe2fs lists free blocks");
    assert_eq!(free(&image), expect, "{options:?}");
}

#[test]
fn ext4_is_as_dumpe2fs_sees_it() {
    check_ext4(4096, 200, &["-O", "^metadata_csum,uninit_bg"]);
    check_ext4(4096, 300, &["-O", "metadata_csum,64bit"]);
    check_ext4(
        4096,
        300,
        &["-O", "metadata_csum,64bit,metadata_csum_seed,orphan_file"],
    );
    check_ext4(1024, 60, &["-O", "metadata_csum"]);
    check_ext4(1024, 60, &["-O", "^metadata_csum,uninit_bg,^resize_inode"]);
    check_ext4(4096, 600, &["-O", "sparse_super2,^resize_inode"]);
    check_ext4(4096, 600, &["-O", "^flex_bg,^sparse_super,^resize_inode"]);
}

fn check_fat(size: u64, args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::File::create(&image).unwrap().set_len(size).unwrap();
    let name = image.display().to_string();
    let mut words = args.to_vec();
    words.push(&name);
    if tool("mkfs.vfat", &words).is_none() {
        return;
    }
    for (nth, len) in [70_000_usize, 1, 0, 300_000].iter().enumerate() {
        let file = dir.path().join(format!("f{nth}"));
        fs::write(&file, vec![7; *len]).unwrap();
        let to = format!("::file{nth}");
        if tool("mcopy", &["-i", &name, &file.display().to_string(), &to]).is_none() {
            return;
        }
    }
    // "image: 5 files, 91/8167 clusters", and before it the size of a cluster.
    let said = tool("fsck.vfat", &["-n", "-v", &name]).unwrap();
    let number = |line: &str, word: &str| {
        line.split(word)
            .next()
            .and_then(|head| head.trim().rsplit(' ').next())
            .and_then(|n| n.parse::<u64>().ok())
    };
    let cluster = said
        .lines()
        .find_map(|line| number(line, " bytes per cluster"))
        .unwrap();
    let counted = said
        .lines()
        .find_map(|line| line.strip_suffix(" clusters"))
        .unwrap();
    let (used, all) = counted.rsplit(' ').next().unwrap().split_once('/').unwrap();
    let (used, all): (u64, u64) = (used.parse().unwrap(), all.parse().unwrap());
    assert_eq!(free(&image).total(), (all - used) * cluster, "{args:?}: {said}");
}

#[test]
fn fat_is_as_fsck_counts_it() {
    check_fat(2 << 20, &["-F", "12"]);
    check_fat(133_806_080, &["-n", "system-boot"]);
    check_fat(64 << 20, &["-s", "1", "-S", "512", "-F", "32"]);
    check_fat(256 << 20, &["-s", "1", "-S", "512", "-F", "32"]);
}

#[test]
fn what_is_not_understood_is_allocated() {
    let size = 8 << 20;
    for byte in [0, 0xFF] {
        let bytes = vec![byte; usize::try_from(size).unwrap()];
        let all = allocated(
            &bytes,
            &[
                Range {
                    start: 4096,
                    size: 1 << 20,
                },
                Range { start: size, size: 1 },
            ],
        )
        .unwrap();
        assert_eq!(all, Extents::whole(size));
    }
}
