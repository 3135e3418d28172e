//! `palmfarm build FARM -o OUT.tar`: the first-boot document of one card and the files that it names, at their paths on
//! the card, for `palmfarm-agent apply` where that card is running already. It may hold what is secret to containers, so
//! only its owner can read it.

use std::io::{self, BufWriter, Write};

use crate::farm::ResolvedCard;
use anyhow::{anyhow, Context};
use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::paths::DOCUMENT;
use palmfarm_protocol::validate;

use crate::base::source::CacheDir;
use crate::cli::args::Build;
use crate::cli::progress::{Audience, Shown};
use crate::cli::say::{event, note_line};
use crate::cli::{from_farm, surroundings, Ended, Failure, OrFail, Outcome, Voice};
use crate::edit::tree::{CardPath, Node, Tree, Volume};
use crate::farm::LoadedFarm;
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::pipeline;
use crate::progress::Watch;

/// Write the bundle of the one card in `cards`.
///
/// # Errors
/// Refused, where farm or base will not do, or there are several cards; failed, where the output cannot be written.
pub(super) fn run(
    args: &Build,
    farm: &LoadedFarm,
    cards: &[ResolvedCard],
    cache: &CacheDir,
    voice: Voice,
    audience: Audience,
) -> Ended {
    let path = &args.output;
    let [card] = cards else {
        let error = anyhow!(
            "{} is for one card, but the farm has {} cards",
            path.display(),
            cards.len()
        );
        return Err(Failure::new(Outcome::Refused, error).hint("name one of them with --card"));
    };
    let shown = Shown::new(audience);
    let cancel = surroundings::interruptible();
    let watch = Watch {
        progress: &shown,
        cancel: &cancel,
    };
    let gathered = from_farm::read(farm)?;
    let client = (!args.offline).then(surroundings::client).transpose()?;
    let base = from_farm::open(farm, cache, client.as_ref(), watch)?;
    from_farm::spare_inputs(&args.farm, farm, &base.image, std::slice::from_ref(path))?;
    let plan = pipeline::plan(farm, &gathered, card.clone(), &[], surroundings::ambient()?)
        .map_err(from_farm::refused)?;
    let tree = pipeline::render(farm, &gathered, &plan, &base).map_err(from_farm::refused)?;
    shown.clear();
    AtomicFile::create(path, Readers::Owner)
        .and_then(|new| {
            let time = plan.epoch.unwrap_or(base.facts.newest);
            pack(&tree, time, new.file())?;
            new.commit(Durability::Synced)
        })
        .with_context(|| format!("writing {}", path.display()))
        .or_fail(Outcome::Failed)?;
    match voice {
        Voice::Json => event(&serde_json::json!({"event": "built", "card": card.name, "bundle": path})),
        Voice::People => {
            note_line!("built {}, for the card {} as it runs", path.display(), card.name);
            note_line!("hint: copy it there, then: sudo palmfarm-agent apply FILE");
        }
    }
    Ok(())
}

/// The document of `tree`, and after it the files that it names, into `out`.
fn pack(tree: &Tree, time: u32, out: impl Write) -> io::Result<()> {
    let missing = |path: &str| io::Error::other(format!("an overlay of the farm takes {path} away"));
    let content = |path: &str| {
        let path = CardPath::new(path).ok()?;
        match &tree.get(Volume::Root, &path)?.node {
            Node::File { content, .. } => Some(content.clone()),
            _ => None,
        }
    };
    let document = content(DOCUMENT).ok_or_else(|| missing(DOCUMENT))?;
    let parsed: FirstBoot = serde_json::from_slice(&document).map_err(io::Error::other)?;
    let mut tar = tar::Builder::new(BufWriter::new(out));
    let mut add = |path: &str, content: &[u8], mode| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len().try_into().unwrap_or(u64::MAX));
        header.set_mode(mode);
        header.set_mtime(time.into());
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path.trim_start_matches('/'), content)
    };
    add(DOCUMENT, &document, 0o600)?;
    for path in validate::files(&parsed) {
        add(path, &content(path).ok_or_else(|| missing(path))?, 0o644)?;
    }
    tar.into_inner()?.flush()
}
