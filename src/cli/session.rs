//! What a command that takes a while needs: where it prints, its progress, and whether it was interrupted; and how such a
//! command opens an image. Writes nothing.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::progress::ProgressLine;
use super::ui::Ui;
use super::{env, from_farm, Failure, Outcome};
use crate::base::locate::{self, BaseError};
use crate::base::source::{BaseImage, CacheDir, Expect, Sha256Sum, SourceError, Trust, Verified};
use crate::card::{OpenError, ReadableCard};
use crate::edit::block::ReadAt;
use crate::farm::LoadedFarm;
use crate::host::interruption;
use crate::pipeline::{self, BaseImageInfo};
use crate::progress::{Cancel, Observer};
use crate::text::printable;

/// Bytes to look into.
pub(super) struct ImageOrCard {
    pub(super) bytes: Arc<dyn ReadAt>,
    /// Of the file; `None` for a card.
    pub(super) sha256: Option<Sha256Sum>,
}

pub(super) struct Session {
    pub(super) ui: Ui,
    pub(super) progress: ProgressLine,
    cancel: Cancel,
}

impl Session {
    /// From now on Ctrl-C asks the command to stop, and ends the program the second time.
    pub(super) fn start(ui: Ui) -> Self {
        Self {
            ui,
            progress: ProgressLine::new(ui),
            cancel: interruption::cancel_on_signal(),
        }
    }

    pub(super) fn observer(&self) -> Observer<'_> {
        Observer {
            progress: &self.progress,
            cancel: &self.cancel,
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The command was interrupted; say what it left behind.
    pub(super) fn interrupted(&self, message: &str) -> Failure {
        self.progress.clear();
        if self.ui.json {
            let code = Outcome::Interrupted.code();
            self.ui
                .event(&json!({"event": "error", "exit": code, "message": message}));
        } else {
            self.ui.error_line(message);
        }
        Failure::printed(Outcome::Interrupted)
    }

    pub(super) fn open_image(
        &self,
        path: &Path,
        expect: Expect,
        cache: &CacheDir,
    ) -> Result<Verified<BaseImage>, Failure> {
        BaseImage::open(path, expect, cache, self.observer()).map_err(|error| self.not_read(error))
    }

    /// Open an image or a card. Only root may open a card; root is given up before anything on it is parsed.
    pub(super) fn open_image_or_card(&self, path: &Path) -> Result<ImageOrCard, Failure> {
        let card = ReadableCard::open(path)
            .map_err(|error| Failure::with_hint(Outcome::Refused, error, OpenError::hint))?;
        let cache = env::drop_privileges()?;
        if let Some(card) = card {
            return Ok(ImageOrCard {
                bytes: Arc::new(card),
                sha256: None,
            });
        }
        let image = self.open_image(path, Expect::Anything, &cache)?;
        Ok(ImageOrCard {
            sha256: Some(image.provenance().sha256),
            bytes: Arc::new(image),
        })
    }

    /// Open and survey the farm's base. Unless `offline`, a base that is not in the cache is downloaded first.
    pub(super) fn open_base(
        &self,
        farm: &LoadedFarm,
        cache: &CacheDir,
        offline: bool,
    ) -> Result<BaseImageInfo, Failure> {
        let client = if offline { None } else { Some(env::client()?) };
        let image =
            locate::open_base(&farm.base(), cache, client.as_ref(), self.observer()).map_err(|error| {
                let outcome = if error.is_refusal() {
                    Outcome::Refused
                } else {
                    Outcome::Failed
                };
                self.unless_cancelled(Failure::with_hint(outcome, error, BaseError::hint))
            })?;
        let base = pipeline::survey(image)?;
        if let Some(behind) = base.layout.behind_root() {
            let number = behind.number;
            self.ui.info_line(format_args!(
                "note: partition {number} of the base lies behind its root filesystem, which therefore stays as small as it is \
                 on every card"
            ));
        }
        if !farm.base().base.is_known() {
            let provenance = base.image.provenance();
            if provenance.trust == Trust::Unchecked {
                self.ui.info_line(format_args!(
                    "note: the base is {}, {}, and its file was compared with no digest; `sha256: {}` in the farm holds later \
                     builds to this file",
                    printable(&base.facts.release),
                    base.facts.arch,
                    provenance.sha256
                ));
            }
            from_farm::show_warnings(farm, &farm.warnings_on(&base.facts.looks_like()), self.ui);
        }
        Ok(base)
    }

    /// An image was not read to its end.
    pub(super) fn not_read(&self, error: SourceError) -> Failure {
        self.unless_cancelled(Failure::with_hint(Outcome::Refused, error, SourceError::hint))
    }

    fn unless_cancelled(&self, failure: Failure) -> Failure {
        if self.is_cancelled() {
            return Failure::printed(Outcome::Interrupted);
        }
        failure
    }
}
