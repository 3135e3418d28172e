//! What the person does with a card of a farm once it is written: plug it in, wait, log in, watch, and what if nothing
//! comes. Words only; it decides nothing, and knows no figure that was not measured.

use std::net::IpAddr;

use serde_json::{json, Value};

use crate::base::BaseFacts;
use crate::cli::args::Flash;
use crate::cli::plan::lan_prefixes;
use crate::farm::{addresses, host_keys};
use crate::plan::CardPlan;
use crate::render::answers_for_its_name;
use crate::text::shell_quote;

/// What must be known of a card to say what comes next.
pub(super) struct NextSteps {
    /// The farm as the command line names it, and the card of a fleet.
    farm: String,
    uplink: String,
    hostname: String,
    /// Whether the host answers for `HOSTNAME.local`.
    answers_for_its_name: bool,
    address: Option<IpAddr>,
    /// Where the host will be if its card is put into a Pi on the LAN of this computer.
    predicted: Option<IpAddr>,
    /// The line of `known_hosts`, if the card brings a host key.
    known_hosts: Option<String>,
    user: Option<String>,
    containers: usize,
    /// Whether it forms the cluster of its farm.
    forms_cluster: bool,
}

impl NextSteps {
    /// For the card that `plan` describes, on the base with these facts.
    pub(super) fn of(args: &Flash, plan: &CardPlan, base: &BaseFacts) -> Self {
        let mut farm = shell_quote(&args.source.to_string_lossy());
        if let Some(card) = &args.card {
            farm.push_str(&format!(" --card {}", shell_quote(card)));
        }
        let can_log_in = |user: &&crate::plan::PlannedUser| {
            let has_a_way = !user.ssh_keys.is_empty() || plan.ssh.password && user.password.is_some();
            has_a_way && !user.is_service
        };
        let predicted = match plan.host_addresses.as_slice() {
            [] => addresses::host(&plan.card, &lan_prefixes()),
            _ => Vec::new(),
        };
        let known_hosts = plan.host_key.as_ref().map(|public| {
            let addresses = [&plan.host_addresses[..], &predicted].concat();
            host_keys::known_hosts(&plan.card.hostname, &addresses, public)
        });
        Self {
            farm,
            uplink: plan.firstboot.network.port(),
            hostname: plan.card.hostname.clone(),
            answers_for_its_name: answers_for_its_name(plan, base),
            // People type an IPv4 address more readily, and it does not depend on their own network having IPv6.
            address: plan
                .host_addresses
                .iter()
                .min_by_key(|address| address.is_ipv6())
                .copied(),
            predicted: predicted.first().copied(),
            known_hosts,
            user: plan.users.iter().find(can_log_in).map(|user| user.name.clone()),
            containers: plan.firstboot.containers.len(),
            forms_cluster: plan.member().is_some_and(|(_, forms_it)| forms_it),
        }
    }

    /// The command that logs in.
    fn login(&self) -> Option<String> {
        let user = self.user.as_ref()?;
        Some(match self.address {
            Some(address) => format!("ssh {user}@{address}"),
            None if self.answers_for_its_name => format!("ssh {user}@{}.local", self.hostname),
            None => format!("ssh {user}@{}", self.hostname),
        })
    }

    fn watch(&self) -> String {
        format!("palmfarm watch {}", self.farm)
    }

    /// A line for each step, for people.
    pub(super) fn lines(&self, device: &str) -> Vec<String> {
        let made = match self.containers {
            0 => "it sets itself up".to_owned(),
            1 => "it sets up LXD and makes 1 container".to_owned(),
            many => format!("it sets up LXD and makes {many} containers"),
        };
        let login = match self.login() {
            None => "log in: the farm has no user who can log in over SSH".to_owned(),
            Some(command) if self.address.is_some() => format!("log in: {command}"),
            Some(command) if self.predicted.is_some() => format!(
                "log in: {command}, or with {}, its address on the LAN of this computer, in place of the name",
                self.predicted.map(|address| address.to_string()).unwrap_or_default()
            ),
            Some(command) => format!(
                "log in: {command}, or with the address that your router has for {} in place of the name",
                self.hostname
            ),
        };
        // It asks them by itself, but of cards that are off it cannot know.
        let before = self.forms_cluster.then(|| {
            "before that, if this cluster exists already: switch its other cards on, so that this one joins them and forms no \
             second cluster"
                .to_owned()
        });
        let trust = self
            .known_hosts
            .iter()
            .map(|line| format!("trust: ssh asks nothing if ~/.ssh/known_hosts has this line: {line}"));
        let mut lines = vec![
            format!(
                "plug in: put the card into the Pi, then the cable of {} to your router, then the power",
                self.uplink
            ),
            format!(
                "wait: the first boot takes minutes, and how many depends on the card and on your Internet connection: {made}"
            ),
            login,
            format!("watch: {}", self.watch()),
            format!(
                "if nothing comes: put the card back into this computer, and `palmfarm inspect {}` shows how far the Pi came",
                shell_quote(device)
            ),
        ];
        lines.splice(2..2, trust);
        lines.splice(1..1, before);
        lines
    }

    /// The same for programs.
    pub(super) fn json(&self, device: &str) -> Value {
        json!({
            "hostname": self.hostname, "address": self.address, "predicted": self.predicted,
            "login": self.login(), "watch": self.watch(), "known_hosts": self.known_hosts,
            "inspect": format!("palmfarm inspect {}", shell_quote(device)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> NextSteps {
        NextSteps {
            farm: "farm.yaml --card palm2".to_owned(),
            uplink: "eth0".to_owned(),
            hostname: "palm".to_owned(),
            answers_for_its_name: true,
            address: None,
            predicted: None,
            known_hosts: None,
            user: Some("nina".to_owned()),
            containers: 13,
            forms_cluster: false,
        }
    }

    #[test]
    fn each_step_has_a_line() {
        let lines = steps().lines("/dev/sdb");
        assert_eq!(lines.len(), 5);
        assert!(
            lines[0].contains("eth0") && lines[1].contains("13 containers"),
            "{lines:?}"
        );
        assert!(
            lines[2].starts_with("log in: ssh nina@palm.local, or"),
            "{lines:?}"
        );
        assert_eq!(lines[3], "watch: palmfarm watch farm.yaml --card palm2");
        assert!(lines[4].contains("`palmfarm inspect /dev/sdb`"), "{lines:?}");
    }

    #[test]
    fn the_first_card_of_a_cluster_is_not_started_alone_again() {
        let first = NextSteps {
            forms_cluster: true,
            ..steps()
        };
        let lines = first.lines("/dev/sdb");
        assert!(lines[1].contains("switch its other cards on"), "{lines:?}");
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn an_address_that_is_known_is_the_one_to_log_in_at() {
        let fixed = NextSteps {
            address: Some("192.0.2.10".parse().unwrap()),
            ..steps()
        };
        assert_eq!(fixed.lines("/dev/sdb")[2], "log in: ssh nina@192.0.2.10");
        assert_eq!(fixed.json("/dev/sdb")["login"], "ssh nina@192.0.2.10");
    }

    #[test]
    fn an_address_that_is_predicted_is_said_beside_the_name() {
        let predicted = NextSteps {
            predicted: Some("2001:db8::ba27:ebff:fe6c:288".parse().unwrap()),
            ..steps()
        };
        assert_eq!(
            predicted.lines("/dev/sdb")[2],
            "log in: ssh nina@palm.local, or with 2001:db8::ba27:ebff:fe6c:288, its address on the LAN of this computer, in \
             place of the name"
        );
        assert_eq!(
            predicted.json("/dev/sdb")["predicted"],
            "2001:db8::ba27:ebff:fe6c:288"
        );
    }

    #[test]
    fn the_line_of_known_hosts_comes_before_the_login() {
        let known = NextSteps {
            known_hosts: Some("palm,palm.local ssh-ed25519 AAAA".to_owned()),
            ..steps()
        };
        let lines = known.lines("/dev/sdb");
        assert_eq!(lines.len(), 6);
        assert!(
            lines[2].ends_with(": palm,palm.local ssh-ed25519 AAAA"),
            "{lines:?}"
        );
        assert!(lines[3].starts_with("log in: "), "{lines:?}");
    }

    #[test]
    fn a_host_that_does_not_answer_for_its_name_has_none_in_local() {
        let silent = NextSteps {
            answers_for_its_name: false,
            ..steps()
        };
        assert_eq!(silent.json("/dev/sdb")["login"], "ssh nina@palm");
    }

    #[test]
    fn nobody_is_told_to_log_in_who_cannot() {
        let nobody = NextSteps {
            user: None,
            ..steps()
        };
        assert!(nobody.lines("/dev/sdb")[2].contains("no user who can"));
        assert_eq!(nobody.json("/dev/sdb")["login"], Value::Null);
    }
}
