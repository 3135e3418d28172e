//! Server settings, storage pools, managed networks and profiles. The preseed is not passed to `lxd init`: applying it
//! again would rewrite every profile, and a profile that is wrong for a moment unplugs running containers.

use std::collections::BTreeMap;
use std::time::Duration;

use palmfarm_protocol::firstboot::{Container, ManagedNetwork, Preseed, Profile, StoragePool};
use serde_json::{json, Value};

use super::MARK;
use crate::daemon::{encoded, Daemon};
use crate::step::{Change, DaemonState, StepError, StepResult};

/// How long one request may take: making a btrfs pool formats a loop file on an SD card.
const PATIENCE: Duration = Duration::from_secs(600);

/// The value of [`MARK`] on the objects of the preseed.
const OURS: &str = "preseed";

/// The key by which a profile says which of its devices the farm declared; the owner added the others.
const DEVICES: &str = "user.palmfarm.devices";

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
pub(super) fn apply(daemon: &Daemon, preseed: &Preseed, unusable: &mut Unusable) -> StepResult {
    *unusable = Unusable::default();
    let mut all = vec![server(daemon, &preseed.config)];
    for pool in &preseed.storage_pools {
        let done = storage(daemon, pool);
        if done.is_err() {
            unusable.pools_and_networks.push(pool.name.clone());
        }
        all.push(done);
    }
    for one in &preseed.networks {
        let done = network(daemon, one);
        if done.is_err() {
            unusable.pools_and_networks.push(one.name.clone());
        }
        all.push(done);
    }
    for one in &preseed.profiles {
        let done = profile(daemon, one);
        if done.is_err() || unusable.is_used_by(one) {
            unusable.profiles.push(one.name.clone());
        }
        all.push(done);
    }
    together(all)
}

fn together(all: Vec<StepResult>) -> StepResult {
    let mut change = Change::Unchanged;
    let mut messages = Vec::new();
    for done in all {
        match done {
            Ok(done) => change = change.or(done),
            // Every other part would fail for the same reason.
            Err(error) if matches!(error.daemon, DaemonState::Busy | DaemonState::Away) => return Err(error),
            Err(error) => messages.push(error.message),
        }
    }
    if messages.is_empty() {
        Ok(change)
    } else {
        Err(StepError::new(messages.join("; ")))
    }
}

fn server(daemon: &Daemon, config: &BTreeMap<String, String>) -> StepResult {
    let doing = "reading the server's settings";
    let now = daemon.look(doing, "/1.0")?.unwrap_or_default();
    let differing = differing(config, now.get("config"));
    if differing.is_empty() {
        return Ok(Change::Unchanged);
    }
    daemon.change(
        "changing the server's settings",
        "PATCH",
        "/1.0",
        &json!({"config": differing}),
        PATIENCE,
    )?;
    Ok(Change::Changed)
}

fn storage(daemon: &Daemon, pool: &StoragePool) -> StepResult {
    let path = format!("/1.0/storage-pools/{}", encoded(&pool.name));
    let Some(now) = daemon.look(&format!("looking for the storage pool {}", pool.name), &path)? else {
        let body = json!({"name": pool.name, "driver": pool.driver, "config": pool.config});
        let doing = format!("making the storage pool {}", pool.name);
        daemon.change(&doing, "POST", "/1.0/storage-pools", &body, PATIENCE)?;
        return Ok(Change::Changed);
    };
    // Neither the driver nor the size of a pool can be changed once it exists, and it may hold containers.
    let driver = super::text(&now, &["driver"]).unwrap_or_default();
    if driver != pool.driver {
        return Err(StepError::new(format!(
            "the storage pool {} has the driver {driver}, but the farm declares {}; declare {driver} or another name, or \
             delete the pool",
            pool.name, pool.driver
        )));
    }
    Ok(Change::Unchanged)
}

fn network(daemon: &Daemon, declared: &ManagedNetwork) -> StepResult {
    let name = &declared.name;
    let path = format!("/1.0/networks/{}", encoded(name));
    let now = daemon.look(&format!("looking for the network {name}"), &path)?;
    let managed = |now: &Value| now.get("managed").and_then(Value::as_bool).unwrap_or(false);
    let mut config = declared.config.clone();
    config.insert(MARK.into(), OURS.into());
    let Some(now) = now.filter(managed) else {
        let body = json!({"name": name, "type": declared.kind, "config": config});
        daemon.change(
            &format!("making the network {name}"),
            "POST",
            "/1.0/networks",
            &body,
            PATIENCE,
        )?;
        return Ok(Change::Changed);
    };
    let differing = differing(&declared.config, now.get("config"));
    if differing.is_empty() {
        return Ok(Change::Unchanged);
    }
    if super::text(&now, &["config", MARK]) != Some(OURS) {
        let keys = differing
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(StepError::new(format!(
            "the network {name} was not made by palmfarm and differs in {keys}; declare what it has, or another name, \
             or delete it"
        )));
    }
    let body = json!({"config": differing});
    daemon.change(
        &format!("changing the network {name}"),
        "PATCH",
        &path,
        &body,
        PATIENCE,
    )?;
    Ok(Change::Changed)
}

fn profile(daemon: &Daemon, declared: &Profile) -> StepResult {
    let name = &declared.name;
    let path = format!("/1.0/profiles/{}", encoded(name));
    let mut config = declared.config.clone();
    config.insert(MARK.into(), OURS.into());
    let names: Vec<&str> = declared.devices.keys().map(String::as_str).collect();
    config.insert(DEVICES.into(), names.join(","));
    let mut whole =
        json!({"description": declared.description, "config": config, "devices": declared.devices});
    let Some(now) = daemon.look(&format!("looking for the profile {name}"), &path)? else {
        let mut body = whole;
        body["name"] = json!(name);
        daemon.change(
            &format!("making the profile {name}"),
            "POST",
            "/1.0/profiles",
            &body,
            PATIENCE,
        )?;
        return Ok(Change::Changed);
    };
    whole["devices"] = with_kept(declared, &now);
    let same_devices = now.get("devices") == whole.get("devices");
    if same_devices && differing(&declared.config, now.get("config")).is_empty() {
        return Ok(Change::Unchanged);
    }
    // The daemon itself makes an empty profile `default`; one with devices and without a mark was made by somebody else.
    let ours = super::text(&now, &["config", MARK]) == Some(OURS);
    let empty = now
        .get("devices")
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty);
    let free = name == "default" && empty;
    if !ours && !free {
        return Err(StepError::new(format!(
            "the profile {name} was not made by palmfarm and differs from what the farm declares; declare what it \
             has, or another name, or delete it"
        )));
    }
    // Keys that somebody added to the profile are kept, too.
    let mut body = whole;
    if let (Some(kept), Some(config)) = (
        now.get("config").and_then(Value::as_object),
        body["config"].as_object_mut(),
    ) {
        for (key, value) in kept {
            config.entry(key).or_insert_with(|| value.clone());
        }
    }
    daemon.change(
        &format!("changing the profile {name}"),
        "PUT",
        &path,
        &body,
        PATIENCE,
    )?;
    Ok(Change::Changed)
}

/// The devices of `declared`, and those that the owner added to the profile as it is `now`. Devices of an earlier
/// declaration are removed if the profile says which they are.
fn with_kept(declared: &Profile, now: &Value) -> Value {
    let mut devices = json!(declared.devices);
    let brought = super::text(now, &["config", DEVICES]).unwrap_or_default();
    let ours = |name: &str| brought.split(',').any(|one| one == name);
    if let (Some(all), Some(there)) = (
        devices.as_object_mut(),
        now.get("devices").and_then(Value::as_object),
    ) {
        for (name, device) in there.iter().filter(|(name, _)| !ours(name)) {
            all.entry(name).or_insert_with(|| device.clone());
        }
    }
    devices
}

/// The declared keys that now have another value.
fn differing(declared: &BTreeMap<String, String>, now: Option<&Value>) -> BTreeMap<String, String> {
    let same = |key: &str, value: &str| match now.and_then(|now| now.get(key)) {
        Some(Value::String(now)) => now == value,
        Some(Value::Bool(now)) => now.to_string() == value,
        Some(Value::Number(now)) => now.to_string() == value,
        _ => false,
    };
    let different = declared.iter().filter(|(key, value)| !same(key, value));
    different
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_its_owner_stay_on_a_profile() {
        let nic = || BTreeMap::from([("type".to_owned(), "nic".to_owned())]);
        let declared = Profile {
            name: "default".into(),
            description: String::new(),
            config: BTreeMap::new(),
            devices: [("eth0".to_owned(), nic())].into(),
        };
        let check = |now: Value, expect: Value| assert_eq!(with_kept(&declared, &now), expect);
        let (eth0, data) = (json!({"type": "nic"}), json!({"type": "disk"}));
        check(
            json!({"devices": {"eth0": {"type": "none"}, "data": data}}),
            json!({"eth0": eth0, "data": data}),
        );
        check(
            json!({"config": {DEVICES: "data,eth0"}, "devices": {"data": data, "more": data}}),
            json!({"eth0": eth0, "more": data}),
        );
        check(json!({"devices": {}}), json!({"eth0": eth0}));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let declared = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "true".into())]);
        let check = |now: Value, expect: &[&str]| {
            assert_eq!(
                differing(&declared, Some(&now)).keys().collect::<Vec<_>>(),
                expect
            );
        };
        check(json!({"a": "1", "b": "true", "c": "x"}), &[]);
        check(json!({"a": 1, "b": true}), &[]);
        check(json!({"a": "2"}), &["a", "b"]);
        assert_eq!(differing(&declared, None).len(), 2);
    }
}
