//! Free clusters of FAT12, FAT16 and FAT32, from the first file allocation table (Microsoft, "FAT: General Overview
//! of On-Disk Format", 1.03).

use std::io;

use super::{Fields, Free};
use crate::edit::block::ReadAt;

/// The most clusters that FAT32 can number.
const MOST_CLUSTERS: u64 = 0x0FFF_FFF5;

/// Add the free bytes of the filesystem in `volume` to `free`; `None` where there is no FAT, or its table is not to be
/// relied on: it was not unmounted, errors were seen, or its two tables differ.
pub(super) fn free<R: ReadAt>(volume: &R, mut free: Free) -> io::Result<Option<Free>> {
    let mut raw = [0; 512];
    if volume.size() < 512 {
        return Ok(None);
    }
    volume.read_exact_at(0, &mut raw)?;
    let Some(geometry) = Geometry::parse(Fields(&raw)).filter(|geometry| geometry.end <= volume.size())
    else {
        return Ok(None);
    };
    let (mut table, mut copy) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut cluster = 0_u64;
    let mut at = 0_u64;
    // Read in pieces that hold whole entries of every width: 64 KiB is no multiple of 3, so FAT12, which is at most
    // 6 KiB, is read whole.
    while at < geometry.table_size {
        let take = usize::try_from(geometry.table_size.saturating_sub(at))
            .map_or(table.len(), |n| n.min(table.len()));
        let (piece, _) = table.split_at_mut(take);
        volume.read_exact_at(geometry.table.saturating_add(at), piece)?;
        if let Some(second) = geometry.second {
            let (copy, _) = copy.split_at_mut(take);
            volume.read_exact_at(second.saturating_add(at), copy)?;
            if copy != piece {
                return Ok(None);
            }
        }
        if at == 0 && !is_clean(piece, geometry.bits) {
            return Ok(None);
        }
        for entry in entries(piece, geometry.bits) {
            // Entries 0 and 1 describe the table itself.
            if entry == 0 && (2..geometry.clusters.saturating_add(2)).contains(&cluster) {
                let start = cluster
                    .saturating_sub(2)
                    .saturating_mul(geometry.cluster)
                    .saturating_add(geometry.data);
                free.add(start, start.saturating_add(geometry.cluster));
            }
            cluster = cluster.saturating_add(1);
        }
        at = at.saturating_add(u64::try_from(take).unwrap_or(u64::MAX));
    }
    Ok(Some(free))
}

/// Whether entry 1 of the table that begins with `piece` says that the volume was unmounted, and no error seen: its two
/// highest bits, which FAT12 does not have (specification, "FAT Volume Dirty").
fn is_clean(piece: &[u8], bits: u8) -> bool {
    let clean = match bits {
        32 => 0x0C00_0000,
        16 => 0xC000,
        _ => 0,
    };
    entries(piece, bits)
        .nth(1)
        .is_some_and(|entry| entry & clean == clean)
}

/// The entries of a piece of the table.
fn entries(piece: &[u8], bits: u8) -> Box<dyn Iterator<Item = u32> + '_> {
    match bits {
        32 => Box::new(piece.chunks_exact(4).map(|entry| {
            // The upper four bits are reserved and must be ignored.
            Fields(entry).u32(0).unwrap_or(u32::MAX) & 0x0FFF_FFFF
        })),
        16 => Box::new(
            piece
                .chunks_exact(2)
                .map(|entry| u32::from(Fields(entry).u16(0).unwrap_or(u16::MAX))),
        ),
        _ => Box::new(piece.chunks_exact(3).flat_map(|pair| {
            let all = |at: usize| u32::from(pair.get(at).copied().unwrap_or(u8::MAX));
            let both = all(0) | all(1) << 8 | all(2) << 16;
            [both & 0xFFF, both >> 12]
        })),
    }
}

/// Where things are, in bytes.
struct Geometry {
    table: u64,
    /// The second table, where there is one.
    second: Option<u64>,
    table_size: u64,
    bits: u8,
    data: u64,
    cluster: u64,
    clusters: u64,
    end: u64,
}

impl Geometry {
    fn parse(bpb: Fields<'_>) -> Option<Self> {
        let sector = u64::from(bpb.u16(11)?);
        let per_cluster = u64::from(bpb.u8(13)?);
        let reserved = u64::from(bpb.u16(14)?);
        let tables = u64::from(bpb.u8(16)?);
        let roots = u64::from(bpb.u16(17)?);
        let pick = |short: u16, long: u32| {
            if short == 0 {
                u64::from(long)
            } else {
                u64::from(short)
            }
        };
        let sectors = pick(bpb.u16(19)?, bpb.u32(32)?);
        let table = pick(bpb.u16(22)?, bpb.u32(36)?);
        let plausible = bpb.u16(510)? == 0xAA55
            && matches!(bpb.u8(0)?, 0xEB | 0xE9)
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            && table > 0;
        if !plausible {
            return None;
        }
        let root_sectors = roots.checked_mul(32)?.div_ceil(sector);
        let data = reserved
            .checked_add(tables.checked_mul(table)?)?
            .checked_add(root_sectors)?;
        let clusters = sectors.checked_sub(data)?.checked_div(per_cluster)?;
        // The count of clusters alone decides the width, as the specification says it must.
        let bits = match clusters {
            0..4085 => 12,
            4085..65525 => 16,
            _ => 32,
        };
        let needed = clusters.checked_add(2)?.checked_mul(u64::from(bits))?.div_ceil(8);
        // Linux goes by the field, not by the count: where they differ, one of the two sees other clusters.
        let wide = bpb.u16(22)? == 0;
        if wide != (bits == 32) {
            return None;
        }
        // That it was left mounted, as Linux and Windows note it; on FAT32 also which of the tables is the true one,
        // where they are no copies of each other, and a version that nobody knows.
        let dirty = bpb.u8(if wide { 65 } else { 37 })? & 3 != 0;
        let odd = wide && (bpb.u16(40)? & 0x80 != 0 || bpb.u16(42)? != 0);
        if dirty || odd {
            return None;
        }
        let table_size = table.checked_mul(sector)?;
        if clusters > MOST_CLUSTERS || needed > table_size {
            return None;
        }
        let start = reserved.checked_mul(sector)?;
        Some(Self {
            table: start,
            second: (tables == 2).then_some(start.checked_add(table_size)?),
            table_size: if bits == 12 {
                needed.next_multiple_of(3).min(table_size)
            } else {
                needed
            },
            bits,
            data: data.checked_mul(sector)?,
            cluster: per_cluster.checked_mul(sector)?,
            clusters,
            end: sectors.checked_mul(sector)?,
        })
    }
}
