//! Firewalls of a base that are on: nobody knows whom they let in, and a farm opens no port in them.

use super::{SurveyError, View};
use crate::base::BaseRefusal;
use crate::edit::tree::{CardPath, Volume};

/// Where `systemctl enable` puts the links of a service that starts a firewall, and the files with its rules; none: it
/// lets in hardly anybody as it comes.
const SERVICES: [(&str, &[&str]); 4] = [
    ("firewalld.service", &[]),
    ("nftables.service", &["etc/nftables.conf"]),
    ("netfilter-persistent.service", RULES),
    ("iptables.service", RULES),
];

/// Of iptables-persistent.
const RULES: &[&str] = &["etc/iptables/rules.v4", "etc/iptables/rules.v6"];

/// The targets for which they are enabled by their packages.
const TARGETS: [&str; 3] = ["sysinit.target", "multi-user.target", "basic.target"];

const UNKNOWN: &str = "turns a firewall on, and palmfarm does not know whom it lets in";

pub(super) fn refusals(volumes: &View<'_>) -> Result<Vec<BaseRefusal>, SurveyError> {
    let mut found = Vec::new();
    let ufw = volumes.text(Volume::Root, "etc/ufw/ufw.conf")?;
    if let Some(ufw) = ufw.filter(|ufw| ufw.text.lines().any(turns_on)) {
        found.push(BaseRefusal::InTheWay {
            path: ufw.path,
            what: "turns the firewall on, and palmfarm does not know whom it lets in",
            hint: "write `ENABLED=no` into",
        });
    }
    for (service, rules) in SERVICES {
        let mut shuts_out = rules.is_empty();
        for path in rules {
            let rules = volumes.text(Volume::Root, path)?;
            shuts_out |= rules.is_some_and(|rules| rules.text.lines().any(refuses));
        }
        for target in TARGETS.iter().filter(|_| shuts_out) {
            let link = format!("etc/systemd/system/{target}.wants/{service}");
            if volumes.stat(&link)?.is_some() {
                found.push(BaseRefusal::InTheWay {
                    path: CardPath::new(&link)?,
                    what: UNKNOWN,
                    hint: "remove the link",
                });
            }
        }
    }
    Ok(found)
}

/// Whether a line of ufw.conf turns ufw on.
fn turns_on(line: &str) -> bool {
    line.split_once('=')
        .is_some_and(|(key, value)| key.trim() == "ENABLED" && value.trim().eq_ignore_ascii_case("yes"))
}

/// Whether a line of nft(8) or iptables-restore(8) may refuse a packet. What another file says is not known.
fn refuses(line: &str) -> bool {
    let words = line.split([' ', '\t', ';', '{', '}']);
    !line.trim_start().starts_with('#')
        && words
            .map(str::to_ascii_lowercase)
            .any(|word| matches!(word.as_str(), "drop" | "include" | "reject"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_refuse_packets() {
        for line in [
            "\t\ttype filter hook input priority filter; policy drop;",
            ":INPUT DROP [0:0]",
            "-A INPUT -j REJECT --reject-with icmp-port-unreachable",
            "include \"/etc/nftables.d/*.nft\"",
            "chain input { drop }",
        ] {
            assert!(refuses(line), "{line}");
        }
        // As the packages come.
        for line in [
            "#!/usr/sbin/nft -f",
            "\t\ttype filter hook input priority filter;",
            ":INPUT ACCEPT [0:0]",
            "# policy drop",
            "flush ruleset",
        ] {
            assert!(!refuses(line), "{line}");
        }
    }
}
