//! Publishing a finished container as an image: first the snapshot, then the image, and the alias last, so that a
//! container launched from the alias gets either the old image or the new one.

use std::time::Duration;

use palmfarm_protocol::firstboot::Container;
use serde_json::{json, Value};

use super::alias::{point, target};
use super::image::{discard, find, listed};
use super::{owned, text, Farm};
use crate::daemon::{encoded, Daemon, DaemonErrorKind};
use crate::record::Kind;
use crate::step::{Change, StepError, StepResult};

/// How long publishing may take: it packs a whole root filesystem on the Pi.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The digest of the declaration that an image was published from: a property of the image, and a key of its entry in
/// the record.
const FROM: &str = "palmfarm.digest";

/// In the same places, the name of the container that the image was published from.
pub(super) const OF: &str = "palmfarm.container";

/// The fingerprint of the image that was published from a container, in the container's entry.
const IMAGE: &str = "image";

/// A word that no image has had before: in the container's entry, and a property of the image that the agent is about to
/// publish. So it finds that image again if a power cut kept the fingerprint from the record.
const NONCE: &str = "palmfarm.nonce";

/// Make sure that `alias` names an image of `container` as it is declared now. An image is known by the fingerprint that
/// the daemon gave when it was published: an image that an owner publishes from a replica inherits the properties.
pub(super) fn publish(farm: &Farm<'_>, container: &Container, alias: &str) -> StepResult {
    let name = &container.name;
    let mut known = farm.record.get(Kind::Container, name);
    // Of the declaration from which it was made: that may be older and have another alias, or none.
    let digest = text(&known, &["digest"]).unwrap_or(&container.digest).to_owned();
    let images = listed(farm.daemon)?;
    let entry = json!({OF: name, FROM: digest});
    adopt(farm, name, &mut known, alias, &images, &entry)?;
    let published = text(&known, &[IMAGE]).filter(|one| find(&images, one).is_some());
    let mut change = Change::Unchanged;
    if published.is_none() {
        let found = match text(&known, &[NONCE]) {
            Some(nonce) => images.iter().find(|one| one["properties"][NONCE] == *nonce),
            None => None,
        };
        let fingerprint = if let Some(found) = found.and_then(|one| text(one, &["fingerprint"])) {
            found.to_owned()
        } else {
            let nonce = farm.nonce();
            known[NONCE] = json!(nonce);
            farm.record.put(Kind::Container, name, known.clone())?;
            // A container that was not made to be published is published as it is now.
            let is_template = !known["publish"].is_null();
            let used = is_template && !farm.built.borrow().contains(name) && is_used(farm, name, &digest)?;
            if used {
                return Err(StepError::new(format!(
                    "{alias} is to be published from {name} as it was when it was finished, but that snapshot is gone and \
                     somebody has used {name} since; to make both again, and keep the old {name}: palmfarm-agent rebuild {name}"
                )));
            }
            pack(farm.daemon, name, &digest, &nonce)?
        };
        // An image with the same bytes that was there before is not the agent's.
        if found.is_some() || find(&images, &fingerprint).is_none() {
            farm.record.put(Kind::Image, &fingerprint, entry)?;
        }
        known[IMAGE] = json!(fingerprint);
        known[NONCE] = Value::Null;
        farm.record.put(Kind::Container, name, known.clone())?;
        change = Change::Changed;
    }
    let fingerprint = text(&known, &[IMAGE]).unwrap_or_default();
    change = change.or(point(
        farm,
        alias,
        fingerprint,
        &format!("published from {name}"),
    )?);
    let former = |entry: &Value| entry[OF] == **name;
    Ok(change.or(discard(farm, alias, fingerprint, former)?))
}

/// An earlier agent published an image and kept no record of it: the alias stays where it is if that image says that it is
/// of this declaration. Nothing shows that the image is the agent's, so no run deletes it.
fn adopt(
    farm: &Farm<'_>,
    name: &str,
    known: &mut Value,
    alias: &str,
    images: &[Value],
    entry: &Value,
) -> Result<(), StepError> {
    if !known["publish"].is_null()
        || !known[IMAGE].is_null()
        || !farm.record.get(Kind::Alias, alias).is_null()
    {
        return Ok(());
    }
    let Some(target) = target(farm, alias)? else {
        return Ok(());
    };
    let properties = find(images, &target).map(|image| &image["properties"]);
    if properties.is_some_and(|all| [OF, FROM].iter().all(|key| all[key] == entry[key])) {
        known[IMAGE] = json!(target);
        farm.record.put(Kind::Container, name, known.clone())?;
        farm.record.put(Kind::Alias, alias, json!([target]))?;
    }
    Ok(())
}

/// The name of the snapshot from which a container with the digest `made_of` is published.
pub(super) fn snapshot(made_of: &str) -> String {
    let short: String = made_of.chars().take(12).collect();
    format!("palmfarm-{short}")
}

/// Whether there is no snapshot of the container as it was finished, and somebody has used it since.
fn is_used(farm: &Farm<'_>, name: &str, digest: &str) -> Result<bool, StepError> {
    let path = format!("{}/{}", farm.daemon.instances(), encoded(name));
    let snapshot = snapshot(digest);
    let looking = format!("looking for the snapshot {snapshot} of {name}");
    if farm
        .daemon
        .look(&looking, &format!("{path}/snapshots/{snapshot}"))?
        .is_some()
    {
        return Ok(false);
    }
    let now = farm.daemon.look(&format!("looking for {name}"), &path)?;
    Ok(!owned::is_unused(
        farm,
        name,
        &path,
        &now.unwrap_or_default(),
        None,
    )?)
}

fn pack(daemon: &Daemon, name: &str, digest: &str, nonce: &str) -> Result<String, StepError> {
    let snapshot = snapshot(digest);
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
        "properties": {OF: name, FROM: digest, NONCE: nonce, "description": format!("published from {name}")},
        "public": false,
    });
    let made = daemon.change(
        &format!("publishing {name}"),
        "POST",
        "/1.0/images",
        &body,
        PATIENCE,
    );
    match made {
        Ok(made) => text(&made, &["fingerprint"]).map(str::to_owned),
        // "The image already exists: FINGERPRINT": it has the same bytes.
        Err(error) => match error.kind() {
            DaemonErrorKind::Failed(why) if why.contains("already exists") => why
                .rsplit(' ')
                .next()
                .filter(|word| word.len() == 64)
                .map(str::to_owned),
            _ => return Err(error.into()),
        },
    }
    .ok_or_else(|| {
        StepError::new(format!(
            "publishing {name}: the daemon did not say which image it made"
        ))
    })
}
