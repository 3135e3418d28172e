//! Whether the storage pool that a farm declares fits on the card that it is to be written to. Pure: it computes
//! with what the base's own superblock and block maps say, and decides nothing else about the card.

use crate::edit::block::Span;
use crate::text::size_text;

/// Blocks of a group's two bitmaps, of the blocks that they describe: 2 in 8 × 4096 (kernel,
/// `ext4/blockgroup.rst`), rounded up.
const BITMAPS: u64 = 8192;

/// What a pool must leave free, in bytes, for packages, snaps and logs: a pool of btrfs lies in a file without blocks of
/// its own, and where the root filesystem has none left for it, everything in it is damaged.
const SPARE: u64 = 1_000_000_000;

/// A pool that would run out of card before it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the storage pool is to have {}, but the root filesystem of this card will have only {} free, even when grown to its \
     end, and {} of them are for the system itself",
    size_text(*.pool),
    size_text(*.free),
    size_text(SPARE)
)]
pub struct PoolTooLarge {
    /// What the farm declares, in bytes.
    pub pool: u64,
    /// What there will be, in bytes.
    pub free: u64,
}

impl PoolTooLarge {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> String {
        let most = self.free.saturating_sub(SPARE) / 1_000_000_000;
        if most == 0 {
            return "take a larger card, or `driver: dir`, which has no size of its own".to_owned();
        }
        format!("write `size: {most}GB` or less in lxd.storage, or take a larger card")
    }
}

/// What decides how much of a card is left for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where the root filesystem lies in the image.
    pub root: Span,
    /// Bytes of it that are in use.
    pub used: u64,
    /// Bytes of its inode tables.
    pub inode_tables: u64,
    /// Where another partition starts behind it, so that it cannot grow any further.
    pub limit: Option<u64>,
}

impl Room {
    /// The bytes that will be free in the root filesystem once it has grown to the end of a card of `card` bytes.
    /// LXD keeps the pool in a file there.
    #[must_use]
    pub fn free_on(&self, card: u64) -> u64 {
        let end = self.limit.map_or(card, |limit| limit.min(card));
        let grown = end.saturating_sub(self.root.start());
        let new = grown.saturating_sub(self.root.size());
        // Each new group gets an inode table as long as those of the old ones, and two bitmaps.
        let tables = u128::from(new).saturating_mul(u128::from(self.inode_tables));
        let tables = tables.checked_div(u128::from(self.root.size()));
        let tables = tables.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(new);
        grown
            .saturating_sub(self.used)
            .saturating_sub(tables)
            .saturating_sub(new / BITMAPS)
    }
}

/// Refuse a pool of `size` bytes where only `free` will be left for it and for all else.
///
/// # Errors
/// [`PoolTooLarge`].
pub fn fits(size: u64, free: u64) -> Result<(), PoolTooLarge> {
    if size > free.saturating_sub(SPARE) {
        return Err(PoolTooLarge { pool: size, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn what_is_used_and_what_growing_takes_is_not_free() {
        // 2 GiB, half of them in use, with an inode of 256 bytes for every 16 KiB.
        let room = Room {
            root: Span::new(256 << 20, 2 << 30).unwrap(),
            used: 1 << 30,
            inode_tables: 32 << 20,
            limit: None,
        };
        // As large as the image: the other half is free.
        assert_eq!(room.free_on(room.root.end()), 1 << 30);
        // 14 GiB more, of which one in 64 goes to inodes and one in 8192 to bitmaps.
        let more: u64 = 14 << 30;
        assert_eq!(
            room.free_on(room.root.end() + more),
            (1 << 30) + more - more / 64 - more / 8192
        );
        assert_eq!(room.free_on(0), 0);
        // A partition behind it stays where it is.
        let limit = Some(room.root.end());
        assert_eq!(Room { limit, ..room }.free_on(room.root.end() + more), 1 << 30);
    }

    #[test]
    fn a_pool_must_fit() {
        assert_eq!(fits(5 * GB, 6 * GB), Ok(()));
        assert!(fits(5 * GB, 6 * GB - 1).is_err());
        let error = fits(15 * GB, 5_900_000_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the storage pool is to have 15.0 GB, but the root filesystem of this card will have only 5.9 GB free, even \
             when grown to its end, and 1.0 GB of them are for the system itself"
        );
        assert!(error.hint().contains("size: 4GB"));
        assert!(fits(GB, 1000).unwrap_err().hint().contains("larger card"));
    }
}
