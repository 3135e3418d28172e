//! Names of images. An alias that palmfarm made is moved to another image; one of somebody else's is left alone.

use std::time::Duration;

use serde_json::json;

use super::{text, Change, Done, Trouble};
use crate::daemon::{encoded, Daemon};

/// Naming an image changes a row of the daemon's database.
const PATIENCE: Duration = Duration::from_secs(300);

/// See that `alias` points to `fingerprint`. An alias that points to an image of somebody else is left alone.
pub(super) fn point(daemon: &Daemon, alias: &str, fingerprint: &str, description: &str) -> Done {
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
        return Err(Trouble::new(format!(
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
