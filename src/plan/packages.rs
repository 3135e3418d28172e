//! The Debian packages of a card: those that the first boot installs, where those that it carries lie, and whether the base
//! has what these need. And where the snaps lie that it carries.

use std::collections::{BTreeMap, BTreeSet};

use palmfarm_protocol::firstboot::Snap;
use palmfarm_protocol::paths::CARRIED;

use super::{carried, CardFile, PlanError, MODE};
use crate::base::debian::{Fulfilled, Need, Package};
use crate::base::Arch;
use crate::edit::tree::{Access, Privacy};
use crate::farm::assets::Sources;
use crate::farm::{CarriedPackage, Farm, Renderer, ResolvedCard};

/// Packages that a card with `renderer: ifupdown` needs.
const IFUPDOWN: [&str; 3] = ["ifupdown", "bridge-utils", "isc-dhcp-client"];

/// Why carried packages do not fit their base.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// One is for another machine.
    #[error("{file:?} is for {found}, and the base is {arch}")]
    Architecture {
        /// The file beside the farm file.
        file: String,
        /// What it is for.
        found: String,
        /// What the base is.
        arch: Arch,
    },
    /// One is for a machine that no base is for.
    #[error("{file:?} is for {found}, and no card is")]
    AnyArchitecture {
        /// The file beside the farm file.
        file: String,
        /// What it is for.
        found: String,
    },
    /// They need others.
    #[error("neither the card nor {release} has {}", needs.join(", "))]
    Needs {
        /// What the base calls itself.
        release: String,
        /// Each need, and who has it: `libjq1 (= 1.6-2.1) for jq`.
        needs: Vec<String>,
        /// The names of packages that would do.
        names: Vec<String>,
        /// What the base is.
        arch: Arch,
    },
}

impl Unfit {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Architecture { arch, .. } => Some(format!("carry the package for {arch}")),
            Self::AnyArchitecture { .. } => Some("carry the package for armhf or arm64".into()),
            Self::Needs { release, names, arch, .. } => Some(format!(
                "carry them, too: on {release} for {arch}, or in a container of it, `apt-get update && apt-get download {}` gets \
                 the files",
                names.join(" ")
            )),
        }
    }
}

/// Packages for the first boot, each once, those of the renderer first: without them the network stays provisional.
pub(super) fn wanted(farm: &Farm, card: &ResolvedCard) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if card.network.renderer == Renderer::Ifupdown {
        all.extend(IFUPDOWN.map(Into::into));
    }
    all.extend(farm.packages.iter().cloned());
    let mut seen = BTreeSet::new();
    all.retain(|package| seen.insert(package.clone()));
    all
}

/// The carried packages of `farm` for the document; their files are added to `payload`.
pub(super) fn declared(
    farm: &Farm,
    sources: &Sources,
    payload: &mut Vec<CardFile>,
) -> Result<BTreeMap<String, String>, PlanError> {
    let mut packages = BTreeMap::new();
    for package in farm.carry.packages() {
        let path = format!("{CARRIED}/{}", package.name_on_card());
        // apt reads them as a user of its own.
        let access = Access::root(MODE);
        payload.push(carried(&path, &package.file, access, Privacy::Public, sources)?);
        packages.insert(package.spec(), path);
    }
    Ok(packages)
}

/// The snaps of `farm` for the document; their files are added to `payload`.
pub(super) fn snaps(
    farm: &Farm,
    sources: &Sources,
    payload: &mut Vec<CardFile>,
) -> Result<Vec<Snap>, PlanError> {
    let mut snaps = Vec::new();
    for snap in &farm.carry.lxd {
        let mut add = |ending: &str, source: &str| {
            let path = format!("{CARRIED}/{}.{ending}", snap.name);
            let access = Access::root(MODE);
            payload.push(carried(&path, source, access, Privacy::Public, sources)?);
            Ok::<_, PlanError>(path)
        };
        snaps.push(Snap {
            path: add("snap", &snap.file)?,
            assertions: match snap.assertions() {
                Some(file) => Some(add("assert", &file)?),
                None => None,
            },
            name: snap.name.clone(),
        });
    }
    Ok(snaps)
}

/// Whether `carried` is for the machine of a base; of one that is not known yet, whether there can be one.
///
/// # Errors
/// [`Unfit`].
pub fn fits(carried: &CarriedPackage, arch: Option<Arch>) -> Result<(), Unfit> {
    let (file, found) = (carried.file.clone(), carried.package.architecture.clone());
    match arch {
        Some(arch) if !carried.package.fits(arch.debian()) => Err(Unfit::Architecture { file, found, arch }),
        None if ![Arch::Armhf, Arch::Arm64, Arch::Amd64]
            .iter()
            .any(|arch| carried.package.fits(arch.debian())) =>
        {
            Err(Unfit::AnyArchitecture { file, found })
        }
        _ => Ok(()),
    }
}

/// See that all of `carried` can be installed on a base called `release` that has the packages `installed`.
///
/// # Errors
/// [`Unfit`].
pub fn complete(
    carried: &[CarriedPackage],
    installed: &[Package],
    release: &str,
    arch: Arch,
) -> Result<(), Unfit> {
    for package in carried {
        fits(package, Some(arch))?;
    }
    let of_base = installed.iter().filter(|package| package.fits(arch.debian()));
    let fulfilled = Fulfilled::by(of_base.chain(carried.iter().map(|carried| &carried.package)));
    let mut lacking: BTreeMap<&Need, Vec<&str>> = BTreeMap::new();
    for package in carried.iter().map(|carried| &carried.package) {
        for need in package.needs.iter().filter(|need| !fulfilled.has(need)) {
            lacking.entry(need).or_default().push(&package.name);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let names: BTreeSet<_> = lacking.keys().map(|need| need.first().to_owned()).collect();
    let needs = lacking.iter().map(|(need, of)| match of.as_slice() {
        [first, _, ..] => format!("{need} for {first} and {} more", of.len().saturating_sub(1)),
        _ => format!("{need} for {}", of.concat()),
    });
    Err(Unfit::Needs {
        release: release.into(),
        needs: needs.collect(),
        names: names.into_iter().collect(),
        arch,
    })
}
