//! What must fit together: names taken once, references that lead somewhere, subnets that do not clash. Each value
//! by itself has been judged by `decode`. Pure; what lies in files is judged by whoever can read them.

mod accounts;
mod cards;
mod cluster;
mod containers;
mod host;
mod images;
mod lxd;
mod network;
mod subnet;
mod users;

use crate::farm::lxd_keys::Daemon;
use crate::farm::node::{Node, Span, Step};
use crate::farm::problem::Problems;
use crate::farm::understood::Understood;
use crate::farm::Farm;

/// More containers of one farm than any Pi runs; beyond it nothing is expanded.
pub(crate) const MOST_CONTAINERS: usize = 1000;

/// The largest fleet.
pub(crate) const MOST_CARDS: usize = 1000;

/// The largest cluster. LXD's documentation speaks of up to 50 members.
pub(crate) const MOST_MEMBERS: usize = 50;

/// More images than any card has room for: each is looked through and hashed while a card is made.
pub(crate) const MOST_IMAGES: usize = 100;

/// Judge `farm`, which was read from the document of `read`. `base` is the name of Ubuntu's image that its base is, or is
/// like; it is empty if nobody knows that.
pub(super) fn farm(farm: &Farm, base: &str, read: &Understood<'_>, p: &mut Problems) {
    let judged = &Judged {
        farm,
        base,
        document: read.document(),
        read,
    };
    host::check(judged, p);
    users::check(judged, p);
    network::check(judged, p);
    let mut wrong = Problems::default();
    lxd::check(judged, &mut wrong);
    // What a container ends up with follows from devices, which are judged here first.
    let judged = &Judged {
        read: &read.without(&wrong),
        ..*judged
    };
    p.append(wrong);
    if farm.cards.len() > MOST_CARDS {
        let at = judged.key(steps!["cards"]);
        p.error(
            at,
            format!(
                "these are {} cards, and {MOST_CARDS} is the most",
                farm.cards.len()
            ),
        );
        return;
    }
    let mut count = 0_usize;
    for container in &farm.containers {
        count = count.saturating_add(container.count());
        if count > MOST_CONTAINERS {
            let at = judged.key(steps!["containers", &container.name]);
            p.error(
                at,
                format!("with these there are more than {MOST_CONTAINERS} containers"),
            );
            return;
        }
    }
    cards::check(judged, p);
    cluster::check(judged, p);
    containers::check(judged, p);
    images::check(judged, p);
}

/// A farm and where its parts stand.
struct Judged<'a> {
    farm: &'a Farm,
    /// The name of Ubuntu's image that the base is like; empty if that is not known.
    base: &'a str,
    document: &'a Node,
    read: &'a Understood<'a>,
}

impl Judged<'_> {
    /// Where a person looks for what `path` leads to.
    fn at(&self, path: &[Step<'_>]) -> Span {
        self.document.locate(path)
    }

    /// Where the key stands that `path` ends with.
    fn key(&self, path: &[Step<'_>]) -> Span {
        let entry = match path.split_last() {
            Some((Step::Key(key), map)) => self.document.get(map).and_then(|map| map.entry(key)),
            _ => None,
        };
        entry.map_or_else(|| self.at(path), |entry| entry.key_span)
    }

    /// Whether the farm has something at `path`.
    fn has(&self, path: &[Step<'_>]) -> bool {
        self.document.get(path).is_some()
    }

    /// Whether what `path` leads to was read as it is written: else nothing follows from it.
    fn knows(&self, path: &[Step<'_>]) -> bool {
        self.read.is_known(path)
    }

    /// Whether the keys of the mapping at `path` were read as they are written.
    fn knows_keys(&self, path: &[Step<'_>]) -> bool {
        self.read.has_known_keys(path)
    }

    /// Year and month of the Ubuntu that the base is, if that is known.
    fn release(&self) -> Option<(u8, u8)> {
        let version = self.base.strip_prefix("ubuntu-")?.get(..5)?;
        let (year, month) = version.split_once('.')?;
        Some((year.parse().ok()?, month.parse().ok()?))
    }

    /// The daemon that the containers run on, if the farm tells.
    fn daemon(&self) -> Option<Daemon> {
        let is_known = self.knows(steps!["lxd", "flavour"]) && self.knows(steps!["lxd", "channel"]);
        match &self.farm.lxd {
            _ if !is_known => None,
            Some(lxd) => Daemon::of(self.base, lxd),
            None => Daemon::of_base(self.base),
        }
    }

    /// Whether every interface that the farm's cards have was read as it is written.
    fn knows_interfaces(&self) -> bool {
        self.knows(steps!["network"]) && self.knows(steps!["cards"]) && self.knows(steps!["lxd", "nat"])
    }
}

/// The keys of a path down the document.
macro_rules! steps {
    ($($step:expr),+ $(,)?) => {
        &[$($crate::farm::node::Step::from($step)),+]
    };
}
use steps;
