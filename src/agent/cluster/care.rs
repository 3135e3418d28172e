//! `palmfarm-agent cluster care`: what a cluster needs while nobody looks, once a minute on every card. Only the card whose
//! daemon leads changes anything: in each round it removes what is left of at most one member, and lets the cards that wait
//! join one after the other.
//!
//! It removes the entry of a member only if that card was flashed again: it counts as offline, and who listens at its
//! address has the key of the card, but is in no cluster. Only that card has that key, and no daemon of a cluster shows the
//! card's own certificate, so nothing that the cluster knows of it is there any more.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::cluster::Member;
use palmfarm_protocol::firstboot::FirstBoot;

use super::probe::{self, Listener};
use super::{members, Site, PATIENCE};
use crate::daemon::{encoded, find_socket, Daemon};
use crate::farm::Farm;
use crate::journal::{Journal, Stage};
use crate::program::query;
use crate::root::Root;
use crate::run::ExitStatus;
use crate::step::StepError;
use crate::{lock, report};

/// The member that seemed to be flashed again in the last round.
const SEEN: &str = "/run/palmfarm/flashed-again";

/// The pause between two looks at a port that is to be closed.
const CLOSED: Duration = Duration::from_secs(3);

/// The pause between two looks whether a card has joined.
const LOOK: Duration = Duration::from_secs(1);

/// How long a member that is listed for the first time may still be at work with its join.
const SETTLED: Duration = Duration::from_secs(5);

/// The leader writes a file that begins so and ends in a card's name when it has waited for that card in vain.
const IN_VAIN: &str = "/run/palmfarm/waited-for-";

/// How long after that it is not waited for again: it may join at any time, and each further wait would keep the leader
/// from its other work.
const LATER: Duration = Duration::from_secs(1200);

/// How long after a run that did not bring the card into the cluster the next one begins.
const AGAIN: Duration = Duration::from_secs(300);

/// One round.
pub fn care(root: &Root, document: &FirstBoot) -> ExitStatus {
    let Some(lxd) = document.lxd.as_ref().filter(|lxd| lxd.cluster.is_some()) else {
        say!("palmfarm-agent: the farm declares no cluster");
        return ExitStatus::Refused;
    };
    if Journal::open(root).unwrap_or_default().stage() != Stage::Member {
        start_run(root);
        return ExitStatus::Done;
    }
    let done = find_socket(root.dir(), lxd.flavour)
        .ok_or_else(|| StepError::new("there is no container daemon"))
        .and_then(|socket| {
            let daemon = Daemon::connect(&socket)?;
            let farm = Farm::new(&daemon, lxd, root, &document.card);
            let site = Site::new(&farm, &document.card)?;
            let done = tend(&site);
            // A run that is at work writes the report itself.
            if let (Ok(Some(_lock)), Some(cluster)) = (lock::take(root), members::look(&farm, root)) {
                report::set_cluster(root, document, &cluster);
            }
            done
        });
    match done {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            say!("palmfarm-agent: {error}");
            ExitStatus::Failed
        }
    }
}

/// Begin a run if the last one ended some time ago.
fn start_run(root: &Root) {
    if !is_younger(root, &format!("{}.json", report::PATH), AGAIN) && !lock::is_held(root) {
        query(
            "systemctl",
            &["start", "--no-block", "palmfarm-firstboot.service"],
        );
    }
}

/// Whether the file `path` was written less than `age` ago.
fn is_younger(root: &Root, path: &str, age: Duration) -> bool {
    let written = fs::metadata(root.at(path)).and_then(|about| about.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|now| now < age))
}

fn tend(site: &Site<'_>) -> Result<(), StepError> {
    let all = members::list(site.daemon)?;
    if !members::leads(&all, &site.me.name) {
        return Ok(());
    }
    for member in site.others() {
        let removed = match members::find(&all, &member.name) {
            None => clear(site, member)?,
            Some(one) => one["status"] != "Online" && let_return(site, member)?,
        };
        if removed {
            break;
        }
    }
    admit(site)
}

/// Let the cards that wait for it join, one after the other: if two join a busy cluster at once, both may hang, and the
/// leader with them (seen with LXD 5.0.2).
fn admit(site: &Site<'_>) -> Result<(), StepError> {
    for member in site.others() {
        let is_listed =
            || Ok::<_, StepError>(members::find(&members::list(site.daemon)?, &member.name).is_some());
        if is_listed()? || !probe::answers(member) {
            continue;
        }
        site.trust(member)?;
        let in_vain = format!("{IN_VAIN}{}", member.name);
        if is_younger(site.root, &in_vain, LATER) {
            continue;
        }
        let begun = Instant::now();
        while probe::answers(member) {
            if is_listed()? {
                sleep(SETTLED);
                break;
            }
            if begun.elapsed() > PATIENCE {
                let noted = site.root.write(&in_vain, b"");
                noted.map_err(StepError::io("writing", &in_vain))?;
                break;
            }
            sleep(LOOK);
        }
    }
    Ok(())
}

/// Remove what a join of `member` that was cut short left in the database's own list: as long as it is there, the next join
/// hangs. A daemon that joins listens, and one whose join was cut short does not. Returns whether there was something.
fn clear(site: &Site<'_>, member: &Member) -> Result<bool, StepError> {
    if probe::answers(member) {
        return Ok(false);
    }
    sleep(CLOSED);
    if probe::answers(member) {
        return Ok(false);
    }
    let path = format!("/internal/cluster/raft-node/{}", encoded(&member.endpoint()));
    let doing = format!("forgetting a join of {} that was cut short", member.name);
    match site.daemon.delete(&doing, &path, PATIENCE) {
        Ok(_) => {
            say!("{doing}");
            Ok(true)
        }
        // Mostly there is none, and the leader may be another one by now.
        Err(error) if super::is(&error, "raft node") || super::is(&error, "ot leader") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Remove the entry of `member` if the card was flashed again, which must be seen in two rounds. Returns whether it did.
fn let_return(site: &Site<'_>, member: &Member) -> Result<bool, StepError> {
    let name = &member.name;
    let seen = site.root.line(SEEN).is_some_and(|seen| seen == *name);
    if probe::who(site, member, &member.certificate)? != Listener::Holder {
        if seen {
            site.root.remove(SEEN).map_err(StepError::io("removing", SEEN))?;
        }
        return Ok(false);
    }
    if !seen {
        let noted = site.root.write(SEEN, name.as_bytes());
        noted.map_err(StepError::io("writing", SEEN))?;
        return Ok(false);
    }
    let doing = format!("forgetting what {name} was before it was flashed again");
    remove(site.daemon, &doing, name)?;
    say!("{doing}");
    site.root.remove(SEEN).map_err(StepError::io("removing", SEEN))?;
    Ok(true)
}

/// Remove the entry of the member `name`, with the records of its containers.
pub(super) fn remove(daemon: &Daemon, doing: &str, name: &str) -> Result<(), StepError> {
    let path = format!("/1.0/cluster/members/{}?force=1", encoded(name));
    daemon.delete(doing, &path, PATIENCE)?;
    Ok(())
}
