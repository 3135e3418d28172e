//! Which values of a farm may be shown in plans and messages: those of keys that are known not to be secret. It decides by
//! names alone; whether a file is private is declared (`declared.rs`).

/// What stands in the place of a value that is not shown.
pub(crate) const HIDDEN: &str = "(not shown)";

/// Groups of LXD's configuration keys whose values are sizes, switches and names. Others may hold anything:
/// `environment.*`, `user.*`, `cloud-init.*` and `raw.*` are where people put passwords and tokens.
const PLAIN: [&str; 8] = [
    "boot.",
    "cluster.",
    "limits.",
    "linux.",
    "migration.",
    "nvidia.",
    "security.",
    "snapshots.",
];

/// Keys of devices, and groups of them, whose values are names, numbers, switches and addresses.
const PLAIN_OF_DEVICES: [&str; 36] = [
    "address",
    "bind",
    "connect",
    "gid",
    "gputype",
    "host_name",
    "hwaddr",
    "id",
    "ipv4.",
    "ipv6.",
    "limits.",
    "listen",
    "major",
    "minor",
    "mode",
    "mtu",
    "name",
    "nat",
    "network",
    "nictype",
    "optional",
    "parent",
    "path",
    "pci",
    "pool",
    "productid",
    "propagation",
    "readonly",
    "recursive",
    "required",
    "security.",
    "shift",
    "size",
    "type",
    "uid",
    "vlan",
];

/// Whether the value of LXD's configuration key `key` may be shown.
pub(crate) fn is_plain(key: &str) -> bool {
    PLAIN.iter().any(|start| key.starts_with(start))
}

/// `value` of the configuration key `key`, unless it may be secret.
pub(crate) fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if is_plain(key) {
        value
    } else {
        HIDDEN
    }
}

/// The same for a key of a device. A source is shown if it is a path or a name: those of network filesystems may have
/// a user and a password in them.
pub(crate) fn shown_of_device<'a>(key: &str, value: &'a str) -> &'a str {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_plain = PLAIN_OF_DEVICES.iter().any(|plain| {
        if plain.ends_with('.') {
            key.starts_with(plain)
        } else {
            key == *plain
        }
    }) || key == "source" && value.chars().all(is_path);
    if is_plain {
        value
    } else {
        HIDDEN
    }
}

/// Whether every value of `config` and of `devices` may be shown.
pub(crate) fn all_shown<'a>(
    config: impl IntoIterator<Item = &'a String>,
    devices: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> bool {
    config.into_iter().all(|key| is_plain(key))
        && devices
            .into_iter()
            .all(|(key, value)| shown_of_device(key, value) != HIDDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_plain_is_shown() {
        for key in ["limits.memory", "security.nesting", "boot.autostart"] {
            assert_eq!(shown(key, "x"), "x", "{key}");
        }
        for key in [
            "environment.TOKEN",
            "user.user-data",
            "cloud-init.user-data",
            "raw.lxc",
            "new.key",
            "limits",
        ] {
            assert_eq!(shown(key, "x"), HIDDEN, "{key}");
        }
        for (key, value) in [
            ("source", "/srv/data"),
            ("parent", "br0"),
            ("ipv4.address", "10.0.0.2"),
            ("size", "1GB"),
        ] {
            assert_eq!(shown_of_device(key, value), value, "{key}");
        }
        for (key, value) in [
            ("source", "//user:pass@nas/share"),
            ("source", "https://x/?token=y"),
            ("raw.mount.options", "password=x"),
            ("ceph.user_name", "x"),
            ("user.x", "x"),
        ] {
            assert_eq!(shown_of_device(key, value), HIDDEN, "{key}");
        }
    }
}
