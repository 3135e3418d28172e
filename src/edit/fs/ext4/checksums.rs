//! Whether the metadata of an ext4 can be trusted: its state, and the checksums that it has (kernel
//! `Documentation/filesystems/ext4/checksums.rst`). It must never trust what the kernel would not.

use super::features::{INCOMPAT_CSUM_SEED, RO_COMPAT_GDT_CSUM, RO_COMPAT_METADATA_CSUM};
use super::group_descriptor::Width;
use super::superblock::Superblock;
use super::{crc16, crc32c};

/// `s_checksum_type` for CRC-32C, the only one there is.
const CRC32C: u8 = 1;

/// The checksums that a filesystem has.
#[derive(Clone, Copy)]
pub(super) enum Checksums {
    None,
    /// Of group descriptors alone, begun with the CRC-16 of the filesystem's UUID.
    Descriptors(u16),
    /// Of all metadata, begun with this seed.
    All(u32),
}

impl Checksums {
    /// Those of the filesystem of this superblock; `None` if it is not clean or does not match its own checksum.
    pub(super) fn of(superblock: &Superblock) -> Option<Self> {
        superblock.check_state().ok()?;
        if !superblock.has_ro_compat(RO_COMPAT_METADATA_CSUM) {
            return Some(if superblock.has_ro_compat(RO_COMPAT_GDT_CSUM) {
                Self::Descriptors(crc16(u16::MAX, &superblock.uuid))
            } else {
                Self::None
            });
        }
        if superblock.checksum_type != CRC32C || superblock.checksum != superblock.computed_checksum {
            return None;
        }
        Some(Self::All(if superblock.has_incompat(INCOMPAT_CSUM_SEED) {
            superblock.checksum_seed
        } else {
            crc32c(u32::MAX, &superblock.uuid)
        }))
    }

    /// Whether a bitmap may be uninitialised: the kernel believes that flag only if a checksum covers it.
    pub(super) const fn cover_flags(self) -> bool {
        !matches!(self, Self::None)
    }

    /// The checksum of the descriptor of group `number`, given its bytes before and after `bg_checksum`; `None` if
    /// descriptors have none.
    pub(super) fn of_descriptor(self, number: u32, before: &[u8], after: &[u8], width: Width) -> Option<u16> {
        let number = number.to_le_bytes();
        match self {
            Self::None => None,
            Self::Descriptors(seed) => {
                let crc = crc16(crc16(seed, &number), before);
                Some(match width {
                    Width::Bits32 => crc,
                    Width::Bits64 => crc16(crc, after),
                })
            }
            Self::All(seed) => {
                let crc = [&number, before, &[0; 2], after]
                    .iter()
                    .fold(seed, |crc, part| crc32c(crc, part));
                Some(halves(crc).0)
            }
        }
    }

    /// Whether the used part of a bitmap has the checksum that its descriptor gives: the lower half, and the upper half
    /// if the descriptor has room for it.
    pub(super) fn match_bitmap(self, (lower, upper): (u16, Option<u16>), bitmap: &[u8]) -> bool {
        let Self::All(seed) = self else { return true };
        let computed = halves(crc32c(seed, bitmap));
        lower == computed.0 && upper.is_none_or(|upper| upper == computed.1)
    }
}

/// The lower and the upper half of a CRC.
fn halves(crc: u32) -> (u16, u16) {
    let [a, b, c, d] = crc.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}
