//! Profiles, and the result of stacking them: the devices and configuration of one container, each with the profile that
//! it comes from.

use std::collections::BTreeMap;

use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::nic::joins;

use crate::farm::{Container, Lxd, Network, Profile};

/// The origin of what the container itself declares.
pub const OWN: &str = "(container)";

/// One key of configuration, or one device, and the profile that declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared<T> {
    pub value: T,
    /// The profile; [`OWN`]: the container itself.
    pub from: String,
}

/// The configuration and devices that a container has in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacked {
    /// Configuration by key.
    pub config: BTreeMap<String, Declared<String>>,
    /// Devices by name, each with its keys.
    pub devices: BTreeMap<String, Declared<BTreeMap<String, String>>>,
}

/// Every profile by name: `default` (the NAT bridge and the root disk), `extbridge` (the bridge on the LAN), and the
/// farm's own. A profile of the farm replaces a built-in one of the same name.
pub fn profiles(lxd: &Lxd, network: &Network) -> BTreeMap<String, Profile> {
    let root = device(&[("type", "disk"), ("path", "/"), ("pool", &lxd.storage.name)]);
    let mut devices = BTreeMap::from([("root".into(), root)]);
    if let Some(nat) = &lxd.nat {
        devices.insert("eth0".into(), port(&nat.bridge));
    }
    let default = Profile {
        description: "behind the NAT bridge".into(),
        config: BTreeMap::new(),
        devices,
    };
    let mut profiles = BTreeMap::from([("default".into(), default)]);
    if let Some(bridge) = &network.bridge {
        let extbridge = Profile {
            description: "on the LAN, through the bridge of the host".into(),
            config: BTreeMap::new(),
            devices: BTreeMap::from([("eth0".into(), port(bridge))]),
        };
        profiles.insert("extbridge".into(), extbridge);
    }
    profiles.extend(lxd.profiles.clone());
    profiles
}

/// Stack the profiles called `names`, with `container` on top. As in LXD, the last one wins: for each configuration key
/// by itself, and for a device as a whole. A name without a profile adds nothing.
pub fn stack(profiles: &BTreeMap<String, Profile>, names: &[String], container: &Container) -> Stacked {
    let mut stacked = Stacked::default();
    for name in names {
        if let Some(profile) = profiles.get(name) {
            lay(&mut stacked, name, &profile.config, &profile.devices);
        }
    }
    lay(&mut stacked, OWN, &container.own_config(), &container.devices);
    stacked
}

impl Container {
    /// The keys of a container that stand for a configuration key of LXD: their name, LXD's name, and the value, if there
    /// is one.
    pub fn switches(&self) -> [(&'static str, &'static str, Option<bool>); 2] {
        [
            ("nesting", "security.nesting", self.nesting.then_some(true)),
            ("autostart", "boot.autostart", self.autostart),
        ]
    }

    /// The container's own configuration. What `config` says of a key wins.
    pub fn own_config(&self) -> BTreeMap<String, String> {
        let switches = self.switches().into_iter();
        let mut config: BTreeMap<_, _> = switches
            .filter_map(|(_, key, value)| Some((key.to_owned(), value?.to_string())))
            .collect();
        config.extend(self.config.clone());
        config
    }
}

impl Stacked {
    /// The interface whose network the container's `eth0` is in; see [`joins`].
    pub fn parent(&self) -> Option<&str> {
        joins(&self.devices.get("eth0")?.value)
    }

    /// The hardware address that the device `eth0` declares for itself.
    pub fn mac(&self) -> Option<Mac> {
        self.devices.get("eth0")?.value.get("hwaddr")?.parse().ok()
    }

    /// Whether one of its devices is the disk at `/`, without which a container does not start.
    pub fn has_root(&self) -> bool {
        let is = |device: &BTreeMap<String, String>, key: &str, value: &str| {
            device.get(key).is_some_and(|found| found == value)
        };
        self.devices
            .values()
            .any(|device| is(&device.value, "type", "disk") && is(&device.value, "path", "/"))
    }
}

fn lay(
    stacked: &mut Stacked,
    from: &str,
    config: &BTreeMap<String, String>,
    devices: &BTreeMap<String, BTreeMap<String, String>>,
) {
    for (key, value) in config {
        let (value, from) = (value.clone(), from.into());
        stacked.config.insert(key.clone(), Declared { value, from });
    }
    for (name, keys) in devices {
        let (value, from) = (keys.clone(), from.into());
        stacked.devices.insert(name.clone(), Declared { value, from });
    }
}

fn port(bridge: &str) -> BTreeMap<String, String> {
    device(&[
        ("type", "nic"),
        ("name", "eth0"),
        ("nictype", "bridged"),
        ("parent", bridge),
    ])
}

fn device(keys: &[(&str, &str)]) -> BTreeMap<String, String> {
    keys.iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bridge that `eth0` is a port of where `names` are stacked, and the profile that says so.
    fn check(names: &[&str], network: &Network, expect: Option<(&str, &str)>) {
        let profiles = profiles(&Lxd::default(), network);
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let stacked = stack(&profiles, &names, &Container::default());
        let found = stacked
            .parent()
            .map(|parent| (parent, stacked.devices["eth0"].from.as_str()));
        assert_eq!(found, expect, "{names:?}");
    }

    #[test]
    fn the_last_profile_wins() {
        let network = Network::default();
        check(&["default", "extbridge"], &network, Some(("br0", "extbridge")));
        check(&["extbridge", "default"], &network, Some(("lxdbr0", "default")));
        check(&["default"], &network, Some(("lxdbr0", "default")));
        check(&["default", "nowhere"], &network, Some(("lxdbr0", "default")));
        check(&[], &network, None);
        let no_bridge = Network {
            bridge: None,
            ..network
        };
        check(&["default", "extbridge"], &no_bridge, Some(("lxdbr0", "default")));
    }

    #[test]
    fn the_container_wins_over_its_profiles() {
        let mut lxd = Lxd::default();
        let mut small = Profile::default();
        small.config.insert("limits.memory".into(), "128MB".into());
        small.config.insert("security.nesting".into(), "false".into());
        lxd.profiles.insert("small".into(), small);
        let mut container = Container {
            nesting: true,
            autostart: Some(false),
            ..Container::default()
        };
        container.config.insert("limits.memory".into(), "1GB".into());
        let stacked = stack(
            &profiles(&lxd, &Network::default()),
            &["default".into(), "small".into()],
            &container,
        );
        assert_eq!(stacked.config["limits.memory"].value, "1GB");
        assert_eq!(stacked.config["security.nesting"].value, "true");
        assert_eq!(stacked.config["security.nesting"].from, OWN);
        assert_eq!(stacked.config["boot.autostart"].value, "false");
        assert!(stacked.has_root());
    }
}
