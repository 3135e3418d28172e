//! A FAT16 or FAT32 and its table, for reading. It must never write.
//!
//! Every number is checked against the partition, and every chain of clusters has an end: a table that leads in a
//! circle is an error, not an endless loop.

use std::cell::RefCell;

pub(super) use super::boot_sector::FIRST_CLUSTER;
use super::boot_sector::{self, BootSector, Width};
use super::{damaged, FatRefusal};
use crate::edit::block::{Fields, ReadAt, BLOCK, BLOCK_LEN};
use crate::edit::fs::FsError;
use crate::edit::tree::Volume;
use crate::numbers::{at_most, u64_from_usize, usize_from_u64};

/// The meaning of one entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Free,
    Next(u32),
    End,
}

/// The place of the root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootDir {
    /// FAT16: between the tables and the clusters.
    Fixed { start: u64, size: u64 },
    /// FAT32: in a chain of clusters that begins with this one.
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
    /// `FSI_Free_Count`, if it is set and possible, and its place in bytes.
    pub(super) free_count: Option<(u32, u64)>,
    /// `FSI_Nxt_Free`: the cluster at which the search for free clusters starts.
    pub(super) next_free: u32,
    /// Whether the volume was left mounted.
    pub(super) dirty: bool,
    /// A FAT32 with fewer clusters than the specification says that a FAT32 has.
    pub(super) is_small_fat32: bool,
    /// `BS_VolID`.
    pub(super) volume_id: u32,
    table: u64,
    data: u64,
    /// The block of the table that was read last, and its offset.
    held: RefCell<Option<(u64, Vec<u8>)>>,
}

impl<M: ReadAt> FatVolume<M> {
    /// The FAT on `medium`.
    pub(super) fn open(medium: M) -> Result<Self, FsError> {
        let mut head = [0; boot_sector::LEN];
        medium
            .read_exact_at(0, &mut head)
            .map_err(FsError::io(Volume::Boot, 0))?;
        let boot = BootSector::parse(&head).map_err(FatRefusal::BootSector)?;
        check_fields(&boot).map_err(FatRefusal::BootSector)?;
        if boot.size() > medium.size() {
            return Err(FatRefusal::LargerThanPartition {
                filesystem: boot.size(),
                partition: medium.size(),
            }
            .into());
        }
        let (width, clusters) = (boot.width(), boot.clusters());
        if width == Width::Fat12 {
            return Err(FatRefusal::Fat12 { clusters }.into());
        }
        boot.check_width().map_err(FatRefusal::BootSector)?;
        let mut volume = Self {
            medium,
            width,
            root: RootDir::Chain(boot.root_cluster),
            cluster_size: boot.cluster_size(),
            clusters,
            free_count: None,
            next_free: FIRST_CLUSTER,
            dirty: boot.is_dirty(),
            is_small_fat32: boot.is_small_fat32(),
            volume_id: boot.volume_id,
            table: boot.table_start(),
            data: boot.data_start(),
            held: RefCell::new(None),
        };
        if boot.has_fat32_fields {
            volume.read_info(u64::from(boot.info_sector) * boot.bytes_per_sector)?;
        } else {
            volume.root = RootDir::Fixed {
                start: boot.root_start(),
                size: boot.root_size(),
            };
        }
        Ok(volume)
    }

    /// `FSInfo`: two hints about free clusters.
    fn read_info(&mut self, offset: u64) -> Result<(), FsError> {
        let mut info = [0; 512];
        self.bytes(offset, &mut info)?;
        let info = Fields(&info);
        let hints = info.u32(488).zip(info.u32(492));
        let (true, true, Some((free, next))) = (info.has(0, b"RRaA"), info.has(484, b"rrAa"), hints) else {
            return Err(FatRefusal::BootSector("its FSInfo sector has no signature").into());
        };
        self.free_count = (free <= self.clusters).then_some((free, offset.saturating_add(488)));
        if self.has(next) {
            self.next_free = next;
        }
        Ok(())
    }

    /// Fill `buf` from `offset` (bytes) of the volume.
    pub(super) fn bytes(&self, offset: u64, buf: &mut [u8]) -> Result<(), FsError> {
        self.medium
            .read_exact_at(offset, buf)
            .map_err(FsError::io(Volume::Boot, offset))
    }

    /// Whether a cluster has this number.
    pub(super) fn has(&self, cluster: u32) -> bool {
        cluster
            .checked_sub(FIRST_CLUSTER)
            .is_some_and(|index| index < self.clusters)
    }

    /// The start of a cluster, in bytes.
    pub(super) fn start(&self, cluster: u32) -> u64 {
        let index = u64::from(cluster.saturating_sub(FIRST_CLUSTER));
        self.data.saturating_add(index.saturating_mul(self.cluster_size))
    }

    /// The entry of the table for `cluster`, which exists.
    pub(super) fn link(&self, cluster: u32) -> Result<Link, FsError> {
        let (raw, end) = if self.width == Width::Fat32 {
            let raw = self.entry(u64::from(cluster).saturating_mul(4))?;
            // The upper four bits are reserved.
            (u32::from_le_bytes(raw) & 0x0FFF_FFFF, 0x0FFF_FFF8)
        } else {
            let raw = self.entry(u64::from(cluster).saturating_mul(2))?;
            (u32::from(u16::from_le_bytes(raw)), 0xFFF8)
        };
        match raw {
            0 => Ok(Link::Free),
            raw if raw >= end => Ok(Link::End),
            raw if self.has(raw) => Ok(Link::Next(raw)),
            raw => Err(damaged(format!(
                "cluster {cluster} is followed by {raw:#x}, which is not a cluster"
            ))),
        }
    }

    fn entry<const N: usize>(&self, offset: u64) -> Result<[u8; N], FsError> {
        let offset = self.table.saturating_add(offset);
        let start = offset - offset % BLOCK;
        let mut held = self.held.borrow_mut();
        if held.as_ref().is_none_or(|(at, _)| *at != start) {
            let mut block = vec![0; at_most(self.medium.size().saturating_sub(start), BLOCK_LEN)];
            self.bytes(start, &mut block)?;
            *held = Some((start, block));
        }
        let inside = usize_from_u64(offset - start);
        let entry = held.as_ref().and_then(|(_, block)| Fields(block).array(inside));
        entry.ok_or_else(|| damaged("its table ends within an entry".into()))
    }

    /// The clusters of a chain that begins at `first`, read one by one: a chain may be as long as the table.
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
    pub(super) fn free_clusters(&self, most: u64) -> Result<Vec<u32>, FsError> {
        let last = self.clusters.saturating_add(FIRST_CLUSTER);
        let mut free = Vec::new();
        for cluster in (self.next_free..last).chain(FIRST_CLUSTER..self.next_free) {
            if u64_from_usize(free.len()) >= most {
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
    /// A cluster that was seen, kept until twice as many were seen: a loop returns to one of them (Brent 1980).
    mark: Option<u32>,
    until: u64,
}

impl<M: ReadAt> Chain<'_, M> {
    fn follow(&mut self, cluster: u32) -> Result<Option<u32>, FsError> {
        if !self.volume.has(cluster) {
            return Err(damaged(format!(
                "a file starts at cluster {cluster}, which does not exist"
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

/// Say what is wrong with fields that reading and editing rely on.
fn check_fields(boot: &BootSector) -> Result<(), &'static str> {
    if !boot.has_fat32_fields {
        return match boot.root_entries {
            0 => Err("it has no root directory"),
            _ => Ok(()),
        };
    }
    if boot.version != 0 || boot.root_entries != 0 || boot.total_sectors_16 != 0 {
        return Err("it is of an unknown version of FAT32");
    }
    if boot.has_one_true_table() {
        return Err("its tables are not copies of each other");
    }
    let reserved = boot.reserved_sectors;
    if boot.info_sector == 0 || boot.info_sector >= reserved || boot.backup_sector >= reserved {
        return Err("its FSInfo sector lies outside the reserved ones");
    }
    Ok(())
}
