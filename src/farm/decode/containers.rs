//! `containers:`.

use super::fields::{self, Fields};
use super::{host, lxd, mac, values};
use crate::farm::node::{Entry, Node, Scalar, Value};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{Container, Run, RunWhat};
use palmfarm_protocol::names;

/// The highest number of a replica. A Pi runs some dozens of containers.
const MOST_REPLICAS: u32 = 999;

/// Seconds that one try of a step has: installing packages over a home line onto a card takes minutes.
const TIMEOUT: u32 = 30 * 60;

/// The longest one try may take: a day.
const LONGEST: u32 = 24 * 60 * 60;

/// The most often a step is tried again.
const MOST_RETRIES: u64 = 100;

pub(super) fn containers(entry: &Entry, p: &mut Problems) -> Vec<Container> {
    fields::entries(entry, p)
        .into_iter()
        .map(|entry| container(entry, p))
        .collect()
}

/// Those that one card has, by name; `None`: it says nothing of them.
pub(super) fn chosen(entry: &Entry, p: &mut Problems) -> Option<Vec<String>> {
    if matches!(entry.value.value, Value::Map(_)) {
        let message = "`containers` of a card takes a list of names, not a mapping";
        p.push(
            Problem::error(entry.value.span, message)
                .hint("declare containers at the top of the farm, and name here those that the card has"),
        );
        return None;
    }
    if entry.value.scalar().is_some_and(Scalar::is_null) {
        let problem = Problem::error(entry.key_span, "`containers` of a card names nothing");
        p.push(problem.hint("write [] for a card without any, or leave the key out for all of them"));
        return None;
    }
    let items = fields::items(entry, p).iter();
    // What is no name keeps its place, so that what is said of the others points at them.
    let names = items
        .map(|item| {
            fields::named(item, "containers", "name of a container", names::container, p).unwrap_or_default()
        })
        .collect();
    matches!(entry.value.value, Value::Seq(_)).then_some(names)
}

fn container(entry: &Entry, p: &mut Problems) -> Container {
    let name = fields::named_key(entry, "name of a container", names::container, p);
    let what = format!("container {}", quoted(&name));
    let mut fields = Fields::open(&entry.value, entry.key_span, what, p);
    let image = fields
        .need("image")
        .and_then(|entry| fields::parsed(&entry.value, "image", p, image));
    let profiles = fields.take("profiles").map(|entry| {
        fields::items(entry, p)
            .iter()
            .filter_map(|item| fields::named(item, "profiles", "name of a profile", names::object, p))
            .collect()
    });
    let container = Container {
        name,
        image: image.unwrap_or_default(),
        profiles,
        mac: fields.take("mac").and_then(|entry| mac(&entry.value, p)),
        config: fields
            .take("config")
            .map(|entry| fields::texts(entry, p))
            .unwrap_or_default(),
        devices: fields
            .take("devices")
            .map(|entry| lxd::devices(entry, p))
            .unwrap_or_default(),
        files: fields
            .take("files")
            .map(|entry| host::files(entry, p))
            .unwrap_or_default(),
        run: fields.take("run").map(|entry| runs(entry, p)).unwrap_or_default(),
        publish: fields
            .take("publish")
            .and_then(|entry| fields::named(&entry.value, "publish", "image alias", names::object, p)),
        replicas: fields
            .take("replicas")
            .and_then(|entry| replicas(&entry.value, p)),
        nesting: fields
            .take("nesting")
            .and_then(|entry| fields::truth(&entry.value, "nesting", p))
            .unwrap_or_default(),
    };
    fields.close(p);
    container
}

/// `ALIAS` or `REMOTE:ALIAS`; an image server's aliases have slashes (`alpine/3.20`).
fn image(text: &str) -> Result<String, String> {
    let bad = |why: String| format!("{} is no image: {why}", quoted(text));
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
        return Err(bad(
            "an alias with a slash is one of an image server, as images:alpine/3.20".into(),
        ));
    }
    names::object(text).map_err(bad)?;
    Ok(text.into())
}

fn replicas(node: &Node, p: &mut Problems) -> Option<(u32, u32)> {
    let bare = node.scalar().and_then(crate::farm::node::Scalar::number);
    if let Some(number) = bare {
        let problem = Problem::error(node.span, "`replicas` takes the first and the last number");
        p.push(problem.hint(format!("write 1..{number}")));
        return None;
    }
    fields::parsed(node, "replicas", p, |text| values::range(text, MOST_REPLICAS))
}

fn runs(entry: &Entry, p: &mut Problems) -> Vec<Run> {
    fields::items(entry, p).iter().map(|item| run(item, p)).collect()
}

/// A step that is wrong is an empty command, so that the others keep their places in the list.
fn run(node: &Node, p: &mut Problems) -> Run {
    let nothing = || RunWhat::Command(String::new());
    if node.scalar().is_some() {
        return Run {
            what: command(node, p).map_or_else(nothing, RunWhat::Command),
            retries: 0,
            timeout_seconds: TIMEOUT,
        };
    }
    let mut fields = Fields::open(node, node.span, "a step of `run`", p);
    let script = fields.take("script");
    let line = fields.take("command");
    let retries = fields
        .take("retries")
        .and_then(|entry| fields::number(&entry.value, "retries", 0, MOST_RETRIES, p))
        .and_then(|number| u32::try_from(number).ok());
    let timeout = fields.take("timeout").and_then(|entry| timeout(&entry.value, p));
    let broken = fields.broken();
    fields.close(p);
    let what = match (script, line) {
        (Some(script), None) => fields::line(&script.value, "script", p).map(RunWhat::Script),
        (None, Some(line)) => command(&line.value, p).map(RunWhat::Command),
        (None, None) if broken => None,
        (Some(_), Some(line)) => {
            p.error(line.key_span, "a step runs a script or a command, not both");
            None
        }
        (None, None) => {
            p.error(node.span, "a step of `run` has neither `script` nor `command`");
            None
        }
    };
    Run {
        what: what.unwrap_or_else(nothing),
        retries: retries.unwrap_or_default(),
        timeout_seconds: timeout.unwrap_or(TIMEOUT),
    }
}

fn command(node: &Node, p: &mut Problems) -> Option<String> {
    let text = fields::text(node, "run", p)?;
    if text.trim().is_empty() {
        p.error(node.span, "the command is empty");
        return None;
    }
    Some(text)
}

fn timeout(node: &Node, p: &mut Problems) -> Option<u32> {
    let seconds = fields::parsed(node, "timeout", p, values::duration)?;
    if !(1..=LONGEST).contains(&seconds) {
        p.error(
            node.span,
            format!("`timeout` is {seconds} s, and 1 s to {LONGEST} s is what it may be"),
        );
        return None;
    }
    Some(seconds)
}
