//! Who is in the cluster, how each member stands and what is on it: for the report. It reads and never changes anything.

use palmfarm_protocol::report;
use serde_json::Value;

use super::no_quorum;
use crate::daemon::Daemon;
use crate::farm::{text, Farm};
use crate::program::query;
use crate::report::PATH;
use crate::root::Root;
use crate::step::{DaemonState, StepError};

/// The states of a member that is declared.
const ONLINE: &str = "online";
const OFFLINE: &str = "offline";
const MISSING: &str = "not a member";

/// The members of the cluster, as the daemon lists them.
pub(crate) fn list(daemon: &Daemon) -> Result<Vec<Value>, StepError> {
    listed(daemon, "members", "/1.0/cluster/members?recursion=1")
}

/// The member `name` of those that are listed.
pub(super) fn find<'a>(all: &'a [Value], name: &str) -> Option<&'a Value> {
    all.iter().find(|one| one["server_name"] == name)
}

/// Whether the daemon of the member `name` leads the cluster's database.
pub(super) fn leads(all: &[Value], name: &str) -> bool {
    find(all, name).is_some_and(|one| roles(one).any(|role| role == "database-leader"))
}

fn listed(daemon: &Daemon, what: &str, path: &str) -> Result<Vec<Value>, StepError> {
    let all = daemon.look(&format!("listing the cluster's {what}"), path)?;
    Ok(match all {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    })
}

/// What a member is to the cluster's database.
pub(super) fn roles(member: &Value) -> impl Iterator<Item = &str> {
    let roles = member["roles"].as_array().into_iter().flatten();
    roles.filter_map(Value::as_str)
}

/// The names of the containers on the member `name`, of every project. An older daemon lists the project default.
pub(super) fn containers_on(daemon: &Daemon, name: &str) -> Result<Vec<String>, StepError> {
    let all = format!("{}?recursion=1&all-projects=true", daemon.instances());
    let all = listed(daemon, "containers", &all)?;
    Ok(names_on(&all, name))
}

fn names_on(all: &[Value], name: &str) -> Vec<String> {
    let here = all.iter().filter(|one| text(one, &["location"]) == Some(name));
    here.filter_map(|one| text(one, &["name"]).map(str::to_owned))
        .collect()
}

/// The cluster as it is now; `None` if the farm has none.
pub(crate) fn look(farm: &Farm<'_>, root: &Root) -> Option<report::Cluster> {
    let cluster = farm.lxd.cluster.as_ref()?;
    let mut found = report::Cluster::default();
    let both = list(farm.daemon).and_then(|members| {
        let path = format!("{}?recursion=1", farm.daemon.instances());
        Ok((members, listed(farm.daemon, "containers", &path)?))
    });
    let (members, containers) = match both {
        Ok(both) => both,
        Err(error) => {
            found.message = match error.daemon {
                DaemonState::NoQuorum => no_quorum(cluster),
                _ => error.message,
            };
            return Some(found);
        }
    };
    let before = root.read(&format!("{PATH}.json")).unwrap_or_default();
    let before: Value = serde_json::from_str(&before).unwrap_or_default();
    let declared = cluster.members.iter().map(|member| member.name.as_str());
    let others = members.iter().filter_map(|one| text(one, &["server_name"]));
    let others = others.filter(|name| cluster.member(name).is_none());
    for name in declared.chain(others) {
        let now = find(&members, name);
        let state = match now {
            None => MISSING,
            Some(now) if now["status"] == "Online" => ONLINE,
            Some(_) => OFFLINE,
        };
        let before = before["cluster"]["members"].as_array().into_iter().flatten();
        let same = before
            .into_iter()
            .find(|one| one["name"] == name && one["state"] == state);
        let since = same.and_then(|one| text(one, &["since"])).map(str::to_owned);
        found.members.push(report::Member {
            name: name.into(),
            state: state.into(),
            since: since.unwrap_or_else(|| query("date", &["-u", "+%F %H:%M UTC"]).trim().into()),
            roles: now
                .into_iter()
                .flat_map(|now| roles(now).map(str::to_owned))
                .collect(),
            containers: names_on(&containers, name),
        });
    }
    Some(found)
}
