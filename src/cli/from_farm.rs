//! The first steps of every command that takes a farm: read the farm, print its problems, choose the card, and protect the
//! farm's own files. Writes nothing.

use std::path::{Path, PathBuf};

use super::env::variable;
use super::lock;
use super::session::Session;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome};
use crate::base::locate::BaseRef;
use crate::base::source::BaseImage;
use crate::card::facts::loops_over;
use crate::farm::lock::LOCK_FILE;
use crate::farm::problem::Problems;
use crate::farm::{
    self, assets, Account, FarmFileError, FarmText, KeySource, LoadError, LoadedFarm, NoSuchCard, Password,
    ResolvedCard,
};
use crate::host::files::FileId;
use crate::pipeline::{self, FarmInputs};
use crate::plan::CardPlan;
use crate::text::shell_quote;
use crate::write::companions;

/// Read a farm and print its problems. Warnings do not stop a command.
pub(super) fn load(path: &Path, ui: Ui) -> Result<LoadedFarm, Failure> {
    shown(farm::load(path, &variable, None), ui)
}

/// Read a farm, and print its problems only if there are errors.
pub(super) fn load_unshown(path: &Path, ui: Ui) -> Result<LoadedFarm, Failure> {
    shown_if_refused(farm::load(path, &variable, None), ui)
}

/// The same if the keys of its cluster need not be there.
pub(super) fn load_without_keys(path: &Path, ui: Ui) -> Result<LoadedFarm, Failure> {
    shown_if_refused(farm::load_without_keys(path, &variable), ui)
}

fn shown_if_refused(loaded: Result<LoadedFarm, LoadError>, ui: Ui) -> Result<LoadedFarm, Failure> {
    match loaded {
        Ok(farm) => Ok(farm),
        failed => shown(failed, ui),
    }
}

/// The same as [`load`] for cards that will be written: keys of accounts that are not pinned are fetched and pinned first, unless
/// `offline`.
pub(super) fn load_to_write(path: &Path, offline: bool, session: &Session) -> Result<LoadedFarm, Failure> {
    let loaded = farm::load(path, &variable, None);
    let missing: Vec<Account> = match &loaded {
        Ok(farm) => farm.unpinned().into_iter().cloned().collect(),
        Err(_) => Vec::new(),
    };
    let (Some(first), Ok(farm)) = (missing.first(), &loaded) else {
        return shown(loaded, session.ui);
    };
    if offline {
        let error = anyhow::anyhow!(
            "the keys of {first} are not in {LOCK_FILE}, and --offline forbids to fetch them"
        );
        let command = format!(
            "`palmfarm lock {}` fetches them",
            shell_quote(&path.to_string_lossy())
        );
        return Err(Failure::refused(error, command));
    }
    lock::pin(farm, &missing, session)?;
    load(path, session.ui)
}

/// The same as [`load`], and read everything that the farm names, as for its cards.
pub(super) fn check(path: &Path, ui: Ui) -> Result<LoadedFarm, Failure> {
    shown(pipeline::check(path, &variable), ui)
}

/// Print what the farm's files and overlays would keep the cards `plans` from. It ends the command only if no card would
/// come up.
pub(super) fn judge<'p>(
    inputs: &mut FarmInputs<'_>,
    plans: impl IntoIterator<Item = &'p CardPlan>,
    ui: Ui,
) -> CliResult {
    let found = inputs.objections(plans);
    show(&inputs.loaded.text, &found, ui);
    if found.errors() > 0 {
        return Err(Failure::printed(Outcome::Refused));
    }
    inputs.loaded.warnings.append(found);
    Ok(())
}

fn shown(loaded: Result<LoadedFarm, LoadError>, ui: Ui) -> Result<LoadedFarm, Failure> {
    match loaded {
        Ok(loaded) => {
            show(&loaded.text, &loaded.warnings, ui);
            Ok(loaded)
        }
        Err(LoadError::Refused(refused)) => {
            show(refused.text(), refused.problems(), ui);
            Err(Failure::printed(Outcome::Refused))
        }
        Err(LoadError::File(error)) => Err(Failure::with_hint(Outcome::Refused, error, FarmFileError::hint)),
    }
}

/// The card of that name, or the only one.
pub(super) fn card(farm: &LoadedFarm, name: Option<&str>) -> Result<ResolvedCard, Failure> {
    let card = farm.farm.card(name);
    card.map_err(|error| Failure::with_hint(Outcome::Refused, error, NoSuchCard::hint))
}

/// Refuse to overwrite the farm file, its base or a file that it names with one of `outputs` or a file beside it.
pub(super) fn protect_inputs(
    file: &Path,
    farm: &LoadedFarm,
    base: Option<&BaseImage>,
    outputs: &[PathBuf],
) -> CliResult {
    let named = assets::named_files(&farm.farm);
    let overlays: Vec<PathBuf> = farm.farm.overlays.iter().map(|name| farm.path(name)).collect();
    let passwords = farm.farm.users.iter().filter_map(|user| match &user.password {
        Some(Password::File(name)) => Some(name.as_str()),
        _ => None,
    });
    let id = |path: &Path| std::fs::metadata(path).ok().map(|metadata| FileId::of(&metadata));
    let keys = farm.farm.users.iter().flat_map(|user| &user.ssh_keys);
    let keys = keys.filter_map(|keys| match &keys.source {
        KeySource::File(name) => Some(name.as_str()),
        _ => None,
    });
    let inputs: Vec<FileId> = named
        .iter()
        .map(AsRef::as_ref)
        .chain(passwords)
        .chain(keys)
        .chain(farm.farm.cluster.as_ref().map(|cluster| cluster.keys.as_str()))
        .map(|name| farm.path(name))
        .chain(overlays.iter().cloned())
        .chain([file.to_owned()])
        .filter_map(|path| id(&path))
        .collect();
    // A base that was not opened is protected by its path.
    let named_base = match farm.base().base {
        BaseRef::Path(name) => id(&farm.path(name)),
        BaseRef::Name(_) | BaseRef::Url(_) => None,
    };
    for path in outputs
        .iter()
        .flat_map(|output| [output.clone()].into_iter().chain(companions(output)))
    {
        let what = if base.is_some_and(|base| base.lies_at(&path))
            || named_base == id(&path) && named_base.is_some()
        {
            "is the farm's base"
        } else if id(&path).is_some_and(|id| inputs.contains(&id)) {
            "is what the farm is made of"
        } else if overlays.iter().any(|folder| lies_below(&path, folder)) {
            "lies in an overlay of the farm"
        } else if let [node, ..] = loops_over(Path::new("/"), &path).as_slice() {
            let error = anyhow::anyhow!("{} is in use as {node}, and would be replaced", path.display());
            let hint = format!("unmount what is on {node}, then: losetup -d {node}");
            return Err(Failure::refused(error, hint));
        } else {
            continue;
        };
        let error = anyhow::anyhow!("{} {what}, and would be overwritten", path.display());
        return Err(Failure::refused(error, "name another file"));
    }
    Ok(())
}

/// Whether a new file at `path` would be below `folder`, links followed.
fn lies_below(path: &Path, folder: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let (Some(parent), Some(folder)) = (real(parent.unwrap_or(Path::new("."))), real(folder)) else {
        return false;
    };
    folder.is_dir() && parent.starts_with(folder)
}

/// Print warnings that came later than the others.
pub(super) fn show_warnings(farm: &LoadedFarm, warnings: &Problems, ui: Ui) {
    if !warnings.is_empty() {
        show(&farm.text, warnings, ui);
    }
}

fn show(text: &FarmText, problems: &Problems, ui: Ui) {
    if ui.json {
        for line in text.lines(problems) {
            // A problem is plain strings and numbers, so it always has a JSON form.
            if let Ok(line) = serde_json::to_value(&line) {
                ui.event(&line);
            }
        }
        return;
    }
    if problems.errors() == 0 && ui.quiet {
        return;
    }
    for told in text.tell(problems, ui.columns()) {
        ui.problem(&told);
    }
    if let Some(more) = text.more(problems) {
        ui.error_line(more);
    }
}
