//! A plan as one page for a browser: the network drawn, addresses, what each container is left with, units, files; of one
//! card or of a fleet.
//!
//! The page is complete in itself: no font and no picture from anywhere, one short script that copies addresses, and a
//! policy in its head that allows nothing else. Whatever comes from a farm goes through `Escaped`; nothing secret is
//! shown. Pure.

mod details;
mod network;

use std::fmt;
use std::net::IpAddr;

use base64::prelude::{Engine, BASE64_STANDARD};

use super::CardPlan;
use crate::edit::tree::Tree;
use crate::sha256::Sha256Sum;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The page about one card, or all cards of a fleet. `warnings` are the farm's, a sentence each.
#[must_use]
pub fn page(plans: &[CardPlan], trees: &[Tree], base: &str, warnings: &[String]) -> String {
    let names: Vec<&str> = plans.iter().map(|plan| plan.card.name.as_str()).collect();
    let title = names.join(", ");
    let (title, holds) = match plans.len() {
        1 => (
            esc(&title),
            "What the card will hold, and the addresses it will have",
        ),
        _ => (
            esc(&title),
            "What the cards will hold, and the addresses they will have",
        ),
    };
    // The browser runs the script only if it has this digest (CSP, level 3, section 2.3.1).
    let digest = BASE64_STANDARD.encode(Sha256Sum::of(SCRIPT.as_bytes()).0);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'sha256-{digest}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}: palmfarm plan</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n<p class=\"lead\">{holds}</p>\n"
    );
    out.push_str(&facts(plans, base));
    out.push_str("</header>\n<main>\n");
    out.push_str(&network::figure(plans));
    out.push_str(&notes(plans, warnings));
    out.push_str(&addresses(plans));
    for (plan, tree) in plans.iter().zip(trees) {
        out.push_str(&details::card(plan, tree, plans.len() > 1));
    }
    out.push_str(&format!(
        "</main>\n<footer>Made by palmfarm plan. Secrets are left out.</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    ));
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

/// An address that the script can copy; a link to it where `scheme` leads to something.
fn address(address: IpAddr, scheme: Option<&str>) -> String {
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    match scheme {
        Some(scheme) => format!(
            "<a class=\"mono address\" href=\"{}{host}/\">{address}</a>",
            esc(scheme)
        ),
        None => format!("<span class=\"mono address\">{address}</span>"),
    }
}

/// The first user of the card who can log in, if the name means nothing else in a URL.
fn login(plan: &CardPlan) -> Option<&str> {
    let user = plan.users.iter().find(|user| !user.ssh_keys.is_empty())?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    user.name.bytes().all(plain).then_some(user.name.as_str())
}

fn facts(plans: &[CardPlan], base: &str) -> String {
    let mut out = String::from("<dl class=\"facts\">\n");
    let mut fact = |what: &str, value: &str| {
        out.push_str(&format!("<div><dt>{what}</dt><dd>{}</dd></div>\n", esc(value)));
    };
    if let [plan] = plans {
        fact("Host", &plan.card.hostname);
        let network = &plan.firstboot.network;
        let (addressed, port) = (network.addressed(), network.port());
        if addressed == port {
            fact("Network", &port);
        } else {
            fact("Network", &format!("{addressed} over {port}"));
        }
    } else {
        fact("Cards", &plans.len().to_string());
    }
    fact("Base", base);
    let containers: usize = plans.iter().map(|plan| plan.firstboot.containers.len()).sum();
    fact("Containers", &containers.to_string());
    let users = plans
        .first()
        .map(|plan| plan.users.as_slice())
        .unwrap_or_default();
    let users: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    if !users.is_empty() {
        fact("Users", &users.join(", "));
    }
    let mut prefixes: Vec<String> = plans
        .iter()
        .flat_map(|plan| &plan.prefixes)
        .map(ToString::to_string)
        .collect();
    prefixes.sort();
    prefixes.dedup();
    for prefix in prefixes {
        fact("Prefix of the LAN", &prefix);
    }
    out.push_str("</dl>\n");
    out
}

fn notes(plans: &[CardPlan], warnings: &[String]) -> String {
    let notes = super::table::notes(plans);
    if notes.is_empty() && warnings.is_empty() {
        return String::new();
    }
    let mut out = String::from("<ul class=\"notes\" aria-label=\"Notes\">\n");
    for note in warnings.iter().chain(&notes) {
        out.push_str(&format!("<li>{}</li>\n", esc(note)));
    }
    out.push_str("</ul>\n");
    out
}

/// The table of addresses: each host first, then its containers in the order in which they are made.
fn addresses(plans: &[CardPlan]) -> String {
    let mut out = String::from(
        "<h2 id=\"addresses\">Addresses</h2>\n<div class=\"panel\">\n<table aria-labelledby=\"addresses\">\n\
         <thead><tr><th scope=\"col\">Name</th><th scope=\"col\">On</th><th scope=\"col\">MAC</th>\
         <th scope=\"col\">Addresses</th></tr></thead>\n",
    );
    for plan in plans {
        out.push_str("<tbody>\n");
        let mut row = |name: &str, on: &str, mac: &str, addresses: Vec<String>, unknown: Option<&str>| {
            let unknown = unknown.map(|why| format!("<span class=\"from\">{}</span>", esc(why)));
            let list: String = addresses
                .into_iter()
                .chain(unknown)
                .map(|one| format!("<li>{one}</li>"))
                .collect();
            out.push_str(&format!(
                "<tr><th scope=\"row\">{}</th><td class=\"on\">{}</td><td class=\"mono\">{}</td><td><ul>{list}</ul></td></tr>\n",
                esc(name),
                esc(on),
                esc(mac)
            ));
        };
        let mac = plan.card.mac.map(|mac| mac.to_string());
        let scheme = login(plan).map(|user| format!("ssh://{user}@"));
        row(
            &plan.card.hostname,
            &plan.firstboot.network.addressed(),
            mac.as_deref().unwrap_or("known at boot"),
            plan.host_addresses
                .iter()
                .map(|own| address(*own, scheme.as_deref()))
                .collect(),
            plan.host_unknown(),
        );
        for (container, stack) in plan.firstboot.containers.iter().zip(&plan.stacks) {
            let own = container.predicted.iter();
            row(
                &container.name,
                stack.parent().unwrap_or("no bridge"),
                &container.mac.to_string(),
                own.map(|own| address((*own).into(), Some("http://"))).collect(),
                plan.unknown(container, stack),
            );
        }
        out.push_str("</tbody>\n");
    }
    out.push_str("</table>\n</div>\n");
    out
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
