//! The farm on the container daemon: server settings, pools, networks, profiles, images and containers. Each is read
//! first, and changed only if it is not as declared.
//!
//! What palmfarm makes carries its mark, a `user.palmfarm` key or property. What carries no mark was made by somebody
//! else and is never changed, so a clash of names ends in a message.

mod address;
mod alias;
mod container;
mod image;
mod preseed;
mod publish;
mod steps;
mod survey;

use std::path::Path;
use std::time::Duration;

use palmfarm_protocol::firstboot::{Container, FirstBoot, Lxd};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::step::StepListener;

pub(crate) use survey::{survey, unknown, AddressWait};

/// The key by which a container, profile or network says that palmfarm made it, and from what.
pub(crate) const MARK: &str = "user.palmfarm";

/// The key by which a container says how far it is.
pub(crate) const STATE: &str = "user.palmfarm.state";

/// The value of [`STATE`] once everything that was to run in a container has run.
pub(crate) const READY: &str = "ready";

/// The value of [`STATE`] before that.
pub(crate) const NEW: &str = "new";

/// How long work that was begun earlier may take: an image that is being unpacked onto an SD card.
const SETTLING: Duration = Duration::from_secs(1800);

/// Make the farm of `document` true. `root` is the top of the card's file tree, `/` on a Pi. If a step fails, only the
/// steps that need it are skipped.
pub(crate) fn converge(
    daemon: &Daemon,
    document: &FirstBoot,
    lxd: &Lxd,
    root: &Path,
    listener: &mut dyn StepListener,
) {
    let mut steps = steps::Steps::new(daemon, listener);
    let mut unusable = preseed::Unusable::default();
    // If it fails, `unusable` knows which containers cannot be made.
    steps.take("preseed", || {
        daemon.settle_down(SETTLING)?;
        preseed::apply(daemon, &lxd.preseed, &mut unusable)
    });
    let mut failed: Vec<String> = Vec::new();
    for image in &lxd.images {
        let name = format!("image {}", image.alias);
        if !steps.take(&name, || image::carry(daemon, image, root)) {
            failed.push(image.alias.clone());
        }
    }
    for container in &document.containers {
        let name = format!("container {}", container.name);
        let base = container::local_image(container);
        let no_image = base.filter(|alias| failed.iter().any(|failed| failed == alias));
        let made = if let Some(alias) = no_image {
            steps.skip(&name, &format!("its image {alias} could not be made"))
        } else if let Some(what) = unusable.needed_by(container) {
            steps.skip(&name, &format!("{what} could not be made"))
        } else {
            steps.take(&name, || container::make(daemon, lxd, container, root))
        };
        let Some(alias) = &container.publish else { continue };
        let name = format!("publish {alias}");
        if !made || !steps.take(&name, || publish::publish(daemon, container, alias)) {
            failed.push(alias.clone());
        }
    }
}

/// The string under `keys` in `value`.
pub(crate) fn text<'a>(value: &'a Value, keys: &[&str]) -> Option<&'a str> {
    keys.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}

/// The mark of a container of the farm.
pub(crate) fn mark(container: &Container) -> &str {
    &container.digest
}
