//! What a partition holds, by its first two KiB, and of a FAT by its root directory.

use crate::edit::block::{ReadAt, Span};
use crate::edit::fs::ext4::superblock::Identity;
use crate::edit::fs::fat::boot_sector::BootSector;
use crate::edit::fs::fat::FatReader;
use crate::numbers::at_most;

use super::{read_bytes, Contents, LayoutError};

/// The kind and the label of the filesystem in `span`.
pub(super) fn contents(image: &impl ReadAt, span: Span) -> Result<Contents, LayoutError> {
    let head = read_bytes(image, span.start(), at_most(span.size(), 2048))?;
    if let Some(Identity { label, .. }) = Identity::parse(&head) {
        return Ok(Contents::Ext { label });
    }
    let Ok(BootSector {
        label: boot_label, ..
    }) = BootSector::parse(&head)
    else {
        return Ok(Contents::Unknown);
    };
    // A FAT that cannot be read has the label that it claims; it is refused when it is opened.
    let label = match span.of(image).map(FatReader::open) {
        Some(Ok(fat)) => fat.label().unwrap_or_default().unwrap_or_default(),
        _ => boot_label.clone(),
    };
    Ok(Contents::Fat { label, boot_label })
}
