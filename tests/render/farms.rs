//! Farms from their YAML, planned and rendered without touching a disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

use palmfarm::base::{Arch, BaseFacts};
use palmfarm::edit::tree::{CardPath, Node, Tree, Volume};
use palmfarm::farm::assets::{self, Gathered};
use palmfarm::farm::cluster_keys::ClusterKeys;
use palmfarm::farm::problem::Severity;
use palmfarm::farm::{self, LoadedFarm};
use palmfarm::pipeline;
use palmfarm::plan::content_cache::ContentCache;
use palmfarm::plan::{self, CardPlan, PlanError};
use palmfarm::render::{self, Inputs, RenderError};

/// Files that farms of these tests may name; each holds its own name.
const FILES: [&str; 3] = ["motd.txt", "site/index.html", "web-setup.sh"];

/// The file of a cluster's keys, which is private.
const KEYS: &str = "farm.keys";

/// The superblock of an empty squashfs.
pub(crate) const SQUASHFS: [u8; 96] = {
    let mut bytes = [0; 96];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = *b"hsqs";
    bytes[40] = 96;
    bytes
};

/// A folder with the files of [`FILES`] and `more`.
pub(crate) fn folder(more: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        if name == KEYS {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    for name in FILES {
        put(name, format!("{name}\n").as_bytes());
    }
    for (name, content) in more {
        put(name, content);
    }
    dir
}

/// The farm in `yaml`, and what it names; `more` are files beside those of [`FILES`].
pub(crate) fn load(yaml: &str, more: &[(&str, &[u8])]) -> (LoadedFarm, Gathered) {
    let dir = folder(more);
    let farm = format!("farm: 1\nbase: mini\n{yaml}");
    let loaded = farm::parse("farm.yaml", farm.as_bytes(), dir.path(), &secret, None)
        .unwrap_or_else(|refused| panic!("{}", refused.text().render(refused.problems())));
    let gathered = assets::gather(&loaded).unwrap();
    (loaded, gathered)
}

/// What `check` says of the farm in `yaml`, a line for each error: `3:1 message (hint)`.
pub(crate) fn judged(yaml: &str, more: &[(&str, &[u8])]) -> String {
    judged_on("mini", yaml, more)
}

/// The same on another base.
pub(crate) fn judged_on(base: &str, yaml: &str, more: &[(&str, &[u8])]) -> String {
    let dir = folder(more);
    let farm = format!("farm: 1\nbase: {base}\n{yaml}");
    match farm::parse(
        "farm.yaml",
        farm.as_bytes(),
        dir.path(),
        &secret,
        Some(&pipeline::judge),
    ) {
        Ok(_) => String::new(),
        Err(refused) => {
            let lines = refused.text().lines(refused.problems());
            let errors = lines.filter(|line| line.severity == Severity::Error);
            let shown = errors.map(|line| {
                let hint = line.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                format!("{}:{} {}{hint}\n", line.line, line.column, line.message)
            });
            shown.collect()
        }
    }
}

/// The environment of these tests.
pub(crate) fn secret(variable: &str) -> Option<OsString> {
    (variable == "CRAIG_PASSWORD").then(|| "secret word".into())
}

/// The card called `card`, or the only one, of the farm in `yaml`.
pub(crate) fn plan_card(yaml: &str, card: Option<&str>, prefixes: &[&str]) -> CardPlan {
    let (loaded, gathered) = load(yaml, &[]);
    let card = loaded.farm.card(card).unwrap();
    let hashes = assets::hashes(&loaded, &card.name, &secret).unwrap();
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    plan::card(
        &loaded.farm,
        card,
        &gathered.sources,
        &hashes,
        &prefixes,
        gathered.keys.as_ref(),
        &mut ContentCache::default(),
    )
    .unwrap()
}

/// The only card of a farm that names the files `more`, or why it cannot be planned.
pub(crate) fn try_plan_with(yaml: &str, more: &[(&str, &[u8])]) -> Result<CardPlan, PlanError> {
    let (loaded, gathered) = load(yaml, more);
    let card = loaded.farm.card(None).unwrap();
    plan::card(
        &loaded.farm,
        card,
        &gathered.sources,
        &BTreeMap::new(),
        &[],
        gathered.keys.as_ref(),
        &mut ContentCache::default(),
    )
}

/// The card `card` of a cluster of three, the keys that were made for it, and its tree on `base`; `more` are lines of the
/// farm.
pub(crate) fn clustered(card: &str, base: &BaseFacts, more: &str) -> (ClusterKeys, Tree) {
    let mut keys = ClusterKeys::new().unwrap();
    keys.add(["palm1", "palm2", "palm3"].map(Into::into).iter())
        .unwrap();
    let yaml = format!(
        "cards: {{palm1: , palm2: , palm3: }}\ncluster: {{keys: {KEYS}, first: palm1}}\n\
         containers:\n  \
         web: {{image: \"images:alpine/3.20\", publish: web_image, on: palm2}}\n  \
         w: {{image: web_image, replicas: 2..4, spread: true}}\n{more}"
    );
    let (loaded, gathered) = load(&yaml, &[(KEYS, keys.text().as_bytes())]);
    let plan = plan::card(
        &loaded.farm,
        loaded.farm.card(Some(card)).unwrap(),
        &gathered.sources,
        &BTreeMap::new(),
        &[],
        gathered.keys.as_ref(),
        &mut ContentCache::default(),
    )
    .unwrap();
    (keys, render::render(&plan, base, &inputs(base)).unwrap())
}

/// The only card, in the article's prefix.
pub(crate) fn plan(yaml: &str) -> CardPlan {
    plan_card(yaml, None, &["2001:db8:ebbd:2080::/64"])
}

/// The tree of the only card of the farm in `yaml` on `base`.
pub(crate) fn try_render(yaml: &str, base: &BaseFacts) -> Result<Tree, RenderError> {
    render::render(&plan(yaml), base, &inputs(base))
}

/// The same; it must work.
pub(crate) fn rendered(yaml: &str, base: &BaseFacts) -> Tree {
    try_render(yaml, base).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

pub(crate) fn inputs(base: &BaseFacts) -> Inputs {
    // An ELF header: magic number, class, little-endian, machine.
    let (class, machine) = match base.arch {
        Arch::Armhf => (1, 40),
        Arch::Arm64 => (2, 183),
        Arch::Amd64 => (2, 62),
    };
    let mut agent = b"\x7fELF\x01\x01\x01".to_vec();
    agent.resize(64, 0);
    agent[4] = class;
    agent[18] = machine;
    Inputs {
        agent: agent.into(),
        base_name: "mini".into(),
        base_sha256: None,
        overlays: Vec::new(),
        replaced: std::collections::BTreeMap::new(),
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
