//! `palmfarm keys new`: makes the key pairs of a cluster. The only place that writes their file. It prints names of cards and
//! never a key, and a pair that is there it leaves alone.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{anyhow, Context};
use serde_json::json;

use super::args::KeysNew as Args;
use super::env::drop_privileges;
use super::ui::Ui;
use super::{from_farm, CliResult, Failure, Outcome, OutcomeExt};
use crate::farm::cluster_keys::{ClusterKeys, KeysError};
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::text::shell_quote;

pub(super) fn new(args: &Args, ui: Ui) -> CliResult {
    drop_privileges()?;
    let loaded = from_farm::load_without_keys(&args.farm, ui)?;
    let Some(cluster) = &loaded.farm.cluster else {
        let first = loaded.farm.cards.keys().next().map_or("palm1", String::as_str);
        let error = anyhow!("{} has no cluster that keys could be for", args.farm.display());
        return Err(Failure::refused(
            error,
            format!("write `cluster: {{keys: secrets/farm.keys, first: {first}}}` in it"),
        ));
    };
    let path = loaded.path(&cluster.keys);
    let refused = |error: KeysError| {
        let hint = match &error {
            KeysError::OthersMayRead => Some(format!("chmod 600 {}", shell_quote(&path.to_string_lossy()))),
            error => error.hint().map(Into::into),
        };
        let error = anyhow!(error).context(format!("using {}", path.display()));
        Failure {
            hint,
            ..Failure::new(Outcome::Refused, error)
        }
    };
    let (mut keys, is_new) = match ClusterKeys::read(&path) {
        Ok(keys) => (keys, false),
        Err(KeysError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
            let keys = ClusterKeys::new()
                .context("making a key pair")
                .or_fail(Outcome::Failed)?;
            (keys, true)
        }
        Err(error) => return Err(refused(error)),
    };
    let cards = loaded.farm.cards.keys();
    let added = keys
        .add(cards)
        .context("making a key pair")
        .or_fail(Outcome::Failed)?;
    if is_new || !added.is_empty() {
        write(&path, &keys.text())
            .with_context(|| format!("writing {}", path.display()))
            .or_fail(Outcome::Failed)?;
    }
    let event = json!({"event": "keys", "file": path, "cluster": is_new, "cards": added});
    let (file, cards) = (path.display(), added.join(", "));
    if is_new {
        ui.report(
            &event,
            format_args!(
                "made {file}: the key pair of the cluster, and those of {cards}\nhint: whoever has it controls every \
                 card; keep it out of git, and keep a copy: a card that is flashed again needs the same keys"
            ),
        );
    } else if added.is_empty() {
        ui.report(&event, format_args!("{file} has a key pair for every card"));
    } else {
        ui.report(
            &event,
            format_args!(
                "added to {file}: the key pairs of {cards}\nhint: the cards that are running learn of a new one by \
                 `palmfarm push`"
            ),
        );
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = AtomicFile::create(path, Readers::Owner)?;
    new.file().write_all(text.as_bytes())?;
    new.commit(Durability::Synced)
}
