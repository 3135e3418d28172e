//! The network: systemd-networkd's files and what starts it. Everything else on the base that would configure an
//! interface is emptied.
//!
//! The .netdev file of the bridge must have its hardware address, which only the Pi knows unless the farm names it. So
//! palmfarm puts that file below /usr/lib/palmfarm/network with a placeholder, and palmfarm-bridge.service copies it to
//! /run/systemd/network with the address filled in before systemd-networkd starts. The file must not be in
//! /etc/systemd/network as well: there it would override the copy of the same name, and under another name
//! systemd-networkd 237 would refuse both. With ifupdown every file goes that way, so that none is left once ifupdown
//! has taken over.

use crate::farm::Renderer;
use minijinja::{context, Value};
use palmfarm_protocol::mac::Mac;
use palmfarm_protocol::paths::{MAC_PLACEHOLDER, NETWORK, NETWORK_FALLBACK};
use serde_json::json;

use super::addressing::Addresses;
use super::builder::{yaml, TreeBuilder, UNITS};
use super::{ifupdown, RenderError};
use crate::base::BaseFacts;
use crate::edit::tree::{Privacy, Volume};
use crate::plan::CardPlan;

/// Where systemd-networkd looks; `05` sorts before netplan's `10`.
const NETWORKD: &str = "/etc/systemd/network";

/// Which hardware address the bridge's .netdev file names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MacSource {
    /// The farm's.
    Known(Mac),
    /// [`MAC_PLACEHOLDER`], in whose place the agent puts the uplink's.
    FilledByAgent,
    /// None: systemd makes one up until the agent has filled the other file in.
    LeftToSystemd,
}

/// One file for systemd-networkd.
struct NetFile {
    name: String,
    template: &'static str,
    text: String,
}

/// Plan everything about the network.
pub(super) fn render(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    systemd: u32,
) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let ifupdown = network.renderer == Renderer::Ifupdown;
    let known = network.mac.map(MacSource::Known);
    let mdns = resolved_answers(plan, base);
    for file in files(build, plan, systemd, mdns)? {
        let dir = if ifupdown { NETWORK } else { NETWORKD };
        place(build, dir, &file)?;
        if ifupdown {
            place(build, NETWORK_FALLBACK, &file)?;
        }
    }
    let fallback = network.bridge.is_some() && known.is_none();
    if let Some(bridge) = &network.bridge {
        let file = netdev(build, bridge, known.unwrap_or(MacSource::FilledByAgent))?;
        let dir = if ifupdown || fallback { NETWORK } else { NETWORKD };
        place(build, dir, &file)?;
        if ifupdown || fallback {
            let file = netdev(build, bridge, known.unwrap_or(MacSource::LeftToSystemd))?;
            place(build, NETWORK_FALLBACK, &file)?;
        }
    }
    bridge_unit(build, plan, fallback || ifupdown)?;
    build.unit(
        "systemd/palmfarm-network.service",
        "multi-user.target",
        context! {},
    )?;
    wait_online(build, plan)?;
    start_networkd(build, base, systemd)?;
    resolver(build, plan, base, mdns)?;
    if ifupdown {
        ifupdown::render(build, plan)?;
    }
    empty_others(build, base)
}

fn place(build: &mut TreeBuilder, dir: &str, file: &NetFile) -> Result<(), RenderError> {
    let path = format!("{dir}/{}", file.name);
    let origin = format!("templates/{}", file.template);
    build.public(Volume::Root, &path, &file.text, &origin)
}

/// The file of `interface` from `template`.
fn net_file(
    build: &TreeBuilder,
    interface: &str,
    template: &'static str,
    values: Value,
) -> Result<NetFile, RenderError> {
    let kind = template.rsplit('.').next().unwrap_or_default();
    let name = format!("05-palmfarm-{interface}.{kind}");
    let text = build.text(template, &name, values)?;
    Ok(NetFile { name, template, text })
}

/// Every file for systemd-networkd but the bridge's own.
fn files(
    build: &TreeBuilder,
    plan: &CardPlan,
    systemd: u32,
    mdns: bool,
) -> Result<Vec<NetFile>, RenderError> {
    let network = &plan.firstboot.network;
    let (uplink, port, host) = (&network.uplink, &network.port(), &network.addressed());
    let mut files = Vec::new();
    if let Some(vlan) = network.vlan {
        let values = context! { uplink, port, vlan };
        files.push(net_file(build, uplink, "networkd/trunk.network", values.clone())?);
        files.push(net_file(build, port, "networkd/vlan.netdev", values)?);
    }
    if let Some(bridge) = &network.bridge {
        files.push(net_file(
            build,
            port,
            "networkd/port.network",
            context! { port, bridge },
        )?);
    }
    let addresses = Addresses::new(&network.ipv4, &network.ipv6).with_member(plan);
    files.push(net_file(
        build,
        host,
        "networkd/host.network",
        addresses.values(host, systemd, mdns),
    )?);
    Ok(files)
}

/// The file that makes the bridge.
fn netdev(build: &TreeBuilder, bridge: &str, mac: MacSource) -> Result<NetFile, RenderError> {
    let mac = match mac {
        MacSource::Known(mac) => Some(mac.to_string()),
        MacSource::FilledByAgent => Some(MAC_PLACEHOLDER.into()),
        MacSource::LeftToSystemd => None,
    };
    net_file(build, bridge, "networkd/bridge.netdev", context! { bridge, mac })
}

fn bridge_unit(build: &mut TreeBuilder, plan: &CardPlan, fallback: bool) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let (uplink, ifupdown) = (&network.uplink, network.renderer == Renderer::Ifupdown);
    let Some(bridge) = &network.bridge else {
        return Ok(());
    };
    build.unit(
        "systemd/palmfarm-bridge.service",
        "systemd-networkd.service",
        context! { bridge, uplink, ifupdown, fallback },
    )?;
    let device = super::engine::device_unit(uplink);
    build.template(
        "systemd/uplink-device.conf",
        &format!("{UNITS}/{device}.d/90-palmfarm.conf"),
        context! {},
    )
}

fn wait_online(build: &mut TreeBuilder, plan: &CardPlan) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let (interface, ifupdown) = (network.addressed(), network.renderer == Renderer::Ifupdown);
    // After netplan's 10-netplan.conf, wherever that lies: drop-ins sort by name alone (systemd.unit(5)).
    build.template(
        "networkd/wait-online.conf",
        &format!("{UNITS}/systemd-networkd-wait-online.service.d/90-palmfarm.conf"),
        context! { interface, ifupdown },
    )
}

/// The links that `systemctl enable systemd-networkd systemd-resolved` makes for the units that the base has, by
/// `[Install]` of systemd 237 to 259.
fn start_networkd(build: &mut TreeBuilder, base: &BaseFacts, systemd: u32) -> Result<(), RenderError> {
    if !base.has_unit("systemd-networkd.service") {
        return Err(RenderError::NoUnit {
            release: base.release.clone(),
            unit: "systemd-networkd.service",
            what: "makes the bridge",
            hint: "take Ubuntu's or Debian's image",
        });
    }
    let resolved = if systemd < 255 {
        "multi-user.target"
    } else {
        "sysinit.target"
    };
    let wanted = [
        ("systemd-networkd.service", "multi-user.target"),
        ("systemd-networkd.socket", "sockets.target"),
        ("systemd-networkd-varlink.socket", "sockets.target"),
        ("systemd-networkd-varlink-metrics.socket", "sockets.target"),
        ("systemd-networkd-resolve-hook.socket", "sockets.target"),
        ("systemd-networkd-wait-online.service", "network-online.target"),
        ("systemd-resolved.service", resolved),
    ];
    let aliases = [
        (
            "systemd-networkd.service",
            "dbus-org.freedesktop.network1.service",
        ),
        (
            "systemd-resolved.service",
            "dbus-org.freedesktop.resolve1.service",
        ),
    ];
    let origin = "systemctl enable";
    for (unit, target) in wanted.iter().filter(|(unit, _)| base.has_unit(unit)) {
        let link = format!("{UNITS}/{target}.wants/{unit}");
        build.link(&link, &format!("/lib/systemd/system/{unit}"), origin)?;
    }
    for (unit, alias) in aliases.iter().filter(|(unit, _)| base.has_unit(unit)) {
        build.link(
            &format!("{UNITS}/{alias}"),
            &format!("/lib/systemd/system/{unit}"),
            origin,
        )?;
    }
    Ok(())
}

/// Whether the host will answer for `HOSTNAME.local` on its LAN, whichever program of the base does it.
pub fn answers_for_its_name(plan: &CardPlan, base: &BaseFacts) -> bool {
    plan.card.network.mdns && (base.has_unit(RESOLVED) || base.has_unit(AVAHI))
}

/// The unit of avahi, which answers for the host's name by itself wherever it is installed.
const AVAHI: &str = "avahi-daemon.service";

/// Whether systemd-resolved is to answer for `HOSTNAME.local`. Beside avahi it would give each answer twice, and the two
/// could take each other for another host of the same name.
fn resolved_answers(plan: &CardPlan, base: &BaseFacts) -> bool {
    let has_avahi = base.has_unit(AVAHI)
        && !base
            .hindrances
            .replaced_units
            .iter()
            .any(|path| path.name() == AVAHI);
    let gets_avahi = plan
        .firstboot
        .packages
        .iter()
        .any(|package| package == "avahi-daemon");
    plan.card.network.mdns && base.has_unit(RESOLVED) && !has_avahi && !gets_avahi
}

const RESOLVED: &str = "systemd-resolved.service";

fn resolver(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    mdns: bool,
) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let ifupdown = network.renderer == Renderer::Ifupdown;
    let dns = Addresses::new(&network.ipv4, &network.ipv6).dns;
    if base.has_unit(RESOLVED) {
        build.link(
            "/etc/resolv.conf",
            "../run/systemd/resolve/stub-resolv.conf",
            "systemd-resolved",
        )?;
        // systemd-networkd tells of the resolvers of its interfaces by itself; ifupdown does not.
        let dns = if ifupdown { dns } else { Vec::new() };
        build.template(
            "host/resolved.conf",
            "/etc/systemd/resolved.conf.d/90-palmfarm.conf",
            context! { dns, mdns },
        )?;
        if ifupdown && mdns {
            let interface = network.addressed();
            build.unit(
                "systemd/palmfarm-mdns.service",
                "networking.service",
                context! { interface },
            )?;
        }
        return Ok(());
    }
    // Without systemd-resolved, the DHCP client writes resolv.conf, and for fixed addresses nothing does.
    if dns.is_empty() {
        return Ok(());
    }
    build.template("host/resolv.conf", "/etc/resolv.conf", context! { dns })
}

/// Empty everything else on the base that would configure an interface: netplan's files, and those of ifupdown if it is
/// installed. A file in /etc overrides a package's file of the same name below /usr.
fn empty_others(build: &mut TreeBuilder, base: &BaseFacts) -> Result<(), RenderError> {
    let text = yaml(
        "# palmfarm has emptied this file: systemd-networkd is configured below /etc/systemd/network.",
        &json!({"network": {"version": 2}}),
    );
    for path in &base.netplan {
        // The same name may be in several of netplan's folders; planning the same file twice is fine.
        let path = format!("/etc/netplan/{}", path.name());
        build.private(&path, &text, "palmfarm", Privacy::Public)?;
    }
    // With `renderer: ifupdown`, too, systemd-networkd brings the network up first.
    if base.has_unit("networking.service") {
        build.template("host/interfaces", "/etc/network/interfaces", context! {})?;
    }
    Ok(())
}
