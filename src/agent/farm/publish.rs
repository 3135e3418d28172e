//! Publishing a finished container as an image: first the snapshot, then the image, and the alias last, so that a
//! container launched from the alias gets either the old image or the new one.

use std::time::Duration;

use palmfarm_protocol::firstboot::Container;
use serde_json::{json, Value};

use super::alias::point;
use super::image::{delete, listed};
use super::{mark, text};
use crate::daemon::{encoded, Daemon};
use crate::step::{Change, StepError, StepResult};

/// How long publishing may take: it packs a whole root filesystem on the Pi.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The image property with the digest of the declaration that the image was published from.
const FROM: &str = "palmfarm.digest";

/// The image property with the name of the container that the image was published from.
const OF: &str = "palmfarm.container";

/// Make sure that `alias` names an image of `container` as it is declared now.
pub(super) fn publish(daemon: &Daemon, container: &Container, alias: &str) -> StepResult {
    let name = &container.name;
    let images = listed(daemon)?;
    let of = |image: &&Value| text(image, &["properties", OF]) == Some(name);
    let current = |image: &&Value| text(image, &["properties", FROM]) == Some(mark(container));
    // A power cut between image and alias leaves an image without a name; it is found again here.
    let published = images
        .iter()
        .filter(of)
        .find(current)
        .and_then(|image| text(image, &["fingerprint"]));
    let (fingerprint, mut change) = match published {
        Some(fingerprint) => (fingerprint.to_owned(), Change::Unchanged),
        None => (pack(daemon, container)?, Change::Changed),
    };
    change = change.or(point(
        daemon,
        alias,
        &fingerprint,
        &format!("published from {name}"),
    )?);
    for old in images.iter().filter(of).filter(|image| !current(image)) {
        delete(daemon, old, &format!("deleting the former image of {name}"))?;
        change = Change::Changed;
    }
    Ok(change)
}

fn pack(daemon: &Daemon, container: &Container) -> Result<String, StepError> {
    let name = &container.name;
    let short: String = mark(container).chars().take(12).collect();
    let snapshot = format!("palmfarm-{short}");
    let snapshots = format!("{}/{}/snapshots", daemon.instances(), encoded(name));
    let looking = format!("looking for the snapshot {snapshot} of {name}");
    if daemon
        .look(&looking, &format!("{snapshots}/{snapshot}"))?
        .is_none()
    {
        let body = json!({"name": snapshot, "stateful": false});
        daemon.change(
            &format!("taking a snapshot of {name}"),
            "POST",
            &snapshots,
            &body,
            PATIENCE,
        )?;
    }
    let body = json!({
        "source": {"type": "snapshot", "name": format!("{name}/{snapshot}")},
        "properties": {OF: name, FROM: mark(container), "description": format!("published from {name}")},
        "public": false,
    });
    let made = daemon.change(
        &format!("publishing {name}"),
        "POST",
        "/1.0/images",
        &body,
        PATIENCE,
    )?;
    let fingerprint = text(&made, &["fingerprint"]).map(str::to_owned);
    fingerprint.ok_or_else(|| {
        StepError::new(format!(
            "publishing {name}: the daemon did not say which image it made"
        ))
    })
}
