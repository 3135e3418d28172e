//! Where images come from: carried on the card, published by a container, or from an image server; and that no
//! container waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{cards, steps, Judged, MOST_IMAGES};
use crate::farm::image_aliases::USUAL;
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{Container, Flavour, Lxd};

pub(super) fn check(judged: &Judged<'_>, p: &mut Problems) {
    let count = judged.farm.images.len();
    if count > MOST_IMAGES {
        let message = format!("these are {count} images, and {MOST_IMAGES} is the most that a card carries");
        p.error(judged.key(steps!["images"]), message)
            .hint("containers can have one image in common, and the rest from an image server");
    }
    let publishers = publishers(judged, p);
    let publish = |container: &Container| judged.knows(steps!["containers", &container.name, "publish"]);
    let knows_aliases = judged.knows(steps!["images"])
        && judged.knows_keys(steps!["containers"])
        && judged.farm.containers.iter().all(publish);
    let knows_servers = judged.knows(steps!["lxd", "remotes"]) && judged.knows(steps!["lxd", "flavour"]);
    for container in &judged.farm.containers {
        if container.image.is_empty() {
            continue;
        }
        match container.image.split_once(':') {
            Some((remote, _)) if knows_servers => known_remote(judged, container, remote, p),
            None if knows_aliases => known_alias(judged, container, &publishers, p),
            _ => {}
        }
    }
    cycles(judged, &publishers, p);
    if judged.knows(steps!["cards"]) {
        cards::images(judged, &publishers, p);
    }
}

/// Image servers that the daemons know by themselves (`lxc remote list` and `incus remote list`).
fn remotes(lxd: &Lxd) -> Vec<&str> {
    let built_in: &[&str] = match lxd.flavour {
        Flavour::Lxd => &[
            "images",
            "ubuntu",
            "ubuntu-daily",
            "ubuntu-minimal",
            "ubuntu-minimal-daily",
        ],
        Flavour::Incus => &["images"],
    };
    let own = lxd.remotes.keys().map(String::as_str);
    own.chain(built_in.iter().copied()).collect()
}

/// The container that publishes each alias.
fn publishers<'f>(judged: &Judged<'f>, p: &mut Problems) -> BTreeMap<&'f str, &'f Container> {
    let mut publishers: BTreeMap<&str, &Container> = BTreeMap::new();
    for container in &judged.farm.containers {
        let Some(alias) = container.publish.as_deref() else {
            continue;
        };
        let at = judged.at(steps!["containers", &container.name, "publish"]);
        if judged.farm.images.contains_key(alias) {
            let message = format!("{} is the alias of an image that the card carries", quoted(alias));
            p.error(at, message).hint("publish under another alias");
        }
        match publishers.get(alias) {
            Some(other) => {
                p.error(
                    at,
                    format!(
                        "container {} publishes {} already",
                        quoted(&other.name),
                        quoted(alias)
                    ),
                );
            }
            None => {
                publishers.insert(alias, container);
            }
        }
    }
    publishers
}

fn known_remote(judged: &Judged<'_>, container: &Container, remote: &str, p: &mut Problems) {
    let Some(lxd) = &judged.farm.lxd else { return };
    let known = remotes(lxd);
    if known.contains(&remote) {
        has_no_armhf(judged, container, lxd, p);
        return;
    }
    let at = judged.at(steps!["containers", &container.name, "image"]);
    let problem = Problem::error(at, format!("there is no image server {}", quoted(remote)));
    let hint = p.did_you_mean(remote, known);
    p.push(problem.hint(hint.unwrap_or_else(|| "image servers are declared under `lxd: remotes:`".into())));
}

/// LXD's own server has no images for armhf (canonical/lxd, issue 12088), where the first boot would learn of it.
fn has_no_armhf(judged: &Judged<'_>, container: &Container, lxd: &Lxd, p: &mut Problems) {
    let own = lxd.flavour == Flavour::Lxd && !lxd.remotes.contains_key("images");
    let from_there = container.image.starts_with("images:");
    if own && from_there && judged.base.ends_with("-armhf") {
        let at = judged.at(steps!["containers", &container.name, "image"]);
        p.warning(
            at,
            "images.lxd.canonical.com has been reported to have no images for armhf",
        ).hint(
            format!(
                "carry the image on the card: `palmfarm image fetch {USUAL} --arch armhf` gets one, and a root filesystem as a \
                 tar will do; or name another server under `lxd: remotes:`"
            ),
        );
    }
}

fn known_alias(
    judged: &Judged<'_>,
    container: &Container,
    publishers: &BTreeMap<&str, &Container>,
    p: &mut Problems,
) {
    let (alias, images) = (container.image.as_str(), &judged.farm.images);
    if images.contains_key(alias) || publishers.contains_key(alias) {
        return;
    }
    let at = judged.at(steps!["containers", &container.name, "image"]);
    let message = format!(
        "{} is neither carried on the card nor published by a container",
        quoted(alias)
    );
    let known = images
        .keys()
        .map(String::as_str)
        .chain(publishers.keys().copied());
    let hint = p.did_you_mean(alias, known);
    p.error(at, message).hint(hint.unwrap_or_else(|| {
        format!(
            "an image server's alias has the server in front (images:{USUAL}), a carried image stands under `images:`"
        )
    }));
}

/// A container whose image can never be: it would have to be there before it is made. Each circle is told once, at
/// the container of it that is declared first.
fn cycles(judged: &Judged<'_>, publishers: &BTreeMap<&str, &Container>, p: &mut Problems) {
    let maker = |container: &Container| publishers.get(container.image.as_str()).copied();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in &judged.farm.containers {
        let mut way: Vec<&str> = Vec::new();
        let mut next = Some(start);
        while let Some(container) = next {
            if done.contains(&container.name.as_str()) {
                break;
            }
            if let Some(at) = way.iter().position(|name| *name == container.name) {
                let circle = way.get(at..).unwrap_or_default().join(" from ");
                let message = match way.len().saturating_sub(at) {
                    1 => format!(
                        "{} is made from the image that it publishes itself",
                        quoted(&container.name)
                    ),
                    _ => format!(
                        "these containers wait for each other: {circle} from {}",
                        container.name
                    ),
                };
                p.error(judged.at(steps!["containers", &container.name, "image"]), message);
                break;
            }
            way.push(&container.name);
            next = maker(container);
        }
        done.extend(way);
    }
}
