//! What a partition holds, told from its first two KiB.

use crate::edit::block::ReadAt;
use crate::edit::fs::ext4::superblock;

use super::{read_bytes, Contents, LayoutError, Span};

/// The kind and the label of the filesystem in `span`.
pub(super) fn contents(image: &impl ReadAt, span: Span) -> Result<Contents, LayoutError> {
    let head = usize::try_from(span.size()).map_or(2048, |size| size.min(2048));
    let head = read_bytes(image, span.start(), head)?;
    if let Some(label) = superblock::label(head.get(1024..).unwrap_or_default()) {
        return Ok(Contents::Ext { label });
    }
    Ok(match fat_label(&head) {
        Some(label) => Contents::Fat { label },
        None => Contents::Unknown,
    })
}

/// The volume label in a FAT boot sector; `None` where it is none.
///
/// `BS_VolLab` lies at offset 43 for FAT12 and FAT16, at 71 for FAT32, which is told by `BPB_FATSz16` being zero
/// (Microsoft's FAT specification 1.03). The signature 0x29 before it says that it is there at all.
fn fat_label(sector: &[u8]) -> Option<String> {
    if sector.get(510..512)? != [0x55, 0xAA] {
        return None;
    }
    let word = |at: usize| {
        Some(u16::from_le_bytes(
            sector.get(at..at.checked_add(2)?)?.try_into().ok()?,
        ))
    };
    let (sector_size, per_cluster, reserved) = (word(11)?, *sector.get(13)?, word(14)?);
    let fats = *sector.get(16)?;
    let plausible = matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats);
    if !plausible {
        return None;
    }
    let (signature_at, label_at): (usize, usize) = if word(22)? == 0 { (66, 71) } else { (38, 43) };
    if *sector.get(signature_at)? != 0x29 {
        return Some(String::new());
    }
    let label = sector.get(label_at..label_at.checked_add(11)?)?;
    Some(String::from_utf8_lossy(label).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot sector with `label`, of FAT32 where `fat_size_16` is 0.
    fn sector(fat_size_16: u8, label: [u8; 11]) -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[11..17].copy_from_slice(&[0, 2, 4, 1, 0, 2]);
        sector[22] = fat_size_16;
        let at = if fat_size_16 == 0 { 66 } else { 38 };
        sector[at] = 0x29;
        sector[at + 5..at + 16].copy_from_slice(&label);
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    #[test]
    fn the_label_is_read_where_each_fat_has_it() {
        assert_eq!(
            fat_label(&sector(0, *b"system-boot")).as_deref(),
            Some("system-boot")
        );
        assert_eq!(fat_label(&sector(9, *b"BOOT       ")).as_deref(), Some("BOOT"));
        let mut unsigned = sector(9, *b"BOOT       ");
        unsigned[38] = 0;
        assert_eq!(fat_label(&unsigned).as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_fat_has_no_label() {
        assert_eq!(fat_label(&[]), None);
        assert_eq!(fat_label(&[0; 512]), None);
        for at in [11, 13, 14, 16, 510] {
            let mut broken = sector(0, *b"system-boot");
            broken[at] = 7;
            broken[12] = if at == 11 { 1 } else { broken[12] };
            let ok = fat_label(&broken);
            assert!(at == 14 || ok.is_none(), "byte {at}: {ok:?}");
        }
    }
}
