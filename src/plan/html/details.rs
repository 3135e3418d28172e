//! The part of the page about one card: what each container is left with once its profiles are stacked, units, files.

use crate::edit::tree::{Planned, Tree, Volume};
use crate::farm::secret;
use crate::farm::stack::Stacked;
use crate::plan::show::{kind, shown};
use crate::plan::CardPlan;
use palmfarm_protocol::firstboot::{Container, ImageRef};

use super::esc;

/// The folder whose files say what systemd does.
const UNITS: &str = "/etc/systemd/";

/// Everything about `plan`; under its name if it is one of several.
pub(super) fn card(plan: &CardPlan, tree: &Tree, is_one_of_several: bool) -> String {
    let is_unit = |volume: Volume, path: &str| volume == Volume::Root && path.starts_with(UNITS);
    let parts = [
        containers(plan),
        files(tree, "Units", is_unit),
        files(tree, "Files", |volume, path| !is_unit(volume, path)),
    ]
    .concat();
    if !is_one_of_several {
        return parts;
    }
    format!(
        "<details class=\"card\"><summary><h2>{}</h2></summary>\n{parts}</details>\n",
        esc(&plan.card.name)
    )
}

/// Containers that follow each other and differ in nothing but their name, as replicas do, share a panel.
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
    let mut out = String::from("<h2>Containers</h2>\n<div class=\"stacks\">\n");
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
fn files(tree: &Tree, title: &str, wanted: impl Fn(Volume, &str) -> bool) -> String {
    let list: String = tree
        .iter()
        .filter(|(volume, path, _)| wanted(*volume, path.as_str()))
        .map(|(volume, path, planned)| file(volume, path.as_str(), planned))
        .collect();
    if list.is_empty() {
        return String::new();
    }
    format!("<h2>{title}</h2>\n<div class=\"panel\">\n{list}</div>\n")
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
