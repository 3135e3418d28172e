//! The card's own key and certificate, by which the other cards know it: where its daemon finds them, before its first
//! start or instead of those that it made. A daemon that has something of somebody keeps its own.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use palmfarm_protocol::cluster::Member;
use palmfarm_protocol::paths::MEMBER_KEY;
use serde_json::Value;

use super::service::Service;
use super::{Site, PATIENCE};
use crate::step::{Change, StepError, StepResult};

/// What a daemon without anybody's things is for.
const WAY_OUT: &str =
    "a card that enters a cluster starts with an empty daemon; save what somebody needs (lxc export), \
                       delete it, then run palmfarm-agent run; or flash the card again";

/// What a daemon may have that is somebody's.
pub(super) const CONTAINER: &str = "container";
pub(super) const POOL: &str = "storage-pool";

/// The Base64 of a certificate in PEM (RFC 7468), without its frame and line ends.
pub(super) fn body(pem: &str) -> String {
    let lines = pem.lines().map(str::trim);
    lines.filter(|line| !line.starts_with('-')).collect()
}

/// Put the keys of `me` there if there are none.
pub(super) fn place(service: &Service<'_>, me: &Member) -> StepResult {
    if has(service, me).is_some() {
        return Ok(Change::Unchanged);
    }
    let root = service.root;
    let key = root.read(MEMBER_KEY).map_err(StepError::io(
        "reading this card's key for the cluster,",
        MEMBER_KEY,
    ))?;
    let folder = root.at(&service.folder);
    // With the daemon's own mode: it makes the folder only if there is none.
    let made = DirBuilder::new().recursive(true).mode(0o711).create(&folder);
    made.map_err(StepError::io("making", &service.folder))?;
    // The certificate last: it shows that both are there.
    for (name, text) in [("server.key", &key), ("server.crt", &me.certificate)] {
        let path = service.path(name);
        let written = root.write_private(&path, text.as_bytes());
        written.map_err(StepError::io("writing", &path))?;
    }
    Ok(Change::Changed)
}

/// Whether the certificate that is there is that of `me`; `None` if there is none.
fn has(service: &Service<'_>, me: &Member) -> Option<bool> {
    let now = service.root.read(&service.path("server.crt")).ok()?;
    Some(body(&now) == body(&me.certificate))
}

/// Put the keys in the place of those that the daemon made when it was started for the first time.
pub(super) fn replace(site: &Site<'_>) -> StepResult {
    let service = &site.service;
    if has(service, site.me) == Some(true) {
        return Ok(Change::Unchanged);
    }
    let declared = site.farm.lxd.preseed.storage_pools.iter();
    let pools: Vec<String> = declared.map(|pool| pool.name.clone()).collect();
    refuse_used(site, &[], &[CONTAINER])?;
    refuse_used(site, &pools, &[POOL])?;
    service.stop()?;
    let path = service.path("server.crt");
    let removed = service.root.remove(&path);
    let placed = removed
        .map_err(StepError::io("removing", &path))
        .and_then(|()| place(service, site.me));
    service.start()?;
    site.daemon.returns(PATIENCE);
    placed
}

/// Make sure that the daemon has nothing but pools of these names. `kinds` says what is looked for.
pub(super) fn refuse_used(site: &Site<'_>, pools: &[String], kinds: &[&str]) -> Result<(), StepError> {
    kinds.iter().try_for_each(|kind| {
        let path = match *kind {
            // An older daemon shows those of the project default.
            CONTAINER => format!("{}?all-projects=true", site.daemon.instances()),
            other => format!("/1.0/{other}s"),
        };
        refuse(site, kind, &path, pools)
    })
}

/// Make sure that no declared pool has a volume that somebody made.
pub(super) fn refuse_volumes(site: &Site<'_>) -> Result<(), StepError> {
    let pools = &site.farm.lxd.preseed.storage_pools;
    pools.iter().try_for_each(|pool| {
        let path = format!("/1.0/storage-pools/{}/volumes/custom", pool.name);
        refuse(site, "volume", &path, &[])
    })
}

fn refuse(site: &Site<'_>, kind: &str, path: &str, except: &[String]) -> Result<(), StepError> {
    let found = site.daemon.look(&format!("listing each {kind}"), path)?;
    let found = found.as_ref().and_then(Value::as_array).into_iter().flatten();
    let mut names = found.filter_map(|one| one.as_str()?.rsplit('/').next());
    match names.find(|name| !except.iter().any(|one| one == name)) {
        Some(name) => Err(StepError::new(format!("there is the {kind} {name}: {WAY_OUT}"))),
        None => Ok(()),
    }
}
