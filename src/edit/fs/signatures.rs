//! The signatures of what may be on a device besides ext4 and FAT: members of something larger, other filesystems, and
//! partition tables within a partition. It looks for them and never says whether what they belong to is still in use.
//!
//! Places and bytes are those of libblkid in util-linux (`libblkid/src/superblocks`, `libblkid/src/partitions`), which is
//! what blkid(8) and wipefs(8) go by. Those of two bytes are left out, unless blkid has nothing longer for the format.

use std::io;

use crate::edit::block::{Fields, ReadAt};
use crate::numbers::usize_from_u64;

/// What has a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A part of something larger.
    Member,
    Filesystem,
    /// A partition table within a partition.
    Table,
}

/// Where the bytes of a signature are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Bytes from the start.
    Start(u64),
    /// Bytes before the end, which is rounded down to a multiple of `unit` bytes.
    End { unit: u64, back: u64 },
}

/// The format in blkid's words, and the bytes by which it is known.
struct Signature(Kind, &'static str, Place, &'static [u8]);

/// How much of a device [`in_head`] needs, in bytes: up to the end of the first ZFS label.
pub(crate) const HEAD: usize = 256 << 10;

const fn at(format: &'static str, place: u64, magic: &'static [u8]) -> Signature {
    Signature(Kind::Filesystem, format, Place::Start(place), magic)
}

const fn member(format: &'static str, place: u64, magic: &'static [u8]) -> Signature {
    Signature(Kind::Member, format, Place::Start(place), magic)
}

const fn table(format: &'static str, place: u64, magic: &'static [u8]) -> Signature {
    Signature(Kind::Table, format, Place::Start(place), magic)
}

/// `back` bytes before the end, in units of `unit` bytes.
const fn end(format: &'static str, (unit, back): (u64, u64), magic: &'static [u8]) -> Signature {
    Signature(Kind::Member, format, Place::End { unit, back }, magic)
}

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;

const LUKS2_SECOND: &[u8] = b"SKUL\xba\xbe";
const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
const STRATIS: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
const MD: &[u8] = b"\xfc\x4e\x2b\xa9";
const MD_BIG_ENDIAN: &[u8] = b"\xa9\x2b\x4e\xfc";
const BTRFS: &[u8] = b"_BHRfS_M";
const PROMISE: &[u8] = b"Promise Technology, Inc.";

#[rustfmt::skip]
const SIGNATURES: &[Signature] = &[
    member("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    member("crypto_LUKS", 16 * K, LUKS2_SECOND),
    member("crypto_LUKS", 32 * K, LUKS2_SECOND),
    member("crypto_LUKS", 64 * K, LUKS2_SECOND),
    member("crypto_LUKS", 128 * K, LUKS2_SECOND),
    member("crypto_LUKS", 256 * K, LUKS2_SECOND),
    member("crypto_LUKS", 512 * K, LUKS2_SECOND),
    member("crypto_LUKS", M, LUKS2_SECOND),
    member("crypto_LUKS", 2 * M, LUKS2_SECOND),
    member("crypto_LUKS", 4 * M, LUKS2_SECOND),
    member("BitLocker", 3, b"-FVE-FS-"),
    member("LVM2_member", 0, b"LABELONE"),
    member("LVM2_member", 512, b"LABELONE"),
    member("LVM2_member", 1024, b"LABELONE"),
    member("LVM2_member", 1536, b"LABELONE"),
    member("LVM1_member", 0, b"HM\x01\0"),
    member("LVM1_member", 0, b"HM\x02\0"),
    member("DM_snapshot_cow", 0, b"SnAp"),
    member("DM_verity_hash", 0, b"verity\0\0"),
    member("DM_integrity", 0, b"integrit"),
    member("vdo", 0, b"dmvdo001"),
    member("stratis", 512 + 4, STRATIS),
    member("stratis", 4608 + 4, STRATIS),
    member("linux_raid_member", 0, MD),
    member("linux_raid_member", 0, MD_BIG_ENDIAN),
    member("linux_raid_member", 4 * K, MD),
    member("linux_raid_member", 4 * K, MD_BIG_ENDIAN),
    end("linux_raid_member", (64 * K, 64 * K), MD),
    end("linux_raid_member", (64 * K, 64 * K), MD_BIG_ENDIAN),
    end("linux_raid_member", (4 * K, 8 * K), MD),
    end("linux_raid_member", (4 * K, 8 * K), MD_BIG_ENDIAN),
    end("drbd", (4 * K, 4 * K - 0x3c), b"\x83\x74\x02\x67"),
    end("drbd", (4 * K, 4 * K - 0x3c), b"\x83\x74\x02\x6b"),
    end("drbd", (4 * K, 4 * K - 0x40), b"\x83\x74\x02\x6d"),
    end("ddf_raid_member", (512, 512), b"\xde\x11\xde\x11"),
    end("ddf_raid_member", (512, 257 * 512), b"\xde\x11\xde\x11"),
    end("isw_raid_member", (512, 1024), b"Intel Raid ISM Cfg Sig. "),
    end("lsi_mega_raid_member", (512, 512), b"$XIDE$"),
    end("nvidia_raid_member", (512, 1024), b"NVIDIA"),
    end("adaptec_raid_member", (512, 512), b"\x37\xfc\x4d\x1e"),
    end("promise_fasttrack_raid_member", (512, 16 * 512), PROMISE),
    end("promise_fasttrack_raid_member", (512, 63 * 512), PROMISE),
    end("promise_fasttrack_raid_member", (512, 255 * 512), PROMISE),
    end("promise_fasttrack_raid_member", (512, 256 * 512), PROMISE),
    member("bcache", 4 * K + 24, BCACHE),
    member("bluestore", 0, b"bluestore block device"),
    member("oracleasm", 32, b"ORCLDISK"),
    member("VMFS_volume_member", M, b"\x0d\xd0\x01\xc0"),
    at("bcachefs", 4 * K + 24, BCACHEFS),
    at("btrfs", 64 * K + 0x40, BTRFS),
    at("btrfs", 64 * M + 0x40, BTRFS),
    at("btrfs", (256 << 30) + 0x40, BTRFS),
    at("xfs", 0, b"XFSB"),
    at("f2fs", K, b"\x10\x20\xf5\xf2"),
    at("f2fs", 5 * K, b"\x10\x20\xf5\xf2"),
    at("swap", 4 * K - 10, b"SWAPSPACE2"),
    at("swap", 8 * K - 10, b"SWAPSPACE2"),
    at("swap", 16 * K - 10, b"SWAPSPACE2"),
    at("swap", 32 * K - 10, b"SWAPSPACE2"),
    at("swap", 64 * K - 10, b"SWAPSPACE2"),
    at("swap", 4 * K - 10, b"SWAP-SPACE"),
    at("swsuspend", 4 * K - 10, b"S1SUSPEND"),
    at("swsuspend", 4 * K - 10, b"S2SUSPEND"),
    at("swsuspend", 4 * K - 10, b"ULSUSPEND"),
    at("swsuspend", 4 * K - 10, b"LINHIB0001"),
    at("squashfs", 0, b"hsqs"),
    at("squashfs", 0, b"sqsh"),
    at("erofs", K, b"\xe2\xe1\xf5\xe0"),
    at("cramfs", 0, b"\x45\x3d\xcd\x28"),
    at("romfs", 0, b"-rom1fs-"),
    at("iso9660", 32 * K + 1, b"CD001"),
    at("iso9660", 32 * K + 9, b"CDROM"),
    at("udf", 32 * K + 1, b"BEA01"),
    at("udf", 32 * K + 1, b"NSR02"),
    at("udf", 32 * K + 1, b"NSR03"),
    at("exfat", 3, b"EXFAT   "),
    at("ntfs", 3, b"NTFS    "),
    at("apfs", 32, b"NXSB"),
    at("jfs", 32 * K, b"JFS1"),
    at("reiserfs", 8 * K + 52, b"ReIsErFs"),
    at("reiserfs", 64 * K + 52, b"ReIsEr"),
    at("reiser4", 64 * K, b"ReIsEr4"),
    at("gfs2", 64 * K, b"\x01\x16\x19\x70"),
    at("ocfs2", K, b"OCFSV2"),
    at("ocfs2", 2 * K, b"OCFSV2"),
    at("ocfs2", 4 * K, b"OCFSV2"),
    at("ocfs2", 8 * K, b"OCFSV2"),
    at("ocfs", 8, b"OracleCFS"),
    at("VMFS", 2 * M, b"\x5e\xf1\xab\x2f"),
    at("hpfs", 8 * K, b"\x49\xe8\x95\xf9"),
    at("vxfs", K, b"\xa5\x01\xfc\xf5"),
    at("ufs", 8 * K + 1372, b"\x54\x19\x01\x00"),
    at("ufs", 8 * K + 1372, b"\x19\x01\x54\x19"),
    at("ufs", 64 * K + 1372, b"\x19\x01\x54\x19"),
    at("ufs", 256 * K + 1372, b"\x19\x01\x54\x19"),
    at("ufs", 8 * K + 1372, b"\x19\x54\x01\x19"),
    at("ufs", 64 * K + 1372, b"\x19\x54\x01\x19"),
    at("nss", 4 * K, b"SPB5"),
    at("befs", 32, b"BFS1"),
    at("befs", 544, b"BFS1"),
    at("ubi", 0, b"UBI#"),
    at("ubifs", 0, b"\x31\x18\x10\x06"),
    at("zonefs", 0, b"SFOZ"),
    table("gpt", 512, b"EFI PART"),
    table("gpt", 4 * K, b"EFI PART"),
    table("bsd", 512, b"\x57\x45\x56\x82"),
    table("bsd", 64, b"\x57\x45\x56\x82"),
    table("mac", 512, b"PM\0\0"),
    table("sgi", 0, b"\x0b\xe5\xa9\x41"),
];

/// Bytes of a ZFS label, of which a device has two at its start and two at its end (ZFS On-Disk Specification, section
/// 1.2).
const ZFS_LABEL: u64 = 256 << 10;

/// Where a label has its uberblocks, and how long they are together, in bytes.
const UBERBLOCKS: u64 = 128 << 10;

impl Place {
    /// Bytes from the start of a device of `size` bytes; `None` if it is too small.
    fn on(self, size: u64) -> Option<u64> {
        match self {
            Self::Start(at) => Some(at),
            Self::End { unit, back } => (size - size.checked_rem(unit)?).checked_sub(back),
        }
    }
}

/// The format of the first signature of this `kind` in `bytes`, which a device begins with.
pub(crate) fn in_head(bytes: &[u8], kind: Kind) -> Option<&'static str> {
    SIGNATURES
        .iter()
        .find_map(|Signature(its_kind, format, place, magic)| match place {
            Place::Start(at) if *its_kind == kind => {
                Fields(bytes).has(usize_from_u64(*at), magic).then_some(*format)
            }
            _ => None,
        })
}

/// The format of a signature that `volume` has anywhere, at its end or as a copy, too. `tables` says whether a partition
/// table counts as one. ext4 and FAT do not.
pub(super) fn found<R: ReadAt>(volume: &R, tables: Tables) -> io::Result<Option<&'static str>> {
    let size = volume.size();
    for Signature(kind, format, place, magic) in SIGNATURES {
        if *kind == Kind::Table && tables == Tables::Belong {
            continue;
        }
        let mut bytes = vec![0; magic.len()];
        if read_within(volume, place.on(size), &mut bytes)? && bytes == *magic {
            return Ok(Some(format));
        }
    }
    let labels = size - size % ZFS_LABEL;
    let mut uberblocks = vec![0; usize_from_u64(UBERBLOCKS)];
    for label in [
        Some(0),
        Some(ZFS_LABEL),
        labels.checked_sub(2 * ZFS_LABEL),
        labels.checked_sub(ZFS_LABEL),
    ] {
        let at = label.map(|label| label.saturating_add(ZFS_LABEL - UBERBLOCKS));
        if read_within(volume, at, &mut uberblocks)? && has_uberblock(&uberblocks) {
            return Ok(Some("zfs_member"));
        }
    }
    Ok(None)
}

/// Whether the volume that is looked at may begin with a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
    /// Yes: it is a whole disk.
    Belong,
    /// No: it is a partition.
    Foreign,
}

/// Fill `bytes` from `at`; `false` if that is not within `volume`.
fn read_within<R: ReadAt>(volume: &R, at: Option<u64>, bytes: &mut [u8]) -> io::Result<bool> {
    let end = at.and_then(|at| at.checked_add(crate::edit::block::length(bytes)));
    match at.zip(end) {
        Some((at, end)) if end <= volume.size() => volume.read_exact_at(at, bytes).map(|()| true),
        _ => Ok(false),
    }
}

/// Whether a ZFS label, or the half of it that begins with the uberblocks, has one: `0x00bab10c` in either byte order, at any
/// multiple of 1 KiB (section 1.3).
pub(crate) fn has_uberblock(bytes: &[u8]) -> bool {
    bytes.chunks(1024).any(|place| {
        place.starts_with(b"\x0c\xb1\xba\x00\0\0\0\0") || place.starts_with(b"\0\0\0\0\x00\xba\xb1\x0c")
    })
}
