//! The network as the article draws it: the Internet, the home router, the prefix of the LAN, the Pi with its uplink,
//! its bridges, and the containers on them. An SVG that is part of the page and takes its colours from there.

use crate::farm::{Ipv4, Ipv6};
use palmfarm_protocol::firstboot::Container;

use super::esc;
use crate::plan::CardPlan;

/// Width of the drawing, in its own units; it is as high as it must be.
const WIDTH: usize = 960;
/// The Pi's left edge, and the distance of its right edge from the drawing's.
const PI: usize = 24;
/// Left edge of the bridges, and the distance of their right edge.
const BAR: usize = 48;
const BAR_HEIGHT: usize = 34;
/// Left edge of the first column of containers.
const GRID: usize = 84;
const COLUMNS: usize = 3;
const BOX: usize = 268;
const BOX_HEIGHT: usize = 70;
const GAP: usize = 12;
/// From one row of containers to the next.
const ROW: usize = BOX_HEIGHT + 26;
/// Where names are cut off, in characters: what fits in a box.
const LONGEST: usize = 30;
/// Characters of the monospaced font that fit in a box; longer ones are set tighter.
const ADDRESS: usize = 36;

/// A bridge and what is on it.
struct Segment<'a> {
    /// Class of its lines and boxes: `lan`, `nat` or none.
    class: &'static str,
    name: String,
    detail: String,
    containers: Vec<&'a Container>,
    /// What stands where no address is predicted.
    none: &'static str,
}

/// Draw it.
pub(super) fn network(plan: &CardPlan) -> String {
    let segments = segments(plan);
    let mut drawing = Drawing { out: String::new() };
    let mut y = outside(plan, &mut drawing);
    let top = y;
    let mut inside = Drawing { out: String::new() };
    y = host(plan, &mut inside, y);
    let mut host_bar = None;
    for segment in &segments {
        let bar = y;
        y = draw(segment, &mut inside, y);
        match (segment.class, host_bar) {
            // The NAT bridge hangs on the host's own addresses.
            ("nat", Some(host)) => nat_wire(&mut inside, host, bar),
            ("nat", None) => inside.wire("nat-wire dashed", WIDTH / 2, top + 58, WIDTH / 2, bar),
            ("lan", None) => {
                inside.wire("lan-wire", WIDTH / 2, top + 18, WIDTH / 2, bar);
                host_bar = Some(bar);
            }
            _ => {}
        }
    }
    let bottom = y + 8;
    drawing.rect("pi", PI, top, WIDTH - 2 * PI, bottom - top, 14);
    drawing.out.push_str(&inside.out);
    uplink(plan, &mut drawing, top);
    let height = bottom + 12;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"net-title net-desc\">\n\
         <title id=\"net-title\">The network of {}</title>\n<desc id=\"net-desc\">{}</desc>\n{}</svg>\n",
        esc(&plan.card.name),
        esc(&described(plan, &segments)),
        drawing.out
    )
}

/// What the drawing shows, for those who do not see it.
fn described(plan: &CardPlan, segments: &[Segment<'_>]) -> String {
    let mut text = format!(
        "The Internet, the home router, the LAN, and on it the Raspberry Pi {} with its uplink {}.",
        plan.card.hostname, plan.firstboot.network.uplink
    );
    for segment in segments {
        let names: Vec<&str> = segment.containers.iter().map(|one| one.name.as_str()).collect();
        let on = if names.is_empty() {
            "no containers".to_owned()
        } else {
            names.join(", ")
        };
        text.push_str(&format!(" On {}: {on}.", segment.name));
    }
    text
}

/// The bridges in the order in which they are drawn: the one on the LAN, the one behind NAT, any other.
fn segments(plan: &CardPlan) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    if let Some(bridge) = &plan.card.network.bridge {
        segments.push(Segment {
            class: "lan",
            name: bridge.clone(),
            detail: host_detail(plan),
            containers: Vec::new(),
            none: "known with --prefix",
        });
    }
    let networks = plan.firstboot.lxd.iter().flat_map(|lxd| &lxd.preseed.networks);
    for network in networks {
        let address = |key: &str| network.config.get(key).filter(|value| *value != "none").cloned();
        let mut detail: Vec<String> = [address("ipv4.address"), address("ipv6.address")]
            .into_iter()
            .flatten()
            .collect();
        detail.push("NAT".into());
        segments.push(Segment {
            class: "nat",
            name: network.name.clone(),
            detail: detail.join("  ·  "),
            containers: Vec::new(),
            none: "behind NAT",
        });
    }
    for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
        let name = stack.parent().unwrap_or("no bridge");
        if let Some(there) = segments.iter_mut().find(|segment| segment.name == name) {
            there.containers.push(container);
        } else {
            segments.push(Segment {
                class: "other",
                name: name.to_owned(),
                detail: String::new(),
                containers: vec![container],
                none: "as its devices say",
            });
        }
    }
    segments
}

/// The host's own address and hardware address.
fn host_detail(plan: &CardPlan) -> String {
    let mac = plan.card.mac.map(|mac| mac.to_string());
    let address = plan.host_addresses.first().map(|first| {
        let more = plan.host_addresses.len().saturating_sub(1);
        if more == 0 {
            first.to_string()
        } else {
            format!("{first} +{more}")
        }
    });
    let known: Vec<String> = [mac, address].into_iter().flatten().collect();
    if known.is_empty() {
        "MAC and address known at boot".into()
    } else {
        known.join("  ·  ")
    }
}

/// Internet, router and LAN; returns where the Pi begins.
fn outside(plan: &CardPlan, drawing: &mut Drawing) -> usize {
    let middle = WIDTH / 2;
    drawing.cloud(middle, 36);
    drawing.text("t b", middle, 43, Anchor::Middle, "Internet");
    drawing.wire("wire", middle, 62, middle, 82);
    drawing.rect("box", middle - 120, 82, 240, 48, 8);
    drawing.text("t b", middle, 102, Anchor::Middle, "home router");
    let gives = match (&plan.firstboot.network.ipv6, &plan.firstboot.network.ipv4) {
        (Ipv6::Auto, Ipv4::Dhcp) => "router advertisements, DHCP",
        (Ipv6::Auto, _) => "router advertisements",
        (_, Ipv4::Dhcp) => "DHCP",
        _ => "default gateway",
    };
    drawing.text("t s", middle, 119, Anchor::Middle, gives);
    drawing.wire("lan-wire", middle, 130, middle, 166);
    drawing.wire("lan-wire thick", 60, 166, WIDTH - 60, 166);
    drawing.text("t b lt", 60, 156, Anchor::Start, "LAN");
    let prefixes: Vec<String> = plan.prefixes.iter().take(2).map(ToString::to_string).collect();
    let mut label = prefixes.join(", ");
    if plan.prefixes.len() > 2 {
        label.push_str(&format!(" +{}", plan.prefixes.len() - 2));
    }
    if label.is_empty() {
        label.push_str("prefix from the router");
    }
    drawing.text("m lt", 98, 156, Anchor::Start, &label);
    drawing.wire("lan-wire", middle, 166, middle, 200);
    210
}

/// The Pi's own lines; returns where the first bridge begins.
fn host(plan: &CardPlan, drawing: &mut Drawing, top: usize) -> usize {
    drawing.text("t b pt", BAR, top + 30, Anchor::Start, &cut(&plan.card.hostname));
    drawing.text("t s", BAR, top + 48, Anchor::Start, "Raspberry Pi");
    let network = &plan.firstboot.network;
    let ipv4 = match &network.ipv4 {
        Ipv4::Dhcp => "IPv4 by DHCP".to_owned(),
        Ipv4::None => "no IPv4".to_owned(),
        Ipv4::Static { address, prefix, .. } => format!("IPv4 {address}/{prefix}"),
    };
    let ipv6 = match &network.ipv6 {
        Ipv6::Auto => "IPv6 by router advertisement".to_owned(),
        Ipv6::None => "IPv6 link-local only".to_owned(),
        Ipv6::Static { address, prefix, .. } => format!("IPv6 {address}/{prefix}"),
    };
    drawing.text("t s", WIDTH - BAR, top + 30, Anchor::End, &ipv4);
    drawing.text("t s", WIDTH - BAR, top + 48, Anchor::End, &ipv6);
    if network.bridge.is_none() {
        drawing.text("m md", WIDTH / 2, top + 44, Anchor::Middle, &host_detail(plan));
        return top + 96;
    }
    top + 70
}

/// The uplink, on the edge of the Pi.
fn uplink(plan: &CardPlan, drawing: &mut Drawing, top: usize) {
    let network = &plan.firstboot.network;
    let label = network.vlan.map_or_else(
        || network.uplink.clone(),
        |vlan| format!("{}  VLAN {vlan}", network.uplink),
    );
    drawing.rect("box", WIDTH / 2 - 75, top - 16, 150, 32, 6);
    drawing.text("t b", WIDTH / 2, top + 5, Anchor::Middle, &cut(&label));
}

/// A bridge with its containers; returns where the next one begins.
fn draw(segment: &Segment<'_>, drawing: &mut Drawing, y: usize) -> usize {
    let (bar, wire) = match segment.class {
        "lan" => ("lan-box", "lan-wire"),
        "nat" => ("nat-box", "nat-wire"),
        _ => ("box", "wire"),
    };
    let ink = match segment.class {
        "lan" => "t b lt",
        "nat" => "t b nt",
        _ => "t b",
    };
    drawing.rect(bar, BAR, y, WIDTH - 2 * BAR, BAR_HEIGHT, 6);
    drawing.text(ink, BAR + 16, y + 22, Anchor::Start, &cut(&segment.name));
    drawing.text("m", WIDTH - BAR - 16, y + 22, Anchor::End, &segment.detail);
    let mut at = y + BAR_HEIGHT;
    for (number, row) in segment.containers.chunks(COLUMNS).enumerate() {
        let bus = at + 14;
        // The trunk comes down at the left, from the bridge or from the row above.
        let above = if number == 0 { at } else { at + 14 - ROW };
        drawing.wire(wire, BAR + 18, above, BAR + 18, bus);
        let last = GRID + (row.len() - 1) * (BOX + GAP) + BOX / 2;
        drawing.wire(wire, BAR + 18, bus, last, bus);
        for (column, container) in row.iter().enumerate() {
            let x = GRID + column * (BOX + GAP);
            drawing.wire(wire, x + BOX / 2, bus, x + BOX / 2, bus + 12);
            container_box(drawing, bar, x, bus + 12, container, segment.none);
        }
        at += ROW;
    }
    at + 24
}

fn container_box(drawing: &mut Drawing, class: &str, x: usize, y: usize, container: &Container, none: &str) {
    drawing
        .out
        .push_str(&format!("<g><title>{}</title>\n", esc(&container.name)));
    drawing.rect("box", x, y, BOX, BOX_HEIGHT, 6);
    drawing.rect(class, x, y, 5, BOX_HEIGHT, 2);
    drawing.text("t b", x + 16, y + 22, Anchor::Start, &cut(&container.name));
    drawing.text("m md", x + 16, y + 41, Anchor::Start, &container.mac.to_string());
    match container.predicted.as_slice() {
        [] => drawing.text("t s", x + 16, y + 59, Anchor::Start, none),
        [first] => drawing.fitted("m", x + 16, y + 59, &first.to_string()),
        [first, more @ ..] => drawing.fitted("m", x + 16, y + 59, &format!("{first} +{}", more.len())),
    }
    drawing.out.push_str("</g>\n");
}

/// From the host's bridge down the right side to the one behind NAT.
fn nat_wire(drawing: &mut Drawing, host: usize, nat: usize) {
    let (right, edge) = (WIDTH - BAR, WIDTH - PI - 12);
    let (from, to) = (host + BAR_HEIGHT / 2, nat + BAR_HEIGHT / 2);
    drawing.out.push_str(&format!(
        "<path class=\"nat-wire dashed\" d=\"M{right} {from}H{edge}V{to}H{right}\"/>\n"
    ));
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(LONGEST - 1).collect();
    cut.push('…');
    cut
}

#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// SVG as it grows.
struct Drawing {
    out: String,
}

impl Drawing {
    fn rect(&mut self, class: &str, x: usize, y: usize, width: usize, height: usize, round: usize) {
        self.out.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\"/>\n"
        ));
    }

    fn wire(&mut self, class: &str, x1: usize, y1: usize, x2: usize, y2: usize) {
        self.out
            .push_str(&format!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>\n"));
    }

    fn text(&mut self, class: &str, x: usize, y: usize, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.out.push_str(&format!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>\n",
            esc(text)
        ));
    }

    /// A line of the monospaced font that must not leave its box.
    fn fitted(&mut self, class: &str, x: usize, y: usize, text: &str) {
        let room = BOX - 26;
        let tight = if text.len() > ADDRESS {
            format!(" textLength=\"{room}\" lengthAdjust=\"spacingAndGlyphs\"")
        } else {
            String::new()
        };
        self.out.push_str(&format!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{tight}>{}</text>\n",
            esc(text)
        ));
    }

    /// A cloud of 48 units height around a point.
    fn cloud(&mut self, x: usize, y: usize) {
        let left = x - 62;
        self.out.push_str(&format!(
            "<path class=\"box\" d=\"M{left} {bottom}c-26 0-30-32-4-35c2-20 34-26 46-12c14-16 48-12 50 8c30-6 46 8 40 22c6 12-8 17-20 17z\"/>\n",
            bottom = y + 26
        ));
    }
}
