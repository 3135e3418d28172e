//! Forming the cluster, on the card that the farm names for it: the pools, networks and profiles first, since they are
//! made once for each member in a cluster.

use std::time::Duration;

use palmfarm_protocol::paths::CLUSTER_KEY;
use serde_json::json;

use super::{keys, Site};
use crate::daemon::DaemonErrorKind;
use crate::farm;
use crate::step::StepError;

/// How long forming the cluster may take. A Pi needs some seconds; an emulated one on a busy machine took a minute and a half.
/// If a heartbeat of the daemon's begins in that time, it can end in a deadlock: the heartbeat holds the gateway's lock and
/// waits for the database, which the forming holds while it waits for that lock (LXD 5.0.2, `lxd/cluster/gateway.go`, lines
/// 845 and 961).
const FORMING: Duration = Duration::from_secs(180);

/// Make the card's daemon the first member. It had `tries` before this one, of which nothing came; each has more time.
pub(super) fn form(site: &Site<'_>, tries: u32) -> Result<(), StepError> {
    farm::prepare(site.farm)?;
    let body = json!({"server_name": site.me.name, "enabled": true});
    let (doing, patience) = ("forming the cluster", FORMING * tries.saturating_add(1));
    match site.daemon.change(doing, "PUT", "/1.0/cluster", &body, patience) {
        // It hangs, or has ended. As after a power cut, the next look sees what has come of it.
        Err(error)
            if matches!(
                error.kind(),
                DaemonErrorKind::Late(_) | DaemonErrorKind::Unreachable(_)
            ) =>
        {
            site.service.restart_by_force()
        }
        done => Ok(done.map(drop)?),
    }
}

/// What is done to a cluster that has just been formed, and is looked at in each run, since the power may have been cut.
pub(super) fn complete(site: &Site<'_>) -> Result<(), StepError> {
    const THRESHOLD: &str = "cluster.offline_threshold";
    let about = site.about()?;
    let declared = site.cluster.offline_threshold.to_string();
    if about["config"][THRESHOLD] != *declared {
        let body = json!({"config": {THRESHOLD: declared}});
        site.change("setting when a member counts as offline", "PATCH", "/1.0", &body)?;
    }
    let certificate = about["environment"]["certificate"].as_str().unwrap_or_default();
    if keys::body(certificate) != keys::body(&site.cluster.certificate) {
        let key = site
            .root
            .read(CLUSTER_KEY)
            .map_err(StepError::io("reading the cluster's key,", CLUSTER_KEY))?;
        let body = json!({
            "cluster_certificate": site.cluster.certificate, "cluster_certificate_key": key,
        });
        let doing = "giving the cluster its certificate";
        site.change(doing, "PUT", "/1.0/cluster/certificate", &body)?;
    }
    Ok(())
}
