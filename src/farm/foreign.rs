//! YAML files of other programs that people try as a farm: each is recognized as what it is, so that they read one answer
//! in place of a list of unknown keys. Nothing here decides about a file that calls itself a farm.

use crate::farm::node::{Node, Span, Value};
use crate::farm::problem::Problem;

/// What to do with such a file.
const START: &str = "`palmfarm init` writes a farm to start from";

/// What the document in `text` is, if it is a file of another program.
pub(super) fn recognize(text: &str, document: &Node) -> Option<Problem> {
    if document.entry("farm").is_some() {
        return None;
    }
    let has = |key: &str| document.entry(key).is_some();
    let is_map = |key: &str| {
        document
            .entry(key)
            .is_some_and(|entry| matches!(entry.value.value, Value::Map(_)))
    };
    let is_list = |key: &str| {
        document
            .entry(key)
            .is_some_and(|entry| matches!(entry.value.value, Value::Seq(_)))
    };
    let network = document.entry("network").map(|entry| &entry.value);
    let is_netplan = network.is_some_and(|network| {
        let kinds = ["version", "ethernets", "bridges", "wifis", "vlans", "bonds"];
        kinds.iter().any(|key| network.entry(key).is_some())
    });
    let (what, hint) = if text.starts_with("#cloud-config") || CLOUD_CONFIG.iter().any(|key| has(key)) {
        (
            "a cloud-config of cloud-init",
            "a farm has `users`, `packages`, `files` and `rc_local` of its own",
        )
    } else if is_netplan {
        (
            "a netplan file",
            "a farm says `network: {uplink: eth0, bridge: br0, ipv4: dhcp, ipv6: auto}`",
        )
    } else if is_map("services") {
        (
            "a compose file of Docker",
            "name it under `files` of a container with `nesting: true`, as examples/docker.yaml shows",
        )
    } else if is_list("networks")
        || is_list("storage_pools")
        || is_list("profiles") && is_map("config") && !is_map("devices")
    {
        (
            "a preseed of `lxd init`",
            "a farm says it under `lxd:`, in `storage`, `nat` and `profiles`",
        )
    } else if is_map("devices") && is_list("profiles") {
        (
            "the configuration of a container (`lxc config show`)",
            "paste it below a name under `containers:`, with an `image`",
        )
    } else if is_map("devices") && (is_map("config") || has("used_by")) {
        (
            "a profile of LXD (`lxc profile show`)",
            "paste it below its name under `lxd: profiles:`",
        )
    } else {
        return None;
    };
    let start = Span {
        start: document.span.start,
        end: document.span.start,
    };
    let problem = Problem::error(start, format!("this is {what}, and not a farm"));
    Some(problem.hint(format!("{hint}; {START}")))
}

/// Keys of a cloud-config that a farm does not have (cloud-init's documentation, "Module reference").
const CLOUD_CONFIG: [&str; 9] = [
    "autoinstall",
    "bootcmd",
    "chpasswd",
    "package_update",
    "package_upgrade",
    "runcmd",
    "ssh_authorized_keys",
    "ssh_pwauth",
    "write_files",
];
