//! What every command that takes a farm begins with: reading it and what it names, choosing the card, opening the
//! base; and how a refusal of one of these reaches people. Writes nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::farm::problem::Problems;
use crate::farm::{Password, ResolvedCard};

use super::say::{complaint, event, note_line};
use super::{Failure, OrFail, Outcome, Voice};
use crate::base::download::Client;
use crate::base::locate::{self, BaseError};
use crate::base::source::{BaseImage, CacheDir};
use crate::farm::assets::{self, Gathered};
use crate::farm::{self, FarmText, LoadError, LoadedFarm};
use crate::pipeline::{self, Surveyed};
use crate::progress::Watch;
use crate::write::companions;

/// Read a farm for any command, printing its problems: warnings do not stop it.
///
/// # Errors
/// Refused, where it cannot be read or has errors.
pub(super) fn load(path: &Path, voice: Voice) -> Result<LoadedFarm, Failure> {
    shown(farm::load(path), voice)
}

/// The same, and everything that it names is read as if its cards were made.
///
/// # Errors
/// Refused, where it cannot be read or has errors.
pub(super) fn check(path: &Path, voice: Voice) -> Result<LoadedFarm, Failure> {
    shown(pipeline::check(path), voice)
}

fn shown(loaded: Result<LoadedFarm, LoadError>, voice: Voice) -> Result<LoadedFarm, Failure> {
    match loaded {
        Ok(loaded) => {
            show(&loaded.text, &loaded.warnings, voice);
            Ok(loaded)
        }
        Err(LoadError::Refused(refused)) => {
            show(refused.text(), refused.problems(), voice);
            Err(Failure::printed(Outcome::Refused))
        }
        Err(error) => Err(error).or_fail(Outcome::Refused),
    }
}

/// The card of that name, or the only one.
///
/// # Errors
/// Refused, where there is none, or several.
pub(super) fn card(farm: &LoadedFarm, name: Option<&str>) -> Result<ResolvedCard, Failure> {
    farm.farm.card(name).map_err(|error| {
        let hint = error.hint();
        Failure::new(Outcome::Refused, error).maybe_hint(hint)
    })
}

/// Open and survey the farm's base; `client` downloads it where it is not here.
///
/// # Errors
/// Refused, where it will not do; failed, where it cannot be downloaded; interrupted.
pub(super) fn open(
    farm: &LoadedFarm,
    cache: &CacheDir,
    client: Option<&Client>,
    watch: Watch<'_>,
) -> Result<Surveyed, Failure> {
    let image = locate::open_base(&farm.base(), cache, client, watch).map_err(|error| {
        let hint = error.hint();
        let outcome = match &error {
            BaseError::Download(error) if !error.is_refusal() => Outcome::Failed,
            _ => Outcome::Refused,
        };
        Failure {
            outcome: if watch.cancel.is_cancelled() {
                Outcome::Interrupted
            } else {
                outcome
            },
            ..not_opened(error, hint, watch)
        }
    })?;
    pipeline::survey(image).map_err(refused)
}

/// Refuse to write over what the farm is made of: its file, its base, and all that it names.
///
/// # Errors
/// Refused, where one of `outputs`, or what comes beside it, is one of them.
pub(super) fn spare_inputs(
    file: &Path,
    farm: &LoadedFarm,
    base: &BaseImage,
    outputs: &[PathBuf],
) -> Result<(), Failure> {
    let named = assets::named_files(&farm.farm)
        .into_iter()
        .map(|name| farm.path(name));
    let overlays = farm.farm.overlays.iter().map(|name| farm.path(name));
    let passwords = farm.farm.users.iter().filter_map(|user| match &user.password {
        Some(Password::File(name)) => Some(farm.path(name)),
        _ => None,
    });
    let place = |path: &Path| {
        std::fs::metadata(path)
            .ok()
            .map(|facts| (facts.dev(), facts.ino()))
    };
    let inputs: BTreeSet<(u64, u64)> = std::iter::once(file.to_owned())
        .chain(named)
        .chain(overlays)
        .chain(passwords)
        .filter_map(|path| place(&path))
        .collect();
    for output in outputs {
        for path in [output.clone()].into_iter().chain(companions(output)) {
            let what = if base.lies_at(&path) {
                "the farm's base"
            } else if place(&path).is_some_and(|place| inputs.contains(&place)) {
                "what the farm is made of"
            } else {
                continue;
            };
            let error = anyhow::anyhow!("{} is {what}, and would be overwritten", path.display());
            return Err(Failure::new(Outcome::Refused, error).hint("name another file"));
        }
    }
    Ok(())
}

/// A base that was not opened, because it will not do or because somebody asked to stop.
pub(super) fn not_opened(error: impl Into<anyhow::Error>, hint: Option<String>, watch: Watch<'_>) -> Failure {
    if watch.cancel.is_cancelled() {
        return Failure::printed(Outcome::Interrupted);
    }
    Failure::new(Outcome::Refused, error).maybe_hint(hint)
}

/// Read what the farm names.
///
/// # Errors
/// Refused, where something cannot be read.
pub(super) fn read(farm: &LoadedFarm) -> Result<Gathered, Failure> {
    assets::gather(farm).map_err(|error| refused(error.into()))
}

/// A failure before anything was written.
pub(super) fn refused(error: pipeline::BuildError) -> Failure {
    let hint = error.hint();
    Failure::new(Outcome::Refused, error).maybe_hint(hint)
}

fn show(text: &FarmText, problems: &Problems, voice: Voice) {
    match voice {
        Voice::People => {
            let told = text.render(problems);
            if problems.errors() > 0 {
                complaint(format_args!("{}", told.trim_end()));
            } else if !told.is_empty() {
                note_line!("{}", told.trim_end());
            }
        }
        Voice::Json => {
            for line in text.lines(problems) {
                // A problem is plain strings and numbers, so that it always has a JSON form.
                if let Ok(line) = serde_json::to_value(&line) {
                    event(&line);
                }
            }
        }
    }
}
