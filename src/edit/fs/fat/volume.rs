//! The shape of a FAT16 or FAT32 and its table: Microsoft's "FAT32 File System Specification" 1.03, by its names.
//!
//! Reads only. Every number is checked against the partition, and every chain of clusters has an end: a table that
//! leads in a circle is an error, not an endless loop.

use std::cell::RefCell;
use std::io;

use super::{damaged, FatRefusal};
use crate::edit::block::ReadAt;
use crate::edit::fs::FsError;
use crate::edit::tree::Volume;

/// Fewer clusters make a FAT12, fewer than the second a FAT16 (specification, "FAT Type Determination").
const LEAST_FAT16: u32 = 4085;
const LEAST_FAT32: u32 = 65_525;

/// Clusters are numbered from here.
const FIRST_CLUSTER: u32 = 2;

/// Bytes of the table that are read at once.
const PAGE: u64 = 4096;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fat16,
    Fat32,
}

/// What one entry of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Free,
    Next(u32),
    End,
}

/// Where the root directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootDir {
    /// FAT16: between the tables and the clusters.
    Fixed { start: u64, size: u64 },
    /// FAT32: in clusters, from this one on.
    Chain(u32),
}

/// A FAT, its numbers checked.
#[derive(Debug)]
pub(super) struct FatVolume<M> {
    medium: M,
    pub(super) width: Width,
    pub(super) root: RootDir,
    /// Bytes per cluster.
    pub(super) cluster_size: u64,
    /// How many clusters there are.
    pub(super) clusters: u32,
    /// `FSI_Free_Count`, where there is one and it can be true.
    pub(super) free_count: Option<u32>,
    /// `FSI_Nxt_Free`: where the search for free clusters starts.
    pub(super) next_free: u32,
    /// Whether the volume was left mounted.
    pub(super) dirty: bool,
    table: u64,
    data: u64,
    page: RefCell<Option<(u64, Vec<u8>)>>,
}

/// The fields of a boot sector that matter.
struct BootSector {
    sector: u64,
    per_cluster: u64,
    reserved: u64,
    fats: u64,
    root_entries: u64,
    sectors: u64,
    fat_sectors: u64,
    root_cluster: u32,
    info_sector: u64,
    flags: u8,
    wide: bool,
}

impl<M: ReadAt> FatVolume<M> {
    /// The FAT on `medium`.
    pub(super) fn open(medium: M) -> Result<Self, FsError> {
        let mut head = [0; 512];
        medium
            .read_exact_at(0, &mut head)
            .map_err(|source| at(0, source))?;
        let boot = BootSector::parse(&head).map_err(FatRefusal::BootSector)?;
        let bytes = boot.sectors.saturating_mul(boot.sector);
        if bytes > medium.size() {
            return Err(FatRefusal::LargerThanPartition {
                filesystem: bytes,
                partition: medium.size(),
            }
            .into());
        }
        let root_sectors = boot.root_entries.saturating_mul(32).div_ceil(boot.sector);
        let root_start = boot
            .fats
            .saturating_mul(boot.fat_sectors)
            .saturating_add(boot.reserved);
        let data = root_start.saturating_add(root_sectors);
        let clusters = boot.sectors.saturating_sub(data) / boot.per_cluster;
        let clusters =
            u32::try_from(clusters).map_err(|_| FatRefusal::BootSector("it has too many clusters"))?;
        let width = match clusters {
            0..LEAST_FAT16 => return Err(FatRefusal::Fat12 { clusters }.into()),
            LEAST_FAT16..LEAST_FAT32 => Width::Fat16,
            _ => Width::Fat32,
        };
        if (width == Width::Fat32) != boot.wide {
            return Err(FatRefusal::BootSector("its number of clusters fits neither FAT16 nor FAT32").into());
        }
        let entry = if boot.wide { 4 } else { 2 };
        let entries = u64::from(clusters).saturating_add(u64::from(FIRST_CLUSTER));
        if boot.fat_sectors.saturating_mul(boot.sector) < entries.saturating_mul(entry) {
            return Err(FatRefusal::BootSector("its table is too small for its clusters").into());
        }
        let mut volume = Self {
            medium,
            width,
            root: RootDir::Chain(boot.root_cluster),
            cluster_size: boot.per_cluster.saturating_mul(boot.sector),
            clusters,
            free_count: None,
            next_free: FIRST_CLUSTER,
            dirty: boot.flags & 3 != 0,
            table: boot.reserved.saturating_mul(boot.sector),
            data: data.saturating_mul(boot.sector),
            page: RefCell::new(None),
        };
        if boot.wide {
            volume.read_info(boot.info_sector.saturating_mul(boot.sector))?;
        } else {
            volume.root = RootDir::Fixed {
                start: root_start.saturating_mul(boot.sector),
                size: root_sectors.saturating_mul(boot.sector),
            };
        }
        Ok(volume)
    }

    /// `FSInfo`: two hints about free clusters.
    fn read_info(&mut self, offset: u64) -> Result<(), FsError> {
        let mut info = [0; 512];
        self.bytes(offset, &mut info)?;
        if u32_at(&info, 0) != 0x4161_5252 || u32_at(&info, 484) != 0x6141_7272 {
            return Err(FatRefusal::BootSector("its FSInfo sector has no signature").into());
        }
        let (free, next) = (u32_at(&info, 488), u32_at(&info, 492));
        self.free_count = (free <= self.clusters).then_some(free);
        if self.has(next) {
            self.next_free = next;
        }
        Ok(())
    }

    /// Fill `buf` from `offset` (bytes) of the volume.
    pub(super) fn bytes(&self, offset: u64, buf: &mut [u8]) -> Result<(), FsError> {
        self.medium
            .read_exact_at(offset, buf)
            .map_err(|source| at(offset, source))
    }

    /// Whether there is a cluster of this number.
    pub(super) fn has(&self, cluster: u32) -> bool {
        cluster
            .checked_sub(FIRST_CLUSTER)
            .is_some_and(|index| index < self.clusters)
    }

    /// Where a cluster starts, in bytes.
    pub(super) fn start(&self, cluster: u32) -> u64 {
        let index = u64::from(cluster.saturating_sub(FIRST_CLUSTER));
        self.data.saturating_add(index.saturating_mul(self.cluster_size))
    }

    /// What the table says about `cluster`, which there is.
    pub(super) fn link(&self, cluster: u32) -> Result<Link, FsError> {
        let raw = match self.width {
            Width::Fat16 => {
                let raw: [u8; 2] = self.entry(u64::from(cluster).saturating_mul(2))?;
                u32::from(u16::from_le_bytes(raw))
            }
            Width::Fat32 => {
                let raw: [u8; 4] = self.entry(u64::from(cluster).saturating_mul(4))?;
                // The upper four bits are reserved.
                u32::from_le_bytes(raw) & 0x0FFF_FFFF
            }
        };
        let end = if self.width == Width::Fat16 {
            0xFFF8
        } else {
            0x0FFF_FFF8
        };
        match raw {
            0 => Ok(Link::Free),
            raw if raw >= end => Ok(Link::End),
            raw if self.has(raw) => Ok(Link::Next(raw)),
            raw => Err(damaged(format!(
                "cluster {cluster} is followed by {raw:#x}, which is none"
            ))),
        }
    }

    fn entry<const N: usize>(&self, offset: u64) -> Result<[u8; N], FsError> {
        let offset = self.table.saturating_add(offset);
        let start = offset - offset % PAGE;
        let mut held = self.page.borrow_mut();
        if held.as_ref().is_none_or(|(at, _)| *at != start) {
            let len = self.medium.size().saturating_sub(start).min(PAGE);
            let mut page = vec![0; usize::try_from(len).unwrap_or(0)];
            self.bytes(start, &mut page)?;
            *held = Some((start, page));
        }
        let inside = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let page = held.as_ref().and_then(|(_, page)| page.get(inside..));
        page.and_then(<[u8]>::first_chunk)
            .copied()
            .ok_or_else(|| damaged("its table ends within an entry".into()))
    }

    /// The clusters of a chain, from `first` on, as they are asked for: a chain may be as long as the table.
    pub(super) fn chain(&self, first: u32) -> Chain<'_, M> {
        Chain {
            volume: self,
            first,
            next: Some(first),
            seen: 0,
            mark: None,
            until: 1,
        }
    }

    /// Free clusters in the order in which they are taken, at most `most`.
    pub(super) fn free_clusters(&self, most: usize) -> Result<Vec<u32>, FsError> {
        let last = self.clusters.saturating_add(FIRST_CLUSTER);
        let mut free = Vec::new();
        for cluster in (self.next_free..last).chain(FIRST_CLUSTER..self.next_free) {
            if free.len() >= most {
                break;
            }
            if self.link(cluster)? == Link::Free {
                free.push(cluster);
            }
        }
        Ok(free)
    }
}

/// See [`FatVolume::chain`]. Ends after an error.
pub(super) struct Chain<'a, M> {
    volume: &'a FatVolume<M>,
    first: u32,
    next: Option<u32>,
    seen: u64,
    /// A cluster that was seen, kept until twice as many were: a circle comes back to one of them (Brent 1980).
    mark: Option<u32>,
    until: u64,
}

impl<M: ReadAt> Chain<'_, M> {
    fn follow(&mut self, cluster: u32) -> Result<Option<u32>, FsError> {
        if !self.volume.has(cluster) {
            return Err(damaged(format!(
                "a file starts at cluster {cluster}, which is none"
            )));
        }
        if self.mark == Some(cluster) {
            return Err(damaged(format!(
                "the clusters from {} on lead in a circle",
                self.first
            )));
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen == self.until {
            self.mark = Some(cluster);
            self.until = self.until.saturating_mul(2);
        }
        match self.volume.link(cluster)? {
            Link::Next(next) => Ok(Some(next)),
            Link::End => Ok(None),
            Link::Free => Err(damaged(format!("cluster {cluster} is in use and free at once"))),
        }
    }
}

impl<M: ReadAt> Iterator for Chain<'_, M> {
    type Item = Result<u32, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let cluster = self.next.take()?;
        Some(self.follow(cluster).map(|next| {
            self.next = next;
            cluster
        }))
    }
}

impl BootSector {
    fn parse(bytes: &[u8; 512]) -> Result<Self, &'static str> {
        if bytes.get(510..) != Some(&[0x55, 0xAA]) {
            return Err("its first sector does not end in 55 aa");
        }
        let sector = u64::from(u16_at(bytes, 11));
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return Err("its sectors have an impossible size");
        }
        let per_cluster = bytes.get(13).copied().unwrap_or(0);
        if !per_cluster.is_power_of_two() {
            return Err("its clusters have an impossible size");
        }
        let (reserved, fats) = (u16_at(bytes, 14), bytes.get(16).copied().unwrap_or(0));
        if reserved == 0 || !(1..=2).contains(&fats) {
            return Err("it has no reserved sector or no table");
        }
        let small = u16_at(bytes, 19);
        let sectors = if small == 0 {
            u32_at(bytes, 32)
        } else {
            u32::from(small)
        };
        let narrow = u16_at(bytes, 22);
        let wide = narrow == 0;
        if wide && (u16_at(bytes, 42) != 0 || u16_at(bytes, 17) != 0 || small != 0) {
            return Err("it is of an unknown version of FAT32");
        }
        // With mirroring off only one table is true; no tool makes such a volume.
        if wide && u16_at(bytes, 40) & 0x80 != 0 {
            return Err("its tables are not copies of each other");
        }
        let root_entries = u16_at(bytes, 17);
        if !wide && root_entries == 0 {
            return Err("it has no root directory");
        }
        let (info, backup) = (u16_at(bytes, 48), u16_at(bytes, 50));
        if wide && (info == 0 || info >= reserved || backup >= reserved) {
            return Err("its FSInfo sector lies outside the reserved ones");
        }
        Ok(Self {
            sector,
            per_cluster: u64::from(per_cluster),
            reserved: u64::from(reserved),
            fats: u64::from(fats),
            root_entries: u64::from(root_entries),
            sectors: u64::from(sectors),
            fat_sectors: u64::from(if wide {
                u32_at(bytes, 36)
            } else {
                u32::from(narrow)
            }),
            root_cluster: u32_at(bytes, 44),
            info_sector: u64::from(info),
            flags: bytes.get(if wide { 65 } else { 37 }).copied().unwrap_or(0),
            wide,
        })
    }
}

fn at(offset: u64, source: io::Error) -> FsError {
    FsError::Io {
        volume: Volume::Boot,
        offset,
        source,
    }
}

fn u16_at(bytes: &[u8; 512], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8; 512], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u32::from_le_bytes)
}
