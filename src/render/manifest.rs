//! `/etc/palmfarm/manifest.json`: what was put on the card, for `inspect` and for whoever wants to compare.

use palmfarm_protocol::card_manifest::{self, Base, Entry, Kind, Manifest};
use palmfarm_protocol::paths::MANIFEST;
use serde_json::json;

use super::builder::TreeBuilder;
use super::{Inputs, RenderError};
use crate::base::BaseFacts;
use crate::edit::tree::{Node, Planned, Privacy, Tree, Volume};
use crate::plan::CardPlan;
use crate::sha256::Sha256Sum;

/// Plan the manifest of all that is planned so far; it is the one file that it does not list.
pub(super) fn render(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    inputs: &Inputs,
) -> Result<(), RenderError> {
    let manifest = Manifest {
        version: card_manifest::VERSION,
        tool: env!("CARGO_PKG_VERSION").into(),
        card: plan.card.name.clone(),
        hostname: plan.card.hostname.clone(),
        base: Base {
            name: inputs.base_name.clone(),
            sha256: inputs.base_sha256.clone(),
            release: base.release.clone(),
            arch: base.arch.debian().into(),
        },
        files: entries(&build.tree),
    };
    let text = format!("{:#}\n", json!(manifest));
    build.public(Volume::Root, MANIFEST, &text, "palmfarm")
}

fn entries(tree: &Tree) -> Vec<Entry> {
    tree.iter()
        .map(|(volume, path, planned)| entry(volume, path.as_str(), planned))
        .collect()
}

fn entry(volume: Volume, path: &str, planned: &Planned) -> Entry {
    let mut entry = Entry {
        volume: volume.to_string(),
        path: path.into(),
        kind: Kind::Absent,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        sha256: None,
        target: None,
        secret: planned.privacy == Privacy::Secret,
        origin: planned.origin.clone(),
    };
    let access = match &planned.node {
        Node::Absent => None,
        Node::Symlink { target } => {
            entry.kind = Kind::Symlink;
            entry.target = Some(target.clone());
            None
        }
        Node::Dir { access, .. } => {
            entry.kind = Kind::Dir;
            Some(access)
        }
        Node::File { content, access } => {
            entry.kind = Kind::File;
            if !entry.secret {
                entry.size = u64::try_from(content.len()).ok();
                entry.sha256 = Some(Sha256Sum::of(content).to_string());
            }
            Some(access)
        }
    };
    // FAT knows neither owners nor permissions.
    if let (Some(access), Volume::Root) = (access, volume) {
        entry.mode = Some(format!("{:04o}", access.mode));
        entry.uid = Some(access.uid);
        entry.gid = Some(access.gid);
    }
    entry
}
