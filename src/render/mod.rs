//! From a plan to every path of the card: templates filled in, read again, and compared with what went in. Pure: it
//! knows nothing of images or filesystems, and of the base only its facts.

mod addressing;
mod agent;
mod boot;
mod builder;
pub mod builtin;
mod cloud;
mod declared;
mod effect;
mod engine;
mod error;
mod fstab;
mod host;
mod ifupdown;
mod manifest;
mod network;
mod refuse;
mod undo;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use declared::{objections, Objection};
pub use error::RenderError;
pub use network::answers_for_its_name;

use crate::base::{BaseFacts, BaseRefusal, BaseRefusals};
use crate::edit::tree::{Access, CardPath, Overlay, Tree, Volume};
use crate::plan::{images, CardPlan};
use builder::TreeBuilder;

/// What a card holds that neither plan nor base has.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The agent for the base's architecture.
    pub agent: Arc<[u8]>,
    /// What `farm.yaml` calls the base.
    pub base_name: String,
    /// SHA-256 of the base as downloaded, where it is known.
    pub base_sha256: Option<String>,
    /// The farm's overlays, in its order.
    pub overlays: Vec<Overlay>,
    /// Mode and owner of the files of the base that the farm's files and overlays replace.
    pub replaced: BTreeMap<CardPath, Access>,
}

impl Inputs {
    /// Whether the farm's files, which are in `plan`, or its overlays have something on the root filesystem at a path of
    /// which `is_it` is true.
    fn bring(&self, plan: &CardPlan, is_it: &dyn Fn(&str) -> bool) -> bool {
        let overlays = self.overlays.iter().flat_map(|overlay| &overlay.nodes);
        let overlays = overlays.filter(|(volume, ..)| *volume == Volume::Root);
        let files = plan.files.iter().map(|file| &file.path);
        let mut all = files.chain(overlays.map(|(_, path, _)| path));
        all.any(|path| is_it(path.as_str()))
    }
}

/// What rendering found of a base.
#[derive(Debug)]
pub struct Diagnosis {
    /// Why no card is made from it.
    pub refusals: Vec<BaseRefusal>,
    /// What the card would hold if there were no such reason.
    pub tree: Result<Tree, RenderError>,
}

/// Begins the origin of each node that undoes something of the base; the reason follows.
const UNDONE: &str = "undone: ";

/// Why a node with this `origin` undoes something of the base, if it does.
pub fn undone(origin: &str) -> Option<&str> {
    origin.strip_prefix(UNDONE)
}

/// Render `plan` for the base with the facts `base`. What comes later wins where two name one path: templates, the
/// farm's `files`, its `overlays` in order; the manifest lists the outcome.
///
/// # Errors
/// The base lacks what the plan needs, or a value must not be put where it was to go.
pub fn render(plan: &CardPlan, base: &BaseFacts, inputs: &Inputs) -> Result<Tree, RenderError> {
    let Diagnosis { refusals, tree } = diagnose(plan, base, inputs);
    // Without systemd, or with an image for another system, the rest says little.
    let more_telling = matches!(tree, Err(RenderError::NoSystemd { .. } | RenderError::Image(_)));
    if refusals.is_empty() || more_telling {
        return tree;
    }
    let release = base.release.clone();
    Err(BaseRefusals {
        release,
        reasons: refusals,
    }
    .into())
}

/// The same, for whoever wants to know everything that would be said of the base.
pub fn diagnose(plan: &CardPlan, base: &BaseFacts, inputs: &Inputs) -> Diagnosis {
    Diagnosis {
        refusals: refuse::reasons(plan, base, inputs),
        tree: tree(plan, base, inputs),
    }
}

fn tree(plan: &CardPlan, base: &BaseFacts, inputs: &Inputs) -> Result<Tree, RenderError> {
    let Some(systemd) = base.systemd else {
        return Err(RenderError::NoSystemd {
            release: base.release.clone(),
        });
    };
    let mut settled = plan.clone();
    images::settle(&mut settled, base)?;
    let plan = &settled;
    let mut build = TreeBuilder::new()?;
    undo::render(&mut build, plan, base)?;
    fstab::check(plan, base, inputs)?;
    fstab::render(&mut build, plan, base, inputs)?;
    host::render(&mut build, plan, base)?;
    boot::render(&mut build, plan, base)?;
    cloud::render(&mut build, plan, base, inputs)?;
    network::render(&mut build, plan, base, systemd)?;
    agent::render(&mut build, plan, base, inputs)?;
    host::files(&mut build, plan, inputs);
    host::cover(&mut build, base)?;
    manifest::render(&mut build, plan, base, inputs)?;
    Ok(build.tree)
}
