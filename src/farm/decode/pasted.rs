//! What `lxc config show` and `lxc profile show` print (`incus`, too), pasted into a farm as it is: which keys are LXD's own
//! records and are left out. It decides nothing about a key that means something to a farm.

use std::collections::BTreeMap;

use super::fields::Fields;
use super::values;
use crate::farm::node::Span;
use crate::farm::problem::Problem;
use crate::farm::suggest::quoted;

/// What LXD keeps about an instance beside its configuration (`api.Instance` and `api.InstanceFull` of LXD and Incus).
const OF_CONTAINERS: [&str; 17] = [
    "architecture",
    "backups",
    "created_at",
    "description",
    "ephemeral",
    "expanded_config",
    "expanded_devices",
    "last_used_at",
    "location",
    "name",
    "project",
    "snapshots",
    "state",
    "stateful",
    "status",
    "status_code",
    "type",
];

/// The same for a profile (`api.Profile`).
const OF_PROFILES: [&str; 3] = ["name", "project", "used_by"];

/// What was left out of one container or profile.
pub(super) struct LeftOut {
    keys: Vec<String>,
    /// The address that the container had (`volatile.eth0.hwaddr`).
    mac: Option<String>,
    /// The image that it was made from.
    image: Option<String>,
}

impl LeftOut {
    /// Leave out of a container what is LXD's, if it was pasted: LXD always prints `ephemeral` or `volatile.base_image`.
    pub(super) fn of_container(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let config = fields.peek("config").map_or(&[][..], |node| node.entries());
        let value = |key: &str| {
            let entry = config.iter().find(|entry| entry.key == key)?;
            Some(entry.value.scalar()?.text.clone())
        };
        let is_whole = fields.has("ephemeral");
        if !is_whole && value("volatile.base_image").is_none() {
            return None;
        }
        let mut kept: Vec<String> = Vec::new();
        for group in OF_CONFIG {
            if config.iter().any(|entry| entry.key.starts_with(group)) {
                kept.push(format!("{group}*"));
            }
        }
        let addresses = config
            .iter()
            .filter(|entry| entry.key.starts_with("volatile.") && entry.key.ends_with(".hwaddr"));
        let first = addresses.min_by_key(|entry| entry.key != "volatile.eth0.hwaddr");
        let mac = first.and_then(|entry| Some(entry.value.scalar()?.text.clone()));
        let mac = mac.filter(|text| values::mac(text).is_ok());
        let image = value("image.os").zip(value("image.release"));
        let image = image.map(|(os, release)| format!("images:{}/{release}", os.to_lowercase()));
        let kind = fields
            .peek("type")
            .and_then(|node| Some((node.span, node.scalar()?)));
        if let Some((at, _)) = kind.filter(|(_, kind)| is_whole && kind.text == "virtual-machine") {
            fields
                .p
                .error(at, "this is a virtual machine, and a farm makes containers")
                .hint("make a container from an image of the same system");
        }
        let whole = if is_whole {
            fields.leave_out(&OF_CONTAINERS)
        } else {
            Vec::new()
        };
        let mut keys: Vec<String> = whole.into_iter().map(str::to_owned).collect();
        keys.append(&mut kept);
        Some(Self { keys, mac, image })
    }

    /// The same for a profile: LXD always prints `used_by`.
    pub(super) fn of_profile(fields: &mut Fields<'_, '_>) -> Option<Self> {
        if !fields.has("used_by") {
            return None;
        }
        let keys = fields
            .leave_out(&OF_PROFILES)
            .into_iter()
            .map(str::to_owned)
            .collect();
        Some(Self {
            keys,
            mac: None,
            image: None,
        })
    }

    /// `config` without the keys of the daemon.
    pub(super) fn stripped(mut config: BTreeMap<String, String>) -> BTreeMap<String, String> {
        config.retain(|key, _| !OF_CONFIG.iter().any(|group| key.starts_with(group)));
        config
    }

    /// The image that the container was made from, in quotes, if LXD says it.
    pub(super) fn image(&self) -> Option<String> {
        self.image.as_deref().map(quoted)
    }

    /// What is said of it. `mac` says that the farm could still name the address that the container had.
    pub(super) fn note(&self, what: &str, mac: bool, at: Span) -> Problem {
        let message = format!(
            "{what} was pasted, and what LXD notes for itself is left out: {}",
            self.keys.join(", ")
        );
        let hint = match self.mac.as_ref().filter(|_| mac) {
            Some(mac) => format!(
                "to keep the address that it has in DNS, write `mac: {}`",
                quoted(mac)
            ),
            None => "remove these keys, and nothing is said of them".into(),
        };
        Problem::warning(at, message).hint(hint)
    }
}

/// Keys of configuration that the daemon sets by itself.
const OF_CONFIG: [&str; 2] = ["image.", "volatile."];
