//! The farm on the container daemon: server settings, pools, networks, profiles, images and containers, each
//! looked at first and changed only where it is not as declared.
//!
//! What palmfarm makes carries its mark, a `user.palmfarm` key or property. What carries none was made by
//! somebody else and is never changed, so a clash of names ends in a message and not in a surprise.

pub mod address;
mod container;
mod image;
mod preseed;
mod publish;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use palmfarm_spec::firstboot::{Container, FirstBoot, Lxd};
use palmfarm_spec::report::{Step, StepState};
use serde_json::Value;

use crate::daemon::{Daemon, DaemonError, PushError};

/// The key under which a container, profile or network says that palmfarm made it, and from what.
pub(crate) const MARK: &str = "user.palmfarm";

/// The key under which a container says how far it is.
pub(crate) const STATE: &str = "user.palmfarm.state";

/// The value of [`STATE`] once everything that was to run in a container has run.
pub(crate) const READY: &str = "ready";

/// The value of [`STATE`] before.
pub(crate) const NEW: &str = "new";

/// How long work that was begun earlier may take: an image that is being unpacked onto an SD card.
const SETTLING: Duration = Duration::from_secs(1800);

/// Whether something had to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was as declared.
    Unchanged,
    /// It is now.
    Changed,
}

impl Change {
    /// Changed, where either is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Changed {
            self
        } else {
            other
        }
    }
}

/// Why something is not as declared.
#[derive(Debug)]
pub struct Trouble {
    /// What, where, why, and what to do.
    pub message: String,
    /// The last lines of output of a program that failed.
    pub output: Vec<String>,
}

impl Trouble {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            output: Vec::new(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<DaemonError> for Trouble {
    fn from(error: DaemonError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<PushError> for Trouble {
    fn from(error: PushError) -> Self {
        Self::new(error.to_string())
    }
}

/// A change, or why there is none.
pub type Done = Result<Change, Trouble>;

/// Where steps go while they are taken, so that the report is true at any moment.
pub trait Watch {
    /// A step begins.
    fn begin(&mut self, name: &str);
    /// A step has ended.
    fn end(&mut self, step: Step);
}

/// Make the farm of `document` true. `root` is where the card's files lie, `/` on a Pi. A step that fails stops
/// what stands on it and nothing else.
pub fn converge(daemon: &Daemon, document: &FirstBoot, lxd: &Lxd, root: &Path, watch: &mut dyn Watch) {
    let settled = take(watch, "preseed", || {
        daemon.settle_down(SETTLING)?;
        preseed::apply(daemon, &lxd.preseed)
    });
    let mut failed: Vec<String> = Vec::new();
    for image in &lxd.images {
        let name = format!("image {}", image.alias);
        if take(watch, &name, || image::carry(daemon, image, root)).is_err() {
            failed.push(image.alias.clone());
        }
    }
    // Profiles name pools and bridges: without them no container can be made, and each would say the same.
    if settled.is_err() {
        for container in &document.containers {
            skip(watch, &container.name, "the preseed could not be applied");
        }
        return;
    }
    for container in &document.containers {
        let base = container::local_image(container);
        if let Some(missing) = base.filter(|alias| failed.iter().any(|failed| failed == alias)) {
            skip(
                watch,
                &container.name,
                &format!("its image {missing} could not be made"),
            );
            failed.extend(container.publish.clone());
            continue;
        }
        let name = format!("container {}", container.name);
        let made = take(watch, &name, || container::make(daemon, lxd, container, root));
        if let Some(alias) = &container.publish {
            let published = made.is_ok()
                && take(watch, &format!("publish {alias}"), || {
                    publish::publish(daemon, container, alias)
                })
                .is_ok();
            if !published {
                failed.push(alias.clone());
            }
        }
    }
}

fn take(watch: &mut dyn Watch, name: &str, step: impl FnOnce() -> Done) -> Result<(), ()> {
    watch.begin(name);
    let (state, message, output) = match step() {
        Ok(Change::Unchanged) => (StepState::Unchanged, String::new(), Vec::new()),
        Ok(Change::Changed) => (StepState::Changed, String::new(), Vec::new()),
        Err(trouble) => (StepState::Failed, trouble.message, trouble.output),
    };
    watch.end(Step {
        name: name.into(),
        state,
        message,
        output,
    });
    if state == StepState::Failed {
        Err(())
    } else {
        Ok(())
    }
}

fn skip(watch: &mut dyn Watch, container: &str, why: &str) {
    let name = format!("container {container}");
    watch.end(Step {
        name,
        state: StepState::Skipped,
        message: why.into(),
        output: Vec::new(),
    });
}

/// The string under `keys` in `value`.
pub(crate) fn text<'a>(value: &'a Value, keys: &[&str]) -> Option<&'a str> {
    keys.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}

/// The mark that a container of the farm carries.
pub(crate) fn mark(container: &Container) -> &str {
    &container.digest
}
