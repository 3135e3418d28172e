//! Names of images. An alias is moved to another image only if it is where the agent pointed it; any other is left alone.

use std::time::Duration;

use serde_json::json;

use super::{text, Farm};
use crate::daemon::encoded;
use crate::record::Kind;
use crate::step::{Change, StepError, StepResult};

/// How long a change of an alias may take: it changes a row of the daemon's database.
const PATIENCE: Duration = Duration::from_secs(300);

/// The image to which `alias` points.
pub(super) fn target(farm: &Farm<'_>, alias: &str) -> Result<Option<String>, StepError> {
    let path = format!("/1.0/images/aliases/{}", encoded(alias));
    let now = farm
        .daemon
        .look(&format!("looking for the alias {alias}"), &path)?;
    Ok(now
        .as_ref()
        .and_then(|now| text(now, &["target"]))
        .map(str::to_owned))
}

/// Make `alias` point to `fingerprint`, unless it points to an image to which the agent did not point it.
pub(super) fn point(farm: &Farm<'_>, alias: &str, fingerprint: &str, description: &str) -> StepResult {
    let path = format!("/1.0/images/aliases/{}", encoded(alias));
    let body = json!({"name": alias, "target": fingerprint, "description": description, "type": "container"});
    // While the agent moves an alias, its entry names both images.
    let ours = farm.record.get(Kind::Alias, alias);
    let found = farm
        .daemon
        .look_tagged(&format!("looking for the alias {alias}"), &path)?;
    let target = found.as_ref().and_then(|(now, _)| text(now, &["target"]));
    if target == Some(fingerprint) {
        if !ours.is_null() {
            farm.record.put(Kind::Alias, alias, json!([fingerprint]))?;
        }
        return Ok(Change::Unchanged);
    }
    let is_ours = |target| ours.as_array().is_some_and(|all| all.contains(&json!(target)));
    if target.is_some_and(|target| !is_ours(target)) {
        return Err(StepError::new(format!(
            "the alias {alias} names another image, which palmfarm did not put there; rename it (lxc image alias \
             rename {alias} NEW), then run palmfarm-agent run"
        )));
    }
    farm.record
        .put(Kind::Alias, alias, json!([target, fingerprint]))?;
    let (doing, method, path) = match target {
        None => (format!("naming an image {alias}"), "POST", "/1.0/images/aliases"),
        Some(_) => (format!("moving the alias {alias}"), "PUT", path.as_str()),
    };
    let tag = found.as_ref().map_or("", |(_, tag)| tag);
    farm.daemon
        .change_if(&doing, method, path, &body, tag, PATIENCE)?;
    farm.record.put(Kind::Alias, alias, json!([fingerprint]))?;
    Ok(Change::Changed)
}
