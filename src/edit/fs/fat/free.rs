//! Free clusters of FAT12, FAT16 and FAT32, from the file allocation tables. It must never guess: what it does not
//! understand has no free clusters.

use std::io;

use super::boot_sector::{self, BootSector, Width, FIRST_CLUSTER};
use crate::edit::block::{length, ReadAt};
use crate::edit::fs::free_runs::FreeRuns;
use crate::numbers::at_most;

/// The most clusters that FAT32 can number.
const MOST_CLUSTERS: u32 = 0x0FFF_FFF5;

/// Add the free bytes of the filesystem in `volume` to `free`; `None` if there is no FAT, or if its table cannot be
/// trusted: it was not unmounted, errors were seen, or its two tables differ.
pub(in crate::edit::fs) fn free_space<R: ReadAt>(
    volume: &R,
    mut free: FreeRuns,
) -> io::Result<Option<FreeRuns>> {
    let mut bytes = [0; boot_sector::LEN];
    if volume.size() < length(&bytes) {
        return Ok(None);
    }
    volume.read_exact_at(0, &mut bytes)?;
    let Some(boot) = BootSector::parse(&bytes).ok().filter(is_known) else {
        return Ok(None);
    };
    if boot.size() > volume.size() {
        return Ok(None);
    }
    let (start, width, cluster_size) = (boot.table_start(), boot.width(), boot.cluster_size());
    let copy_start = (boot.tables == 2).then(|| start.saturating_add(boot.table_size()));
    let clusters = FIRST_CLUSTER..boot.clusters().saturating_add(FIRST_CLUSTER);
    // Read in pieces that hold whole entries of every width: 64 KiB is not a multiple of 3, but FAT12, which is at most
    // 6 KiB, is read whole.
    let size = match width {
        Width::Fat12 => boot.needed_table().next_multiple_of(3).min(boot.table_size()),
        Width::Fat16 | Width::Fat32 => boot.needed_table(),
    };
    let (mut table, mut copy) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut cluster = 0_u32;
    let mut at = 0_u64;
    while at < size {
        let take = at_most(size.saturating_sub(at), table.len());
        let (piece, _) = table.split_at_mut(take);
        volume.read_exact_at(start.saturating_add(at), piece)?;
        if let Some(copy_start) = copy_start {
            let (copy, _) = copy.split_at_mut(take);
            volume.read_exact_at(copy_start.saturating_add(at), copy)?;
            if copy != piece {
                return Ok(None);
            }
        }
        if at == 0 && !is_clean(piece, width) {
            return Ok(None);
        }
        for entry in entries(piece, width) {
            // Entries 0 and 1 describe the table itself.
            if entry == 0 && clusters.contains(&cluster) {
                let index = u64::from(cluster.saturating_sub(FIRST_CLUSTER));
                let start = boot
                    .data_start()
                    .saturating_add(index.saturating_mul(cluster_size));
                free.add(start, start.saturating_add(cluster_size));
            }
            cluster = cluster.saturating_add(1);
        }
        at = at.saturating_add(length(piece));
    }
    Ok(Some(free))
}

/// Whether the volume is whole, unmounted, and of a kind whose table can be trusted.
fn is_known(boot: &BootSector) -> bool {
    matches!(boot.jump, 0xEB | 0xE9)
        && boot.data_start() <= boot.size()
        && boot.check_width().is_ok()
        && boot.clusters() <= MOST_CLUSTERS
        && !boot.is_dirty()
        && !boot.has_one_true_table()
        && !(boot.has_fat32_fields && boot.version != 0)
}

/// Whether entry 1 of the table that begins with `piece` says that the volume was unmounted and no error was seen: its
/// two highest bits, which FAT12 does not have ("FAT Volume Dirty").
fn is_clean(piece: &[u8], width: Width) -> bool {
    let clean = match width {
        Width::Fat32 => 0x0C00_0000,
        Width::Fat16 => 0xC000,
        Width::Fat12 => 0,
    };
    entries(piece, width)
        .nth(1)
        .is_some_and(|entry| entry & clean == clean)
}

/// The entries of a piece of the table.
fn entries(piece: &[u8], width: Width) -> Box<dyn Iterator<Item = u32> + '_> {
    match width {
        Width::Fat32 => {
            let (entries, _) = piece.as_chunks();
            // The upper four bits are reserved and must be ignored.
            Box::new(
                entries
                    .iter()
                    .map(|entry| u32::from_le_bytes(*entry) & 0x0FFF_FFFF),
            )
        }
        Width::Fat16 => {
            let (entries, _) = piece.as_chunks();
            Box::new(entries.iter().map(|entry| u32::from(u16::from_le_bytes(*entry))))
        }
        Width::Fat12 => {
            let (pairs, _) = piece.as_chunks();
            Box::new(pairs.iter().flat_map(|[a, b, c]| {
                let pair = u32::from_le_bytes([*a, *b, *c, 0]);
                [pair & 0xFFF, pair >> 12]
            }))
        }
    }
}
