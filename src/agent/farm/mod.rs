//! The farm on the container daemon: server settings, pools, networks, profiles, images and containers. Each is read
//! first, and changed only if it is not as declared.
//!
//! The agent destroys only what its record shows that it made, and what nobody has used since. What palmfarm makes also
//! carries a mark, a `user.palmfarm` key or property; a copy carries it too, so the mark is for people. What somebody
//! else made is never changed, so a clash of names ends in a message.

mod address;
mod alias;
mod container;
mod image;
mod merge;
mod owned;
mod preseed;
mod publish;
mod script;
mod steps;
mod survey;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use palmfarm_protocol::firstboot::{Container, FirstBoot, Lxd};
use serde_json::{json, Value};

use crate::daemon::{encoded, Daemon};
use crate::record::{Keep, Kind, Record};
use crate::root::Root;
use crate::step::{Change, DaemonState, StepError, StepListener, StepResult};

pub(crate) use preseed::OF_MEMBERS;
pub(crate) use survey::{survey, unknown, AddressWait};

/// The key by which a container, profile or network says that palmfarm made it, and from what.
pub(crate) const MARK: &str = "user.palmfarm";

/// The key by which a container says how far it is.
pub(crate) const STATE: &str = "user.palmfarm.state";

/// The value of [`STATE`] once everything that was to run in a container has run.
pub(crate) const READY: &str = "ready";

/// The start of the value of [`STATE`] before that; an identifier follows that no other container has had.
pub(crate) const NEW: &str = "new";

/// The key that has the hardware address of a container's `eth0`.
pub(crate) const MAC: &str = "volatile.eth0.hwaddr";

/// What tells one installation of the daemon from another, in the record.
const CERTIFICATE: &str = "certificate";

/// How long work that was begun earlier may take: an image that is being unpacked onto an SD card.
const SETTLING: Duration = Duration::from_secs(1800);

/// What every step of a run works with.
pub(crate) struct Farm<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) lxd: &'a Lxd,
    pub(crate) root: &'a Root,
    /// The name of this card.
    card: &'a str,
    record: Record<'a>,
    /// What the current step has to say although it succeeds.
    notes: RefCell<Vec<String>>,
    /// The containers that this run has made.
    built: RefCell<BTreeSet<String>>,
}

impl<'a> Farm<'a> {
    pub(crate) fn new(daemon: &'a Daemon, lxd: &'a Lxd, root: &'a Root, card: &'a str) -> Self {
        Self {
            daemon,
            lxd,
            root,
            card,
            record: Record::open(
                root,
                if daemon.looks_only() {
                    Keep::InMemory
                } else {
                    Keep::OnCard
                },
            ),
            notes: RefCell::default(),
            built: RefCell::default(),
        }
    }

    /// The query by which a request is about this card's part of the cluster; empty without a cluster.
    fn here(&self) -> String {
        let card = self.lxd.cluster.as_ref().map(|_| self.card);
        card.map_or_else(String::new, |card| format!("?target={}", encoded(card)))
    }

    /// The card that makes what the cluster has once, if it is another one.
    fn maker(&self) -> Option<&'a str> {
        let first = self.lxd.cluster.as_ref().map(|cluster| cluster.first.as_str());
        first.filter(|first| *first != self.card)
    }

    /// The other card of the cluster that brings the image `alias`.
    fn bringer(&self, alias: &str) -> Option<&'a str> {
        let cluster = self.lxd.cluster.as_ref()?;
        let carried = || self.lxd.images.iter().any(|image| image.alias == alias);
        match cluster.published.get(alias) {
            Some(card) => Some(card),
            None if carried() => self.maker(),
            None => None,
        }
    }

    /// The other member of the cluster on which `instance` is.
    fn elsewhere<'v>(&self, instance: &'v Value) -> Option<&'v str> {
        self.lxd.cluster.as_ref()?;
        text(instance, &["location"]).filter(|location| *location != self.card)
    }

    /// Forget what the agent has made: the daemon's database is another one.
    pub(crate) fn forget(&self) -> Result<(), StepError> {
        self.record.clear()
    }

    /// A word that was never used before.
    fn nonce(&self) -> String {
        self.root.line("/proc/sys/kernel/random/uuid").unwrap_or_default()
    }

    fn note(&self, what: String) {
        self.notes.borrow_mut().push(what);
    }

    /// If the agent only looks, what would be changed first ends `done`: that is noted, and counts as changed.
    fn would(&self, done: StepResult) -> StepResult {
        match done {
            Err(error) if error.daemon == DaemonState::OnlyLooking => {
                self.note(error.message);
                Ok(Change::Changed)
            }
            done => done,
        }
    }

    /// Say which settings of `what` the agent left as somebody else has set them.
    fn note_left(&self, what: &str, left: &[String]) {
        if !left.is_empty() {
            self.note(format!(
                "somebody has changed {} of {what}, so that is left as it is; declare what {what} has, or set what the \
                 farm declares",
                left.join(", ")
            ));
        }
    }
}

/// Make what the cluster takes over when it is formed: server settings, pools, networks and profiles.
pub(crate) fn prepare(farm: &Farm<'_>) -> StepResult {
    farm.daemon.settle_down(farm.card, SETTLING)?;
    know_daemon(farm)?;
    preseed::apply(farm, &mut preseed::Unusable::default())
}

/// Make the farm of `document` true. If a step fails, only the steps that need it are skipped.
pub(crate) fn converge(farm: &Farm<'_>, document: &FirstBoot, listener: &mut dyn StepListener) {
    let mut steps = steps::Steps::new(farm, listener);
    let mut unusable = preseed::Unusable::default();
    // If it fails, `unusable` knows which containers cannot be made.
    steps.take("preseed", || {
        farm.daemon.settle_down(farm.card, SETTLING)?;
        know_daemon(farm)?;
        preseed::apply(farm, &mut unusable)
    });
    let mut failed: Vec<String> = Vec::new();
    let carried = farm.lxd.images.iter();
    for image in carried.filter(|image| farm.bringer(&image.alias).is_none()) {
        let name = format!("image {}", image.alias);
        if !steps.take(&name, || image::carry(farm, image)) {
            failed.push(image.alias.clone());
        }
    }
    for container in in_turn(farm, document) {
        let name = format!("container {}", container.name);
        let base = container::local_image(container);
        // A container that is finished needs its image no more.
        let no_image = base
            .filter(|alias| failed.iter().any(|failed| failed == alias))
            .filter(|_| !owned::is_finished(farm, &container.name));
        let made = if let Some(alias) = no_image {
            steps.skip(&name, &format!("its image {alias} could not be made"))
        } else if let Some(what) = unusable.needed_by(container) {
            steps.skip(&name, &format!("{what} could not be made"))
        } else {
            steps.take(&name, || container::make(farm, container))
        };
        if !made {
            hand_over(&farm.record, farm.root, &container.name);
        }
        let Some(alias) = &container.publish else { continue };
        let name = format!("publish {alias}");
        if !made || !steps.take(&name, || publish::publish(farm, container, alias)) {
            failed.push(alias.clone());
        }
    }
    name_undeclared(farm, document, &mut steps);
}

/// The containers, each after the one that publishes its image, and those last that may have to wait for other cards.
fn in_turn<'a>(farm: &Farm<'_>, document: &'a FirstBoot) -> Vec<&'a Container> {
    let (mut soon, mut later) = (Vec::new(), Vec::new());
    let mut late = BTreeSet::new();
    for container in &document.containers {
        let base = container::local_image(container);
        if base.is_some_and(|alias| late.contains(alias) || farm.bringer(alias).is_some()) {
            late.extend(container.publish.as_deref());
            later.push(container);
        } else {
            soon.push(container);
        }
    }
    soon.append(&mut later);
    soon
}

/// Forget what the record says if the daemon was installed anew since: nothing of it is there any more, and what has the
/// same names is not the agent's. In a cluster, all daemons show the same certificate, and whoever joins forgets before.
fn know_daemon(farm: &Farm<'_>) -> Result<(), StepError> {
    let now = if farm.lxd.cluster.is_some() {
        json!("cluster")
    } else {
        let now = farm.daemon.look("looking for the daemon's certificate", "/1.0")?;
        now.unwrap_or_default()["environment"]["certificate_fingerprint"].take()
    };
    let known = farm.record.get(Kind::Server, CERTIFICATE);
    if !(known.is_null() || now.is_null() || known == now) {
        farm.record.clear()?;
    }
    farm.record.put(Kind::Server, CERTIFICATE, now)
}

/// A run ends, and is about to say so: whoever reads the report may use what is unfinished.
pub(crate) fn hand_over_all(root: &Root) {
    let record = Record::open(root, Keep::OnCard);
    for name in record.names(Kind::Container) {
        hand_over(&record, root, &name);
    }
}

/// Hand the container `name` over to its owner if it is unfinished.
fn hand_over(record: &Record<'_>, root: &Root, name: &str) {
    if owned::is_unfinished(&record.get(Kind::Container, name)) {
        if let Err(error) = owned::hand_over(record, root, name) {
            say!("{error}");
        }
    }
}

/// Name what the agent made and what is no longer declared. It may be in use, so it stays.
fn name_undeclared(farm: &Farm<'_>, document: &FirstBoot, steps: &mut steps::Steps<'_>) {
    let preseed = &farm.lxd.preseed;
    let containers = || document.containers.iter();
    let published = containers().filter_map(|one| one.publish.as_ref());
    let images = farm.lxd.images.iter().map(|one| &one.alias).chain(published);
    let kinds: [(_, _, _, Vec<&String>); 4] = [
        (
            Kind::Container,
            "container",
            "delete --force",
            containers().map(|one| &one.name).collect(),
        ),
        (Kind::Alias, "image", "image delete", images.collect()),
        (
            Kind::Profile,
            "profile",
            "profile delete",
            preseed.profiles.iter().map(|one| &one.name).collect(),
        ),
        (
            Kind::Network,
            "network",
            "network delete",
            preseed.networks.iter().map(|one| &one.name).collect(),
        ),
    ];
    for (kind, what, delete, declared) in kinds {
        for name in farm.record.names(kind) {
            if declared.contains(&&name) || !owned::exists(farm, kind, &name) {
                continue;
            }
            steps.take(&format!("{what} {name}"), || {
                farm.note(format!(
                    "it is no longer declared, and has been left as it is; to delete it: lxc {delete} {name}"
                ));
                Ok(Change::Unchanged)
            });
        }
    }
}

/// The string under `keys` in `value`.
pub(crate) fn text<'a>(value: &'a Value, keys: &[&str]) -> Option<&'a str> {
    keys.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}
