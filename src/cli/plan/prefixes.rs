//! The prefixes in which a plan predicts addresses: as they are given, or as this computer has them on its LAN.

use std::net::IpAddr;

use anyhow::anyhow;
use serde_json::json;

use super::super::args::Plan;
use super::super::ui::Ui;
use super::super::{Failure, Outcome, OutcomeExt};
use crate::farm::addresses::Prefix;
use crate::host::interfaces::{interfaces, Interface};
use crate::host::routes::default_interfaces;
use crate::text::shell_quote;

/// What `--prefix` asks for.
pub(super) struct Prefixes {
    given: Vec<Prefix>,
    auto: bool,
}

impl Prefixes {
    /// What the words of the command line say.
    pub(super) fn parse(words: &[String]) -> Result<Self, Failure> {
        let given = words
            .iter()
            .filter(|word| *word != "auto")
            .map(|word| word.parse());
        Ok(Self {
            given: given.collect::<Result<_, _>>().or_fail(Outcome::Usage)?,
            auto: words.iter().any(|word| word == "auto"),
        })
    }

    /// Each prefix once; those of this computer are said.
    pub(super) fn find(self, ui: Ui) -> Result<Vec<Prefix>, Failure> {
        let mut all = self.given;
        if self.auto {
            let here = here();
            if here.is_empty() {
                return Err(none());
            }
            for (prefix, interface) in here {
                let event = json!({"event": "prefix", "prefix": prefix.to_string(), "interface": interface});
                ui.report(&event, format_args!("prefix {prefix}, from {interface}"));
                all.push(prefix);
            }
        }
        let mut seen = Vec::new();
        all.retain(|prefix| {
            !seen.contains(prefix) && {
                seen.push(*prefix);
                true
            }
        });
        Ok(all)
    }
}

/// The interfaces to which a default route leads; if there is no such route, all of them.
fn lan() -> Vec<Interface> {
    let mut all = interfaces().unwrap_or_default();
    let routed = default_interfaces().unwrap_or_default();
    if !routed.is_empty() {
        all.retain(|interface| routed.contains(&interface.index));
    }
    all
}

/// The prefixes of this computer's LAN, each once, global ones first, with an interface that has it.
fn here() -> Vec<(Prefix, String)> {
    let mut found: Vec<(Prefix, String)> = Vec::new();
    for interface in lan() {
        let prefixes = interface.prefixes().into_iter();
        for prefix in prefixes.filter_map(|prefix| format!("{prefix}/64").parse::<Prefix>().ok()) {
            if found.iter().all(|(known, _)| *known != prefix) {
                found.push((prefix, interface.name.clone()));
            }
        }
    }
    found.sort_by_key(|(prefix, _)| *prefix);
    found
}

/// The prefixes of this computer's LAN; none if it has none.
pub(in crate::cli) fn lan_prefixes() -> Vec<Prefix> {
    here().into_iter().map(|(prefix, _)| prefix).collect()
}

/// Why `--prefix auto` finds nothing.
fn none() -> Failure {
    let mut others = Vec::new();
    for interface in lan() {
        for address in &interface.addresses {
            if matches!(address.ip, IpAddr::V6(ip) if !ip.is_unicast_link_local()) {
                others.push(format!("{}/{} on {}", address.ip, address.prefix, interface.name));
            }
        }
    }
    let error = if others.is_empty() {
        anyhow!("this computer has no global or unique local IPv6 address on its LAN")
    } else {
        anyhow!(
            "this computer has no lasting IPv6 address with a prefix of 64 bits on its LAN, only {}",
            others.join(", ")
        )
    };
    Failure::refused(
        error,
        "give the prefix: --prefix P/64; the pages of the router show it, or `ip -6 address show scope global` on a computer \
         that is on the LAN",
    )
}

/// What to write so that addresses are known.
pub(super) fn proposal(args: &Plan) -> String {
    let here: Vec<String> = here()
        .iter()
        .map(|(prefix, interface)| format!("{prefix} from {interface}"))
        .collect();
    if here.is_empty() {
        return "give a /64 of the home network: --prefix P/64".into();
    }
    let farm = shell_quote(&args.farm.display().to_string());
    format!(
        "the prefix of this computer's LAN shows the addresses: palmfarm plan {farm} --prefix auto ({})",
        here.join(", ")
    )
}
