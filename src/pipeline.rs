//! From a loaded farm to edits that can be written: the one place that knows every layer, in the order in which a
//! mistake is cheapest to find. It opens the base and reads what the farm names; it writes nothing.

mod check;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use crate::agents::{self, AgentError};
use crate::base::layout::{Layout, LayoutError, Partition, Table};
use crate::base::source::{BaseImage, Sha256Sum, Verified};
use crate::base::survey::{self, SurveyError};
use crate::base::BaseFacts;
use crate::edit::block::ReadAt;
use crate::edit::block::{Edited, Edits, Extents, Span};
use crate::edit::tree::{Node, Privacy, Tree};
use crate::edit::{self, fs, EditError};
use crate::farm::addresses::Prefix;
use crate::farm::assets::{self, GatherError, Gathered};
use crate::farm::passwords::SecretError;
use crate::farm::LoadedFarm;
use crate::farm::ResolvedCard;
use crate::plan::{self, CardPlan, PlanError};
use crate::render::{self, Inputs, RenderError};
use crate::write::flash::{Job, PlannedFiles};
use crate::write::image_manifest::ListedFile;
use crate::write::root_space::Room;

pub use check::{check, judge};

/// Values that would otherwise come from the host. Filled in once, by the command line.
#[derive(Clone, Copy)]
pub struct Ambient<'a> {
    /// Environment variables that a farm names for passwords.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<u32>,
}

/// A base that was looked at: every card of a fleet is made from one.
pub struct Surveyed {
    /// Its bytes.
    pub image: Arc<Verified<BaseImage>>,
    /// Its partitions.
    pub layout: Layout,
    /// What rendering must know of it.
    pub facts: BaseFacts,
    /// Bytes of the root filesystem's inode tables: it gets more of them when it grows.
    pub inode_tables: u64,
}

/// One card, ready to be written.
pub struct Prepared {
    /// What was decided.
    pub plan: CardPlan,
    /// What the card holds beyond its base.
    pub tree: Tree,
    /// The blocks in which it differs from its base.
    pub edits: Edits,
    /// For the manifest.
    pub files: Vec<ListedFile>,
}

/// Why a card cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The base has no layout of Ubuntu's for the Pi.
    #[error("reading the partitions of the base")]
    Layout(#[from] LayoutError),
    /// The base is not an Ubuntu, or is damaged.
    #[error("looking at the base")]
    Survey(#[from] SurveyError),
    /// The base is a card of palmfarm's.
    #[error("the base is no stock image: palmfarm has put a farm on it already")]
    Customized,
    /// A file or overlay that the farm names cannot be read, or cannot go onto a card.
    #[error("reading what the farm names")]
    Gather(#[from] GatherError),
    /// A password cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The farm cannot be planned.
    #[error("planning the card")]
    Plan(#[from] PlanError),
    /// The plan cannot be rendered for this base.
    #[error("rendering the card")]
    Render(#[from] RenderError),
    /// There is no agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The base cannot take what is planned.
    #[error("editing the base")]
    Edit(#[from] EditError),
    /// The base's own maps of its free space cannot be read.
    #[error("reading which blocks of the image are in use")]
    Allocation(#[source] io::Error),
}

impl BuildError {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => Some(error.hint().into()),
            Self::Gather(error) => error.hint().map(Into::into),
            Self::Plan(error) => error.hint().map(Into::into),
            Self::Render(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Edit(error) => error.hint().map(Into::into),
            Self::Customized => Some(
                "take the image as Ubuntu publishes it: users and keys of the farm that is there would stay"
                    .into(),
            ),
            Self::Allocation(_) => Some("the image is damaged: get it again and compare its SHA-256".into()),
            _ => None,
        }
    }
}

/// Look at an opened base.
///
/// # Errors
/// It is no image of Ubuntu's for the Raspberry Pi.
pub fn survey(image: Verified<BaseImage>) -> Result<Surveyed, BuildError> {
    let layout = Layout::read(&image)?;
    let image = Arc::new(image);
    let facts = survey::survey(&image, &layout)?;
    let inode_tables = survey::inode_tables(&image, &layout)?;
    Ok(Surveyed {
        image,
        layout,
        facts,
        inode_tables,
    })
}

/// Hash passwords and plan `card`.
///
/// # Errors
/// [`BuildError`].
pub fn plan(
    farm: &LoadedFarm,
    gathered: &Gathered,
    card: ResolvedCard,
    prefixes: &[Prefix],
    ambient: Ambient<'_>,
) -> Result<CardPlan, BuildError> {
    let hashes = assets::hashes(farm, &card.name, ambient.environment)?;
    let mut plan = plan::card(&farm.farm, card, &gathered.sources, &hashes, prefixes)?;
    for file in plan.files.iter_mut().chain(&mut plan.payload) {
        file.private = gathered.private.contains(&file.source);
    }
    plan.epoch = ambient.epoch;
    Ok(plan)
}

/// Render a planned card for its base.
///
/// # Errors
/// [`BuildError`].
pub fn render(
    farm: &LoadedFarm,
    gathered: &Gathered,
    plan: &CardPlan,
    base: &Surveyed,
) -> Result<Tree, BuildError> {
    if base.facts.customized {
        return Err(BuildError::Customized);
    }
    let agent = agents::agent(base.facts.arch)?;
    let inputs = Inputs {
        agent: agent.into_owned().into(),
        base_name: farm.farm.base.clone(),
        base_sha256: Some(base.image.provenance().sha256.to_string()),
        overlays: gathered.overlays.clone(),
    };
    Ok(render::render(plan, &base.facts, &inputs)?)
}

/// Turn a rendered card into edits of its base.
///
/// # Errors
/// [`BuildError`].
pub fn edit(
    plan: CardPlan,
    tree: Tree,
    base: &Surveyed,
    ambient: Ambient<'_>,
) -> Result<Prepared, BuildError> {
    let time = ambient.epoch.unwrap_or(base.facts.newest);
    let edits = edit::edit(&base.image, base.layout.spans(), &tree, time)?;
    let files = listed(&tree);
    Ok(Prepared {
        plan,
        tree,
        edits,
        files,
    })
}

/// What goes onto a card that is to hold `image` as it is, whoever made it: any disk image with a partition table.
///
/// # Errors
/// It is no disk image, or its maps of free space cannot be read.
pub fn image_job(image: Verified<BaseImage>) -> Result<Job, BuildError> {
    let table = Table::read(&image)?;
    let edits = Edits::new(image.size());
    let allocated = allocated(&image, &table.partitions, &edits)?;
    Ok(Job::new(Arc::new(image), edits, allocated, None))
}

/// What goes onto a card of a farm.
///
/// # Errors
/// The base's maps of free space cannot be read.
pub fn card_job(base: &Surveyed, prepared: Prepared) -> Result<Job, BuildError> {
    let allocated = allocated(&base.image, &base.layout.partitions, &prepared.edits)?;
    let root = base.layout.root.span;
    let used = allocated
        .within(root.start(), root.end())
        .map(|(start, end)| end.saturating_sub(start))
        .sum();
    let files = PlannedFiles {
        layout: base.layout.clone(),
        tree: prepared.tree,
        room: Room {
            root,
            used,
            inode_tables: base.inode_tables,
        },
    };
    Ok(Job::new(
        Arc::clone(&base.image),
        prepared.edits,
        allocated,
        Some(files),
    ))
}

/// The bytes of `image` that matter once `edits` are laid over it: all but what its filesystems call free.
///
/// # Errors
/// [`BuildError::Allocation`].
pub fn allocated(image: &BaseImage, partitions: &[Partition], edits: &Edits) -> Result<Extents, BuildError> {
    let spans: Vec<Span> = partitions.iter().map(|partition| partition.span).collect();
    fs::allocated(&Edited::new(image, edits), &spans).map_err(BuildError::Allocation)
}

/// What the manifest says of each node.
fn listed(tree: &Tree) -> Vec<ListedFile> {
    let entry = |(volume, path, planned): (_, &crate::edit::tree::CardPath, &crate::edit::tree::Planned)| {
        let sha256 = match (&planned.node, planned.privacy) {
            (Node::File { content, .. }, Privacy::Public) => Some(Sha256Sum::of(content)),
            _ => None,
        };
        ListedFile {
            path: format!("{volume}:{path}"),
            sha256,
        }
    };
    tree.iter().map(entry).collect()
}
