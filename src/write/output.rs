//! The output of `build`: the image, its block map and its manifest, which get their names together at the very end.

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::{
    write_image, write_images, FileSink, FreeSpace, ImageDigest, SinkError, WriteOptions, WriteTarget,
    Written, XzSink, ZstdSink,
};
use crate::base::source::{BaseImage, Verified};
use crate::edit::block::{Edits, Extents};
use crate::edit::tree::Tree;
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::progress::Observer;
use crate::write::{bmap, image_manifest};

/// How an image is to be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Raw,
    Xz,
    Zstd,
}

impl Packing {
    /// By the end of the name.
    pub fn of(path: &Path) -> Result<Self, SinkError> {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        [
            (Self::Raw, ".img"),
            (Self::Xz, ".img.xz"),
            (Self::Zstd, ".img.zst"),
        ]
        .into_iter()
        .find(|(_, end)| name.len() > end.len() && name.ends_with(end.as_bytes()))
        .map(|(packing, _)| packing)
        .ok_or_else(|| SinkError::UnknownPacking {
            target: path.display().to_string(),
        })
    }

    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// The files to write.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The image; its name says how it is packed. `PATH.bmap` and `PATH.manifest.json` come beside it.
    pub path: &'a Path,
    /// For the manifest: what was put on the card.
    pub tree: &'a Tree,
}

/// Write image, block map and manifest. Until all three are whole and on the disk, older files keep these names. An
/// image is never beside the block map or the manifest of another one.
///
/// # Errors
/// An older image is still there, unless the error is [`SinkError::Finish`] for one of the two smaller files.
pub fn write_output(
    base: &Verified<BaseImage>,
    edits: &Edits,
    output: Output<'_>,
    options: WriteOptions<'_>,
    observer: Observer<'_>,
) -> Result<Written<PathBuf>, SinkError> {
    let packing = Packing::of(output.path)?;
    let path = output.path;
    let image = match packing {
        Packing::Raw => write_image(base, edits, FileSink::create(path)?, options, observer)?,
        Packing::Xz => write_image(
            base,
            edits,
            XzSink::create(path, options.threads)?,
            options,
            observer,
        )?,
        Packing::Zstd => write_image(
            base,
            edits,
            ZstdSink::create(path, options.threads)?,
            options,
            observer,
        )?,
    };
    let mut written = stage(base, edits, output, packing, image)?;
    ready(&mut written)?;
    name(written)
}

#[derive(Clone, Copy, Debug)]
pub struct FleetCard<'a> {
    /// The difference from the base.
    pub edits: &'a Edits,
    /// The bytes of it that matter.
    pub allocated: &'a Extents,
    /// The files to write; the image is unpacked.
    pub output: Output<'a>,
}

/// As [`write_output`], for several cards as unpacked images: the base is decoded once, and no image gets its name
/// before all are whole.
pub fn write_fleet(
    base: &Verified<BaseImage>,
    cards: &[FleetCard<'_>],
    threads: NonZeroUsize,
    observer: Observer<'_>,
) -> Result<Vec<Written<PathBuf>>, SinkError> {
    let mut targets = Vec::new();
    for card in cards {
        targets.push(WriteTarget {
            edits: card.edits,
            free: FreeSpace::Mapped(card.allocated),
            sink: FileSink::create(card.output.path)?,
        });
    }
    let options = WriteOptions {
        threads,
        // Each card says so itself.
        free: FreeSpace::Written,
        digest: ImageDigest::Sha256,
    };
    let images = write_images(base, targets, options, observer)?;
    let mut staged = Vec::new();
    for (card, image) in cards.iter().zip(images) {
        staged.push(stage(base, card.edits, card.output, Packing::Raw, image)?);
    }
    for card in &mut staged {
        ready(card)?;
    }
    staged.into_iter().map(name).collect()
}

/// An image and its two companions, whole and on the disk, but still without their names.
type Staged = Written<[AtomicFile; 3]>;

fn stage(
    base: &Verified<BaseImage>,
    edits: &Edits,
    output: Output<'_>,
    packing: Packing,
    image: Written<AtomicFile>,
) -> Result<Staged, SinkError> {
    let [bmap, manifest] = companions(output.path);
    let bmap = staged(&bmap, &bmap::render(image.size, &image.mapped))?;
    let text = image_manifest::render(&image_manifest::Manifest {
        base: base.provenance(),
        size: image.size,
        sha256: image.sha256,
        packing,
        edits: edits.digest(),
        tree: output.tree,
    });
    let manifest = staged(&manifest, &text)?;
    image.with(|image| Ok([image, bmap, manifest]))
}

/// Do everything that may fail before the three files get their names.
fn ready(staged: &mut Staged) -> Result<(), SinkError> {
    for new in &mut staged.done {
        let target = new.path().display().to_string();
        new.ready(Durability::Synced)
            .map_err(SinkError::finish(&target))?;
    }
    Ok(())
}

/// Give the three files their names, the image first. The companions of an earlier image are removed before.
fn name(staged: Staged) -> Result<Written<PathBuf>, SinkError> {
    staged.with(|files| {
        let path = files[0].path().to_owned();
        for small in &files[1..] {
            match std::fs::remove_file(small.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let target = small.path().display().to_string();
                    return Err(SinkError::finish(&target)(error));
                }
                _ => {}
            }
        }
        for new in files {
            let target = new.path().display().to_string();
            new.commit(Durability::Synced)
                .map_err(SinkError::finish(&target))?;
        }
        Ok(path)
    })
}

/// The files that come beside the image at `path`: its block map and its manifest.
pub fn companions(path: &Path) -> [PathBuf; 2] {
    [beside(path, ".bmap"), beside(path, ".manifest.json")]
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// A small file, whole and on the disk, still without its name.
fn staged(path: &Path, text: &str) -> Result<AtomicFile, SinkError> {
    let target = path.display().to_string();
    let write = || {
        // The image has password hashes in it: anyone who may not read the image must not see its digest.
        let new = AtomicFile::create_unlinked(path, Readers::Owner)?;
        new.file().write_all(text.as_bytes())?;
        new.file().sync_all()?;
        Ok(new)
    };
    write().map_err(SinkError::create(&target))
}
