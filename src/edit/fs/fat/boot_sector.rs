//! The boot sector of a FAT under the names of Microsoft's "FAT: General Overview of On-Disk Format" 1.03: the only
//! code that knows where its fields are, and how sizes follow from them. It reads no table and no directory.

use crate::edit::block::Fields;

/// Bytes of a boot sector that have a meaning, whatever the size of a sector.
pub(super) const LEN: usize = 512;

/// Fewer clusters make a FAT12, fewer than the second a FAT16 ("FAT Type Determination").
const LEAST_FAT16: u32 = 4085;
const LEAST_FAT32: u32 = 65_525;

/// Clusters are numbered from here.
pub(super) const FIRST_CLUSTER: u32 = 2;

/// Bytes of a directory entry.
pub(super) const DIR_ENTRY: usize = 32;

/// The width of a table's entries. Linux takes a volume with the fields of FAT32 for one, and goes by the number of
/// clusters only to tell FAT12 from FAT16 (fs/fat/inode.c); the specification goes by the number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

impl Width {
    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }
}

/// A boot sector that has the signature, possible sizes of sector and cluster, and one or two tables.
#[derive(Clone, Debug)]
pub(crate) struct BootSector {
    /// The first byte of `BS_jmpBoot`.
    pub(super) jump: u8,
    /// `BPB_BytsPerSec`: 512, 1024, 2048 or 4096.
    pub(super) bytes_per_sector: u64,
    /// `BPB_SecPerClus`: a power of two.
    pub(super) sectors_per_cluster: u8,
    /// `BPB_RsvdSecCnt`: at least 1.
    pub(super) reserved_sectors: u16,
    /// `BPB_NumFATs`: 1 or 2.
    pub(super) tables: u8,
    /// `BPB_RootEntCnt`.
    pub(super) root_entries: u16,
    /// `BPB_Media`.
    pub(super) media: u8,
    /// `BPB_TotSec16`, which is 0 if the number needs 32 bits.
    pub(super) total_sectors_16: u16,
    /// `BPB_TotSec16` or `BPB_TotSec32`.
    pub(super) total_sectors: u32,
    /// `BPB_FATSz16` or `BPB_FATSz32`: sectors of one table.
    pub(super) table_sectors: u32,
    /// Whether the fields that follow are those of FAT32, which `BPB_FATSz16` decides. Linux goes by this field, not by
    /// the number of clusters.
    pub(super) has_fat32_fields: bool,
    /// `BPB_ExtFlags`.
    pub(super) ext_flags: u16,
    /// `BPB_FSVer`.
    pub(super) version: u16,
    /// `BPB_RootClus`.
    pub(super) root_cluster: u32,
    /// `BPB_FSInfo`: a sector.
    pub(super) info_sector: u16,
    /// `BPB_BkBootSec`.
    pub(super) backup_sector: u16,
    /// `BS_Reserved1`: Linux and Windows note here that a volume is mounted, or has errors.
    state: u8,
    /// `BS_VolID`; 0 if `BS_BootSig` says that there is none.
    pub(super) volume_id: u32,
    /// `BS_VolLab` without its padding; empty if `BS_BootSig` says that there is none. Linux finds a volume by the label
    /// in its root directory, which should be the same.
    pub(crate) label: String,
}

impl BootSector {
    /// Read the boot sector that `bytes` begin with, or say what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        Self::read(Fields(bytes)).unwrap_or(Err("it is shorter than a sector"))
    }

    /// `None` if the bytes end before a field.
    fn read(bpb: Fields<'_>) -> Option<Result<Self, &'static str>> {
        if bpb.array(510)? != [0x55, 0xAA] {
            return Some(Err("its first sector does not end in 55 aa"));
        }
        let bytes_per_sector = u64::from(bpb.u16(11)?);
        if !matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096) {
            return Some(Err("its sectors have an impossible size"));
        }
        let sectors_per_cluster = bpb.u8(13)?;
        if !sectors_per_cluster.is_power_of_two() {
            return Some(Err("its clusters have an impossible size"));
        }
        let (reserved_sectors, tables) = (bpb.u16(14)?, bpb.u8(16)?);
        if reserved_sectors == 0 || !matches!(tables, 1 | 2) {
            return Some(Err("it has no reserved sector or no table"));
        }
        let (total_sectors_16, table_sectors_16) = (bpb.u16(19)?, bpb.u16(22)?);
        let has_fat32_fields = table_sectors_16 == 0;
        // Where `BS_Reserved1` is; `BS_BootSig` and `BS_VolLab` follow it.
        let state_at = if has_fat32_fields { 65 } else { 37 };
        let (volume_id, label) = match bpb.u8(state_at + 1)? {
            0x29 => (bpb.u32(state_at + 2)?, bpb.array::<11>(state_at + 6)?),
            _ => (0, [b' '; 11]),
        };
        Some(Ok(Self {
            jump: bpb.u8(0)?,
            bytes_per_sector,
            sectors_per_cluster,
            reserved_sectors,
            tables,
            root_entries: bpb.u16(17)?,
            media: bpb.u8(21)?,
            total_sectors_16,
            total_sectors: match total_sectors_16 {
                0 => bpb.u32(32)?,
                small => u32::from(small),
            },
            table_sectors: match table_sectors_16 {
                0 => bpb.u32(36)?,
                small => u32::from(small),
            },
            has_fat32_fields,
            ext_flags: bpb.u16(40)?,
            version: bpb.u16(42)?,
            root_cluster: bpb.u32(44)?,
            info_sector: bpb.u16(48)?,
            backup_sector: bpb.u16(50)?,
            state: bpb.u8(state_at)?,
            volume_id,
            label: String::from_utf8_lossy(&label).trim_end().to_owned(),
        }))
    }

    /// Whether the volume was not unmounted, or errors were seen.
    pub(super) fn is_dirty(&self) -> bool {
        self.state & 3 != 0
    }

    /// Whether `copy`, which begins as the backup boot sector, describes the same volume as `sector`: the fields from
    /// `BPB_BytsPerSec` on, before those that say how the volume was used.
    pub(super) fn is_same_volume(sector: &[u8], copy: &[u8]) -> bool {
        const SIGNATURE: usize = 510;
        sector.get(11..64) == copy.get(11..64) && Fields(copy).has(SIGNATURE, &[0x55, 0xAA])
    }

    /// Whether only one of the tables is true ("mirroring" is off); no tool makes such a volume.
    pub(super) fn has_one_true_table(&self) -> bool {
        self.has_fat32_fields && self.ext_flags & 0x80 != 0
    }

    /// Bytes of the volume.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.total_sectors) * self.bytes_per_sector
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_size(&self) -> u64 {
        u64::from(self.sectors_per_cluster) * self.bytes_per_sector
    }

    /// Where the first table starts, in bytes.
    pub(super) fn table_start(&self) -> u64 {
        u64::from(self.reserved_sectors) * self.bytes_per_sector
    }

    /// Bytes of one table.
    pub(super) fn table_size(&self) -> u64 {
        u64::from(self.table_sectors) * self.bytes_per_sector
    }

    /// Where the fixed root directory of FAT12 and FAT16 starts, in bytes.
    pub(super) fn root_start(&self) -> u64 {
        self.table_start() + u64::from(self.tables) * self.table_size()
    }

    /// Bytes of the fixed root directory, in whole sectors; 0 on FAT32.
    pub(super) fn root_size(&self) -> u64 {
        (u64::from(self.root_entries) * 32).next_multiple_of(self.bytes_per_sector)
    }

    /// Where cluster [`FIRST_CLUSTER`] starts, in bytes.
    pub(super) fn data_start(&self) -> u64 {
        self.root_start() + self.root_size()
    }

    /// The number of clusters; 0 if the tables reach to the end of the volume or beyond.
    pub(super) fn clusters(&self) -> u32 {
        u32::try_from(self.data_start() / self.bytes_per_sector)
            .ok()
            .and_then(|data| self.total_sectors.checked_sub(data))
            .map_or(0, |left| left / u32::from(self.sectors_per_cluster))
    }

    pub(super) fn width(&self) -> Width {
        match self.clusters() {
            _ if self.has_fat32_fields => Width::Fat32,
            0..LEAST_FAT16 => Width::Fat12,
            _ => Width::Fat16,
        }
    }

    /// Whether Linux and the specification differ about it: a FAT32 with so few clusters that it should be a FAT16.
    pub(super) fn is_small_fat32(&self) -> bool {
        self.has_fat32_fields && self.clusters() < LEAST_FAT32
    }

    /// Bytes of a table that its clusters need.
    pub(super) fn needed_table(&self) -> u64 {
        let entries = u64::from(self.clusters()) + u64::from(FIRST_CLUSTER);
        (entries * self.width().bits()).div_ceil(8)
    }

    /// Say what is wrong if the fields, the number of clusters and the size of the table contradict each other.
    pub(super) fn check_width(&self) -> Result<(), &'static str> {
        if self.clusters() == 0 {
            return Err("it has no room for a cluster");
        }
        if !self.has_fat32_fields && self.clusters() >= LEAST_FAT32 {
            return Err("it has more clusters than a FAT16 can have");
        }
        if self.table_size() < self.needed_table() {
            return Err("its table is too small for its clusters");
        }
        Ok(())
    }
}

/// The label of a sector that calls itself a FAT in `BS_FilSysType`. By the specification that proves nothing, but
/// blkid goes by it.
pub(crate) fn label_by_type(bytes: &[u8]) -> Option<String> {
    let fields = Fields(bytes);
    if fields.has(82, b"FAT32   ") {
        fields.text(71, 11)
    } else if fields.has(54, b"FAT16   ") || fields.has(54, b"FAT12   ") {
        fields.text(43, 11)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot sector with `label`, of FAT32 if `table_sectors_16` is 0.
    fn sector(table_sectors_16: u8, label: [u8; 11]) -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[11..17].copy_from_slice(&[0, 2, 4, 1, 0, 2]);
        sector[22] = table_sectors_16;
        let at = if table_sectors_16 == 0 { 66 } else { 38 };
        sector[at] = 0x29;
        sector[at + 5..at + 16].copy_from_slice(&label);
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    fn label(sector: &[u8]) -> Option<String> {
        BootSector::parse(sector).ok().map(|boot| boot.label)
    }

    #[test]
    fn the_label_is_read_where_each_fat_has_it() {
        assert_eq!(label(&sector(0, *b"system-boot")).as_deref(), Some("system-boot"));
        assert_eq!(label(&sector(9, *b"BOOT       ")).as_deref(), Some("BOOT"));
        let mut unsigned = sector(9, *b"BOOT       ");
        unsigned[38] = 0;
        assert_eq!(label(&unsigned).as_deref(), Some(""));
    }

    #[test]
    fn what_is_not_a_fat_has_no_label() {
        assert_eq!(label(&[]), None);
        assert_eq!(label(&[0; 512]), None);
        for at in [11, 13, 14, 16, 510] {
            let mut broken = sector(0, *b"system-boot");
            broken[at] = 7;
            broken[12] = if at == 11 { 1 } else { broken[12] };
            let ok = label(&broken);
            assert!(at == 14 || ok.is_none(), "byte {at}: {ok:?}");
        }
    }

    #[test]
    fn impossible_sizes_do_not_overflow() {
        let mut huge = sector(0, *b"system-boot");
        huge[11..17].copy_from_slice(&[0, 16, 128, 255, 255, 2]);
        huge[17..19].fill(0xFF);
        huge[32..40].fill(0xFF);
        let boot = BootSector::parse(&huge).unwrap();
        assert_eq!(boot.clusters(), 0);
        assert!(boot.data_start() > boot.size());
        assert!(boot.check_width().is_err());
    }
}
