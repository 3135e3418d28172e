//! Which Debian packages a base has. Read only for a farm that carries some: the list has a megabyte or two, which lie all
//! over the image.

use super::{in_volume, window, SurveyError};
use crate::base::debian::{self, Package};
use crate::base::layout::Layout;
use crate::edit::block::ReadAt;
use crate::edit::fs::ext4::Ext4Reader;
use crate::edit::fs::VolumeReader;
use crate::edit::tree::{CardPath, Volume};

/// dpkg's list.
const STATUS: &str = "var/lib/dpkg/status";

/// The longest that is read, in bytes: of a desktop with 4000 packages it has some 5 MB.
const LONGEST: u64 = 64 << 20;

/// The packages that are installed in the root filesystem of `image`.
///
/// # Errors
/// The filesystem cannot be read, or its list is longer than any.
pub fn installed<M: ReadAt + Clone + 'static>(
    image: &M,
    layout: &Layout,
) -> Result<Vec<Package>, SurveyError> {
    let path = CardPath::new(STATUS)?;
    let root = Ext4Reader::open(window(image.clone(), layout, Volume::Root)?);
    let status = root.and_then(|root| root.read(&path, LONGEST));
    let status = status.map_err(in_volume(Volume::Root))?.unwrap_or_default();
    Ok(debian::installed(&String::from_utf8_lossy(&status)))
}
