//! The first steps of every command that takes a farm: read the farm, print its problems, choose the card, and protect the
//! farm's own files. Writes nothing.

use std::path::{Path, PathBuf};

use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};
use crate::base::source::BaseImage;
use crate::card::facts::loops_over;
use crate::farm::problem::Problems;
use crate::farm::{self, assets, FarmText, LoadError, LoadedFarm, NoSuchCard, Password, ResolvedCard};
use crate::host::files::FileId;
use crate::pipeline;
use crate::write::companions;

/// Read a farm and print its problems. Warnings do not stop a command.
pub(super) fn load(path: &Path, ui: Ui) -> Result<LoadedFarm, Failure> {
    shown(farm::load(path, None), ui)
}

/// The same, and read everything that the farm names, as for its cards.
pub(super) fn check(path: &Path, ui: Ui) -> Result<LoadedFarm, Failure> {
    shown(pipeline::check(path), ui)
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
        Err(error) => Err(error).or_fail(Outcome::Refused),
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
    base: &BaseImage,
    outputs: &[PathBuf],
) -> CliResult {
    let named = assets::named_files(&farm.farm);
    let overlays: Vec<PathBuf> = farm.farm.overlays.iter().map(|name| farm.path(name)).collect();
    let passwords = farm.farm.users.iter().filter_map(|user| match &user.password {
        Some(Password::File(name)) => Some(name.as_str()),
        _ => None,
    });
    let id = |path: &Path| std::fs::metadata(path).ok().map(|metadata| FileId::of(&metadata));
    let inputs: Vec<FileId> = named
        .into_iter()
        .chain(passwords)
        .map(|name| farm.path(name))
        .chain(overlays.iter().cloned())
        .chain([file.to_owned()])
        .filter_map(|path| id(&path))
        .collect();
    for path in outputs
        .iter()
        .flat_map(|output| [output.clone()].into_iter().chain(companions(output)))
    {
        let what = if base.lies_at(&path) {
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
    let rendered = text.render(problems);
    if problems.errors() > 0 {
        ui.error_line(rendered.trim_end());
    } else if !rendered.is_empty() {
        ui.info_line(rendered.trim_end());
    }
}
