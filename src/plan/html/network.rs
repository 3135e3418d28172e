//! The network as the article draws it: the Internet, the home router, the LAN, and on it each Pi with its uplink, its
//! bridges and their containers. It is drawn with elements of the page, so that it fits a phone: the wires are borders.

use std::collections::BTreeMap;

use crate::farm::{Ipv4, Ipv6};
use crate::plan::CardPlan;
use palmfarm_protocol::firstboot::{Container, ImageRef};

use super::{address, esc};

/// From how many replicas on only the first and the last are shown until somebody asks for the others.
const FOLDED: usize = 3;

/// How many tints tell families of containers apart.
const TINTS: usize = 4;

/// A bridge and what is on it.
struct Segment<'p> {
    /// Class of its lines and boxes.
    class: &'static str,
    name: &'p str,
    /// Its own addresses, as they are drawn.
    detail: String,
    /// Places in the plan.
    containers: Vec<usize>,
}

/// The figure for all of `plans`.
pub(super) fn figure(plans: &[CardPlan]) -> String {
    let pis: String = plans
        .iter()
        .zip(0..)
        .map(|(plan, number)| pi(plan, number))
        .collect();
    format!(
        "<figure class=\"net\">\n{}<div class=\"pis\">\n{pis}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        outside(plans),
        legend(plans)
    )
}

/// Internet, router and LAN.
fn outside(plans: &[CardPlan]) -> String {
    let has = |is: fn(&CardPlan) -> bool| plans.iter().any(is);
    let advertises = has(|plan| plan.card.network.ipv6 == Ipv6::Auto);
    let leases = has(|plan| plan.card.network.ipv4 == Ipv4::Dhcp);
    let gives = match (advertises, leases) {
        (true, true) => "router advertisements, DHCP",
        (true, false) => "router advertisements",
        (false, true) => "DHCP",
        (false, false) => "default gateway",
    };
    let mut prefixes: Vec<String> = Vec::new();
    for prefix in plans.iter().flat_map(|plan| &plan.prefixes) {
        let shown = format!("<span class=\"mono\">{prefix}</span>");
        if !prefixes.contains(&shown) {
            prefixes.push(shown);
        }
    }
    if prefixes.is_empty() {
        prefixes.push("prefix from the router".into());
    }
    format!(
        "<svg class=\"cloud\" viewBox=\"0 0 176 60\" role=\"img\" aria-label=\"Internet\"><path d=\"M38 54c-28 0-34-31-5-35c3-19 \
         38-23 51-9c15-13 48-10 51 9c28-5 42 9 36 21c5 10-8 14-21 14z\"/><text x=\"90\" y=\"41\">Internet</text></svg>\n\
         <div class=\"wire\"></div>\n<div class=\"router\"><b>home router</b> <small>{gives}</small></div>\n\
         <div class=\"wire\"></div>\n<div class=\"lan-bar\"><b>LAN</b> {}</div>\n",
        prefixes.join(" ")
    )
}

fn legend(plans: &[CardPlan]) -> String {
    let mut out = String::from("<span class=\"key lan\">on the LAN</span>");
    if plans
        .iter()
        .any(|plan| segments(plan).iter().any(|segment| segment.class == "nat"))
    {
        out.push_str(" <span class=\"key nat\">behind NAT: to others it is the host</span>");
    }
    out.push_str(if plans.iter().all(|plan| plan.prefixes.is_empty()) {
        " Addresses are predicted where the prefix of the LAN is given with --prefix."
    } else {
        " Predicted addresses hold where the container forms EUI-64 identifiers; the first-boot report says where one does not."
    });
    out
}

/// The bridges in the order in which they are drawn: the one on the LAN, the one behind NAT, any other.
fn segments(plan: &CardPlan) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    if let Some(bridge) = &plan.card.network.bridge {
        segments.push(Segment {
            class: "lan",
            name: bridge,
            detail: host_detail(plan),
            containers: Vec::new(),
        });
    }
    let networks = plan.firstboot.lxd.iter().flat_map(|lxd| &lxd.preseed.networks);
    for network in networks {
        let own = |key: &str| network.config.get(key).filter(|value| *value != "none");
        let own: Vec<String> = [own("ipv4.address"), own("ipv6.address")]
            .into_iter()
            .flatten()
            .map(|address| format!("<span class=\"mono\">{}</span>", esc(address)))
            .collect();
        segments.push(Segment {
            class: "nat",
            name: &network.name,
            detail: format!("{} NAT", own.join(" ")),
            containers: Vec::new(),
        });
    }
    for (place, stack) in plan.stacks.iter().enumerate() {
        let name = stack.parent().unwrap_or("no bridge");
        if let Some(there) = segments.iter_mut().find(|segment| segment.name == name) {
            there.containers.push(place);
        } else {
            segments.push(Segment {
                class: "other",
                name,
                detail: String::new(),
                containers: vec![place],
            });
        }
    }
    segments
}

/// The host's own addresses and hardware address, and what is not known of them.
fn host_detail(plan: &CardPlan) -> String {
    let user = super::login(plan);
    let mac = plan
        .card
        .mac
        .map(|mac| format!("<span class=\"mono\">{mac}</span>"));
    let addresses = plan.host_addresses.iter().map(|own| {
        let shown = address(*own, user.map(|user| format!("ssh://{user}@")).as_deref());
        if own.is_ipv4() {
            format!("{shown} <small>fixed</small>")
        } else {
            shown
        }
    });
    let unknown = plan
        .host_unknown()
        .map(|why| format!("<small>{}</small>", esc(why)));
    let all: Vec<String> = mac.into_iter().chain(addresses).chain(unknown).collect();
    all.join("<br>\n")
}

fn pi(plan: &CardPlan, number: usize) -> String {
    let network = &plan.firstboot.network;
    let port = network.vlan.map_or_else(
        || network.uplink.clone(),
        |vlan| format!("{}  VLAN {vlan}", network.uplink),
    );
    let ipv4 = match &network.ipv4 {
        Ipv4::Dhcp => "IPv4 by DHCP".to_owned(),
        Ipv4::None => "no IPv4".to_owned(),
        Ipv4::Static { address, prefix, .. } => format!("IPv4 {address}/{prefix}, fixed"),
    };
    let ipv6 = match &network.ipv6 {
        Ipv6::Auto => "IPv6 by router advertisement".to_owned(),
        Ipv6::None => "IPv6 link-local only".to_owned(),
        Ipv6::Static { address, prefix, .. } => format!("IPv6 {address}/{prefix}, fixed"),
    };
    let segments = segments(plan);
    let own = if plan.card.network.bridge.is_none() {
        format!("<p class=\"own\">{}</p>\n", host_detail(plan))
    } else {
        String::new()
    };
    let has_nat = segments.iter().any(|segment| segment.class == "nat");
    let nets = if has_nat { "nets with-nat" } else { "nets" };
    let drawn: String = segments
        .iter()
        .map(|segment| draw(plan, number, segment))
        .collect();
    let member = plan.member().map(|(member, forms_it)| {
        let does = if forms_it { "forms" } else { "joins" };
        format!(
            "<br>{does} the cluster, at <span class=\"mono\">{}</span>",
            member.address
        )
    });
    let member = member.unwrap_or_default();
    format!(
        "<section class=\"pi\">\n<div class=\"port\">{}</div>\n<div class=\"who\"><div><h3>{}</h3> <small>Raspberry \
         Pi</small></div><i></i><p>{}<br>{}{member}</p></div>\n{own}<div class=\"{nets}\">\n{drawn}</div>\n</section>\n",
        esc(&port),
        esc(&plan.card.hostname),
        esc(&ipv4),
        esc(&ipv6)
    )
}

/// A bridge with its containers.
fn draw(plan: &CardPlan, number: usize, segment: &Segment<'_>) -> String {
    let families = Families::of(plan);
    let class = segment.class;
    let idle = if segment.containers.is_empty() {
        " idle"
    } else {
        ""
    };
    let mut out = format!(
        "<section class=\"seg {class}{idle}\">\n<div class=\"bar\"><b>{}</b> <span>{}</span></div>\n",
        esc(segment.name),
        segment.detail
    );
    if !segment.containers.is_empty() {
        out.push_str("<div class=\"grid\">\n");
        let ordered = families.in_order(plan, &segment.containers);
        let mut rest = ordered.as_slice();
        while let Some(first) = rest.first() {
            let alike = rest
                .iter()
                .take_while(|place| is_alike(plan, *first, **place))
                .count();
            let (run, after) = rest.split_at(alike.max(1));
            rest = after;
            out.push_str(&if run.len() >= FOLDED {
                stacked(plan, number, run, &families)
            } else {
                run.iter()
                    .map(|place| boxed(plan, number, *place, &families))
                    .collect()
            });
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
    out
}

/// Whether two containers differ in nothing but their name, as replicas do.
fn is_alike(plan: &CardPlan, one: usize, other: usize) -> bool {
    let [one, other] = [one, other].map(|place| plan.firstboot.containers.get(place));
    one.zip(other).is_some_and(|(one, other)| {
        let settings = |of: &'_ Container| {
            (
                of.digest.clone(),
                of.profiles.clone(),
                of.config.clone(),
                of.devices.clone(),
            )
        };
        std::ptr::eq(one, other) || settings(one) == settings(other)
    })
}

/// Which containers are made from which.
struct Families<'p> {
    /// The container that publishes each alias, and the number of its family.
    publishers: BTreeMap<&'p str, (usize, usize)>,
    /// Those made from the alias.
    children: BTreeMap<&'p str, Vec<usize>>,
}

impl<'p> Families<'p> {
    fn of(plan: &'p CardPlan) -> Self {
        let all = || plan.firstboot.containers.iter().enumerate();
        let publishers = all().filter_map(|(place, one)| Some((one.publish.as_deref()?, place)));
        let publishers = publishers.enumerate();
        let mut children: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, one) in all() {
            if let ImageRef::Local(alias) = &one.image {
                children.entry(alias).or_default().push(place);
            }
        }
        Self {
            publishers: publishers
                .map(|(family, (alias, place))| (alias, (place, family)))
                .collect(),
            children,
        }
    }

    /// `places` with each container directly after the one that it is made from.
    fn in_order(&self, plan: &CardPlan, places: &[usize]) -> Vec<usize> {
        let mut left: std::collections::BTreeSet<usize> = places.iter().copied().collect();
        let mut ordered = Vec::new();
        for place in places {
            let mut next = vec![*place];
            while let Some(place) = next.pop().filter(|place| left.remove(place)) {
                ordered.push(place);
                let publishes = plan
                    .firstboot
                    .containers
                    .get(place)
                    .and_then(|one| one.publish.as_deref());
                let children = publishes.and_then(|alias| self.children.get(alias));
                next.extend(
                    children
                        .into_iter()
                        .flatten()
                        .rev()
                        .filter(|child| left.contains(*child)),
                );
            }
        }
        ordered
    }

    /// The class of the tint of a container's family: that which it founds, else that which it comes from.
    fn tint(&self, container: &Container) -> String {
        let from = match &container.image {
            ImageRef::Local(alias) => Some(alias.as_str()),
            ImageRef::Remote { .. } => None,
        };
        let family = [container.publish.as_deref(), from]
            .into_iter()
            .flatten()
            .find_map(|alias| self.publishers.get(alias));
        family.map_or_else(String::new, |(_, family)| format!(" tint{}", family % TINTS))
    }

    /// What a container is made from: a link to the one that publishes it, if that is on the page.
    fn from(&self, container: &Container, number: usize) -> String {
        match &container.image {
            ImageRef::Local(alias) => match self.publishers.get(alias.as_str()) {
                Some((place, _)) => format!(
                    "from <a class=\"chip\" href=\"#c{number}-{place}\">{}</a>",
                    esc(alias)
                ),
                None => format!("from {}", esc(alias)),
            },
            ImageRef::Remote { remote, alias } => format!("from {}", esc(&format!("{remote}:{alias}"))),
        }
    }
}

/// Replicas as a stack, which opens.
fn stacked(plan: &CardPlan, number: usize, places: &[usize], families: &Families<'_>) -> String {
    let all: Vec<&Container> = places
        .iter()
        .filter_map(|place| plan.firstboot.containers.get(*place))
        .collect();
    let [first, .., last] = all.as_slice() else {
        return String::new();
    };
    let ends: String = [first, last]
        .into_iter()
        .map(|one| format!("<dt>{}</dt><dd>{}</dd>\n", esc(&one.name), addresses(plan, one)))
        .collect();
    let boxes: String = places
        .iter()
        .map(|place| boxed(plan, number, *place, families))
        .collect();
    format!(
        "<details class=\"c stack{}\"><summary><h4>{} … {}</h4><p>{} containers, {}</p><dl>\n{ends}</dl></summary>\n\
         <div class=\"all\">\n{boxes}</div>\n</details>\n",
        families.tint(first),
        esc(&first.name),
        esc(&last.name),
        all.len(),
        families.from(first, number)
    )
}

fn boxed(plan: &CardPlan, number: usize, place: usize, families: &Families<'_>) -> String {
    let Some(container) = plan.firstboot.containers.get(place) else {
        return String::new();
    };
    let publishes = match &container.publish {
        Some(alias) => format!("<p>becomes <b class=\"chip\">{}</b></p>\n", esc(alias)),
        None => String::new(),
    };
    let config = plan
        .stacks
        .get(place)
        .and_then(|stack| stack.config.get("security.nesting"));
    let nested = if config.is_some_and(|nesting| nesting.value == "true") {
        "<p class=\"nested\"><i></i><i></i><i></i> Docker can run inside</p>\n"
    } else {
        ""
    };
    format!(
        "<div class=\"c{}\" id=\"c{number}-{place}\"><h4>{}</h4><p>{}</p>\n<p class=\"mono\">{}</p>\n<p>{}</p>\n{publishes}{nested}</div>\n",
        families.tint(container),
        esc(&container.name),
        families.from(container, number),
        container.mac,
        addresses(plan, container),
    )
}

fn addresses(plan: &CardPlan, container: &Container) -> String {
    let known: Vec<String> = container
        .predicted
        .iter()
        .map(|own| address((*own).into(), Some("http://")))
        .collect();
    if !known.is_empty() {
        return known.join("<br>\n");
    }
    let place = plan
        .firstboot
        .containers
        .iter()
        .position(|one| std::ptr::eq(one, container));
    let stack = place.and_then(|place| plan.stacks.get(place));
    let why = stack
        .and_then(|stack| plan.unknown(container, stack))
        .unwrap_or_default();
    format!("<small>{}</small>", esc(why))
}
