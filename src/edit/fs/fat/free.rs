//! Free clusters of FAT12, FAT16 and FAT32, from the file allocation tables. It must never guess: what it does not
//! understand has no free clusters.

use std::io;

use super::boot_sector::{self, BootSector, Width, DIR_ENTRY, FIRST_CLUSTER};
use crate::edit::block::{length, Fields, ReadAt};
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
    if boot.size() > volume.size()
        || !has_reserved_sectors(volume, &bytes, &boot)?
        || !has_root(volume, &boot)?
    {
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
        if at == 0 && !(begins_as(piece, width, boot.media) && is_clean(piece, width)) {
            return Ok(None);
        }
        for entry in entries(piece, width) {
            if entry == 0 && boot.has_fat32_fields && cluster == boot.root_cluster {
                return Ok(None);
            }
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

/// Whether the sectors of FAT32 before the tables are what the boot sector says: a backup of it ("`BPB_BkBootSec`"), and a
/// sector with counts ("FAT32 `FSInfo` Sector Structure"). If they are not, something else has taken the volume over.
fn has_reserved_sectors<R: ReadAt>(volume: &R, sector: &[u8], boot: &BootSector) -> io::Result<bool> {
    if !boot.has_fat32_fields {
        return Ok(true);
    }
    let read = |number: u16| -> io::Result<Option<[u8; boot_sector::LEN]>> {
        // By 0 or 0xFFFF, the boot sector says that it has none.
        if number == 0 || number >= boot.reserved_sectors {
            return Ok(None);
        }
        let mut bytes = [0; boot_sector::LEN];
        volume.read_exact_at(
            u64::from(number).saturating_mul(boot.bytes_per_sector),
            &mut bytes,
        )?;
        Ok(Some(bytes))
    };
    let is_backup = |copy: [u8; boot_sector::LEN]| BootSector::is_same_volume(sector, &copy);
    let is_info = |info: [u8; boot_sector::LEN]| info.starts_with(b"RRaA") && Fields(&info).has(484, b"rrAa");
    Ok(read(boot.backup_sector)?.is_none_or(is_backup) && read(boot.info_sector)?.is_none_or(is_info))
}

/// Whether the root directory begins with entries of a directory: no entry has a reserved bit in `DIR_Attr`, up to one that
/// says that there are no more.
fn has_root<R: ReadAt>(volume: &R, boot: &BootSector) -> io::Result<bool> {
    let start = if boot.has_fat32_fields {
        let Some(index) = boot.root_cluster.checked_sub(FIRST_CLUSTER) else {
            return Ok(false);
        };
        boot.data_start()
            .saturating_add(u64::from(index).saturating_mul(boot.cluster_size()))
    } else {
        boot.root_start()
    };
    let mut bytes = [0; 512];
    if start.saturating_add(length(&bytes)) > boot.size() {
        return Ok(false);
    }
    volume.read_exact_at(start, &mut bytes)?;
    Ok(bytes
        .chunks_exact(DIR_ENTRY)
        .take_while(|entry| entry.first() != Some(&0))
        .all(|entry| entry.get(11).is_some_and(|attributes| attributes & 0xC0 == 0)))
}

/// Whether the table that begins with `piece` begins as the specification says: entry 0 is the media byte below ones, and
/// entry 1 the mark for the end of a chain.
fn begins_as(piece: &[u8], width: Width, media: u8) -> bool {
    let (ones, dirty) = match width {
        Width::Fat32 => (0x0FFF_FF00, 0x0C00_0000),
        Width::Fat16 => (0xFF00, 0xC000),
        Width::Fat12 => (0xF00, 0),
    };
    let mut entries = entries(piece, width);
    let is_media = matches!(media, 0xF0 | 0xF8..=0xFF);
    is_media
        && entries.next() == Some(ones | u32::from(media))
        && entries.next().is_some_and(|mark| mark | dirty >= ones | 0xF8)
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
