//! The map of free blocks against what dumpe2fs and fsck.vfat say of the same filesystems.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::disk::{Access, Mounted};
use common::{have, is_root, run, skipped_in_part};
use palmfarm::edit::block::{Extents, ReadAt, Span};
use palmfarm::edit::fs::allocated;

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
    allocated(&bytes, &[Span::new(0, size).unwrap()])
        .unwrap()
        .complement(size)
}

/// What is left of `free` in whole blocks of 4 KiB.
fn whole_blocks(free: &Extents, size: u64) -> Extents {
    free.complement(size).aligned(4096, size).complement(size)
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
    run("mke2fs", &args);
    assert_as_dumpe2fs(&image, block, options);
    // After Linux has written to it and taken something away, too.
    if !is_root() {
        return;
    }
    let mounted = match Mounted::try_new(&image, (0, mib << 20), Access::Write) {
        Ok(mounted) => mounted,
        Err(why) => return skipped_in_part(format!("what Linux wrote with {options:?}: {}", why.trim_end())),
    };
    content(&mounted.at.join("more"));
    fs::remove_dir_all(mounted.at.join("dir3")).unwrap();
    drop(mounted);
    assert_as_dumpe2fs(&image, block, options);
}

fn assert_as_dumpe2fs(image: &Path, block: u64, options: &[&str]) {
    let size = fs::metadata(image).unwrap().len();
    let mut expect = Extents::default();
    for list in run("dumpe2fs", &[&image.display().to_string()])
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
    assert_eq!(free(image), whole_blocks(&expect, size), "{options:?}");
}

#[test]
fn ext4_is_as_dumpe2fs_sees_it() {
    if !have(&["mke2fs", "dumpe2fs"]) {
        return;
    }
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
    if !is_root() {
        skipped_in_part("what Linux wrote: it needs root to mount");
    }
}

fn check_fat(size: u64, args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::File::create(&image).unwrap().set_len(size).unwrap();
    let name = image.display().to_string();
    let mut words = args.to_vec();
    words.push(&name);
    run("mkfs.vfat", &words);
    for (nth, len) in [70_000_usize, 1, 0, 300_000].iter().enumerate() {
        let file = dir.path().join(format!("f{nth}"));
        fs::write(&file, vec![7; *len]).unwrap();
        let to = format!("::file{nth}");
        run("mcopy", &["-i", &name, &file.display().to_string(), &to]);
    }
    // "image: 5 files, 91/8167 clusters", and before it the size of a cluster.
    let said = run("fsck.vfat", &["-n", "-v", &name]);
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
    let data = said
        .lines()
        .find_map(|line| number(line.strip_prefix("Data area starts at byte ")?, " ("))
        .unwrap();
    // The files lie side by side at the beginning.
    let mut expect = Extents::default();
    expect.add(data + used * cluster, data + all * cluster);
    assert_eq!(free(&image), whole_blocks(&expect, size), "{args:?}: {said}");
}

#[test]
fn fat_is_as_fsck_counts_it() {
    if !have(&["mkfs.vfat", "mcopy", "fsck.vfat"]) {
        return;
    }
    check_fat(2 << 20, &["-F", "12"]);
    check_fat(133_806_080, &["-n", "system-boot"]);
    check_fat(64 << 20, &["-s", "1", "-S", "512", "-F", "32"]);
    check_fat(256 << 20, &["-s", "1", "-S", "512", "-F", "32"]);
}

/// What is used of `image` with bytes changed.
fn used_of(image: &[u8], changes: &[(usize, &[u8])]) -> Extents {
    let size = u64::try_from(image.len()).unwrap();
    let mut image = image.to_vec();
    for (at, bytes) in changes {
        image[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    allocated(&image, &[Span::new(0, size).unwrap()]).unwrap()
}

/// A volume that is so changed is used from end to end.
fn check_whole(image: &[u8], changes: &[(usize, &[u8])]) {
    let size = u64::try_from(image.len()).unwrap();
    assert_eq!(used_of(image, changes), Extents::whole(size), "{changes:?}");
}

#[test]
fn an_ext4_that_is_not_to_be_relied_on_is_used_from_end_to_end() {
    if !have(&["mke2fs"]) {
        return;
    }
    // What covers the bitmap and the descriptor of a group: all checksums, those of descriptors, the number of blocks.
    for (features, bitmaps, descriptors) in [
        ("metadata_csum,64bit", true, true),
        ("metadata_csum,^64bit", true, true),
        ("metadata_csum,64bit,metadata_csum_seed", true, true),
        ("^metadata_csum,uninit_bg", false, true),
        ("^metadata_csum,uninit_bg,64bit", false, true),
        ("^metadata_csum,^uninit_bg", false, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("root"), dir.path().join("image"));
        content(&root);
        fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let (name, root) = (path.display().to_string(), root.display().to_string());
        let args = [
            "-q", "-F", "-t", "ext4", "-b", "4096", "-O", features, "-d", &root, &name,
        ];
        run("mke2fs", &args);
        let image = fs::read(&path).unwrap();
        let good = used_of(&image, &[]);
        assert!(good.total() < 32 << 20, "{features}");
        // Not unmounted, with errors, being checked; errors counted; files to be deleted, on a list and in a file.
        for state in [0, 3, 5] {
            check_whole(&image, &[(1024 + 0x3A, &[state])]);
        }
        check_whole(&image, &[(1024 + 0x194, &[1])]);
        check_whole(&image, &[(1024 + 0xE8, &[12])]);
        check_whole(&image, &[(1024 + 0x66, &[image[1024 + 0x66] | 1])]);
        check_whole(&image, &[(1024 + 0x60, &[image[1024 + 0x60] | 4])]);
        check_whole(&image, &[(1024 + 0x63, &[1])]);
        // The bitmap of the first group: a used block called free, then a free one called used as well.
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        let bitmap = usize::try_from(word(4096)).unwrap() * 4096;
        assert_eq!(image[bitmap], 0xFF, "the superblock is used");
        check_whole(&image, &[(bitmap, &[0xFE])]);
        let clear = (bitmap..bitmap + 2048).find(|at| image[*at] == 0).unwrap();
        let swapped: [(usize, &[u8]); 2] = [(bitmap, &[0xFE]), (clear, &[1])];
        if bitmaps {
            check_whole(&image, &swapped);
        } else {
            assert_ne!(used_of(&image, &swapped), good, "{features}");
        }
        // The number of directories of the first group, and that its bitmap was never written.
        let directories: [(usize, &[u8]); 1] = [(4096 + 0x10, &[77])];
        let unwritten: [(usize, &[u8]); 1] = [(4096 + 0x12, &[image[4096 + 0x12] | 2])];
        for change in [&directories, &unwritten] {
            if descriptors {
                check_whole(&image, change);
            } else {
                assert_eq!(used_of(&image, change), good, "{features}");
            }
        }
        if features.starts_with("metadata_csum") {
            // The time of the last write, which nothing but the checksum covers.
            check_whole(&image, &[(1024 + 0x30, &[0, 0])]);
        }
    }
}

#[test]
fn a_fat_that_is_not_to_be_relied_on_is_used_from_end_to_end() {
    if !have(&["mkfs.vfat"]) {
        return;
    }
    for (bits, mib, table, clean) in [("16", 32, 2048_usize, 2), ("32", 64, 16_384, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        let name = path.display().to_string();
        let sectors = (table / 512).to_string();
        run("mkfs.vfat", &["-F", bits, "-s", "1", "-R", &sectors, &name]);
        let image = fs::read(&path).unwrap();
        assert!(free(&path).total() > mib << 19, "FAT{bits}");
        let wide = bits == "32";
        let narrow_sectors = u64::from(u16::from_le_bytes([image[22], image[23]]));
        let wide_sectors = u64::from(u32::from_le_bytes(image[36..40].try_into().unwrap()));
        let sectors = if wide { wide_sectors } else { narrow_sectors };
        let second = table + usize::try_from(sectors).unwrap() * 512;
        assert_eq!(image[table..table + 8], image[second..second + 8]);
        // Left mounted, and with errors: in the first sector; in entry 1 of both tables.
        let flags = if wide { 65 } else { 37 };
        check_whole(&image, &[(flags, &[1])]);
        check_whole(&image, &[(flags, &[2])]);
        let top = 2 * clean - 1;
        for byte in [image[table + top] & 0x37, image[table + top] & 0x3B | 0x80] {
            check_whole(&image, &[(table + top, &[byte]), (second + top, &[byte])]);
        }
        // Tables that differ, in their first and in a later piece.
        check_whole(&image, &[(second + 40, &[9])]);
        check_whole(&image, &[(table + 100_000, &[9])]);
        if wide {
            check_whole(&image, &[(40, &[0x80])]);
        }
        // An ext4 that cannot be read, in the place of a former FAT.
        check_whole(&image, &[(1024 + 0x38, &[0x53, 0xEF])]);
    }
}

/// A FAT32 of 8 GiB of which every other cluster is free, but for the last hundred, which all are.
struct Comb {
    boot: Vec<u8>,
    cluster: u32,
}

impl Comb {
    /// Sectors of each of the two tables, and of everything.
    const TABLE: u32 = 131_072;
    const SECTORS: u32 = 16 << 20;

    fn new(per_cluster: u8) -> Self {
        let mut boot = vec![0; 512];
        boot[..3].copy_from_slice(b"\xeb\x58\x90");
        // Sectors of 512 bytes, 32 of them reserved, two tables (specification 1.03, "Boot Sector and BPB").
        boot[11..17].copy_from_slice(&[0, 2, per_cluster, 32, 0, 2]);
        boot[21] = 0xF8;
        boot[44] = 3;
        boot[32..36].copy_from_slice(&Self::SECTORS.to_le_bytes());
        boot[36..40].copy_from_slice(&Self::TABLE.to_le_bytes());
        boot[510..].copy_from_slice(b"\x55\xaa");
        Self {
            boot,
            cluster: u32::from(per_cluster),
        }
    }

    fn entry(&self, number: u32) -> u32 {
        let clusters = (Self::SECTORS - 32 - 2 * Self::TABLE) / self.cluster;
        if number == 0 {
            return 0x0FFF_FFF8;
        }
        let free = number > 1 && (number.is_multiple_of(2) || number >= clusters + 2 - 100);
        if free {
            0
        } else {
            0x0FFF_FFFF
        }
    }
}

impl ReadAt for Comb {
    fn size(&self) -> u64 {
        u64::from(Self::SECTORS) * 512
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let table = u64::from(Self::TABLE) * 512;
        let Some(in_tables) = offset.checked_sub(32 * 512).filter(|at| *at < 2 * table) else {
            buf.fill(0);
            if let Some(boot) = usize::try_from(offset).ok().and_then(|at| self.boot.get(at..)) {
                let len = boot.len().min(buf.len());
                buf[..len].copy_from_slice(&boot[..len]);
            }
            return Ok(());
        };
        let first = u32::try_from(in_tables % table / 4).unwrap();
        for (number, entry) in (first..).zip(buf.chunks_mut(4)) {
            entry.copy_from_slice(&self.entry(number).to_le_bytes()[..entry.len()]);
        }
        Ok(())
    }
}

#[test]
fn a_table_in_a_million_pieces_takes_no_memory() {
    for (per_cluster, whole) in [(1_u8, 12), (8, 100)] {
        let comb = Comb::new(per_cluster);
        let size = comb.size();
        let used = allocated(&comb, &[Span::new(0, size).unwrap()]).unwrap();
        println!("clusters of {per_cluster} sectors: {} runs", used.len());
        assert!(used.len() <= 2, "{} runs", used.len());
        assert_eq!(
            size - used.total(),
            whole * 4096,
            "clusters of {per_cluster} sectors"
        );
    }
}

#[test]
fn what_is_not_understood_is_allocated() {
    let size = 8 << 20;
    for byte in [0, 0xFF] {
        let bytes = vec![byte; usize::try_from(size).unwrap()];
        let all = allocated(
            &bytes,
            &[Span::new(4096, 1 << 20).unwrap(), Span::new(size, 1).unwrap()],
        )
        .unwrap();
        assert_eq!(all, Extents::whole(size));
    }
}
