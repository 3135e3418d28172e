//! `palmfarm lock`: fetches what a farm takes from elsewhere, and pins it in palmfarm.lock beside the farm. The only place
//! that writes that file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::{anyhow, Context};
use serde_json::json;

use super::args::Lock as Args;
use super::env::{client, drop_privileges};
use super::session::Session;
use super::ui::Ui;
use super::{from_farm, CliResult, Failure, Outcome, OutcomeExt};
use crate::farm::accounts::{self, FetchError};
use crate::farm::credentials;
use crate::farm::lock::{Lock, LockError, LOCK_FILE};
use crate::farm::{Account, LoadedFarm};
use crate::host::atomic_file::{AtomicFile, Durability, Readers};

pub(super) fn run(args: &Args, ui: Ui) -> CliResult {
    drop_privileges()?;
    let session = Session::start(ui);
    let farm = from_farm::load_unshown(&args.farm, ui)?;
    let named = farm.accounts();
    let wanted: BTreeSet<&Account> = match &args.update {
        None => farm.unpinned(),
        Some(None) => named.clone(),
        Some(Some(one)) if named.contains(one) => [one].into(),
        Some(Some(other)) => {
            let names: Vec<String> = named.iter().map(ToString::to_string).collect();
            let hint = match names.as_slice() {
                [] => "it names no account".to_owned(),
                names => format!("its accounts are {}", names.join(", ")),
            };
            let error = anyhow!("{} does not name {other}", args.farm.display());
            return Err(Failure::refused(error, hint));
        }
    };
    if wanted.is_empty() {
        let line = if named.is_empty() {
            format!("{} takes nothing from elsewhere", args.farm.display())
        } else {
            format!(
                "{LOCK_FILE} has all that {} takes from elsewhere",
                args.farm.display()
            )
        };
        ui.report(&json!({"event": "locked", "accounts": []}), line);
        return Ok(());
    }
    let wanted: Vec<Account> = wanted.into_iter().cloned().collect();
    pin(&farm, &wanted, &session)
}

/// Pin `keys`, which were fetched just now, in the folder `dir`.
pub(super) fn keep(dir: &Path, account: &Account, keys: &[String]) -> CliResult {
    let mut lock = read(dir)?;
    lock.pin(account.clone(), keys.to_vec());
    write(&dir.join(LOCK_FILE), &lock.text())
}

fn read(dir: &Path) -> Result<Lock, Failure> {
    Lock::read(dir).map_err(|error| Failure::with_hint(Outcome::Refused, error, LockError::hint))
}

/// Fetch the keys of `wanted`, and pin them all or none. Prints each key that may log in from now on, and each that may
/// no longer.
pub(super) fn pin(farm: &LoadedFarm, wanted: &[Account], session: &Session) -> CliResult {
    let dir = farm.dir.path();
    let mut lock = read(dir)?;
    let client = client()?;
    let before = lock.clone();
    for account in wanted {
        session
            .ui
            .info_line(format_args!("fetching the keys of {account}"));
        let keys = accounts::fetch(&client, account, session.observer().cancel).map_err(|error| {
            if session.is_cancelled() {
                return session.interrupted("interrupted; nothing was pinned");
            }
            let outcome = if error.is_refusal() {
                Outcome::Refused
            } else {
                Outcome::Failed
            };
            Failure::with_hint(outcome, error, FetchError::hint)
        })?;
        lock.pin(account.clone(), keys);
    }
    if lock != before {
        write(&dir.join(LOCK_FILE), &lock.text())?;
    }
    for account in wanted {
        report(account, &before, &lock, session.ui);
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> CliResult {
    let write = || {
        let new = AtomicFile::create(path, Readers::All)?;
        new.file().write_all(text.as_bytes())?;
        new.commit(Durability::Synced)
    };
    write()
        .with_context(|| format!("writing {}", path.display()))
        .or_fail(Outcome::Failed)
}

fn report(account: &Account, before: &Lock, after: &Lock, ui: Ui) {
    let keys = |lock: &Lock| -> BTreeSet<String> {
        let keys = lock.keys(account).unwrap_or_default();
        keys.iter()
            .filter_map(|key| credentials::fingerprint(key))
            .collect()
    };
    let (old, new) = (keys(before), keys(after));
    let added: Vec<&String> = new.difference(&old).collect();
    let removed: Vec<&String> = old.difference(&new).collect();
    if ui.json {
        ui.event(&json!({
            "event": "pinned", "account": account.to_string(), "keys": new, "added": added, "removed": removed,
        }));
        return;
    }
    for (sign, keys) in [("+", &added), ("-", &removed)] {
        for key in keys {
            ui.info_line(format_args!("{sign} {account} {key}"));
        }
    }
    if added.is_empty() && removed.is_empty() {
        ui.info_line(format_args!("{account} has the same keys as before"));
    }
}
