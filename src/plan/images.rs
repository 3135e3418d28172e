//! The images that a card carries: put together from the files that the farm names, and settled for a base – the
//! architecture compared, metadata made for a plain root filesystem.

use std::sync::Arc;

use palmfarm_protocol::firstboot::Image;
use palmfarm_protocol::paths::IMAGES;

use super::seen::Seen;
use super::{card_path, carried, Carried, PlanError};
use crate::base::{Arch, BaseFacts};
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

/// Why a carried image does not fit its base.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is for another machine.
    #[error(
        "the image {alias} ({source_path}) is for {found}, and the base is {arch}\nhint: take the {arch} build of the image"
    )]
    Architecture {
        /// Its alias.
        alias: String,
        /// The path beside the farm file.
        source_path: String,
        /// What it is for.
        found: String,
        /// What the base is.
        arch: Arch,
    },
    /// Its metadata and its programs contradict each other.
    #[error("the metadata of the image {alias} ({source_path}) says {metadata}, but the programs in it are for {machine}")]
    Contradiction {
        /// Its alias.
        alias: String,
        /// The path beside the farm file.
        source_path: String,
        /// What its metadata says.
        metadata: String,
        /// What its programs are for.
        machine: Machine,
    },
    /// A plain root filesystem without a program, so that nothing tells its architecture.
    #[error(
        "the image {alias} ({source_path}) is a root filesystem without any program in bin, sbin or lib\n\
         hint: give it with metadata of its own: {{file: ROOTFS, metadata: META.tar.xz}}"
    )]
    NoProgram {
        /// Its alias.
        alias: String,
        /// The path beside the farm file.
        source_path: String,
    },
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

/// The image that the farm declares as `alias`: its part of the document, what is known of it, and its files, which
/// are added to `payload`.
pub(super) fn declared(
    alias: &str,
    image: &CarriedImage,
    sources: &Sources,
    payload: &mut Vec<Carried>,
    seen: &mut Seen,
) -> Result<(Image, Found), PlanError> {
    let unreadable = |source_path: &str| {
        let (alias, source_path) = (alias.to_owned(), source_path.to_owned());
        move |source| PlanError::Image {
            alias,
            source_path,
            source,
        }
    };
    let parts = |what| PlanError::ImageParts {
        alias: alias.into(),
        what,
    };
    let file = carried(&format!("{IMAGES}/{alias}"), &image.file, sources)?;
    let shape = seen.shape(&file.content).map_err(unreadable(&image.file))?;
    let mut found = Found {
        alias: alias.into(),
        source: image.file.clone(),
        metadata: None,
        machine: None,
        release: None,
    };
    let mut of_document = Image {
        alias: alias.into(),
        path: file.path.as_str().into(),
        rootfs: None,
        fingerprint: seen.sha256(&file.content),
    };
    let rootfs =
        match shape {
            Shape::Unified { metadata, machine } => {
                found.machine = machine;
                found.metadata = Some(metadata);
                if image.metadata.is_some() {
                    return Err(parts(
                        "its `file` has metadata already\nhint: leave `metadata` out",
                    ));
                }
                None
            }
            Shape::Metadata(_) => return Err(parts(
                "its `file` is the metadata of a split image\nhint: {file: ROOTFS, metadata: META.tar.xz}",
            )),
            Shape::Rootfs { machine, release } => {
                found.machine = machine;
                found.release = release;
                Some(&file)
            }
            Shape::Squashfs if image.metadata.is_none() => {
                return Err(parts(
                    "its `file` is the squashfs of a split image\n\
                 hint: give the other part too: {file: rootfs.squashfs, metadata: META.tar.xz}",
                ))
            }
            Shape::Squashfs => Some(&file),
        };
    if let (Some(rootfs), Some(path)) = (rootfs, &image.metadata) {
        let metadata = carried(&format!("{IMAGES}/{alias}.metadata"), path, sources)?;
        match seen.shape(&metadata.content).map_err(unreadable(path))? {
            Shape::Metadata(of_file) => found.metadata = Some(of_file),
            _ => {
                return Err(parts(
                    "its `metadata` is no tarball of metadata.yaml and templates",
                ))
            }
        }
        split(&mut of_document, &metadata, rootfs);
        payload.push(metadata);
    }
    payload.push(file);
    Ok((of_document, found))
}

/// Make `image` one of two parts.
fn split(image: &mut Image, metadata: &Carried, rootfs: &Carried) {
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
    let (alias, source_path) = (found.alias.clone(), found.source.clone());
    let other = |what: String| Unfit::Architecture {
        alias: alias.clone(),
        source_path: source_path.clone(),
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
            alias,
            source_path,
            metadata: metadata.architecture.clone(),
            machine,
        }),
        (Some(machine), None) if machine != Machine::Known(arch) => Err(other(machine.to_string())),
        (None, None) => Err(Unfit::NoProgram { alias, source_path }),
        _ => Ok(()),
    }
}

fn complete(plan: &mut super::CardPlan, found: &Found, arch: Arch, time: u32) -> std::io::Result<()> {
    let content = lxd_image::metadata_for(&found.alias, arch, found.release.as_deref(), time)?;
    let path = card_path(&format!("{IMAGES}/{}.metadata", found.alias), &found.source);
    let metadata = Carried {
        path: path.map_err(std::io::Error::other)?,
        content: Arc::from(content),
        source: format!("metadata for {}", found.source),
        private: false,
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
