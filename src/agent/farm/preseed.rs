//! Server settings, storage pools, managed networks and profiles. The preseed is not passed to `lxd init`: applying it
//! again would rewrite every profile, and a profile that is wrong for a moment unplugs running containers.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use palmfarm_protocol::firstboot::{Container, ManagedNetwork, Profile, StoragePool};
use serde_json::{json, Map, Value};

use super::{merge, text, Farm, MARK};
use crate::cluster::{self, members};
use crate::daemon::encoded;
use crate::record::Kind;
use crate::step::{Change, DaemonState, StepError, StepResult};

/// How long one request may take: making a btrfs pool formats a loop file on an SD card.
const PATIENCE: Duration = Duration::from_secs(600);

/// The value of [`MARK`] on the objects of the preseed.
const OURS: &str = "preseed";

/// The key under which the daemon has the settings of an object.
const CONFIG: &str = "config";

/// The keys of pools and networks that each member of a cluster has for itself.
pub(crate) const OF_MEMBERS: [&str; 4] = ["size", "source", "bridge.external_interfaces", "parent"];

/// The objects of the preseed that could not be made as declared, so that no container can be made with them.
#[derive(Default)]
pub(super) struct Unusable {
    pools_and_networks: Vec<String>,
    profiles: Vec<String>,
}

impl Unusable {
    /// Which of them `container` needs, if any.
    pub(super) fn needed_by(&self, container: &Container) -> Option<String> {
        let profile = container
            .profiles
            .iter()
            .find(|name| self.profiles.contains(name));
        profile.map(|name| format!("its profile {name}"))
    }

    fn is_used_by(&self, profile: &Profile) -> bool {
        let mut values = profile.devices.values().flat_map(|device| {
            let named = ["pool", "parent", "network"];
            named.into_iter().filter_map(|key| device.get(key))
        });
        values.any(|value| self.pools_and_networks.contains(value))
    }
}

/// Make as much of the preseed true as possible. What fails is reported together at the end, and noted in `unusable`.
pub(super) fn apply(farm: &Farm<'_>, unusable: &mut Unusable) -> StepResult {
    let preseed = &farm.lxd.preseed;
    *unusable = Unusable::default();
    let mut all = Vec::new();
    if farm.maker().is_none() {
        all.push(farm.would(server(farm, &preseed.config)));
    }
    for pool in &preseed.storage_pools {
        let done = farm.would(storage(farm, pool));
        if done.is_err() {
            unusable.pools_and_networks.push(pool.name.clone());
        }
        all.push(done);
    }
    for one in &preseed.networks {
        let done = farm.would(network(farm, one));
        if done.is_err() {
            unusable.pools_and_networks.push(one.name.clone());
        }
        all.push(done);
    }
    for one in &preseed.profiles {
        let done = farm.would(profile(farm, one));
        if done.is_err() || unusable.is_used_by(one) {
            unusable.profiles.push(one.name.clone());
        }
        all.push(done);
    }
    together(all)
}

/// Wait if another card of the cluster does `doing` for all.
fn made_here(farm: &Farm<'_>, doing: &str) -> Result<(), StepError> {
    match farm.maker() {
        Some(first) => Err(StepError::waiting(format!("waiting for {first}: {doing}"))),
        None => Ok(()),
    }
}

/// Make the pool or the network of `body`. A cluster is told of it for each member, with what each has for itself, before
/// all make it at once (LXD's `doc/howto/cluster_config_storage.md`).
fn make(farm: &Farm<'_>, doing: &str, all: &str, body: &Value) -> Result<(), StepError> {
    made_here(farm, doing)?;
    let mut common = body.clone();
    let cluster = farm
        .daemon
        .look("asking the daemon for its cluster", "/1.0/cluster")?;
    if cluster.is_some_and(|cluster| cluster["enabled"] == true) {
        let mut own = body.clone();
        let is_own = |key: &str| OF_MEMBERS.contains(&key);
        if let (Some(common), Some(own)) = (common[CONFIG].as_object_mut(), own[CONFIG].as_object_mut()) {
            common.retain(|key, _| !is_own(key));
            own.retain(|key, _| is_own(key));
        }
        for member in members::list(farm.daemon)? {
            let name = text(&member, &["server_name"]).unwrap_or_default();
            let path = format!("{all}?target={}", encoded(name));
            match farm.daemon.change(doing, "POST", &path, &own, PATIENCE) {
                // By a try that was cut short.
                Err(error) if cluster::is(&error, "already defined") => {}
                done => drop(done?),
            }
        }
    }
    match farm.daemon.change(doing, "POST", all, &common, PATIENCE) {
        // A run that was cut short has asked for it, and the daemon was still at work.
        Err(error) if cluster::is(&error, "already exists") && is_made_soon(farm, doing, all, body)? => Ok(()),
        done => done.map(drop).map_err(|error| {
            StepError::with_cure(
                error,
                "; all members of a cluster make it at once, so if one is off, switch it on, then run palmfarm-agent run",
            )
        }),
    }
}

/// Whether the pool or the network of `body` is there within a minute.
fn is_made_soon(farm: &Farm<'_>, doing: &str, all: &str, body: &Value) -> Result<bool, StepError> {
    let name = text(body, &["name"]).unwrap_or_default();
    let path = format!("{all}/{}{}", encoded(name), farm.here());
    for _ in 0..60 {
        if farm.daemon.look(doing, &path)?.as_ref().is_some_and(is_made) {
            return Ok(true);
        }
        sleep(Duration::from_secs(1));
    }
    Ok(false)
}

/// Whether the pool or the network `now` is there, and not only announced, for this card or for others.
fn is_made(now: &Value) -> bool {
    now["status"] != "Pending" && now["status"] != "Unknown"
}

fn together(all: Vec<StepResult>) -> StepResult {
    let mut change = Change::Unchanged;
    let mut messages = Vec::new();
    for done in all {
        match done {
            Ok(done) => change = change.or(done),
            // Every other part would fail for the same reason.
            Err(error)
                if matches!(
                    error.daemon,
                    DaemonState::Busy | DaemonState::Away | DaemonState::NoQuorum | DaemonState::Waiting
                ) =>
            {
                return Err(error)
            }
            Err(error) => messages.push(error.message),
        }
    }
    if messages.is_empty() {
        Ok(change)
    } else {
        Err(StepError::new(messages.join("; ")))
    }
}

fn server(farm: &Farm<'_>, config: &BTreeMap<String, String>) -> StepResult {
    let doing = "reading the server's settings";
    let (now, tag) = farm.daemon.look_tagged(doing, "/1.0")?.unwrap_or_default();
    let declared = json!(config);
    let merge = merge::keys(&farm.record.get(Kind::Server, CONFIG), &declared, &now[CONFIG]);
    farm.note_left("the server", &merge.left);
    let change = if merge.changes.is_empty() {
        Change::Unchanged
    } else {
        // Here, an empty value unsets a key.
        let text = |(key, value): (String, Value)| (key, if value.is_null() { json!("") } else { value });
        let changes: Map<String, Value> = merge.changes.into_iter().map(text).collect();
        let doing = "changing the server's settings";
        farm.daemon
            .change_if(doing, "PATCH", "/1.0", &json!({CONFIG: changes}), &tag, PATIENCE)?;
        Change::Changed
    };
    farm.record.put(Kind::Server, CONFIG, declared)?;
    Ok(change)
}

fn storage(farm: &Farm<'_>, pool: &StoragePool) -> StepResult {
    let daemon = farm.daemon;
    let path = format!("/1.0/storage-pools/{}{}", encoded(&pool.name), farm.here());
    let now = daemon.look(&format!("looking for the storage pool {}", pool.name), &path)?;
    let Some(now) = now.filter(is_made) else {
        let body = json!({"name": pool.name, "driver": pool.driver, CONFIG: pool.config});
        let doing = format!("making the storage pool {}", pool.name);
        make(farm, &doing, "/1.0/storage-pools", &body)?;
        return Ok(Change::Changed);
    };
    // Neither the driver nor the size of a pool can be changed once it exists, and it may hold containers.
    let driver = text(&now, &["driver"]).unwrap_or_default();
    if driver != pool.driver {
        return Err(StepError::new(format!(
            "the storage pool {} has the driver {driver}, but the farm declares {}; declare {driver} or another name, or \
             delete the pool",
            pool.name, pool.driver
        )));
    }
    for (key, declared) in &pool.config {
        let has = text(&now, &[CONFIG, key]).unwrap_or("nothing");
        if has != declared {
            farm.note(format!(
                "the storage pool {} has {has} for {key}, and the farm declares {declared}: a pool stays as it was made",
                pool.name
            ));
        }
    }
    Ok(Change::Unchanged)
}

fn network(farm: &Farm<'_>, declared: &ManagedNetwork) -> StepResult {
    let name = &declared.name;
    let path = format!("/1.0/networks/{}", encoded(name));
    let now = farm
        .daemon
        .look_tagged(&format!("looking for the network {name}"), &path)?;
    let managed = |(now, _): &(Value, String)| now["managed"] == true && is_made(now);
    let object = Object {
        kind: Kind::Network,
        what: format!("the network {name}"),
        name,
        path: &path,
        declared: json!({CONFIG: declared.config}),
    };
    let Some((now, tag)) = now.filter(managed) else {
        let mut body = json!({"name": name, "type": declared.kind, CONFIG: declared.config});
        body[CONFIG][MARK] = json!(OURS);
        return object.create(farm, "/1.0/networks", &body);
    };
    object.update(farm, &now, &tag, false)
}

fn profile(farm: &Farm<'_>, declared: &Profile) -> StepResult {
    let name = &declared.name;
    let path = format!("/1.0/profiles/{}", encoded(name));
    let now = farm
        .daemon
        .look_tagged(&format!("looking for the profile {name}"), &path)?;
    let object = Object {
        kind: Kind::Profile,
        what: format!("the profile {name}"),
        name,
        path: &path,
        declared: json!({
            "description": declared.description, CONFIG: declared.config, "devices": declared.devices,
        }),
    };
    let Some((now, tag)) = now else {
        let mut body = object.declared.clone();
        body["name"] = json!(name);
        body[CONFIG][MARK] = json!(OURS);
        return object.create(farm, "/1.0/profiles", &body);
    };
    // The daemon itself makes an empty profile `default`; one with devices was made by somebody else.
    let empty = now["devices"].as_object().is_none_or(Map::is_empty);
    object.update(farm, &now, &tag, name == "default" && empty)
}

/// A network or a profile.
struct Object<'a> {
    kind: Kind,
    what: String,
    name: &'a str,
    path: &'a str,
    /// What is declared of it now: `config`, and perhaps `devices` and `description`.
    declared: Value,
}

impl Object<'_> {
    fn create(self, farm: &Farm<'_>, all: &str, body: &Value) -> StepResult {
        let doing = format!("making {}", self.what);
        if self.kind == Kind::Network {
            make(farm, &doing, all, body)?;
        } else {
            made_here(farm, &doing)?;
            farm.daemon.change(&doing, "POST", all, body, PATIENCE)?;
        }
        farm.record.put(self.kind, self.name, self.declared)?;
        Ok(Change::Changed)
    }

    /// Change what the declaration changed since the last run, and leave alone what somebody else has changed. `free`
    /// says that nobody has made the object for a purpose.
    fn update(self, farm: &Farm<'_>, now: &Value, tag: &str, free: bool) -> StepResult {
        if farm.maker().is_some() {
            return Ok(Change::Unchanged);
        }
        let recorded = farm.record.get(self.kind, self.name);
        let ours = !recorded.is_null() || text(now, &[CONFIG, MARK]) == Some(OURS);
        let then = if !recorded.is_null() {
            &recorded
        } else if free && !ours {
            now
        } else {
            &self.declared
        };
        // Whatever the body of a PUT lacks is removed, a description of the owner's, too.
        let mut body = Map::new();
        body.insert("description".into(), now["description"].clone());
        for (key, _) in self.declared.as_object().into_iter().flatten() {
            body.insert(key.clone(), now[key].clone());
        }
        let (mut left, mut changed) = (Vec::new(), false);
        for part in [CONFIG, "devices"] {
            let merge = merge::keys(&then[part], &self.declared[part], &now[part]);
            changed |= !merge.changes.is_empty();
            merge::apply(&mut body, part, merge.changes);
            left.extend(merge.left);
        }
        if self.declared["description"] != then["description"] && now["description"] == then["description"] {
            body.insert("description".into(), self.declared["description"].clone());
            changed = true;
        }
        if !(ours || free || left.is_empty()) {
            return Err(StepError::new(format!(
                "{} was not made by palmfarm and differs in {}; declare what it has, or another name, or delete it",
                self.what,
                left.join(", ")
            )));
        }
        farm.note_left(&self.what, &left);
        if changed {
            merge::apply(
                &mut body,
                CONFIG,
                [(MARK.to_owned(), json!(OURS))].into_iter().collect(),
            );
            let doing = format!("changing {}", self.what);
            farm.daemon
                .change_if(&doing, "PUT", self.path, &Value::Object(body), tag, PATIENCE)?;
        }
        farm.record.put(self.kind, self.name, self.declared)?;
        Ok(if changed {
            Change::Changed
        } else {
            Change::Unchanged
        })
    }
}
