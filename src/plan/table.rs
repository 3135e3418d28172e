//! A plan as people read it first: who is there, with which addresses, and what they should know. Pure; the caller knows
//! how wide the terminal is.

use std::net::IpAddr;

use super::CardPlan;
use crate::farm::stack::Stacked;
use crate::farm::{secret, Ipv4, Ipv6};
use palmfarm_protocol::firstboot::{Container, FirstBoot, ImageRef};

/// Columns between two cells.
const GAP: usize = 2;

/// One host or container.
struct Row {
    name: String,
    from: String,
    mac: String,
    /// What follows from it: addresses, or why there is none, and ports; a line each.
    lines: Vec<String>,
}

/// A table for each of `plans`, then what is to be noted. No line is longer than `width` columns, unless a name or an
/// address is; without a `width` each row is one line for each address.
#[must_use]
pub fn table(plans: &[CardPlan], width: Option<usize>) -> String {
    let tables: Vec<Vec<Row>> = plans.iter().map(rows).collect();
    let layout = Layout::of(tables.iter().flatten(), width);
    let mut out = String::new();
    for (plan, rows) in plans.iter().zip(&tables) {
        out.push_str(&wrapped(&heading(plan), 0, width));
        out.push('\n');
        for row in rows {
            layout.push(row, &mut out);
        }
        out.push('\n');
    }
    let notes = notes(plans);
    if !notes.is_empty() {
        out.push_str("notes:\n");
    }
    for note in notes {
        out.push_str(&wrapped(&note, 2, width));
    }
    out
}

/// What a card is, on one line: `card palm: 3 containers; br0 over eth0, IPv4 by DHCP, IPv6 by router advertisement`.
#[must_use]
pub fn summary(document: &FirstBoot) -> String {
    let network = &document.network;
    let (addressed, port) = (network.addressed(), network.port());
    let over = if addressed == port {
        port
    } else {
        format!("{addressed} over {port}")
    };
    let containers = match document.containers.len() {
        0 => "no containers".into(),
        1 => "1 container".into(),
        more => format!("{more} containers"),
    };
    let ipv4 = match network.ipv4 {
        Ipv4::Dhcp => ", IPv4 by DHCP",
        Ipv4::None => ", no IPv4",
        Ipv4::Static { .. } => "",
    };
    let ipv6 = match network.ipv6 {
        Ipv6::Auto => ", IPv6 by router advertisement",
        Ipv6::None => ", no IPv6",
        Ipv6::Static { .. } => "",
    };
    format!("card {}: {containers}; {over}{ipv4}{ipv6}", document.card)
}

fn heading(plan: &CardPlan) -> String {
    let member = match plan.member() {
        Some((member, true)) => format!("; forms the cluster, at {}", member.address),
        Some((member, false)) => format!("; joins the cluster, at {}", member.address),
        None => String::new(),
    };
    format!("{}{member}", summary(&plan.firstboot))
}

fn rows(plan: &CardPlan) -> Vec<Row> {
    let mac = plan.card.mac.map(|mac| mac.to_string());
    let host = Row {
        name: plan.card.hostname.clone(),
        from: "the host".into(),
        mac: mac.unwrap_or_else(|| "known at boot".into()),
        lines: host_lines(plan),
    };
    let containers = plan.firstboot.containers.iter().zip(&plan.stacks);
    let containers = containers.map(|(container, stack)| {
        let addresses = container.predicted.iter().map(ToString::to_string);
        let unknown = plan.unknown(container, stack).map(Into::into);
        Row {
            name: container.name.clone(),
            from: from(container),
            mac: container.mac.to_string(),
            lines: addresses.chain(unknown).chain(ports(stack)).collect(),
        }
    });
    std::iter::once(host).chain(containers).collect()
}

/// The host's addresses, fixed ones called so, and why others are not known.
fn host_lines(plan: &CardPlan) -> Vec<String> {
    let network = &plan.firstboot.network;
    let shown = |address: &IpAddr| match address {
        IpAddr::V4(_) => format!("{address} (IPv4, fixed)"),
        IpAddr::V6(_) if matches!(network.ipv6, Ipv6::Static { .. }) => format!("{address} (fixed)"),
        IpAddr::V6(_) => address.to_string(),
    };
    let addresses = plan.host_addresses.iter().map(shown);
    addresses.chain(plan.host_unknown().map(Into::into)).collect()
}

/// What a container is made from, and the image that it becomes.
fn from(container: &Container) -> String {
    let image = match &container.image {
        ImageRef::Local(alias) => alias.clone(),
        ImageRef::Remote { remote, alias } => format!("{remote}:{alias}"),
    };
    match &container.publish {
        Some(alias) => format!("{image} → {alias}"),
        None => image,
    }
}

/// The ports of the host that lead into the container, by its devices of the type `proxy`.
fn ports(stack: &Stacked) -> Vec<String> {
    let has = |device: &std::collections::BTreeMap<String, String>, key: &str, values: &[&str]| {
        device
            .get(key)
            .is_some_and(|value| values.contains(&value.as_str()))
    };
    let proxies = stack.devices.values().map(|device| &device.value);
    proxies
        .filter(|device| has(device, "type", &["proxy"]))
        // Otherwise the container listens, and the host is where it leads.
        .filter(|device| !has(device, "bind", &["instance", "container", "guest"]))
        .filter_map(|device| device.get("listen"))
        .map(|listen| {
            format!(
                "{} of the host leads here",
                secret::shown_of_device("listen", listen)
            )
        })
        .collect()
}

/// Which columns share one: the fewer, the narrower.
enum Layout {
    /// Name, from, MAC and addresses, each in its own, of these widths.
    Four([usize; 3]),
    /// The addresses below the MAC.
    Three([usize; 2]),
    /// Everything below the name.
    One,
}

impl Layout {
    fn of<'r>(rows: impl Iterator<Item = &'r Row>, width: Option<usize>) -> Self {
        let (mut name, mut from, mut mac, mut line) = (0, 0, 0, 0);
        for row in rows {
            name = name.max(columns(&row.name));
            from = from.max(columns(&row.from));
            mac = mac.max(columns(&row.mac));
            line = row.lines.iter().map(|line| columns(line)).fold(line, usize::max);
        }
        let fits = |columns: &[usize]| {
            let gaps = GAP.saturating_mul(columns.len());
            width.is_none_or(|width| {
                columns
                    .iter()
                    .fold(gaps, |sum, column| sum.saturating_add(*column))
                    <= width
            })
        };
        if fits(&[name, from, mac, line]) {
            Self::Four([name, from, mac])
        } else if fits(&[name, from, mac.max(line)]) {
            Self::Three([name, from])
        } else {
            Self::One
        }
    }

    fn push(&self, row: &Row, out: &mut String) {
        let Row {
            name,
            from,
            mac,
            lines,
        } = row;
        let first = lines.first().map(String::as_str).unwrap_or_default();
        let (head, indent, rest) = match self {
            Self::Four([a, b, c]) => {
                let head = format!("{name:a$}  {from:b$}  {mac:c$}  {first}");
                (head, a + b + c + 3 * GAP, lines.get(1..).unwrap_or_default())
            }
            Self::Three([a, b]) => (
                format!("{name:a$}  {from:b$}  {mac}"),
                a + b + 2 * GAP,
                &lines[..],
            ),
            Self::One => (format!("{name}\n    {from}\n    {mac}"), 4, &lines[..]),
        };
        for line in head.lines() {
            out.push_str(&format!("  {}\n", line.trim_end()));
        }
        for line in rest {
            out.push_str(&format!("  {:indent$}{line}\n", ""));
        }
    }
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// `text` in lines of at most `width` columns, broken between words; each line begins with `indent` spaces, and those
/// after the first with two more.
fn wrapped(text: &str, indent: usize, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    for word in text.split(' ') {
        let has_words = !line.trim_start().is_empty();
        let longer = columns(&line).saturating_add(columns(word)).saturating_add(1);
        if has_words && longer > width {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(indent.saturating_add(2));
        } else if has_words {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
    out
}

/// What is to be noted, each once; in a fleet with the cards that it is true of, unless it is true of all.
pub(super) fn notes(plans: &[CardPlan]) -> Vec<String> {
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for plan in plans {
        for note in &plan.notes {
            match notes.iter_mut().find(|(known, _)| known == note) {
                Some((_, cards)) => cards.push(&plan.card.name),
                None => notes.push((note, vec![&plan.card.name])),
            }
        }
    }
    let said = |(note, cards): (&str, Vec<&str>)| {
        if cards.len() == plans.len() {
            note.to_owned()
        } else {
            format!("{}: {note}", cards.join(", "))
        }
    };
    notes.into_iter().map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("aa bb cc", 0, Some(5)), "aa bb\n  cc\n");
        assert_eq!(wrapped("aa bb cc", 2, None), "  aa bb cc\n");
        assert_eq!(wrapped("a-long-word b", 2, Some(5)), "  a-long-word\n    b\n");
    }
}
