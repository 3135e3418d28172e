//! A card's image as another person's tools read it: mtools for the FAT partition, debugfs for the root file system.
//!
//! Read only, without mounting and without the tool under test.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::sh;

/// The byte at which a partition starts, from the MBR's entry (16 bytes each from 446, first sector at 8).
pub(crate) fn partition_start(image: &Path, index: u8) -> Result<u64> {
    let mut start = [0; 4];
    File::open(image)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(
                u64::from(index).saturating_mul(16).saturating_add(446 + 8),
            ))?;
            file.read_exact(&mut start)
        })
        .with_context(|| format!("reading the partition table of {}", image.display()))?;
    Ok(u64::from(u32::from_le_bytes(start)).saturating_mul(512))
}

/// The FAT partition as mtools takes it.
pub(crate) fn fat_partition(image: &Path) -> Result<String> {
    Ok(format!("{}@@{}", image.display(), partition_start(image, 0)?))
}

/// A copy in `dir` of the whole FAT partition, for programs that take no offset.
pub(crate) fn fat_image(image: &Path, dir: &Path) -> Result<PathBuf> {
    let (start, end) = (partition_start(image, 0)?, partition_start(image, 1)?);
    let copy = dir.join("fat.img");
    let context = || format!("copying the FAT partition of {}", image.display());
    let mut from = File::open(image).with_context(context)?;
    from.seek(SeekFrom::Start(start)).with_context(context)?;
    let mut to = File::create(&copy).with_context(context)?;
    // Nothing lies between the two partitions.
    std::io::copy(&mut from.take(end.saturating_sub(start)), &mut to).with_context(context)?;
    Ok(copy)
}

/// A file of the FAT partition of `image`.
pub(crate) fn fat_file(image: &Path, name: &str) -> Result<String> {
    let partition = fat_partition(image)?;
    sh::output(&mut sh::cmd("mtype", ["-i", &partition, &format!("::/{name}")]))
        .with_context(|| format!("reading {name} on the FAT partition of {}", image.display()))
}

/// A copy in `dir` of a file of the FAT partition of `image`.
pub(crate) fn fat_copy(image: &Path, name: &str, dir: &Path) -> Result<PathBuf> {
    let partition = fat_partition(image)?;
    let copy = dir.join(name);
    let mut mcopy = sh::cmd("mcopy", ["-o", "-i", &partition, &format!("::/{name}")]);
    sh::run(mcopy.arg(&copy))
        .with_context(|| format!("copying {name} from the FAT partition of {}", image.display()))?;
    Ok(copy)
}

/// The root file system as the tools of e2fsprogs take it.
pub(crate) fn ext4_partition(image: &Path) -> Result<String> {
    Ok(format!(
        "{}?offset={}",
        image.display(),
        partition_start(image, 1)?
    ))
}

/// A file of the root file system of `image`, which must have been unmounted.
pub(crate) fn ext4_file(image: &Path, path: &str) -> Result<String> {
    let partition = ext4_partition(image)?;
    // debugfs ends with 0 whether it found the file or not.
    let text = sh::output(&mut sh::cmd(
        "debugfs",
        ["-R", &format!("cat {path}"), &partition],
    ))?;
    if text.is_empty() {
        bail!(
            "{path} on the root file system of {} is empty or missing",
            image.display()
        );
    }
    Ok(text)
}
