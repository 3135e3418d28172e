//! Before systemd-networkd starts: fill the uplink's hardware address into the files that need it.
//!
//! This runs in early boot, when `/` may still be read-only, so it writes below `/run` only. The files must have the
//! address because systemd makes one up for a bridge without it, and then the LAN sees another host.

use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::Network;
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::paths::{MAC_PLACEHOLDER, NETWORK};

use crate::nic;
use crate::root::Root;
use crate::step::{Change, StepError, StepResult};

/// Where systemd-networkd reads files besides `/etc` and `/usr/lib`.
pub(crate) const RUNTIME: &str = "/run/systemd/network";

/// Exists once ifupdown has taken over: then systemd-networkd must not configure anything.
pub(crate) const IFUPDOWN_ACTIVE: &str = "/var/lib/palmfarm/ifupdown-active";

/// How long the uplink may take to appear. It is a USB device; this unit starts after it already.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fill the files, and put them where systemd-networkd finds them.
pub(crate) fn fill(root: &Root, network: &Network) -> StepResult {
    if root.has(IFUPDOWN_ACTIVE) {
        return Ok(Change::Unchanged);
    }
    let mut mac = network.mac;
    let mut change = Change::Unchanged;
    for name in root.names(NETWORK) {
        let from = format!("{NETWORK}/{name}");
        let failed = StepError::io("filling", &from);
        let mut text = root.read(&from).map_err(&failed)?;
        if text.contains(MAC_PLACEHOLDER) {
            let known = match mac {
                Some(known) => known,
                None => uplink_mac(root, &network.uplink, PATIENCE)?,
            };
            mac = Some(known);
            text = with_mac(&text, known);
        }
        let to = format!("{RUNTIME}/{name}");
        if root.read(&to).ok().as_deref() != Some(&text) {
            root.write(&to, text.as_bytes()).map_err(&failed)?;
            change = Change::Changed;
        }
    }
    Ok(change)
}

/// `text` with the hardware address in place of its placeholder.
pub(crate) fn with_mac(text: &str, mac: Mac) -> String {
    text.replace(MAC_PLACEHOLDER, &mac.to_string())
}

/// The hardware address of the uplink, once it has one.
pub(crate) fn uplink_mac(root: &Root, uplink: &str, patience: Duration) -> Result<Mac, StepError> {
    let end = Instant::now() + patience;
    loop {
        // An adapter that has not read its own address yet has all zeros.
        let mac = nic::look(root, uplink).and_then(|nic| nic.mac);
        if let Some(mac) = mac.filter(|mac| *mac != Mac([0; 6]) && !mac.is_multicast()) {
            return Ok(mac);
        }
        if Instant::now() > end {
            let there: Vec<String> = nic::all(root).into_iter().map(|nic| nic.name).collect();
            return Err(StepError::new(format!(
                "there is no interface {uplink} with a hardware address after {} s (there are: {}), so systemd makes up \
                 an address for the bridge; check `uplink` in farm.yaml",
                patience.as_secs(),
                there.join(", ")
            )));
        }
        sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use palmfarm_protocol::network::{Ipv4, Ipv6};

    use super::*;
    use crate::confirm::tests::network;
    use crate::root::scratch::Scratch;

    const NETDEV: &str = "[NetDev]\nName=br0\nMACAddress=@MAC@\n";

    fn files() -> Vec<(&'static str, &'static str)> {
        vec![
            ("/usr/lib/palmfarm/network/05-palmfarm-br0.netdev", NETDEV),
            (
                "/usr/lib/palmfarm/network/05-palmfarm-br0.network",
                "[Match]\nName=br0\n",
            ),
            ("/sys/class/net/eth0/address", "b8:27:eb:12:34:56\n"),
        ]
    }

    #[test]
    fn the_uplinks_address_is_filled_in() {
        let scratch = Scratch::new("bridge", &files());
        let root = &scratch.0;
        let network = network(Ipv4::Dhcp, Ipv6::Auto);
        assert_eq!(fill(root, &network).unwrap(), Change::Changed);
        let text = root.read("/run/systemd/network/05-palmfarm-br0.netdev").unwrap();
        assert_eq!(text, "[NetDev]\nName=br0\nMACAddress=b8:27:eb:12:34:56\n");
        let names = ["05-palmfarm-br0.netdev", "05-palmfarm-br0.network"];
        assert_eq!(root.names(RUNTIME), names);
        assert_eq!(fill(root, &network).unwrap(), Change::Unchanged);
    }

    #[test]
    fn a_declared_address_wins_and_needs_no_uplink() {
        let scratch = Scratch::new("bridge-declared", &files()[..2]);
        let mut network = network(Ipv4::Dhcp, Ipv6::Auto);
        network.mac = Some("02:00:00:00:00:07".parse().unwrap());
        fill(&scratch.0, &network).unwrap();
        let text = scratch
            .0
            .read("/run/systemd/network/05-palmfarm-br0.netdev")
            .unwrap();
        assert!(text.contains("MACAddress=02:00:00:00:00:07\n"), "{text}");
    }

    #[test]
    fn networkd_gets_no_files_once_ifupdown_has_taken_over() {
        let mut files = files();
        files.push((IFUPDOWN_ACTIVE, ""));
        let scratch = Scratch::new("bridge-ifupdown", &files);
        fill(&scratch.0, &network(Ipv4::Dhcp, Ipv6::Auto)).unwrap();
        assert!(!scratch.0.has(RUNTIME));
    }

    #[test]
    fn an_uplink_that_is_not_there_is_named() {
        let scratch = Scratch::new(
            "bridge-wrong",
            &[("/sys/class/net/eth0/address", "b8:27:eb:12:34:56\n")],
        );
        let error = uplink_mac(&scratch.0, "eth1", Duration::ZERO).unwrap_err();
        assert!(error.message.contains("no interface eth1"), "{error}");
        assert!(error.message.contains("there are: eth0"), "{error}");
        let zeros = [("/sys/class/net/eth0/address", "00:00:00:00:00:00\n")];
        let scratch = Scratch::new("bridge-zeros", &zeros);
        uplink_mac(&scratch.0, "eth0", Duration::ZERO).unwrap_err();
    }
}
