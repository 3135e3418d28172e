//! What the keys of a device say about the network that a container is in. LXD's and Incus's rules, and no others.

use std::collections::BTreeMap;

/// Whether a device with these `keys` is a network port; `none` takes one of a profile away.
pub fn is_nic(keys: &BTreeMap<String, String>) -> bool {
    keys.get("type").is_some_and(|kind| kind == "nic")
}

/// The interface of the host whose network a NIC with these `keys` is in, with an address of its own there: that is
/// so for bridged ones and macvlan, where nothing tags their frames. `None`: it is none of these, and no address of it
/// can be predicted.
pub fn joins(keys: &BTreeMap<String, String>) -> Option<&str> {
    let kind = keys.get("nictype").map(String::as_str);
    let joins = matches!(kind, None | Some("bridged" | "macvlan"));
    if !is_nic(keys) || !joins || keys.contains_key("vlan") {
        return None;
    }
    keys.get("parent")
        .or_else(|| keys.get("network"))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(keys: &[(&str, &str)]) -> BTreeMap<String, String> {
        keys.iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn only_some_network_ports_join_a_network() {
        let check = |keys: &[(&str, &str)], expect: Option<&str>| assert_eq!(joins(&device(keys)), expect);
        check(
            &[("type", "nic"), ("nictype", "bridged"), ("parent", "br0")],
            Some("br0"),
        );
        check(&[("type", "nic"), ("network", "lxdbr0")], Some("lxdbr0"));
        check(
            &[("type", "nic"), ("nictype", "macvlan"), ("parent", "eth0")],
            Some("eth0"),
        );
        check(
            &[("type", "nic"), ("nictype", "routed"), ("parent", "eth0")],
            None,
        );
        check(&[("type", "nic"), ("network", "lxdbr0"), ("vlan", "7")], None);
        check(&[("type", "none"), ("parent", "br0")], None);
    }
}
