//! Layouts made by hand, and what is said of them.

use super::*;

/// A sector-sized FAT boot sector with this label.
fn fat(label: &str) -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[11..17].copy_from_slice(&[0, 2, 1, 32, 0, 2]);
    sector[66] = 0x29;
    sector[71..82].fill(b' ');
    sector[71..71 + label.len()].copy_from_slice(label.as_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

/// The first two KiB of an ext4 with this label.
fn ext(label: &str) -> Vec<u8> {
    let mut head = vec![0; 2048];
    head[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
    head[1024 + 0x78..1024 + 0x78 + label.len()].copy_from_slice(label.as_bytes());
    head
}

/// An image of `sectors` sectors with a DOS table: kind, first sector, sectors, and what is in it.
fn image(sectors: usize, partitions: &[(u8, u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut image = vec![0; sectors * 512];
    for (nth, (kind, start, count, head)) in partitions.iter().enumerate() {
        let at = 446 + 16 * nth;
        image[at + 4] = *kind;
        image[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        image[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        let start = usize::try_from(*start).unwrap() * 512;
        if start + head.len() <= image.len() {
            image[start..start + head.len()].copy_from_slice(head);
        }
    }
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
    image
}

/// What is read of an image, or said of it, in one line.
fn check(image: &[u8], expect: &str) {
    let image = image.to_vec();
    let said = match Layout::read(&image) {
        Ok(layout) => {
            let each = |partition: &Partition| {
                let span = partition.span;
                format!(
                    "{} at {} {}: {}",
                    partition.number,
                    span.start(),
                    span.size(),
                    partition.contents
                )
            };
            format!(
                "{} boot {}; root {}",
                layout.scheme,
                each(&layout.boot),
                each(&layout.root)
            )
        }
        Err(error) => {
            assert!(!error.hint().is_empty());
            error.to_string()
        }
    };
    assert_eq!(said, expect);
}

fn pi(boot: &str, root: &str) -> Vec<u8> {
    image(100, &[(0x0C, 8, 10, fat(boot)), (0x83, 20, 80, ext(root))])
}

#[test]
fn both_partitions_are_found_by_label() {
    let expect =
        |root| format!("MBR boot 1 at 4096 5120: FAT \"system-boot\"; root 2 at 10240 40960: ext4 {root:?}");
    check(&pi("system-boot", "writable"), &expect("writable"));
    check(&pi("system-boot", "cloudimg-rootfs"), &expect("cloudimg-rootfs"));
    check(
        &pi("SYSTEM-BOOT", "writable"),
        "MBR boot 1 at 4096 5120: FAT \"SYSTEM-BOOT\"; root 2 at 10240 40960: ext4 \"writable\"",
    );
}

#[test]
fn order_numbers_and_types_do_not_matter() {
    let swapped = [
        (0x07, 4, 2, vec![]),
        (0x00, 6, 1, fat("system-boot")),
        (0x83, 20, 70, ext("writable")),
        (0xEF, 8, 10, fat("system-boot")),
    ];
    check(
        &image(100, &swapped),
        "MBR boot 4 at 4096 5120: FAT \"system-boot\"; root 3 at 10240 35840: ext4 \"writable\"",
    );
}

#[test]
fn what_is_not_an_image_is_refused() {
    check(
        &[],
        "it is not a disk image: it has 0 bytes, less than one sector",
    );
    check(
        &[0; 4096],
        "it is not a disk image: its first sector does not end in 55 aa",
    );
    let mut boot_sector = fat("system-boot");
    boot_sector[446..510].fill(0x90);
    check(
        &boot_sector,
        "it is not a disk image: its first sector holds no partition table",
    );
}

#[test]
fn a_cut_image_says_how_much_is_missing() {
    let mut cut = pi("system-boot", "writable");
    cut.truncate(90 * 512);
    check(
        &cut,
        "partition 2 ends at byte 51200, but the image has only 46080 bytes: 5120 are missing",
    );
    let far = image(100, &[(0x83, u32::MAX, u32::MAX, vec![])]);
    check(
        &far,
        "partition 1 ends at byte 4398046510080, but the image has only 51200 bytes: 4398046458880 are missing",
    );
}

#[test]
fn partitions_must_not_overlap() {
    let overlapping = [(0x83, 20, 80, ext("writable")), (0x0C, 8, 13, fat("system-boot"))];
    check(
        &image(100, &overlapping),
        "partitions 2 and 1 overlap at byte 10240",
    );
}

#[test]
fn both_are_needed_and_only_once() {
    check(
        &pi("boot", "writable"),
        "there is no boot partition (FAT, label system-boot); the image has 1: FAT \"boot\", 2: ext4 \"writable\"",
    );
    check(
        &pi("system-boot", "rootfs"),
        "there is no root partition (ext4, label writable or cloudimg-rootfs); the image has 1: FAT \"system-boot\", \
         2: ext4 \"rootfs\"",
    );
    check(
        &image(100, &[]),
        "there is no boot partition (FAT, label system-boot); the image has no partition",
    );
    let twice = [
        (0x0C, 8, 10, fat("system-boot")),
        (0x83, 20, 30, ext("writable")),
        (0x83, 50, 30, ext("cloudimg-rootfs")),
    ];
    check(
        &image(100, &twice),
        "partitions 2 and 3 could both be the root partition (ext4, label writable or cloudimg-rootfs)",
    );
}

/// A GPT with the two partitions of a Pi, made by the `gpt` crate.
fn gpt_image() -> Vec<u8> {
    let mut disk = io::Cursor::new(vec![0; 200 * 512]);
    gpt_crate::mbr::ProtectiveMBR::with_lb_size(199)
        .overwrite_lba0(&mut disk)
        .unwrap();
    let mut table = gpt_crate::GptConfig::new()
        .writable(true)
        .create_from_device(&mut disk, None)
        .unwrap();
    let kind = gpt_crate::partition_types::LINUX_FS;
    table
        .add_partition_at("boot", 1, 40, 10, kind.clone(), 0)
        .unwrap();
    table.add_partition_at("root", 2, 60, 80, kind, 0).unwrap();
    table.write().unwrap();
    let mut image = disk.into_inner();
    image[40 * 512..41 * 512].copy_from_slice(&fat("system-boot"));
    image[60 * 512..64 * 512].copy_from_slice(&ext("writable"));
    image
}

use ::gpt as gpt_crate;

#[test]
fn a_gpt_is_read_as_well() {
    check(
        &gpt_image(),
        "GPT boot 1 at 20480 5120: FAT \"system-boot\"; root 2 at 30720 40960: ext4 \"writable\"",
    );
}

#[test]
fn a_damaged_gpt_is_refused() {
    for (at, what) in [
        (
            512,
            "Invalid GPT Signature, the header does not exist or is invalid",
        ),
        (512 + 80, "CRC32 Checksum Mismatch, the header is corrupted"),
        (1024, "partition table CRC mismatch"),
    ] {
        let mut image = gpt_image();
        image[at] ^= 1;
        check(&image, &format!("reading the GUID partition table: {what}"));
    }
}

/// Set a field of the header and sign it anew.
fn with_field(at: usize, value: u32) -> Vec<u8> {
    let mut image = gpt_image();
    image[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes());
    image[512 + 16..512 + 20].fill(0);
    let crc = image[512..512 + 92].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    image[512 + 16..512 + 20].copy_from_slice(&(!crc).to_le_bytes());
    image
}

#[test]
fn numbers_of_a_gpt_are_bounded() {
    check(
        &with_field(80, u32::MAX),
        "reading the GUID partition table: it has 4294967295 entries, more than 1024",
    );
    check(
        &with_field(84, 256),
        "reading the GUID partition table: its entries have 256 bytes, not 128",
    );
    check(
        &with_field(80, 1000),
        "reading the GUID partition table: failed to fill whole buffer",
    );
    check(
        &with_field(76, u32::MAX),
        "reading the GUID partition table: partition overflow - start offset",
    );
}

#[test]
fn no_bytes_make_it_panic() {
    let mut seed = 7_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    for original in [pi("system-boot", "writable"), gpt_image()] {
        for _ in 0..2000 {
            let mut image = original.clone();
            for _ in 0..4 {
                let at = usize::try_from(random()).unwrap() % 4096;
                image[at] = random().to_le_bytes()[0];
            }
            let _ = Layout::read(&image);
        }
    }
}
