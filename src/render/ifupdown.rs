//! The article's stanza, for the agent to put in place once the packages are there. Ubuntu's images have none of them
//! and there is no network before the bridge, so systemd-networkd brings it up first and then steps aside.

use crate::farm::{Ipv4, Ipv6};
use minijinja::context;
use palmfarm_protocol::paths::{IFUPDOWN_STANZA, MAC_PLACEHOLDER};

use super::addressing::member;
use super::builder::TreeBuilder;
use super::RenderError;
use crate::plan::CardPlan;

/// Plan the stanza, and what the kernel must be told that no stanza says.
pub(super) fn render(build: &mut TreeBuilder, plan: &CardPlan) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let interface = network.addressed();
    let mac = network
        .mac
        .map_or_else(|| MAC_PLACEHOLDER.into(), |mac| mac.to_string());
    let mut address = None;
    let mut gateway = None;
    let mut dns4 = Vec::new();
    let inet = match &network.ipv4 {
        Ipv4::Dhcp => "dhcp",
        Ipv4::None => "manual",
        Ipv4::Static {
            address: own,
            prefix,
            gateway: router,
            dns,
        } => {
            address = Some(format!("{own}/{prefix}"));
            gateway = router.map(|router| router.to_string());
            dns4.extend(dns.iter().map(ToString::to_string));
            "static"
        }
    };
    let mut address6 = None;
    let mut gateway6 = None;
    let mut dns6 = Vec::new();
    let inet6 = match &network.ipv6 {
        Ipv6::Auto => "auto",
        Ipv6::None => "none",
        Ipv6::Static {
            address: own,
            prefix,
            gateway: router,
            dns,
        } => {
            address6 = Some(format!("{own}/{prefix}"));
            gateway6 = router.map(|router| router.to_string());
            dns6.extend(dns.iter().map(ToString::to_string));
            "static"
        }
    };
    if inet6 == "none" {
        // No stanza means the kernel's own way, which takes every advertisement.
        build.template(
            "host/sysctl.conf",
            "/etc/sysctl.d/90-palmfarm.conf",
            context! { interface => &interface },
        )?;
    }
    build.template(
        "ifupdown/interfaces",
        IFUPDOWN_STANZA,
        context! {
            interface,
            inet,
            inet6,
            bridge => network.bridge.is_some(),
            port => network.port(),
            uplink => &network.uplink,
            vlan => network.vlan,
            mac,
            address,
            gateway,
            dns4,
            address6,
            gateway6,
            dns6,
            member => member(plan),
        },
    )
}
