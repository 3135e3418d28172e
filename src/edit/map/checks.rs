//! Whether the block bitmaps of an ext4 are to be relied on: its state, and the checksums that it has (kernel
//! Documentation/filesystems/ext4, "Checksums"). It must never trust what the kernel would not.

use super::Fields;
use crate::edit::fs::ext4::{crc16, crc32c, Superblock, METADATA_CSUM};

/// `INCOMPAT_CSUM_SEED`: the seed of checksums is in the superblock.
const INCOMPAT_CSUM_SEED: u32 = 0x2000;

/// `RO_COMPAT_GDT_CSUM`: group descriptors have a CRC-16.
const RO_GDT_CSUM: u32 = 0x10;

/// `bg_checksum`, and what comes after it in a descriptor.
const CHECKSUM: usize = 0x1E;
const AFTER: usize = 0x20;

/// The checksums that a filesystem has.
#[derive(Clone, Copy)]
pub(super) enum Checks {
    None,
    /// Of group descriptors alone, begun with the CRC-16 of the filesystem's UUID.
    Descriptors(u16),
    /// Of all metadata, begun with this seed.
    All(u32),
}

impl Checks {
    /// Those of the filesystem of this superblock; `None` where it is not clean, or not what its checksum says.
    pub(super) fn of(raw: &[u8; 1024]) -> Option<Self> {
        let superblock = Superblock::parse(raw).ok()?;
        superblock.check_state().ok()?;
        let uuid = raw.get(0x68..0x78)?;
        if superblock.ro_compat & METADATA_CSUM == 0 {
            let of_descriptors = superblock.ro_compat & RO_GDT_CSUM != 0;
            return Some(if of_descriptors {
                Self::Descriptors(crc16(u16::MAX, uuid))
            } else {
                Self::None
            });
        }
        let fields = Fields(raw);
        // `s_checksum_type`: there is one.
        if fields.u8(0x175)? != 1 || crc32c(u32::MAX, raw.get(..0x3FC)?) != fields.u32(0x3FC)? {
            return None;
        }
        Some(Self::All(if superblock.incompat & INCOMPAT_CSUM_SEED != 0 {
            fields.u32(0x270)?
        } else {
            crc32c(u32::MAX, uuid)
        }))
    }

    /// Whether a bitmap may be left uninitialised: the kernel believes that flag only where a checksum covers it.
    pub(super) const fn cover_flags(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether the descriptor of group `number` is what its checksum says; `wide` is what `INCOMPAT_64BIT` is.
    pub(super) fn fit_descriptor(self, number: u32, raw: &[u8], wide: bool) -> bool {
        let (Some(before), Some(after)) = (raw.get(..CHECKSUM), raw.get(AFTER..)) else {
            return false;
        };
        let number = number.to_le_bytes();
        let computed = match self {
            Self::None => return true,
            Self::Descriptors(seed) => {
                let crc = crc16(crc16(seed, &number), before);
                if wide {
                    crc16(crc, after)
                } else {
                    crc
                }
            }
            Self::All(seed) => {
                let crc = [&number, before, &[0; 2], after]
                    .iter()
                    .fold(seed, |crc, part| crc32c(crc, part));
                low(crc)
            }
        };
        Fields(raw).u16(CHECKSUM) == Some(computed)
    }

    /// Whether `bitmap`, as far as it is used, has the checksum of its descriptor: its lower half, and its upper one
    /// where the descriptor has room for it.
    pub(super) fn fit_bitmap(self, (lower, upper): (u16, Option<u16>), bitmap: &[u8]) -> bool {
        let Self::All(seed) = self else { return true };
        let computed = crc32c(seed, bitmap);
        lower == low(computed) && upper.is_none_or(|upper| upper == low(computed >> 16))
    }
}

fn low(crc: u32) -> u16 {
    let [a, b, ..] = crc.to_le_bytes();
    u16::from_le_bytes([a, b])
}
