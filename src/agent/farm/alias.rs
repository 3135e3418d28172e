//! Names of images. An alias that palmfarm made may be moved to another image; any other alias is left alone.

use std::time::Duration;

use serde_json::json;

use super::text;
use crate::daemon::{encoded, Daemon};
use crate::step::{Change, StepError, StepResult};

/// How long a change of an alias may take: it changes a row of the daemon's database.
const PATIENCE: Duration = Duration::from_secs(300);

/// Make `alias` point to `fingerprint`, unless it points to an image that palmfarm did not put there.
pub(super) fn point(daemon: &Daemon, alias: &str, fingerprint: &str, description: &str) -> StepResult {
    let path = format!("/1.0/images/aliases/{}", encoded(alias));
    let body = json!({"name": alias, "target": fingerprint, "description": description, "type": "container"});
    let Some(now) = daemon.look(&format!("looking for the alias {alias}"), &path)? else {
        daemon.change(
            &format!("naming an image {alias}"),
            "POST",
            "/1.0/images/aliases",
            &body,
            PATIENCE,
        )?;
        return Ok(Change::Changed);
    };
    if text(&now, &["target"]) == Some(fingerprint) {
        return Ok(Change::Unchanged);
    }
    let theirs = text(&now, &["description"]).unwrap_or_default();
    if theirs != description {
        return Err(StepError::new(format!(
            "the alias {alias} names another image, which palmfarm did not put there; rename it (lxc image alias \
             rename {alias} NEW), then run palmfarm-agent run"
        )));
    }
    daemon.change(
        &format!("moving the alias {alias}"),
        "PUT",
        &path,
        &body,
        PATIENCE,
    )?;
    Ok(Change::Changed)
}
