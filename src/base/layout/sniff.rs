//! What a partition holds, by its first two KiB.

use crate::edit::block::{ReadAt, Span};
use crate::edit::fs::ext4::superblock::Identity;
use crate::edit::fs::fat::boot_sector::BootSector;
use crate::numbers::at_most;

use super::{read_bytes, Contents, LayoutError};

/// The kind and the label of the filesystem in `span`.
pub(super) fn contents(image: &impl ReadAt, span: Span) -> Result<Contents, LayoutError> {
    let head = read_bytes(image, span.start(), at_most(span.size(), 2048))?;
    if let Some(Identity { label, .. }) = Identity::parse(&head) {
        return Ok(Contents::Ext { label });
    }
    Ok(match BootSector::parse(&head) {
        Ok(BootSector { label, .. }) => Contents::Fat { label },
        Err(_) => Contents::Unknown,
    })
}
