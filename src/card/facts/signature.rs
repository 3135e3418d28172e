//! What the first bytes of a device say it holds, in blkid's words: for machines without udev, whose database says
//! the same. It parses bytes; every read is bounds-checked, since the input is untrusted.

use super::Content;
use crate::edit::block::Fields;
use crate::edit::fs::ext4::superblock::Identity;
use crate::edit::fs::fat::boot_sector::label_by_type;
pub(super) use crate::edit::fs::signatures::HEAD;
use crate::edit::fs::signatures::{has_uberblock, in_head, Kind};
use crate::numbers::usize_from_u32;

/// What a device that starts with `bytes` holds: a filesystem, a member of something, or a partition table.
pub(super) fn content(bytes: &[u8]) -> Option<Content> {
    let found = |format: &str, label: Option<String>| {
        Some(Content {
            format: format.to_owned(),
            label,
        })
    };
    // Members first: that the device is part of something matters more than remains of an earlier use.
    if let Some(format) = in_head(bytes, Kind::Member) {
        return found(format, None);
    }
    if bytes.get(128 << 10..).is_some_and(has_uberblock) {
        return found("zfs_member", zfs_pool(bytes));
    }
    if let Some(ext) = Identity::parse(bytes) {
        return found(ext.format(), label(&ext.label));
    }
    if let Some(format) = in_head(bytes, Kind::Filesystem) {
        let place = LABELS.iter().find(|(name, ..)| *name == format);
        return found(
            format,
            place.and_then(|(_, at, len)| label(&Fields(bytes).text(*at, *len)?)),
        );
    }
    if let Some(name) = label_by_type(bytes) {
        return found("vfat", label(&name));
    }
    table(bytes).and_then(|format| found(format, None))
}

/// A format, and the offset and the greatest length of its label: from each one's header in the kernel; mkswap(8) for
/// swap.
const LABELS: &[(&str, usize, usize)] = &[
    ("btrfs", 0x1_012b, 256),
    ("xfs", 108, 12),
    ("swap", 1052, 16),
    ("iso9660", 0x8028, 32),
];

/// The pool's name in the XDR list before the uberblocks: a pair called `name` of type string (9).
fn zfs_pool(bytes: &[u8]) -> Option<String> {
    const PAIR: &[u8] = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01";
    let list = bytes.get(16 << 10..128 << 10)?;
    let at = list.windows(PAIR.len()).position(|window| window == PAIR)? + PAIR.len();
    let len = u32::from_be_bytes(list.get(at..at + 4)?.try_into().ok()?);
    let name = list.get(at + 4..)?.get(..usize_from_u32(len))?;
    std::str::from_utf8(name).ok().map(str::to_owned)
}

/// A partition table: `gpt`, or `dos` with at least one partition.
fn table(bytes: &[u8]) -> Option<&'static str> {
    if is_at(bytes, 512, b"EFI PART") || is_at(bytes, 4096, b"EFI PART") {
        return Some("gpt");
    }
    let entries = bytes.get(446..510)?.chunks_exact(16);
    let kinds = entries.map(|entry| Some((*entry.first()?, *entry.get(4)?)));
    let kinds: Vec<(u8, u8)> = kinds.collect::<Option<_>>()?;
    let plausible = kinds.iter().all(|(boot, _)| matches!(boot, 0 | 0x80));
    (is_at(bytes, 510, b"\x55\xaa") && plausible && kinds.iter().any(|(_, kind)| *kind != 0)).then_some("dos")
}

fn is_at(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    Fields(bytes).has(at, magic)
}

/// A label without the spaces that fill it; `None` if there is none.
fn label(field: &str) -> Option<String> {
    let text = field.trim();
    (!text.is_empty() && text != "NO NAME").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[(usize, &[u8])], expect: Option<(&str, Option<&str>)>) {
        let mut bytes = vec![0; HEAD];
        for (at, part) in parts {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        let found = content(&bytes);
        let found = found
            .as_ref()
            .map(|found| (found.format.as_str(), found.label.as_deref()));
        assert_eq!(found, expect);
        // Cut short anywhere, it is something else or nothing, and never a panic.
        for len in [0, 1, 511, 512, 1100, 4090, 4100, 70_000, 140_000] {
            let _ = content(&bytes[..len]);
        }
    }

    #[test]
    fn what_is_on_a_device_is_told_by_its_first_bytes() {
        check(&[], None);
        check(
            &[
                (0x438, b"\x53\xef"),
                (0x460, b"\x40\0\0\0"),
                (0x478, b"writable\0"),
            ],
            Some(("ext4", Some("writable"))),
        );
        check(
            &[(0x438, b"\x53\xef"), (0x45c, b"\x04\0\0\0")],
            Some(("ext3", None)),
        );
        check(&[(0x438, b"\x53\xef")], Some(("ext2", None)));
        check(
            &[(82, b"FAT32   "), (71, b"system-boot"), (510, b"\x55\xaa")],
            Some(("vfat", Some("system-boot"))),
        );
        check(&[(54, b"FAT16   "), (43, b"NO NAME    ")], Some(("vfat", None)));
        check(&[(0, b"LUKS\xba\xbe")], Some(("crypto_LUKS", None)));
        check(
            &[(512, b"LABELONE"), (536, b"LVM2 001")],
            Some(("LVM2_member", None)),
        );
        check(&[(4096, b"\xfc\x4e\x2b\xa9")], Some(("linux_raid_member", None)));
        check(&[(4086, b"SWAPSPACE2")], Some(("swap", None)));
        check(
            &[(446, b"\x80\0\0\0\x0c"), (510, b"\x55\xaa")],
            Some(("dos", None)),
        );
        check(&[(510, b"\x55\xaa")], None);
        check(&[(446, b"\x17\0\0\0\x0c"), (510, b"\x55\xaa")], None);
        check(&[(512, b"EFI PART")], Some(("gpt", None)));
    }

    #[test]
    fn a_zfs_member_names_its_pool() {
        let uberblock: (usize, &[u8]) = (130 << 10, b"\x0c\xb1\xba\x00\0\0\0\0");
        check(&[uberblock], Some(("zfs_member", None)));
        let name = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0\x04tank";
        check(&[uberblock, (17 << 10, name)], Some(("zfs_member", Some("tank"))));
        // A length that leads beyond the list.
        let name = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01\xff\xff\xff\xfftank";
        check(&[uberblock, (17 << 10, name)], Some(("zfs_member", None)));
        // What is left of an ext4 does not hide that a pool took over.
        check(&[uberblock, (0x438, b"\x53\xef")], Some(("zfs_member", None)));
    }
}
