//! The network: systemd-networkd's files and what starts it, and everything else on the base that would configure an
//! interface put to rest.
//!
//! The hardware address of the bridge must stand in its .netdev file, and is known on the Pi only, unless the farm
//! names it. So that file lies below /usr/lib/palmfarm/network with a placeholder, and palmfarm-bridge.service copies
//! it to /run/systemd/network with the address filled in, before systemd-networkd starts. It must not lie in
//! /etc/systemd/network as well: there it would win over the copy of the same name, and under another name systemd-networkd
//! 237 would refuse both. With ifupdown every file goes that way, so that none is left once ifupdown has taken over.

use crate::farm::Renderer;
use minijinja::context;
use palmfarm_protocol::paths::{MAC_HERE, NETWORK, NETWORK_FALLBACK};

use super::addressing::Addresses;
use super::build::{Build, Check, From, UNITS};
use super::{ifupdown, RenderError};
use crate::base::BaseFacts;
use crate::edit::tree::{CardPath, Node, Planned, Privacy, Volume};
use crate::plan::CardPlan;

/// Where systemd-networkd looks; `05` sorts before netplan's `10`.
const NETWORKD: &str = "/etc/systemd/network";

/// Whether the address of the bridge is filled in on the Pi.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// It is known, or there is none to fill in.
    Here,
    /// By the agent.
    OnThePi,
}

/// One file for systemd-networkd.
struct NetFile {
    name: String,
    template: &'static str,
    text: String,
    filled: Filled,
}

/// Plan everything about the network.
pub(super) fn render(
    build: &mut Build,
    plan: &CardPlan,
    base: &BaseFacts,
    systemd: u32,
) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let ifupdown = network.renderer == Renderer::Ifupdown;
    let placeholder = MAC_HERE.to_owned();
    let known = network.mac.map(|mac| mac.to_string());
    let files = files(build, plan, systemd, Some(known.as_ref().unwrap_or(&placeholder)))?;
    let fallback = files.iter().any(|file| file.filled == Filled::OnThePi);
    for file in &files {
        let dir = if ifupdown || file.filled == Filled::OnThePi {
            NETWORK
        } else {
            NETWORKD
        };
        place(build, dir, file)?;
    }
    if fallback || ifupdown {
        for file in self::files(build, plan, systemd, known.as_ref())? {
            let provisional = ifupdown || file.template == "networkd/bridge.netdev";
            if provisional {
                place(build, NETWORK_FALLBACK, &file)?;
            }
        }
    }
    bridge_unit(build, plan, fallback || ifupdown)?;
    build.unit(
        "systemd/palmfarm-network.service",
        "multi-user.target",
        context! {},
        &Check::Ini(&[("Install", "WantedBy", "multi-user.target")]),
    )?;
    wait_online(build, plan)?;
    start_networkd(build, base, systemd)?;
    resolver(build, plan, base)?;
    if ifupdown {
        ifupdown::render(build, plan)?;
    }
    rest(build, plan, base)
}

fn place(build: &mut Build, dir: &str, file: &NetFile) -> Result<(), RenderError> {
    let path = format!("{dir}/{}", file.name);
    let origin = format!("templates/{}", file.template);
    build.public(Volume::Root, &path, &file.text, &origin)
}

/// Every file for systemd-networkd; `mac` for the bridge, `None` for one of its own.
fn files(
    build: &Build,
    plan: &CardPlan,
    systemd: u32,
    mac: Option<&String>,
) -> Result<Vec<NetFile>, RenderError> {
    let network = &plan.firstboot.network;
    let (uplink, port, host) = (&network.uplink, &network.port(), &network.addressed());
    let mut files = Vec::new();
    let mut add =
        |interface: &str, template: &'static str, filled, values, expected: &[(&str, &str, &str)]| {
            let kind = template.rsplit('.').next().unwrap_or_default();
            let name = format!("05-palmfarm-{interface}.{kind}");
            let from = From {
                template,
                path: &name,
                mode: 0o644,
            };
            let text = build.text(from, values, &Check::Ini(expected))?;
            files.push(NetFile {
                name,
                template,
                text,
                filled,
            });
            Ok::<(), RenderError>(())
        };
    if let Some(vlan) = network.vlan {
        let id = vlan.to_string();
        add(
            uplink,
            "networkd/trunk.network",
            Filled::Here,
            context! { uplink, port, vlan },
            &[("Match", "Name", uplink), ("Network", "VLAN", port)],
        )?;
        add(
            port,
            "networkd/vlan.netdev",
            Filled::Here,
            context! { uplink, port, vlan },
            &[
                ("NetDev", "Name", port),
                ("NetDev", "Kind", "vlan"),
                ("VLAN", "Id", &id),
            ],
        )?;
    }
    if let Some(bridge) = &network.bridge {
        add(
            port,
            "networkd/port.network",
            Filled::Here,
            context! { port, bridge },
            &[("Match", "Name", port), ("Network", "Bridge", bridge)],
        )?;
        let filled = if mac.is_some_and(|mac| mac == MAC_HERE) {
            Filled::OnThePi
        } else {
            Filled::Here
        };
        let mut expected = vec![("NetDev", "Name", bridge.as_str()), ("NetDev", "Kind", "bridge")];
        expected.extend(mac.map(|mac| ("NetDev", "MACAddress", mac.as_str())));
        add(
            bridge,
            "networkd/bridge.netdev",
            filled,
            context! { bridge, mac },
            &expected,
        )?;
    }
    let addresses = Addresses::new(&network.ipv4, &network.ipv6);
    let (values, expected) = (addresses.values(host, systemd), addresses.expected(host));
    add(host, "networkd/host.network", Filled::Here, values, &expected)?;
    Ok(files)
}

fn bridge_unit(build: &mut Build, plan: &CardPlan, fallback: bool) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let (uplink, ifupdown) = (&network.uplink, network.renderer == Renderer::Ifupdown);
    let Some(bridge) = &network.bridge else {
        return Ok(());
    };
    build.unit(
        "systemd/palmfarm-bridge.service",
        "systemd-networkd.service",
        context! { bridge, uplink, ifupdown, fallback },
        &Check::Ini(&[
            (
                "Unit",
                "Before",
                "network-pre.target systemd-networkd.service shutdown.target",
            ),
            ("Service", "ExecStart", "/usr/lib/palmfarm/palmfarm-agent bridge"),
        ]),
    )?;
    let device = super::engine::device_unit(uplink);
    let from = From {
        template: "systemd/uplink-device.conf",
        path: &format!("{UNITS}/{device}.d/90-palmfarm.conf"),
        mode: 0o644,
    };
    build.root(from, context! {}, &Check::Ini(&[]))
}

fn wait_online(build: &mut Build, plan: &CardPlan) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let (interface, ifupdown) = (network.addressed(), network.renderer == Renderer::Ifupdown);
    let from = From {
        template: "networkd/wait-online.conf",
        // After netplan's 10-netplan.conf, wherever that lies: drop-ins sort by name alone (systemd.unit(5)).
        path: &format!("{UNITS}/systemd-networkd-wait-online.service.d/90-palmfarm.conf"),
        mode: 0o644,
    };
    let exec = format!("/lib/systemd/systemd-networkd-wait-online --interface={interface} --timeout=60");
    build.root(
        from,
        context! { interface, ifupdown },
        &Check::Ini(&[("Service", "ExecStart", ""), ("Service", "ExecStart", &exec)]),
    )
}

/// The links that `systemctl enable systemd-networkd systemd-resolved` makes, where the base has the unit: `[Install]` of systemd 237
/// to 259.
fn start_networkd(build: &mut Build, base: &BaseFacts, systemd: u32) -> Result<(), RenderError> {
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

fn resolver(build: &mut Build, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let network = &plan.firstboot.network;
    let dns = Addresses::new(&network.ipv4, &network.ipv6).dns;
    if base.has_unit("systemd-resolved.service") {
        build.link(
            "/etc/resolv.conf",
            "../run/systemd/resolve/stub-resolv.conf",
            "systemd-resolved",
        )?;
        if network.renderer == Renderer::Ifupdown && !dns.is_empty() {
            let from = From {
                template: "host/resolved.conf",
                path: "/etc/systemd/resolved.conf.d/90-palmfarm.conf",
                mode: 0o644,
            };
            let joined = dns.join(" ");
            build.root(
                from,
                context! { dns },
                &Check::Ini(&[("Resolve", "DNS", &joined)]),
            )?;
        }
        return Ok(());
    }
    // Without it whoever configures the interface writes resolv.conf, and for fixed addresses nobody does.
    if dns.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = dns.iter().map(|server| format!("nameserver {server}")).collect();
    let from = From {
        template: "host/resolv.conf",
        path: "/etc/resolv.conf",
        mode: 0o644,
    };
    build.root(from, context! { dns }, &Check::Lines(&lines))
}

/// Put to rest what else on the base would configure an interface: netplan's files, and ifupdown's where it is
/// installed and not asked for. What a package owns below /usr is covered by a file of the same name in /etc.
fn rest(build: &mut Build, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let template = "host/netplan.yaml";
    for path in &base.netplan {
        let path = format!("/etc/netplan/{}", path.name());
        let from = From {
            template,
            path: &path,
            mode: 0o600,
        };
        let empty = serde_json::json!({"network": {"version": 2}});
        let text = build.text(from, context! {}, &Check::Yaml(empty))?;
        let planned = Planned {
            node: Node::File {
                content: text.as_bytes().into(),
                access: crate::edit::tree::Access::root(from.mode),
            },
            origin: format!("templates/{template}"),
            privacy: Privacy::Public,
        };
        // The same name may lie in several of netplan's folders.
        build.tree.replace(Volume::Root, CardPath::new(&path)?, planned);
    }
    if base.has_unit("networking.service") && plan.firstboot.network.renderer == Renderer::Networkd {
        let from = From {
            template: "host/interfaces",
            path: "/etc/network/interfaces",
            mode: 0o644,
        };
        build.root(
            from,
            context! {},
            &Check::Lines(&["auto lo".into(), "iface lo inet loopback".into()]),
        )?;
    }
    Ok(())
}
