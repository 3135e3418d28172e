//! Reads the section `containers:`, and the list of containers that a card has.

use super::fields::{self, named, number, parsed, section_or, truth};
use super::pasted::LeftOut;
use super::{host, lxd, mac, values};
use crate::farm::image_aliases::USUAL;
use crate::farm::node::{Entry, Node, Scalar, Value};
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::{Container, Run, RunWhat};
use palmfarm_protocol::names;

/// The highest number of a replica. A Pi runs some dozens of containers.
const MOST_REPLICAS: u32 = 999;

/// Seconds that one try of a step may take: installing packages over a home line onto a card takes minutes.
const TIMEOUT: u32 = 30 * 60;

/// The longest one try may take: a day.
const LONGEST: u32 = 24 * 60 * 60;

/// The most often a step is tried again.
const MOST_RETRIES: u32 = 100;

pub(super) fn containers(entry: &Entry, p: &mut Problems) -> Vec<Container> {
    fields::entries(entry, p)
        .into_iter()
        .map(|entry| container(entry, p))
        .collect()
}

/// The names of the containers that one card has; `None`: the card does not say.
pub(super) fn chosen(entry: &Entry, p: &mut Problems) -> Option<Vec<String>> {
    if matches!(entry.value.value, Value::Map(_)) {
        let message = "`containers` of a card takes a list of names, not a mapping";
        let hint = "declare containers at the top of the farm, and name here those that the card has";
        p.error(entry.value.span, message).hint(hint);
        return None;
    }
    if entry.value.scalar().is_some_and(Scalar::is_null) {
        p.error(entry.key_span, "`containers` of a card names nothing")
            .hint("write [] for a card without any, or leave the key out for all of them");
        return None;
    }
    // Keep a placeholder for an invalid name so that later errors use the right index.
    let name = named("a container name", names::container);
    let names = fields::items(entry, &name, p)
        .iter()
        .map(|item| name(item, "containers", p).unwrap_or_default())
        .collect();
    matches!(entry.value.value, Value::Seq(_)).then_some(names)
}

/// Every key of a container, one a line.
fn container(entry: &Entry, p: &mut Problems) -> Container {
    let name = fields::named_key(entry, "a container name", names::container, p);
    let what = format!("container {}", quoted(&name));
    section_or(entry, &what, ("image", &parsed(image)), p, |fields| {
        fields.explain(&ELSEWHERE);
        let left_out = LeftOut::of_container(fields);
        fields.require(
            "image",
            match left_out.as_ref().and_then(LeftOut::image) {
                Some(image) => format!("write `image: {image}`, which it was made from, or a newer one"),
                None => format!("write `image: \"images:{USUAL}\"`, or another image"),
            },
        );
        if let Some(left_out) = &left_out {
            let is_open = !fields.has("mac") && !fields.has("replicas");
            fields.p.push(left_out.note(&what, is_open, entry.key_span));
        }
        let profiles = fields.list("profiles", named("a profile name", names::object));
        Container {
            name,
            image: fields.value("image", parsed(image)).unwrap_or_default(),
            profiles: fields.has("profiles").then_some(profiles),
            mac: fields.value("mac", mac),
            config: match fields.read("config", fields::texts).unwrap_or_default() {
                config if left_out.is_some() => LeftOut::stripped(config),
                config => config,
            },
            devices: fields.read("devices", lxd::devices).unwrap_or_default(),
            files: fields.read("files", host::files).unwrap_or_default(),
            run: fields.read("run", runs).unwrap_or_default(),
            publish: fields.value("publish", named("an image alias", names::object)),
            replicas: fields.value("replicas", replicas),
            nesting: fields.value("nesting", truth).unwrap_or_default(),
            autostart: fields.value("autostart", truth),
            on: fields.value("on", named("a card name", names::hostname)),
            spread: fields.value("spread", truth).unwrap_or_default(),
        }
    })
}

/// Keys that people look for in a container.
const ELSEWHERE: [(&str, &str); 6] = [
    ("cpu", "LXD calls it `config: {limits.cpu: \"1\"}`"),
    (
        "environment",
        "LXD has one key for each variable: `config: {environment.NAME: value}`",
    ),
    ("memory", "LXD calls it `config: {limits.memory: 128MB}`"),
    (
        "ports",
        "a container on the LAN has an address of its own, so no port is forwarded to it",
    ),
    (
        "privileged",
        "LXD calls it `config: {security.privileged: \"true\"}`",
    ),
    (
        "volumes",
        "a folder of the Pi is a device: `devices: {data: {type: disk, source: /srv/data, path: /data}}`",
    ),
];

/// `ALIAS` or `REMOTE:ALIAS`; an image server's aliases have slashes (`alpine/3.23`).
fn image(text: &str) -> Result<String, String> {
    let bad = |why: String| format!("{} is not an image: {why}", quoted(text));
    if let Some((remote, alias)) = text.split_once(':') {
        names::object(remote).map_err(|why| bad(format!("of its remote, {why}")))?;
        if alias.len() > 255 {
            return Err(bad("its alias is longer than 255 bytes".into()));
        }
        return alias
            .split('/')
            .try_for_each(|part| names::object(part).map_err(|why| bad(format!("of its alias, {why}"))))
            .map(|()| text.into());
    }
    if text.contains('/') {
        return Err(bad(format!(
            "an alias with a slash is one of an image server, as images:{USUAL}"
        )));
    }
    names::object(text).map_err(bad)?;
    Ok(text.into())
}

fn replicas(node: &Node, key: &str, p: &mut Problems) -> Option<(u32, u32)> {
    if let Some(number) = node.scalar().and_then(Scalar::number) {
        let meant = (1..=u64::from(MOST_REPLICAS)).contains(&number);
        p.error(node.span, "`replicas` takes the first and the last number")
            .maybe_hint(meant.then(|| format!("write 1..{number}")));
        return None;
    }
    parsed(|text| values::range(text, MOST_REPLICAS))(node, key, p)
}

fn runs(entry: &Entry, p: &mut Problems) -> Vec<Run> {
    let items = fields::items(entry, &command, p);
    items.iter().map(|item| run(item, p)).collect()
}

/// An invalid step is an empty command, so that the others keep their places in the list.
fn run(node: &Node, p: &mut Problems) -> Run {
    let mut run = Run {
        what: RunWhat::Command(String::new()),
        retries: 0,
        timeout_seconds: TIMEOUT,
    };
    let what = if node.scalar().is_some() {
        command(node, "run", p).map(RunWhat::Command)
    } else {
        fields::mapping(node, node.span, "a step of `run`", p, |fields| {
            let (script, line) = (fields.take("script"), fields.take("command"));
            run.retries = fields.value("retries", number(0, MOST_RETRIES)).unwrap_or(0);
            run.timeout_seconds = fields.value("timeout", timeout).unwrap_or(TIMEOUT);
            match (script, line) {
                (Some(script), None) => fields::line(&script.value, "script", fields.p).map(RunWhat::Script),
                (None, Some(line)) => command(&line.value, "run", fields.p).map(RunWhat::Command),
                (Some(_), Some(line)) => {
                    let message = "a step runs a script or a command, not both";
                    fields.p.error(line.key_span, message);
                    None
                }
                (None, None) => {
                    if !fields.broken && !fields.has_unknown() {
                        let message = "a step of `run` has neither `script` nor `command`";
                        fields.p.error(node.span, message);
                    }
                    None
                }
            }
        })
    };
    run.what = what.unwrap_or(run.what);
    run
}

fn command(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let text = fields::text(node, key, p)?;
    if text.trim().is_empty() {
        p.error(node.span, "the command is empty");
        return None;
    }
    Some(text)
}

fn timeout(node: &Node, key: &str, p: &mut Problems) -> Option<u32> {
    let seconds = parsed(values::duration)(node, key, p)?;
    if !(1..=LONGEST).contains(&seconds) {
        let message = format!("`timeout` is {seconds} s, but must be from 1 s to {LONGEST} s");
        p.error(node.span, message);
        return None;
    }
    Some(seconds)
}
