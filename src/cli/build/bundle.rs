//! `palmfarm build FARM -o OUT.tar`: the first-boot document of one card and the files that it names, at their paths on
//! the card, for `palmfarm-agent apply` on that card when it is running. It may hold secrets of containers, so only its
//! owner can read it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::paths::DOCUMENT;
use palmfarm_protocol::validate;

use crate::cli::session::Session;
use crate::cli::{CliResult, Failure, Outcome, OutcomeExt};
use crate::edit::tree::{CardPath, Node, Tree, Volume};
use crate::farm::ResolvedCard;
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::pipeline::{BaseImageInfo, FarmInputs};

/// What a person may expect and does not get.
pub(in crate::cli) const NOT_OF_THE_HOST: &str =
    "note: only packages, containers and what these need change on a running Pi; users and their keys, host files, time zone, \
     locale and boot settings stay as its card was written";

pub(super) fn write(
    path: &Path,
    card: ResolvedCard,
    inputs: &FarmInputs<'_>,
    base: &BaseImageInfo,
    session: &Session,
) -> CliResult {
    let plan = inputs.plan(card, &[])?;
    let tree = inputs.render(&plan, base)?;
    session.progress.clear();
    AtomicFile::create(path, Readers::Owner)
        .and_then(|new| {
            let time = plan.epoch.unwrap_or(base.facts.newest);
            pack(&tree, time, new.file())?;
            new.commit(Durability::Synced)
        })
        .with_context(|| format!("writing {}", path.display()))
        .or_fail(Outcome::Failed)?;
    session.ui.info_line(NOT_OF_THE_HOST);
    let name = &plan.card.name;
    session.ui.report(
        &serde_json::json!({"event": "built", "card": name, "bundle": path}),
        format_args!(
            "built {}, for the running card {name}\nhint: copy it there, then run: sudo palmfarm-agent apply FILE",
            path.display()
        ),
    );
    Ok(())
}

/// The same tarball in memory, for a card to which it is sent at once.
pub(in crate::cli) fn in_memory(
    card: ResolvedCard,
    inputs: &FarmInputs<'_>,
    base: &BaseImageInfo,
) -> Result<Vec<u8>, Failure> {
    let plan = inputs.plan(card, &[])?;
    let tree = inputs.render(&plan, base)?;
    let mut tarball = Vec::new();
    pack(&tree, plan.epoch.unwrap_or(base.facts.newest), &mut tarball).or_fail(Outcome::Failed)?;
    Ok(tarball)
}

/// Write the document of `tree` into `out`, and after it the files that it names.
fn pack(tree: &Tree, time: u32, out: impl Write) -> io::Result<()> {
    let missing = |path: &str| io::Error::other(format!("an overlay of the farm removes {path}"));
    let file = |path: &str| {
        let path = CardPath::new(path).ok()?;
        match &tree.get(Volume::Root, &path)?.node {
            Node::File { content, access } => Some((content.clone(), access.mode)),
            _ => None,
        }
    };
    let (document, mode) = file(DOCUMENT).ok_or_else(|| missing(DOCUMENT))?;
    let parsed: FirstBoot = serde_json::from_slice(&document).map_err(io::Error::other)?;
    let mut tar = tar::Builder::new(BufWriter::new(out));
    let mut add = |path: &str, content: &[u8], mode: u16| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len().try_into().unwrap_or(u64::MAX));
        header.set_mode(mode.into());
        header.set_mtime(time.into());
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path.trim_start_matches('/'), content)
    };
    add(DOCUMENT, &document, mode)?;
    for path in validate::files(&parsed) {
        let (content, mode) = file(path).ok_or_else(|| missing(path))?;
        add(path, &content, mode)?;
    }
    tar.into_inner()?.flush()
}
