//! What a farm's files and overlays would keep its cards from, told at their places in the farm file: `check`, `plan` and
//! whatever makes a card say the same. It has no rule of its own, reads nothing and writes nothing.

use std::collections::BTreeMap;

use crate::base::survey;
use crate::edit::tree::{CardPath, Node, Overlay, Volume};
use crate::farm::node::{Span, Step};
use crate::farm::problem::{Problem, Problems, Severity};
use crate::farm::suggest::quoted;
use crate::farm::Farm;
use crate::plan::CardPlan;
use crate::render::{self, Objection};

/// By whom a node is declared.
#[derive(Clone, Copy)]
enum By<'a> {
    /// `files:`, with the file here.
    File(&'a str),
    /// The overlay with this index.
    Overlay(usize),
}

/// Tell what `files:` and `overlays`, each with its index, would keep the card `plan` of `farm` from. `locate` knows where a
/// part of the farm is in its file.
pub(super) fn tell<'a>(
    farm: &'a Farm,
    overlays: impl Iterator<Item = (usize, &'a Overlay)>,
    plan: &'a CardPlan,
    locate: &dyn Fn(&[Step<'_>]) -> Span,
    p: &mut Problems,
) {
    let mut by: BTreeMap<(Volume, &CardPath), By<'_>> = BTreeMap::new();
    let mut files: BTreeMap<&CardPath, Node> = BTreeMap::new();
    for file in &plan.files {
        // The card brings more files than `files:` has.
        if let Some(source) = farm.files.get(file.path.as_str()) {
            by.insert((Volume::Root, &file.path), By::File(&source.file));
            let (content, access) = (file.content.clone(), file.access);
            files.insert(&file.path, Node::File { content, access });
        }
    }
    let mut nodes: BTreeMap<_, &Node> = files
        .iter()
        .map(|(path, node)| ((Volume::Root, *path), node))
        .collect();
    for (index, overlay) in overlays {
        for (volume, path, planned) in &overlay.nodes {
            by.insert((*volume, path), By::Overlay(index));
            nodes.insert((*volume, path), &planned.node);
        }
    }
    let of_root = nodes.iter().filter(|((volume, _), _)| *volume == Volume::Root);
    let odd = survey::laid(&of_root.map(|((_, path), node)| (*path, *node)).collect());
    for objection in render::objections(plan, &nodes, &odd) {
        let Objection {
            volume,
            path,
            what,
            hint,
            is_certain,
        } = objection;
        let (at, thing) = match by.get(&(volume, &path)) {
            Some(By::File(source)) => (
                locate(&["files".into(), path.as_str().into()]),
                format!("{} as {path}", quoted(source)),
            ),
            Some(By::Overlay(index)) => (
                locate(&["overlays".into(), (*index).into()]),
                format!("{volume}{path} of this overlay"),
            ),
            None => continue,
        };
        p.push(Problem {
            severity: if is_certain {
                Severity::Error
            } else {
                Severity::Warning
            },
            ..Problem::warning(at, format!("{thing} {what}")).hint(hint)
        });
    }
}

/// Tell at `at` what the owner of `overlay` may not have meant.
pub(super) fn warnings(overlay: &Overlay, at: Span, p: &mut Problems) {
    for warning in &overlay.warnings {
        p.warning(at, warning.message.clone()).hint(warning.hint.clone());
    }
}
