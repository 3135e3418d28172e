//! Remains of an ext4 or a FAT below something else: its free space is not that of what is there now.

use std::fs;
use std::ops::Range;
use std::path::Path;

use palmfarm::base::layout::{Scheme, Table};
use palmfarm::edit::block::{Extents, Span};
use palmfarm::edit::fs::allocated;
use proptest::prelude::*;

use crate::common::{attempt, has, have, run, skipped_in_part};

const MIB: usize = 1 << 20;

/// Bytes that are compared at once.
const BLOCK: usize = 4096;

/// The volumes that are covered: an ext4 with checksums, one without, a FAT16 and a FAT32, each on 64 MiB.
fn volumes() -> Vec<(&'static str, Vec<u8>)> {
    let made = |name, program: &str, options: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume");
        blank(&path, 64 * MIB);
        run(program, &[options, &[path.to_str().unwrap()]].concat());
        (name, fs::read(path).unwrap())
    };
    let ext4 = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "1024",
        "-E",
        "lazy_itable_init=0",
        "-O",
    ];
    vec![
        made("ext4", "mke2fs", &[&ext4[..], &["metadata_csum,64bit"]].concat()),
        made(
            "old ext4",
            "mke2fs",
            &[&ext4[..], &["^metadata_csum,^uninit_bg"]].concat(),
        ),
        made("FAT16", "mkfs.vfat", &["-F", "16", "-n", "system-boot"]),
        made(
            "FAT32",
            "mkfs.vfat",
            &["-F", "32", "-s", "1", "-n", "system-boot"],
        ),
    ]
}

/// The bytes that count as free.
fn free(volume: &Vec<u8>) -> u64 {
    let size = u64::try_from(volume.len()).unwrap();
    let used = allocated(volume, &[Span::new(0, size).unwrap()]).unwrap();
    used.complement(size).total()
}

/// `volume` with `bytes` at `at`; a place below zero counts from the end.
fn with(volume: &[u8], at: isize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = volume.to_vec();
    let at = at
        .try_into()
        .unwrap_or_else(|_| changed.len() - at.unsigned_abs());
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

/// What a program leaves on a disk of zeroes, over `volume` but for the bytes in `kept`.
fn covered(volume: &[u8], kept: &Range<usize>, program: &str, options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    blank(&path, volume.len());
    run(program, &[options, &[path.to_str().unwrap()]].concat());
    let mut covered = volume.to_vec();
    let upper = fs::read(path).unwrap();
    let blocks = upper.chunks(BLOCK).zip(covered.chunks_mut(BLOCK)).enumerate();
    for (number, (new, old)) in blocks.filter(|(_, (new, _))| *new != &[0; BLOCK][..new.len()]) {
        let bytes = (number * BLOCK..).zip(new.iter().zip(old));
        for (_, (new, old)) in bytes.filter(|(at, (new, _))| !kept.contains(at) && **new != 0) {
            *old = *new;
        }
    }
    covered
}

/// A file of `size` zeroes at `path`.
fn blank(path: &Path, size: usize) {
    let file = fs::File::create(path).unwrap();
    file.set_len(u64::try_from(size).unwrap()).unwrap();
}

/// The names of the signatures that wipefs sees.
fn seen(volume: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    fs::write(&path, volume).unwrap();
    let said = run("wipefs", &["-n", "-i", "-p", path.to_str().unwrap()]);
    let names = said.lines().filter(|line| !line.starts_with('#'));
    names
        .map(|line| line.rsplit(',').next().unwrap().to_owned())
        .collect()
}

#[test]
fn what_another_format_covers_is_used_from_end_to_end() {
    if !have(&["mke2fs", "mkfs.vfat", "mkswap", "wipefs"]) {
        return;
    }
    for (name, volume) in volumes() {
        assert!(free(&volume) > 16 << 20, "{name}: {}", free(&volume));
        // The boot sector of a FAT, and what ext4 leaves alone together with its superblock.
        let is_ext4 = name.ends_with("ext4");
        let kept = if is_ext4 { 0..2048 } else { 0..512 };
        let mut all = vec![("swap", covered(&volume, &kept, "mkswap", &[]))];
        if has("mkfs.btrfs") {
            all.push(("btrfs", covered(&volume, &kept, "mkfs.btrfs", &["-q", "--mixed"])));
        } else {
            skipped_in_part("btrfs: there is no mkfs.btrfs");
        }
        for (upper, covered) in all {
            // Without what is in the place of the superblock, wipefs does not know swap.
            let is_seen = is_ext4 && upper == "swap" || seen(&covered).iter().any(|seen| seen == upper);
            assert!(is_seen, "{name}, {upper}: {:?}", seen(&covered));
            assert_eq!(free(&covered), 0, "{name} under {upper}");
        }
    }
}

/// What the formats say of themselves in their own specifications: where, and in which bytes.
const SIGNATURES: &[(&str, isize, &[u8])] = &[
    (
        "LVM2",
        512,
        b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001",
    ),
    ("md 0.90", -0x1_0000, b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0"),
    ("md 1.0", -0x2000, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ("md 1.2", 0x1000, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ("LUKS 2", 0x4000, b"SKUL\xba\xbe\0\x02"),
    (
        "bcache",
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    (
        "bcachefs",
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    ("ZFS", 0x2_0000, b"\x0c\xb1\xba\0\0\0\0\0"),
    (
        "ZFS, second label",
        0x6_0000 + 5 * 1024,
        b"\0\0\0\0\0\xba\xb1\x0c",
    ),
    (
        "ZFS, third label",
        -0x8_0000 + 0x2_0000,
        b"\x0c\xb1\xba\0\0\0\0\0",
    ),
    ("ZFS, last label", -0x4_0000 + 0x2_0400, b"\x0c\xb1\xba\0\0\0\0\0"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("swap of 16 KiB pages", 0x3ff6, b"SWAPSPACE2"),
    ("hibernation", 0xff6, b"S1SUSPEND"),
    ("DRBD", -0x1000 + 0x3c, b"\x83\x74\x02\x6b"),
    ("Intel RAID", -1024, b"Intel Raid ISM Cfg Sig. "),
    ("DDF", -512, b"\xde\x11\xde\x11"),
    ("stratis", 0x1204, b"!Stra0tis\x86\xff\x02^\x41rh"),
    ("JFS", 0x8000, b"JFS1"),
    ("reiserfs", 0x1_0034, b"ReIsEr2Fs"),
    ("ISO 9660", 0x8001, b"CD001"),
    ("UDF", 0x8001, b"NSR02"),
    ("OCFS2", 0x2000, b"OCFSV2"),
    ("GFS2", 0x1_0000, b"\x01\x16\x19\x70"),
    ("a table within the partition", 512, b"EFI PART"),
];

#[test]
fn every_second_signature_makes_it_used_from_end_to_end() {
    if !have(&["mke2fs", "mkfs.vfat"]) {
        return;
    }
    for (name, volume) in volumes() {
        for (upper, at, magic) in SIGNATURES {
            assert_eq!(free(&with(&volume, *at, magic)), 0, "{name} under {upper}");
        }
        // The boot sector of a FAT, or a partition table, in front of an ext4.
        if name.ends_with("ext4") {
            assert_eq!(free(&with(&volume, 510, b"\x55\xaa")), 0, "{name}");
        }
        // What is on the disk as a whole, of which this is a partition.
        let disk = [vec![0; MIB], volume.clone(), vec![0; MIB]].concat();
        let span = [Span::new(1 << 20, 64 << 20).unwrap()];
        let size = u64::try_from(disk.len()).unwrap();
        assert_ne!(allocated(&disk, &span).unwrap(), Extents::whole(size));
        for at in [0x2_0000, -0x4_0000 + 0x2_0000] {
            let pool = with(&disk, at, b"\x0c\xb1\xba\0\0\0\0\0");
            assert_eq!(
                allocated(&pool, &span).unwrap(),
                Extents::whole(size),
                "{name} on a pool"
            );
        }
    }
}

/// The numbers of the blocks that debugfs prints.
fn blocks(volume: &Path, request: &str) -> Vec<usize> {
    let (_, said) = attempt("debugfs", &["-R", request, volume.to_str().unwrap()]);
    said.split_whitespace()
        .filter_map(|word| word.trim_end_matches(',').parse().ok())
        .collect()
}

#[test]
fn an_ext4_whose_root_or_journal_is_gone_is_used_from_end_to_end() {
    if !have(&["mke2fs", "mkfs.vfat", "debugfs"]) {
        return;
    }
    for (name, volume) in volumes().into_iter().filter(|(name, _)| name.ends_with("ext4")) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume");
        fs::write(&path, &volume).unwrap();
        let noise = [0x5a; 1024];
        let place = |block: usize| isize::try_from(block * 1024).unwrap();
        for (what, block) in [
            ("the root directory", blocks(&path, "blocks /")[0]),
            ("the journal", blocks(&path, "blocks <8>")[0]),
            ("the inode of the root", blocks(&path, "imap /")[2]),
            // Groups of 8192 blocks, and copies of the superblock in some of them.
            ("a copy of the superblock", 8193),
            ("another copy", 7 * 8192 + 1),
        ] {
            assert_eq!(free(&with(&volume, place(block), &noise)), 0, "{name}: {what}");
        }
    }
}

#[test]
fn a_fat_that_is_not_what_its_boot_sector_says_is_used_from_end_to_end() {
    if !have(&["mke2fs", "mkfs.vfat"]) {
        return;
    }
    for (name, volume) in volumes().into_iter().filter(|(name, _)| name.starts_with("FAT")) {
        let field = |at: usize| usize::from(u16::from_le_bytes([volume[at], volume[at + 1]]));
        let (wide, table) = (name == "FAT32", isize::try_from(field(14) * 512).unwrap());
        let sectors = if wide {
            usize::try_from(u32::from_le_bytes(volume[36..40].try_into().unwrap())).unwrap()
        } else {
            field(22)
        };
        let root = table + isize::try_from(2 * sectors * 512).unwrap();
        let mut all = vec![
            ("another media byte", 21, &b"\xf0"[..]),
            ("an impossible one", 21, &b"\x11"[..]),
            ("noise for a root directory", root, &[0x5a; 512][..]),
        ];
        if wide {
            all.extend([
                ("another backup boot sector", 6 * 512 + 32, &b"\x01"[..]),
                ("no backup boot sector", 6 * 512, &[0; 512][..]),
                ("no counts", 512, &[0; 512][..]),
            ]);
        }
        for (what, at, bytes) in all {
            assert_eq!(free(&with(&volume, at, bytes)), 0, "{name}: {what}");
        }
        // In both tables: entry 0 with another media byte, entry 1 that ends no chain.
        for (at, byte) in [(0, 0xf1), (if wide { 4 } else { 2 }, 0x03)] {
            let second = table + isize::try_from(sectors * 512).unwrap();
            let both = with(&with(&volume, table + at, &[byte]), second + at, &[byte]);
            assert_eq!(free(&both), 0, "{name}: entry at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever else a pool has written, and however little of the filesystem is damaged by it.
    #[test]
    fn remains_under_any_signature_have_no_free_space(
        which in 0..4_usize,
        signature in prop::sample::select(SIGNATURES.to_vec()),
        noise in prop::collection::vec((MIB..63 * MIB, any::<u8>()), 0..20),
    ) {
        static VOLUMES: std::sync::OnceLock<Vec<(&str, Vec<u8>)>> = std::sync::OnceLock::new();
        if !(has("mke2fs") && has("mkfs.vfat")) {
            return Ok(());
        }
        let (name, volume) = &VOLUMES.get_or_init(volumes)[which];
        let (upper, at, magic) = signature;
        let mut pool = with(volume, at, magic);
        for (at, byte) in noise {
            pool[at..at + 4096].fill(byte);
        }
        // The noise may have hit the signature at the end.
        pool = with(&pool, at, magic);
        prop_assert_eq!(free(&pool), 0, "{} under {}", name, upper);
    }
}

/// A disk of 64 MiB with an MBR: type, first sector and sectors of each entry.
fn disk(entries: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut disk = vec![0; 64 * MIB];
    for (nth, (kind, start, sectors)) in entries.iter().enumerate() {
        let at = 446 + 16 * nth;
        disk[at + 4] = *kind;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    disk[510..512].copy_from_slice(b"\x55\xaa");
    disk
}

/// The numbers of the partitions that a filesystem may have to itself.
fn judged(disk: &Vec<u8>) -> Vec<u32> {
    let table = Table::read(disk).unwrap();
    let alone = table.partitions.iter().filter(|entry| entry.may_be_filesystem());
    alone.map(|entry| entry.number).collect()
}

#[test]
fn only_a_partition_of_the_right_type_that_shares_nothing_is_looked_into() {
    for kind in [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e, 0x83, 0xef] {
        assert_eq!(judged(&disk(&[(kind, 2048, 2048)])), [1], "{kind:#x}");
    }
    // Extended, swap, LVM, RAID, hidden, ZFS, LUKS, and noise.
    for kind in [
        0x05, 0x0f, 0x85, 0x82, 0x8e, 0xfd, 0x17, 0xbf, 0xe8, 0xda, 0xa5, 0x07,
    ] {
        assert_eq!(
            judged(&disk(&[(kind, 2048, 2048), (0x83, 4096, 8)])),
            [2],
            "{kind:#x}"
        );
    }
    // One within another, two that share a sector, two that are the same.
    assert_eq!(
        judged(&disk(&[(0x83, 0, 40_960), (0xef, 4000, 8000), (0x0c, 50_000, 8)])),
        [3]
    );
    assert_eq!(judged(&disk(&[(0x83, 2048, 100), (0x83, 2147, 8)])), [0; 0]);
    assert_eq!(judged(&disk(&[(0x83, 2048, 100), (0x0c, 2048, 100)])), [0; 0]);
    assert_eq!(judged(&disk(&[(0x83, 2048, 100), (0x83, 2148, 8)])), [1, 2]);
}

#[test]
fn the_other_entries_beside_a_gpt_count_too() {
    if !have(&["sgdisk"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, vec![0; 64 * MIB]).unwrap();
    let name = path.to_str().unwrap();
    let gpt = [
        "-n",
        "1:2048:+8M",
        "-t",
        "1:0700",
        "-n",
        "2:32768:+8M",
        "-t",
        "2:8300",
        "-n",
        "3:65536:+1M",
    ];
    let types = [
        "-t",
        "3:8e00",
        "-n",
        "4:70000:+1M",
        "-t",
        "4:8200",
        "-n",
        "5:80000:+1M",
        "-t",
        "5:fd00",
    ];
    run("sgdisk", &[&gpt[..], &types, &[name]].concat());
    let image = fs::read(&path).unwrap();
    assert_eq!(Table::read(&image).unwrap().scheme, Scheme::Gpt);
    assert_eq!(judged(&image), [1, 2]);
    // A hybrid: the same partition once more is the same; one that goes further is not.
    let mut hybrid = image.clone();
    hybrid[462..478].copy_from_slice(&disk(&[(0x0c, 2048, 16_384)])[446..462]);
    assert_eq!(judged(&hybrid), [1, 2]);
    hybrid[478..494].copy_from_slice(&disk(&[(0x83, 33_000, 100)])[446..462]);
    assert_eq!(judged(&hybrid), [1]);
}
