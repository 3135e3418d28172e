//! Farms from their YAML, planned and rendered without touching a disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use palmfarm::base::{Arch, BaseFacts};
use palmfarm::farm::{self, LoadedFarm};
use palmfarm::plan::{self, CardPlan, PlanError, Sources};
use palmfarm::render::{self, Inputs, RenderError};
use palmfarm::secrets;
use palmfarm::tree::{CardPath, Node, Tree, Volume};

/// The farm in `yaml`.
pub(crate) fn load(yaml: &str) -> LoadedFarm {
    let farm = format!("farm: 1\nbase: mini\n{yaml}");
    farm::parse("farm.yaml", farm.into_bytes(), Path::new("."))
        .unwrap_or_else(|refused| panic!("{refused}\n{yaml}"))
}

/// The only card of the farm in `yaml`, or the one called `card`. Each file that the farm names holds its own name.
pub(crate) fn try_plan(yaml: &str, card: Option<&str>, prefixes: &[&str]) -> Result<CardPlan, PlanError> {
    let loaded = load(yaml);
    let card = loaded.farm.card(card).unwrap();
    let sources: Sources = plan::named_files(&loaded.farm)
        .into_iter()
        .map(|name| (name.to_owned(), Arc::from(format!("{name}\n").as_bytes())))
        .collect();
    let mut hashes = BTreeMap::new();
    for user in &loaded.farm.users {
        if let Some(hash) = secrets::hash(&loaded, &card.name, user, &|_| Some("secret word".into())).unwrap()
        {
            hashes.insert(user.name.clone(), hash);
        }
    }
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    plan::card(&loaded.farm, card, &sources, &hashes, &prefixes)
}

/// The same, where it must work.
pub(crate) fn plan(yaml: &str) -> CardPlan {
    try_plan(yaml, None, &["2001:db8:ebbd:2080::/64"]).unwrap()
}

/// The tree of the only card of the farm in `yaml` on `base`.
pub(crate) fn try_render(yaml: &str, base: &BaseFacts) -> Result<Tree, RenderError> {
    render::render(&plan(yaml), base, &inputs(base))
}

/// The same, where it must work.
pub(crate) fn rendered(yaml: &str, base: &BaseFacts) -> Tree {
    try_render(yaml, base).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

pub(crate) fn inputs(base: &BaseFacts) -> Inputs {
    // The first twenty bytes of an ELF header: magic number, little-endian, executable, machine.
    let machine: u8 = match base.arch {
        Arch::Armhf => 40,
        Arch::Arm64 => 183,
        Arch::Amd64 => 62,
    };
    let mut agent = b"\x7fELF\x01\x01\x01".to_vec();
    agent.resize(16, 0);
    agent.extend([2, 0, machine, 0]);
    Inputs {
        agent: agent.into(),
        base_name: "mini".into(),
        base_sha256: None,
        overlays: Vec::new(),
    }
}

/// The content of a file on the root filesystem; `None`: nothing is planned there, or no file.
pub(crate) fn root_file(tree: &Tree, path: &str) -> Option<String> {
    file(tree, Volume::Root, path)
}

pub(crate) fn file(tree: &Tree, volume: Volume, path: &str) -> Option<String> {
    match &tree.get(volume, &CardPath::new(path).unwrap())?.node {
        Node::File { content, .. } => Some(String::from_utf8(content.to_vec()).unwrap()),
        _ => None,
    }
}
