//! How long the first-boot document becomes: counted from the farm before any of it is copied, because what replicas run
//! is in the document once for each of them. Nothing is counted too low but by what a card adds of its own – resolvers,
//! prefixes – so whoever writes the document looks at its true length once more.

use std::collections::BTreeMap;

use super::{steps, Judged};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{Container, Farm, ResolvedCard, RunWhat};
use palmfarm_protocol::firstboot::LARGEST;

/// What a value costs beside itself, in bytes: a colon or comma, spaces, the end of the line, the deepest indentation.
const VALUE: u64 = 24;

/// What a container costs before anything is declared of it: its keys, braces and brackets, a digest, its MAC.
const CONTAINER: u64 = 640;

/// What a step costs beside its label and script.
const STEP: u64 = 160;

/// What a pushed file costs beside its paths: the folder of such files on the card, a digest.
const FILE: u64 = 200;

/// What a profile or an image costs beside what is declared of it; an image has a fingerprint and lies in a folder.
const OBJECT: u64 = 320;

/// What a document without anything declared has, and all that palmfarm adds: the profiles, the pool, the image servers.
const EMPTY: u64 = 8192;

pub(super) fn check(judged: &Judged<'_>, scripts: &BTreeMap<String, u64>, p: &mut Problems) {
    let farm = judged.farm;
    let costs = costs(farm, scripts);
    let cards = farm.resolved_cards().into_iter();
    let fullest = cards.map(|card| (on(&card, &costs), card));
    let Some((containers, card)) = fullest.max_by_key(|(containers, _)| *containers) else {
        return;
    };
    let total = containers.saturating_add(shared(farm));
    if total <= LARGEST {
        return;
    }
    let about = format!(
        "the first-boot document would have about {total} bytes, and the agent reads {LARGEST} at most"
    );
    let here = costs.iter().filter(|(container, _)| card.has(container));
    let largest = here.max_by_key(|(_, cost)| *cost);
    let Some((container, _)) = largest.filter(|(_, cost)| *cost >= total / 4) else {
        let hint = "put what is long into files of an image or an overlay";
        p.push(Problem::error(judged.key(steps!["containers"]), about).hint(hint));
        return;
    };
    let (name, count, each) = (
        quoted(&container.name),
        container.count(),
        one(container, scripts),
    );
    let (message, hint) = if count > 1 {
        (
            format!("{about}; the replicas of {name} are {count} times {each} of them"),
            "publish a container that has run it all, and make the replicas from its alias; or push what is long \
             with `files`",
        )
    } else {
        (
            format!("{about}; {name} is {each} of them"),
            "push what is long with `files` and run it from there, or put it into an image",
        )
    };
    let at = judged.key(steps!["containers", &container.name]);
    p.push(Problem::error(at, message).hint(hint));
}

/// About how many bytes the first-boot document of `card` of `farm` has. `scripts` has the [`json_length`] of each
/// script by its path; one that is not there counts as empty.
#[must_use]
pub fn bytes(farm: &Farm, card: &ResolvedCard, scripts: &BTreeMap<String, u64>) -> u64 {
    on(card, &costs(farm, scripts)).saturating_add(shared(farm))
}

/// How many bytes `text` has as a string of JSON, with its quotes (RFC 8259, section 7).
#[must_use]
pub fn json_length(text: &str) -> u64 {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    });
    sum(escaped).saturating_add(2)
}

/// What each container of `farm` costs, with all its replicas.
fn costs<'f>(farm: &'f Farm, scripts: &BTreeMap<String, u64>) -> Vec<(&'f Container, u64)> {
    let all = farm.containers.iter();
    all.map(|container| (container, times(one(container, scripts), container.count())))
        .collect()
}

/// What those cost that `card` has.
fn on(card: &ResolvedCard, costs: &[(&Container, u64)]) -> u64 {
    let here = costs.iter().filter(|(container, _)| card.has(container));
    sum(here.map(|(_, cost)| *cost))
}

/// What one container costs.
fn one(container: &Container, scripts: &BTreeMap<String, u64>) -> u64 {
    let steps = container.run.iter().map(|run| {
        let texts = match &run.what {
            // A line is its own label.
            RunWhat::Command(line) => json_length(line).saturating_mul(2),
            RunWhat::Script(path) => {
                json_length(path).saturating_add(scripts.get(path).copied().unwrap_or(0))
            }
        };
        texts.saturating_add(STEP)
    });
    let files = container.files.keys().map(|path| {
        let paths = json_length(path).saturating_mul(2);
        sum([paths, json_length(&container.name), FILE])
    });
    sum([
        CONTAINER,
        json_length(&container.name),
        json_length(&container.image),
        list(container.profiles.iter().flatten()),
        list(&container.publish),
        map(&container.config),
        devices(&container.devices),
        sum(files),
        sum(steps),
    ])
}

/// What is in the document once, however many containers there are.
fn shared(farm: &Farm) -> u64 {
    let profiles = farm.lxd.iter().flat_map(|lxd| &lxd.profiles);
    let profiles = profiles.map(|(name, profile)| {
        sum([
            OBJECT,
            json_length(name),
            json_length(&profile.description),
            map(&profile.config),
            devices(&profile.devices),
        ])
    });
    let images = farm
        .images
        .keys()
        .map(|alias| json_length(alias).saturating_mul(3).saturating_add(OBJECT));
    sum([
        EMPTY,
        list(&farm.packages),
        list(farm.users.iter().map(|user| &user.name)),
        sum(farm.lxd.iter().map(|lxd| map(&lxd.remotes))),
        sum(profiles),
        sum(images),
    ])
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> u64 {
    sum(texts
        .into_iter()
        .map(|text| json_length(text).saturating_add(VALUE)))
}

fn map(map: &BTreeMap<String, String>) -> u64 {
    sum(map
        .iter()
        .map(|(key, value)| sum([json_length(key), json_length(value), VALUE])))
}

fn devices(devices: &BTreeMap<String, BTreeMap<String, String>>) -> u64 {
    sum(devices
        .iter()
        .map(|(name, keys)| sum([json_length(name), 2 * VALUE, map(keys)])))
}

fn times(bytes: u64, count: usize) -> u64 {
    bytes.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX))
}

fn sum(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}
