//! The images that a card carries: put together from the files that the farm names, and settled for a base – the
//! architecture compared, metadata made for a plain root filesystem.

use std::sync::Arc;

use palmfarm_protocol::firstboot::Image;
use palmfarm_protocol::paths::IMAGES;

use super::content_cache::ContentCache;
use super::{card_path, carried, CardFile, PlanError, OF_THE_AGENT};
use crate::base::{Arch, BaseFacts};
use crate::edit::tree::{IfThere, Privacy};
use crate::farm::assets::Sources;
use crate::farm::lxd_image::{self, Machine, Metadata, Shape};
use crate::farm::CarriedImage;
use crate::sha256::Sha256Sum;

/// What is known of a carried image before its base is.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its alias.
    pub alias: String,
    /// The path of its file beside the farm file.
    pub source: String,
    /// What its metadata says; `None`: it is a plain root filesystem, which has none yet.
    pub metadata: Option<Metadata>,
    /// For which machine the programs in it are, where one was met.
    pub machine: Option<Machine>,
    /// What a plain root filesystem calls itself.
    pub release: Option<String>,
}

/// Why the files of a carried image do not make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A unified image, and metadata beside it.
    #[error("its `file` has metadata already")]
    MetadataTwice,
    /// One part of a split image where the other belongs.
    #[error("its `file` is the metadata of a split image")]
    OnlyMetadata,
    /// A squashfs, which nobody looks into, without metadata.
    #[error("its `file` is the squashfs of a split image")]
    OnlySquashfs,
    /// Something else where metadata belongs.
    #[error("its `metadata` is not a tarball of metadata.yaml and templates")]
    NotMetadata,
}

impl Mismatch {
    /// What the person can do.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::MetadataTwice => Some("leave `metadata` out"),
            Self::OnlyMetadata => Some("{file: ROOTFS, metadata: META.tar.xz}"),
            Self::OnlySquashfs => {
                Some("give the other part too: {file: rootfs.squashfs, metadata: META.tar.xz}")
            }
            Self::NotMetadata => None,
        }
    }
}

/// Why a carried image does not fit its base.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is for another machine.
    #[error("the image {image} is for {found}, and the base is {arch}")]
    Architecture {
        /// Its alias and its file.
        image: String,
        /// What it is for.
        found: String,
        /// What the base is.
        arch: Arch,
    },
    /// It is for a machine that no base is for.
    #[error("the image {image} is for {found}, and no card is")]
    AnyArchitecture {
        /// Its alias and its file.
        image: String,
        /// What it is for.
        found: String,
    },
    /// Its metadata and its programs contradict each other.
    #[error("the metadata of the image {image} says {metadata}, but the programs in it are for {machine}")]
    Contradiction {
        /// Its alias and its file.
        image: String,
        /// What its metadata says.
        metadata: String,
        /// What its programs are for.
        machine: Machine,
    },
    /// A plain root filesystem without a program, so that nothing tells its architecture.
    #[error("the image {0} is a root filesystem without any program in bin, sbin or lib")]
    NoProgram(String),
    /// Its metadata could not be put together.
    #[error("writing the metadata of the image {alias}")]
    Metadata {
        /// Its alias.
        alias: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Unfit {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Architecture { arch, .. } => Some(format!("take the {arch} build of the image")),
            Self::AnyArchitecture { .. } => Some("take the armhf or arm64 build of the image".into()),
            Self::NoProgram(_) => {
                Some("give it with metadata of its own: {file: ROOTFS, metadata: META.tar.xz}".into())
            }
            Self::Contradiction { .. } | Self::Metadata { .. } => None,
        }
    }
}

impl Found {
    /// The image that the farm declares as `alias`, from the shapes of its files.
    ///
    /// # Errors
    /// [`Mismatch`].
    pub fn new(
        alias: &str,
        image: &CarriedImage,
        file: Shape,
        metadata: Option<Shape>,
    ) -> Result<Self, Mismatch> {
        let mut found = Self {
            alias: alias.into(),
            source: image.file.clone(),
            metadata: None,
            machine: None,
            release: None,
        };
        match file {
            Shape::Unified { .. } if metadata.is_some() => return Err(Mismatch::MetadataTwice),
            Shape::Unified { metadata, machine } => {
                found.metadata = Some(metadata);
                found.machine = machine;
                return Ok(found);
            }
            Shape::Metadata(_) => return Err(Mismatch::OnlyMetadata),
            Shape::Squashfs if metadata.is_none() => return Err(Mismatch::OnlySquashfs),
            Shape::Squashfs => {}
            Shape::Rootfs { machine, release } => {
                found.machine = machine;
                found.release = release;
            }
        }
        found.metadata = match metadata {
            None => None,
            Some(Shape::Metadata(metadata)) => Some(metadata),
            Some(_) => return Err(Mismatch::NotMetadata),
        };
        Ok(found)
    }

    /// Whether it is for the machine of a base; of one that is not known yet, whether there can be one.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn fits(&self, arch: Option<Arch>) -> Result<(), Unfit> {
        if let Some(arch) = arch {
            return fits(self, arch);
        }
        let mut why = None;
        for arch in [Arch::Armhf, Arch::Arm64, Arch::Amd64] {
            why = match (fits(self, arch), why) {
                (Ok(()), _) => return Ok(()),
                // What contradicts itself does so for one machine, and is another's for the rest.
                (Err(Unfit::Architecture { .. }), Some(said @ Unfit::Contradiction { .. })) => Some(said),
                (Err(error), _) => Some(error),
            };
        }
        Err(match why {
            Some(Unfit::Architecture { image, found, .. }) => Unfit::AnyArchitecture { image, found },
            Some(why) => why,
            None => return Ok(()),
        })
    }
}

/// The image that the farm declares as `alias`: its part of the document, what is known of it, and its files, which
/// are added to `payload`.
pub(super) fn declared(
    alias: &str,
    image: &CarriedImage,
    sources: &Sources,
    payload: &mut Vec<CardFile>,
    seen: &mut ContentCache,
) -> Result<(Image, Found), PlanError> {
    let mut look = |content: &Arc<[u8]>, source_path: &str| {
        seen.shape(content).map_err(|source| PlanError::Image {
            alias: alias.into(),
            source_path: source_path.into(),
            source,
        })
    };
    let carried = |path: &str, source: &str| carried(path, source, OF_THE_AGENT, Privacy::Public, sources);
    let file = carried(&format!("{IMAGES}/{alias}"), &image.file)?;
    let shape = look(&file.content, &image.file)?;
    let path = metadata_path(alias);
    let metadata = match &image.metadata {
        None => None,
        Some(source) => Some(carried(&path, source)?),
    };
    let metadata_shape = match &metadata {
        None => None,
        Some(metadata) => Some(look(&metadata.content, &metadata.source)?),
    };
    let found = Found::new(alias, image, shape, metadata_shape).map_err(|what| PlanError::ImageParts {
        alias: alias.into(),
        what,
    })?;
    let mut of_document = Image {
        alias: alias.into(),
        path: file.path.as_str().into(),
        rootfs: None,
        fingerprint: seen.sha256(&file.content),
    };
    if let Some(metadata) = metadata {
        split(&mut of_document, &metadata, &file);
        payload.push(metadata);
    } else if found.metadata.is_none() {
        // The metadata and, with it, the fingerprint follow once the base is known; the paths are these.
        of_document.rootfs = Some(std::mem::replace(&mut of_document.path, path));
    }
    payload.push(file);
    Ok((of_document, found))
}

/// Where the metadata of the image `alias` lies on the card.
fn metadata_path(alias: &str) -> String {
    format!("{IMAGES}/{alias}.metadata")
}

/// Make `image` one of two parts.
fn split(image: &mut Image, metadata: &CardFile, rootfs: &CardFile) {
    let both = [&metadata.content[..], &rootfs.content[..]].concat();
    image.fingerprint = Sha256Sum::of(&both).to_string();
    image.path = metadata.path.as_str().into();
    image.rootfs = Some(rootfs.path.as_str().into());
}

/// See that every carried image of `plan` is for the base's machine, and give those that are plain root filesystems
/// the metadata that LXD wants; `time` is in seconds since 1970.
///
/// # Errors
/// [`Unfit`], for the first that does not fit.
pub fn settle(plan: &mut super::CardPlan, base: &BaseFacts) -> Result<(), Unfit> {
    let time = plan.epoch.unwrap_or(base.newest);
    for found in std::mem::take(&mut plan.images) {
        fits(&found, base.arch)?;
        if found.metadata.is_none() {
            complete(plan, &found, base.arch, time).map_err(|source| Unfit::Metadata {
                alias: found.alias.clone(),
                source,
            })?;
        }
        plan.images.push(found);
    }
    Ok(())
}

fn fits(found: &Found, arch: Arch) -> Result<(), Unfit> {
    let image = format!("{} ({})", found.alias, found.source);
    let other = |what: String| Unfit::Architecture {
        image: image.clone(),
        found: what,
        arch,
    };
    if let Some(metadata) = &found.metadata {
        let named = metadata.architecture.as_str();
        if !arch.lxd().contains(&named) {
            return Err(other(named.into()));
        }
    }
    match (found.machine, &found.metadata) {
        (Some(machine), Some(metadata)) if machine != Machine::Known(arch) => Err(Unfit::Contradiction {
            image,
            metadata: metadata.architecture.clone(),
            machine,
        }),
        (Some(machine), None) if machine != Machine::Known(arch) => Err(other(machine.to_string())),
        (None, None) => Err(Unfit::NoProgram(image)),
        _ => Ok(()),
    }
}

fn complete(plan: &mut super::CardPlan, found: &Found, arch: Arch, time: u32) -> std::io::Result<()> {
    let content = lxd_image::metadata_for(&found.alias, arch, found.release.as_deref(), time, &[])?;
    let path = card_path(&metadata_path(&found.alias), &found.source);
    let metadata = CardFile {
        path: path.map_err(std::io::Error::other)?,
        content: Arc::from(content),
        source: format!("metadata for {}", found.source),
        access: OF_THE_AGENT,
        if_there: IfThere::Set,
        privacy: Privacy::Public,
    };
    let lxd = plan.firstboot.lxd.as_mut();
    let image = lxd.and_then(|lxd| lxd.images.iter_mut().find(|image| image.alias == found.alias));
    let rootfs_path = format!("{IMAGES}/{}", found.alias);
    let rootfs = plan.payload.iter().find(|file| file.path.as_str() == rootfs_path);
    if let (Some(image), Some(rootfs)) = (image, rootfs) {
        split(image, &metadata, rootfs);
    }
    plan.payload.retain(|file| file.path != metadata.path);
    plan.payload.push(metadata);
    Ok(())
}
