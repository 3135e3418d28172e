//! The farm on the container daemon: server settings, pools, networks, profiles, images and containers, each
//! looked at first and changed only where it is not as declared.
//!
//! What palmfarm makes carries its mark, a `user.palmfarm` key or property. What carries none was made by
//! somebody else and is never changed, so a clash of names ends in a message and not in a surprise.

pub mod address;
mod alias;
mod container;
mod image;
mod preseed;
mod publish;
mod steps;
mod survey;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use palmfarm_protocol::firstboot::{Container, FirstBoot, Lxd};
use palmfarm_protocol::report::Step;
use serde_json::Value;

use crate::daemon::{Daemon, DaemonError, PushError, Why};

pub use survey::{survey, unknown, Patience};

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
    /// Whether it is about the daemon as a whole.
    pub(crate) daemon: Standing,
}

/// How the daemon stood when something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// At work.
    There,
    /// It answers, but what failed may have failed because the daemon is ending.
    Doubtful,
    /// It answers, but is going or coming.
    Busy,
    /// It does not answer.
    Away,
}

impl Trouble {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            output: Vec::new(),
            daemon: Standing::There,
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
        let daemon = match error.why() {
            Why::Unreachable(_) => Standing::Away,
            Why::Refused { code: 503, .. } => Standing::Busy,
            // LXD 5.0 says this with 500, too, and to operations that it cancels.
            Why::Refused { message, .. } | Why::Failed(message) if message.contains("shutting down") => {
                Standing::Busy
            }
            Why::Failed(_) => Standing::Doubtful,
            _ => Standing::There,
        };
        Self {
            daemon,
            ..Self::new(error.to_string())
        }
    }
}

impl From<PushError> for Trouble {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Daemon(error) => error.into(),
            PushError::Path(_) => Self::new(error.to_string()),
        }
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
    let mut steps = steps::Steps::new(daemon, watch);
    let mut unusable = preseed::Unusable::default();
    // Whatever the preseed could not make stops those containers that need it, and is said once.
    let _ = steps.take("preseed", || {
        daemon.settle_down(SETTLING)?;
        preseed::apply(daemon, &lxd.preseed, &mut unusable)
    });
    let mut failed: Vec<String> = Vec::new();
    for image in &lxd.images {
        let name = format!("image {}", image.alias);
        if steps.take(&name, || image::carry(daemon, image, root)).is_err() {
            failed.push(image.alias.clone());
        }
    }
    for container in &document.containers {
        let name = format!("container {}", container.name);
        let base = container::local_image(container);
        let no_image = base.filter(|alias| failed.iter().any(|failed| failed == alias));
        let made = if let Some(alias) = no_image {
            steps.skip(&name, &format!("its image {alias} could not be made"))
        } else if let Some(what) = unusable.of(container) {
            steps.skip(&name, &format!("{what} could not be made"))
        } else {
            steps.take(&name, || container::make(daemon, lxd, container, root))
        };
        let Some(alias) = &container.publish else { continue };
        let name = format!("publish {alias}");
        let published = made.and_then(|()| steps.take(&name, || publish::publish(daemon, container, alias)));
        if published.is_err() {
            failed.push(alias.clone());
        }
    }
}

/// The string under `keys` in `value`.
pub(crate) fn text<'a>(value: &'a Value, keys: &[&str]) -> Option<&'a str> {
    keys.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}

/// The mark that a container of the farm carries.
pub(crate) fn mark(container: &Container) -> &str {
    &container.digest
}
