//! A card's image as other people's tools read it: mtools for the FAT partition, debugfs for the root file system.
//!
//! Read only, without mounting and without the tool under test.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};
use fs_err as fs;
use xshell::cmd;

use crate::sh;

/// The byte at which a partition starts, from the MBR's entry (16 bytes each from 446, first sector at 8).
pub(crate) fn partition_start(image: &Path, index: u8) -> Result<u64> {
    let mut start = [0; 4];
    let mut file = fs::File::open(image)?;
    file.seek(SeekFrom::Start(
        u64::from(index).saturating_mul(16).saturating_add(446 + 8),
    ))?;
    file.read_exact(&mut start)?;
    Ok(u64::from(u32::from_le_bytes(start)).saturating_mul(512))
}

/// The FAT partition as mtools takes it.
pub(crate) fn fat_partition(image: &Path) -> Result<String> {
    Ok(format!("{}@@{}", image.display(), partition_start(image, 0)?))
}

/// A copy in `dir` of the whole FAT partition, for programs that cannot start at an offset.
pub(crate) fn fat_image(image: &Path, dir: &Path) -> Result<PathBuf> {
    let (start, end) = (partition_start(image, 0)?, partition_start(image, 1)?);
    let copy = dir.join("fat.img");
    let mut from = fs::File::open(image)?;
    from.seek(SeekFrom::Start(start))?;
    // The second partition follows the first without a gap.
    std::io::copy(
        &mut from.take(end.saturating_sub(start)),
        &mut fs::File::create(&copy)?,
    )?;
    Ok(copy)
}

/// A file of the FAT partition of `image`.
pub(crate) fn fat_file(image: &Path, name: &str) -> Result<String> {
    let (sh, partition) = (sh::shell()?, fat_partition(image)?);
    sh::output(cmd!(sh, "mtype -i {partition} ::/{name}"))
}

/// A copy in `dir` of a file of the FAT partition of `image`.
pub(crate) fn fat_copy(image: &Path, name: &str, dir: &Path) -> Result<PathBuf> {
    let (sh, partition, copy) = (sh::shell()?, fat_partition(image)?, dir.join(name));
    sh::run(cmd!(sh, "mcopy -o -i {partition} ::/{name} {copy}"))?;
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
    let (sh, partition) = (sh::shell()?, ext4_partition(image)?);
    let request = format!("cat {path}");
    let text = sh::output(cmd!(sh, "debugfs -R {request} {partition}"))?;
    // debugfs exits with 0 even if the file is missing.
    ensure!(
        !text.is_empty(),
        "{path} on the root file system of {partition} is empty or missing"
    );
    Ok(text)
}
