//! A plan as one page for a browser: the network drawn, addresses, what each container is left with, units, files.
//!
//! The page is complete in itself: no script, no font, no picture from anywhere, and a policy in its head that allows
//! none. Whatever comes from a farm goes through `Escaped`; nothing secret is shown. Pure.

mod drawing;

use std::fmt;
use std::net::IpAddr;

use crate::farm::stack::Stacked;
use palmfarm_protocol::firstboot::{Container, ImageRef};

use super::show::{kind, shown};
use super::CardPlan;
use crate::edit::tree::{Planned, Tree, Volume};
use crate::farm::secret;

const STYLE: &str = include_str!("style.css");

/// Folders whose files say what systemd does, and how they are called.
const UNITS: &str = "/etc/systemd/";

/// The page about one card, or all cards of a fleet. `warnings` are the farm's, a sentence each.
#[must_use]
pub fn page(plans: &[CardPlan], trees: &[Tree], base: &str, warnings: &[String]) -> String {
    let names: Vec<&str> = plans.iter().map(|plan| plan.card.name.as_str()).collect();
    let names = names.join(", ");
    let cards = esc(&names);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{cards}: palmfarm plan</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    for (plan, tree) in plans.iter().zip(trees) {
        out.push_str(&card(plan, tree, base, warnings));
    }
    out.push_str("<footer>Made by palmfarm plan. Secrets are left out.</footer>\n</body>\n</html>\n");
    out
}

fn card(plan: &CardPlan, tree: &Tree, base: &str, warnings: &[String]) -> String {
    let card = esc(&plan.card.name);
    let mut out = format!(
        "<header>\n<h1>{card}</h1>\n<p class=\"lead\">What the card will hold, and the addresses it will have</p>\n"
    );
    out.push_str(&facts(plan, base));
    out.push_str("</header>\n<main>\n");
    out.push_str(&notes(plan, warnings));
    out.push_str(&format!(
        "<figure class=\"panel\">\n<div class=\"scroll\">\n{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        drawing::network(plan),
        if plan.prefixes.is_empty() {
            "Addresses are predicted where the prefix of the LAN is given with --prefix."
        } else {
            "Predicted addresses hold where the container forms EUI-64 identifiers; the first-boot report says where one does not."
        }
    ));
    out.push_str(&addresses(plan));
    out.push_str(&containers(plan));
    out.push_str(&files(tree, "Units", "units", |volume, path| {
        volume == Volume::Root && path.starts_with(UNITS)
    }));
    out.push_str(&files(tree, "Files", "files", |volume, path| {
        volume != Volume::Root || !path.starts_with(UNITS)
    }));
    out.push_str("</main>\n");
    out
}

/// Text as HTML shows it, in an element or a quoted attribute.
struct Escaped<'a>(&'a str);

fn esc(text: &str) -> Escaped<'_> {
    Escaped(text)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                // Control characters are not allowed in HTML; those that turn the direction of text can make one
                // text look like another.
                c if c.is_control() || is_direction(c) => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Characters that change the direction of the text around them (Unicode Standard Annex 9, section 2).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn facts(plan: &CardPlan, base: &str) -> String {
    let mut out = String::from("<dl class=\"facts\">\n");
    let mut fact = |what: &str, value: &str| {
        out.push_str(&format!("<div><dt>{what}</dt><dd>{}</dd></div>\n", esc(value)));
    };
    fact("Host", &plan.card.hostname);
    fact("Base", base);
    let network = &plan.firstboot.network;
    let (addressed, port) = (network.addressed(), network.port());
    if addressed == port {
        fact("Network", &port);
    } else {
        fact("Network", &format!("{addressed} over {port}"));
    }
    fact("Containers", &plan.firstboot.containers.len().to_string());
    let users: Vec<&str> = plan.users.iter().map(|user| user.name.as_str()).collect();
    if !users.is_empty() {
        fact("Users", &users.join(", "));
    }
    for prefix in &plan.prefixes {
        fact("Prefix of the LAN", &prefix.to_string());
    }
    out.push_str("</dl>\n");
    out
}

fn notes(plan: &CardPlan, warnings: &[String]) -> String {
    if plan.notes.is_empty() && warnings.is_empty() {
        return String::new();
    }
    let mut out = String::from("<ul class=\"notes\" aria-label=\"Warnings\">\n");
    for note in warnings.iter().chain(&plan.notes) {
        out.push_str(&format!("<li>{}</li>\n", esc(note)));
    }
    out.push_str("</ul>\n");
    out
}

/// The table of addresses: host first, then containers in the order in which they are made.
fn addresses(plan: &CardPlan) -> String {
    let mut out = String::from(
        "<h2 id=\"addresses\">Addresses</h2>\n<div class=\"panel scroll\">\n<table aria-labelledby=\"addresses\">\n\
         <thead><tr><th scope=\"col\">Name</th><th scope=\"col\">On</th><th scope=\"col\">MAC</th>\
         <th scope=\"col\">Addresses</th></tr></thead>\n<tbody>\n",
    );
    let mut row = |name: &str, on: &str, mac: &str, addresses: &[IpAddr], none: &str| {
        let list: String = addresses
            .iter()
            .map(|address| format!("<li>{address}</li>"))
            .collect();
        let shown = if list.is_empty() {
            format!("<td class=\"from\">{}</td>", esc(none))
        } else {
            format!("<td class=\"mono\"><ul>{list}</ul></td>")
        };
        out.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"mono\">{}</td>{shown}</tr>\n",
            esc(name),
            esc(on),
            esc(mac)
        ));
    };
    let mac = plan.card.mac.map(|mac| mac.to_string());
    row(
        &plan.card.hostname,
        &plan.firstboot.network.addressed(),
        mac.as_deref().unwrap_or("known at boot"),
        &plan.host_addresses,
        if mac.is_some() {
            "known with --prefix"
        } else {
            "known at boot"
        },
    );
    for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
        let parent = stack.parent().unwrap_or("no bridge");
        let none = if Some(parent) == plan.card.network.bridge.as_deref() {
            "known with --prefix"
        } else {
            "behind NAT"
        };
        row(
            &container.name,
            parent,
            &container.mac.to_string(),
            &container
                .predicted
                .iter()
                .copied()
                .map(IpAddr::from)
                .collect::<Vec<_>>(),
            none,
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

/// What each container is left with once its profiles are stacked; those that follow each other and differ in nothing
/// but their name, as replicas do, share a panel.
fn containers(plan: &CardPlan) -> String {
    let mut panels: Vec<(Vec<&str>, String)> = Vec::new();
    for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
        let left = left_with(container, stack);
        match panels.last_mut() {
            Some((names, last)) if *last == left => names.push(&container.name),
            _ => panels.push((vec![&container.name], left)),
        }
    }
    if panels.is_empty() {
        return String::new();
    }
    let mut out = String::from("<h2>Containers</h2>\n<div class=\"stack\">\n");
    for (names, left) in panels {
        let title = match names.as_slice() {
            [first, _, _, .., last] => format!("{first} to {last}"),
            names => names.join(", "),
        };
        out.push_str(&format!(
            "<section class=\"panel\">\n<h3>{}</h3>\n<dl>\n{left}</dl>\n</section>\n",
            esc(&title)
        ));
    }
    out.push_str("</div>\n");
    out
}

fn left_with(container: &Container, stack: &Stacked) -> String {
    let mut out = String::new();
    let mut item = |what: &str, value: String| {
        out.push_str(&format!("<dt>{}</dt><dd>{value}</dd>\n", esc(what)));
    };
    let image = match &container.image {
        ImageRef::Local(alias) => alias.clone(),
        ImageRef::Remote { remote, alias } => format!("{remote}:{alias}"),
    };
    item("image", esc(&image).to_string());
    item("profiles", esc(&container.profiles.join(", ")).to_string());
    for (name, device) in &stack.devices {
        let keys: Vec<String> = device
            .value
            .iter()
            .map(|(key, value)| format!("{key}={}", secret::shown_of_device(key, value)))
            .collect();
        item(
            name,
            format!(
                "<span class=\"mono\">{}</span> {}",
                esc(&keys.join(" ")),
                from(&device.from)
            ),
        );
    }
    for (key, value) in &stack.config {
        item(
            key,
            format!(
                "<span class=\"mono\">{}</span> {}",
                esc(secret::shown(key, &value.value)),
                from(&value.from)
            ),
        );
    }
    for file in &container.files {
        item("file", format!("<span class=\"mono\">{}</span>", esc(&file.path)));
    }
    // What runs may hold what is secret to the container.
    match container.run.len() {
        0 => {}
        1 => item("run", "1 step".into()),
        steps => item("run", format!("{steps} steps")),
    }
    if let Some(alias) = &container.publish {
        item("publishes", esc(alias).to_string());
    }
    out
}

fn from(source: &str) -> String {
    format!("<span class=\"from\">from {}</span>", esc(source))
}

/// The files of which `wanted` says that they belong under `title`.
fn files(tree: &Tree, title: &str, id: &str, wanted: impl Fn(Volume, &str) -> bool) -> String {
    let list: String = tree
        .iter()
        .filter(|(volume, path, _)| wanted(*volume, path.as_str()))
        .map(|(volume, path, planned)| file(volume, path.as_str(), planned))
        .collect();
    if list.is_empty() {
        return String::new();
    }
    format!("<h2 id=\"{id}\">{title}</h2>\n<div class=\"panel\">\n{list}</div>\n")
}

fn file(volume: Volume, path: &str, planned: &Planned) -> String {
    let head = format!(
        "<span class=\"path mono\">{volume}:{}</span> <span class=\"kind\">{} · {}</span>",
        esc(path),
        esc(&kind(planned)),
        esc(&planned.origin)
    );
    match shown(planned).filter(|content| !content.is_empty()) {
        // A newline directly after <pre> is left out by browsers, so that one of the content's own must not be the first.
        Some(content) => format!(
            "<details><summary>{head}</summary><pre>\n{}</pre></details>\n",
            esc(content)
        ),
        None => format!("<div class=\"plain\">{head}</div>\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        assert_eq!(
            esc("<a href='x' title=\"&\">\u{0}\u{202e}\u{1b}[m\n\té").to_string(),
            "&lt;a href=&#39;x&#39; title=&quot;&amp;&quot;&gt;\u{fffd}\u{fffd}\u{fffd}[m\n\té"
        );
    }
}
