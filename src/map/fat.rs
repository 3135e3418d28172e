//! Free clusters of FAT12, FAT16 and FAT32, from the first file allocation table (Microsoft, "FAT: General Overview
//! of On-Disk Format", 1.03).

use std::io;

use super::{Fields, Free};
use crate::block::ReadAt;

/// The most clusters that FAT32 can number.
const MOST_CLUSTERS: u64 = 0x0FFF_FFF5;

/// Add the free bytes of the filesystem in `volume` to `free`; `None` where there is no FAT.
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
    let mut table = vec![0; 64 << 10];
    let mut cluster = 0_u64;
    let mut at = 0_u64;
    // Read in pieces that hold whole entries of every width: 64 KiB is no multiple of 3, so FAT12, which is at most
    // 6 KiB, is read whole.
    while at < geometry.table_size {
        let take = usize::try_from(geometry.table_size.saturating_sub(at))
            .map_or(table.len(), |n| n.min(table.len()));
        let Some(piece) = table.get_mut(..take) else { break };
        volume.read_exact_at(geometry.table.saturating_add(at), piece)?;
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
        let table_size = table.checked_mul(sector)?;
        if clusters > MOST_CLUSTERS || needed > table_size {
            return None;
        }
        Some(Self {
            table: reserved.checked_mul(sector)?,
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
