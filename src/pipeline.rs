//! From a loaded farm to edits that can be written: the one place that knows every room, in the order in which mistakes
//! are cheapest to find. It reads the base and what the farm names; it writes nothing.

mod check;
mod declared;
pub mod doctor;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use palmfarm_protocol::firstboot;

use crate::agents::{self, AgentError};
use crate::base::layout::{Layout, LayoutError, Partition, Table};
use crate::base::source::{self, BaseImage, Trust, Verified};
use crate::base::survey::{self, SurveyError};
use crate::base::BaseFacts;
use crate::edit::block::{Edited, Edits, Extents, ReadAt, Span};
use crate::edit::tree::{Access, CardPath, Planned, Privacy, Tree};
use crate::edit::{self, fs, EditError};
use crate::farm::addresses::Prefix;
use crate::farm::assets::{self, GatherError, Gathered};
use crate::farm::node::Step;
use crate::farm::passwords::SecretError;
use crate::farm::problem::Problems;
use crate::farm::secret;
use crate::farm::{LoadedFarm, ResolvedCard};
use crate::plan::content_cache::ContentCache;
use crate::plan::{self, packages, CardPlan, PlanError};
use crate::render::{self, Inputs, RenderError};
use crate::text::shown_url;
use crate::write::flash::{Job, PlannedFiles};
use crate::write::root_space::Room;

pub use check::{check, judge};

/// Values that come from the host. The command line fills them in once; nothing below it asks the host.
#[derive(Clone, Copy)]
pub struct HostInputs<'a> {
    /// The environment variables that a farm may name for passwords.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<u32>,
}

/// Everything but the base that cards of a farm are made from.
pub struct FarmInputs<'a> {
    /// The farm.
    pub loaded: LoadedFarm,
    assets: Gathered,
    host: HostInputs<'a>,
}

/// An opened base: every card of a fleet is made from one.
pub struct BaseImageInfo {
    /// Its bytes.
    pub image: Arc<Verified<BaseImage>>,
    /// Its partitions.
    pub layout: Layout,
    /// What rendering must know about it.
    pub facts: BaseFacts,
    /// Bytes of the root filesystem's inode tables: it gets more of them when it grows.
    pub inode_tables: u64,
}

/// One card, ready to be written.
pub struct PreparedCard {
    /// What was decided.
    pub plan: CardPlan,
    /// The blocks in which it differs from its base.
    pub edits: Edits,
    /// What the card holds beyond its base.
    pub tree: Tree,
}

impl PreparedCard {
    /// Whether it holds what its owner did not mean to show: then who knows the digest of its image and all else that
    /// the image is made from can try out passwords until the digest is right.
    pub fn has_secrets(&self) -> bool {
        let document = palmfarm_protocol::paths::DOCUMENT;
        let in_files = |(_, path, planned): (_, &CardPath, &Planned)| {
            planned.privacy != Privacy::Public && path.as_str() != document
        };
        let in_containers = |container: &firstboot::Container| {
            let is_shown = secret::all_shown(container.config.keys(), container.devices.values().flatten());
            !container.run.is_empty() || !is_shown
        };
        self.tree.iter().any(in_files) || self.plan.firstboot.containers.iter().any(in_containers)
    }
}

/// Why a card cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The base does not have the layout of Ubuntu's images for the Pi.
    #[error("reading the partitions of the base")]
    Layout(#[from] LayoutError),
    /// The base is not Ubuntu, or is damaged.
    #[error("examining the base")]
    Survey(#[from] SurveyError),
    /// The base is an image that palmfarm made.
    #[error("the base is not a stock image: palmfarm has put a farm on it already")]
    Customized,
    /// A file or overlay that the farm names cannot be read, or cannot go onto a card.
    #[error("reading the files that the farm names")]
    Gather(#[from] GatherError),
    /// A password cannot be read or hashed.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The farm cannot be planned.
    #[error("planning the card")]
    Plan(#[from] PlanError),
    /// The packages that the card carries cannot be installed on this base.
    #[error("comparing the carried packages with those of the base")]
    Packages(#[from] packages::Unfit),
    /// The plan cannot be rendered for this base.
    #[error("rendering the card")]
    Render(#[from] RenderError),
    /// There is no agent for the base.
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
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = source::hint_within(self) {
            return Some(hint.into());
        }
        match self {
            Self::Layout(error) => Some(error.hint().into()),
            Self::Survey(error) => error.hint().map(Into::into),
            Self::Gather(error) => error.hint().map(Into::into),
            Self::Plan(error) => error.hint(),
            Self::Packages(error) => error.hint(),
            Self::Render(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Edit(error) => error.hint().map(Into::into),
            Self::Customized => Some(
                "use the image as Ubuntu publishes it: users and keys of the farm on this one would stay"
                    .into(),
            ),
            Self::Allocation(_) => {
                Some("the image is damaged: download it again and compare its SHA-256".into())
            }
            Self::Secret(_) => None,
        }
    }
}

/// Read from an opened base what its cards depend on.
pub fn survey(image: Verified<BaseImage>) -> Result<BaseImageInfo, BuildError> {
    let layout = Layout::read(&image)?;
    let image = Arc::new(image);
    let facts = survey::survey(&image, &layout)?;
    let inode_tables = survey::inode_tables(&image, &layout)?;
    Ok(BaseImageInfo {
        image,
        layout,
        facts,
        inode_tables,
    })
}

impl<'a> FarmInputs<'a> {
    /// Read the files that the farm names.
    pub fn read(loaded: LoadedFarm, host: HostInputs<'a>) -> Result<Self, BuildError> {
        let assets = assets::gather(&loaded)?;
        Ok(Self { loaded, assets, host })
    }

    /// Hash passwords and plan `card`.
    pub fn plan(&self, card: ResolvedCard, prefixes: &[Prefix]) -> Result<CardPlan, BuildError> {
        let hashes = assets::hashes(&self.loaded, &card.name, self.host.environment)?;
        let mut plan = plan::card(
            &self.loaded.farm,
            card,
            &self.assets.sources,
            &hashes,
            prefixes,
            self.assets.keys.as_ref(),
            &mut ContentCache::default(),
        )?;
        for file in plan.files.iter_mut().chain(&mut plan.payload) {
            if file.privacy == Privacy::Public && self.assets.private.contains(&file.source) {
                file.privacy = Privacy::Undeclared;
            }
        }
        plan.epoch = self.host.epoch;
        Ok(plan)
    }

    /// What the farm's files and overlays would keep the cards `plans` from, as `check` says it.
    pub fn objections<'p>(&self, plans: impl IntoIterator<Item = &'p CardPlan>) -> Problems {
        let mut found = Problems::default();
        let text = &self.loaded.text;
        for (index, overlay) in self.assets.overlays.iter().enumerate() {
            let at = text.locate(&["overlays".into(), index.into()]);
            declared::warnings(overlay, at, &mut found);
        }
        for plan in plans {
            let overlays = self.assets.overlays.iter().enumerate();
            let locate = |place: &[Step<'_>]| text.locate(place);
            declared::tell(&self.loaded.farm, overlays, plan, &locate, &mut found);
        }
        found.sort();
        found
    }

    /// Render a planned card for `base`.
    pub fn render(&self, plan: &CardPlan, base: &BaseImageInfo) -> Result<Tree, BuildError> {
        if base.facts.customized {
            return Err(BuildError::Customized);
        }
        if !plan.packages.is_empty() {
            let installed = survey::installed(&base.image, &base.layout)?;
            packages::complete(&plan.packages, &installed, &base.facts.release, base.facts.arch)?;
        }
        let agent = agents::agent(base.facts.arch)?;
        let inputs = Inputs {
            agent: agent.into_owned().into(),
            base_name: shown_url(&self.loaded.farm.base),
            base_sha256: Some(base.image.provenance().sha256.to_string()),
            replaced: self.replaced(plan, base)?,
            overlays: self.assets.overlays.clone(),
        };
        Ok(render::render(plan, &base.facts, &inputs)?)
    }

    /// The files of `base` that the farm's own files and overlays replace.
    fn replaced(
        &self,
        plan: &CardPlan,
        base: &BaseImageInfo,
    ) -> Result<BTreeMap<CardPath, Access>, BuildError> {
        let overlays = self.assets.overlays.iter();
        let paths = overlays.flat_map(|overlay| overlay.if_there.keys());
        let paths = paths.chain(plan.files.iter().map(|file| &file.path));
        Ok(survey::accesses(&base.image, &base.layout, paths)?)
    }

    /// The whole way from `card` to edits of `base`.
    pub fn prepare(&self, card: ResolvedCard, base: &BaseImageInfo) -> Result<PreparedCard, BuildError> {
        let plan = self.plan(card, &[])?;
        let tree = self.render(&plan, base)?;
        let time = self.host.epoch.unwrap_or(base.facts.newest);
        let edits = edit::edit(&base.image, base.layout.spans(), &tree, time)?;
        Ok(PreparedCard { plan, edits, tree })
    }
}

/// What goes onto a card that will hold `image` as it is: any disk image with a partition table. A partition may end beyond
/// it only if its digest was given, which shows that it was not cut short.
pub fn image_job(image: Verified<BaseImage>) -> Result<Job, BuildError> {
    let table = Table::read(&image)?;
    if image.provenance().trust != Trust::Matched {
        table.check_whole(image.size())?;
    }
    let edits = Edits::new(image.size());
    let allocated = allocated(&image, &table.partitions, &edits)?;
    Ok(Job {
        image: Arc::new(image),
        edits,
        allocated,
        files: None,
    })
}

/// What goes onto a card of a farm.
pub fn card_job(base: &BaseImageInfo, prepared: PreparedCard) -> Result<Job, BuildError> {
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
            limit: base.layout.behind_root().map(|partition| partition.span.start()),
        },
    };
    Ok(Job {
        image: Arc::clone(&base.image),
        edits: prepared.edits,
        allocated,
        files: Some(files),
    })
}

/// The bytes of `image` that matter once `edits` are laid over it: all but what its filesystems mark as free.
pub fn allocated(image: &BaseImage, partitions: &[Partition], edits: &Edits) -> Result<Extents, BuildError> {
    let spans: Vec<Span> = partitions
        .iter()
        .filter(|partition| partition.may_be_filesystem())
        .map(|partition| partition.span)
        .collect();
    fs::allocated(&Edited::new(image, edits), &spans).map_err(BuildError::Allocation)
}
