//! What of a base would configure interfaces beside palmfarm: files of netplan, systemd-networkd, udev and sysctl.

use std::collections::BTreeSet;

use super::{udev_rules, unbroken, SurveyError, View};
use crate::base::{NetworkdFile, Remains};
use crate::edit::tree::{CardPath, Volume};

/// Where netplan reads.
const NETPLAN: [&str; 3] = ["etc/netplan", "usr/lib/netplan", "lib/netplan"];

/// Where systemd-networkd and udev read (systemd.network(5)), but for `/run`, which is empty after each boot.
const NETWORKD: [&str; 4] = [
    "etc/systemd/network",
    "usr/local/lib/systemd/network",
    "usr/lib/systemd/network",
    "lib/systemd/network",
];

/// Where sysctl reads (sysctl.d(5)). If `/usr` is merged, `/lib` is `/usr/lib`, and reading it twice changes nothing.
const SYSCTL: [&str; 4] = [
    "etc/sysctl.d",
    "usr/local/lib/sysctl.d",
    "usr/lib/sysctl.d",
    "lib/sysctl.d",
];

/// Where udev reads rules, but for `/run`. What comes first takes the place of a file of the same name.
const RULES: [&str; 4] = [
    "etc/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];

/// Every netplan YAML.
pub(super) fn netplan(volumes: &View<'_>) -> Result<Vec<CardPath>, SurveyError> {
    let mut files = Vec::new();
    for dir in NETPLAN {
        // `/lib` is `/usr/lib` if `/usr` is merged, and a file must not be listed twice.
        if dir.starts_with("lib/") && volumes.has("usr/lib/netplan")? {
            continue;
        }
        // netplan reads only files with this ending, in small letters.
        for name in volumes
            .names(dir)?
            .iter()
            .filter(|name| name.strip_suffix(".yaml").is_some())
        {
            files.push(CardPath::new(&format!("{dir}/{name}"))?);
        }
    }
    Ok(files)
}

/// The drop-ins for palmfarm's files, and for those that name interfaces.
pub(super) fn drop_ins(volumes: &View<'_>) -> Result<Vec<Remains>, SurveyError> {
    let mut found = Vec::new();
    for dir in NETWORKD.iter().filter(|dir| !is_packaged(dir)) {
        let names = volumes.names(dir)?;
        for name in names.iter().filter(|name| is_drop_in_folder(name)) {
            let texts = texts(volumes, &format!("{dir}/{name}"), ".conf")?;
            found.extend(texts.into_iter().map(|(path, _)| Remains {
                path,
                what: "changes a file that names or configures an interface of the card",
            }));
        }
    }
    Ok(found)
}

fn is_packaged(dir: &str) -> bool {
    dir.ends_with("lib/systemd/network") && !dir.contains("local")
}

/// Every file of systemd-networkd, and of udev those that name interfaces.
pub(super) fn networkd(volumes: &View<'_>) -> Result<Vec<NetworkdFile>, SurveyError> {
    let mut files = Vec::new();
    for dir in NETWORKD {
        if dir.starts_with("lib/") && volumes.has("usr/lib/systemd/network")? {
            continue;
        }
        for name in volumes.names(dir)? {
            let ending = name.rsplit('.').next().unwrap_or_default();
            if !matches!(ending, "network" | "netdev" | "link") {
                continue;
            }
            let found = volumes.text(Volume::Root, &format!("{dir}/{name}"))?;
            files.push(NetworkdFile {
                path: CardPath::new(&format!("{dir}/{name}"))?,
                is_packaged: is_packaged(dir),
                text: found.map(|found| unbroken(&found.text)).unwrap_or_default(),
            });
        }
    }
    Ok(files)
}

/// Whether `name` is a folder of drop-ins for a file of palmfarm's, or for one that names an interface.
fn is_drop_in_folder(name: &str) -> bool {
    name.strip_suffix(".d").is_some_and(|of| {
        of.starts_with("05-palmfarm") || of.rsplit_once('.').is_some_and(|(_, kind)| kind == "link")
    })
}

/// The settings of systemd-resolved with which names would not be found: it would ask other servers, in a way that a
/// router at home does not know, or not listen where `/etc/resolv.conf` leads (resolved.conf(5)).
pub(super) fn resolved(volumes: &View<'_>) -> Result<Vec<Remains>, SurveyError> {
    let main = volumes.text(Volume::Root, RESOLVED)?;
    let mut files: Vec<_> = main.into_iter().map(|found| (found.path, found.text)).collect();
    for dir in [
        "etc/systemd/resolved.conf.d",
        "usr/local/lib/systemd/resolved.conf.d",
    ] {
        files.extend(texts(volumes, dir, ".conf")?);
    }
    let misleading = files
        .into_iter()
        .filter(|(_, text)| unbroken(text).lines().any(finds_otherwise));
    let remains = misleading.map(|(path, _)| Remains {
        path,
        what: "makes systemd-resolved find names otherwise",
    });
    Ok(remains.collect())
}

const RESOLVED: &str = "etc/systemd/resolved.conf";

/// Whether a line of resolved.conf(5) does so.
fn finds_otherwise(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else {
        return false;
    };
    let value = value.trim().to_ascii_lowercase();
    let usual: &[&str] = match key.trim() {
        "DNS" | "Domains" => &[""],
        "DNSSEC" | "DNSOverTLS" => &["", "0", "false", "n", "no", "off"],
        "DNSStubListener" => &["", "1", "on", "true", "udp", "y", "yes"],
        _ => return false,
    };
    !usual.contains(&value.as_str())
}

/// Rules of udev's that give names to interfaces (udev(7)). A file in `/etc` takes the place of a package's of the same name.
pub(super) fn naming_rules(volumes: &View<'_>) -> Result<Vec<(CardPath, BTreeSet<String>)>, SurveyError> {
    let mut found: Vec<(CardPath, BTreeSet<String>)> = Vec::new();
    // Those that name no interface.
    let mut harmless = BTreeSet::new();
    for dir in RULES {
        if dir.starts_with("lib/") && volumes.has("usr/lib/udev/rules.d")? {
            continue;
        }
        let of_a_package = dir.starts_with("lib/") || dir.starts_with("usr/lib/");
        for (path, text) in texts(volumes, dir, ".rules")? {
            let mut names = udev_rules::given_names(&text);
            if of_a_package {
                // Packages name boards and buses that a Pi does not have by what they find there, as systemd's own do.
                names.retain(|name| !name.contains(['$', '%']));
            }
            let is_overridden = of_a_package && harmless.contains(path.name());
            if names.is_empty() || is_overridden {
                harmless.insert(path.name().to_owned());
            } else {
                found.push((path, names));
            }
        }
    }
    Ok(found)
}

/// The keys of sysctl.d(5) that turn IPv6 off on some interface, and where.
pub(super) fn ipv6_off(volumes: &View<'_>) -> Result<Vec<(String, CardPath)>, SurveyError> {
    let mut all = Vec::new();
    for dir in SYSCTL {
        all.extend(texts(volumes, dir, ".conf")?);
    }
    if let Some(found) = volumes.text(Volume::Root, "etc/sysctl.conf")? {
        all.push((found.path, found.text));
    }
    let keys = |(path, text): (CardPath, String)| {
        let keys: BTreeSet<_> = text.lines().filter_map(turned_off).collect();
        keys.into_iter().map(move |key| (key, path.clone()))
    };
    Ok(all.into_iter().flat_map(keys).collect())
}

/// The key of a line that turns IPv6 off, with dots between its parts. If it begins with slashes between them, a dot is a
/// part of a name, `eth0.10` for example, for which it then has a slash (sysctl.d(5)).
fn turned_off(line: &str) -> Option<String> {
    let (key, value) = line.trim().trim_start_matches('-').split_once('=')?;
    let key = key.trim();
    let has_slashes = key.find(['/', '.']).is_some_and(|at| key[at..].starts_with('/'));
    let swapped = |c: char| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    let key = if has_slashes {
        key.chars().map(swapped).collect()
    } else {
        key.to_owned()
    };
    let is_off = value.trim() != "0";
    let is_key = key.starts_with("net.ipv6.conf.") && key.ends_with(".disable_ipv6");
    (is_off && is_key).then_some(key)
}

/// The files in `dir` whose names end in `ending`.
fn texts(volumes: &View<'_>, dir: &str, ending: &str) -> Result<Vec<(CardPath, String)>, SurveyError> {
    let mut found = Vec::new();
    for name in volumes.names(dir)?.iter().filter(|name| name.ends_with(ending)) {
        let text = volumes.text(Volume::Root, &format!("{dir}/{name}"))?;
        found.extend(text.map(|text| (text.path, text.text)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_otherwise() {
        for odd in [
            "DNS=10.0.0.1",
            " DNSStubListener = no",
            "DNSSEC=yes",
            "DNSOverTLS=opportunistic",
            "Domains=~.",
        ] {
            assert!(finds_otherwise(odd), "{odd}");
        }
        for usual in [
            "#DNS=10.0.0.1",
            "DNS=",
            "DNSSEC=no",
            "DNSStubListener=yes",
            "MulticastDNS=no",
            "[Resolve]",
        ] {
            assert!(!finds_otherwise(usual), "{usual}");
        }
    }

    #[test]
    fn keys_turn_ipv6_off() {
        let check = |line: &str, expect: Option<&str>| {
            assert_eq!(turned_off(line).as_deref(), expect, "{line}");
        };
        check(
            "net.ipv6.conf.all.disable_ipv6 = 1",
            Some("net.ipv6.conf.all.disable_ipv6"),
        );
        check(
            "-net/ipv6/conf/eth0/disable_ipv6=1",
            Some("net.ipv6.conf.eth0.disable_ipv6"),
        );
        for vlan in [
            "net/ipv6/conf/eth0.10/disable_ipv6=1",
            "net.ipv6.conf.eth0/10.disable_ipv6=1",
        ] {
            check(vlan, Some("net.ipv6.conf.eth0/10.disable_ipv6"));
        }
        check("net.ipv6.conf.all.disable_ipv6=0", None);
        check("#net.ipv6.conf.all.disable_ipv6=1", None);
        check("net.ipv6.conf.all.use_tempaddr=2", None);
    }
}
